"""The one base of errors that a user can mend; scripts print these as a single line."""


class EennError(Exception):
    """An error that a user can mend; the message says what is allowed and what to do next."""


def require_numbers(**values: object) -> None:
    """Check that values are numbers, by the names that users know.

    Raises:
        EennError: a value is not a number.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise EennError(f"{name}={value}: allowed is a number")
