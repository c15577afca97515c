"""The one base of errors that a user can mend; scripts print these as a single line."""


class EennError(Exception):
    """What was given is not usable; the message says what is allowed and what to do next."""


def require_numbers(**values: object) -> None:
    """Check values whose range is checked next, by the names users know them under.

    Raises:
        EennError: one of them is no number.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise EennError(f"{name}={value}: allowed is a number")
