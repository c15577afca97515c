"""The one base of errors that a user can mend; scripts print these as a single line."""


class EennError(Exception):
    """What was given is not usable; the message says what is allowed and what to do next."""
