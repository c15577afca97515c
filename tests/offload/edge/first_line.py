"""The line that eenn-edge says first: which deployment it takes, or which defaults."""

DEFAULTS = "no --deployment, so by default"


def after_first_line(stderr: str, origin: str = DEFAULTS) -> str:
    """Take the first line, which has to be that one and whole, from what was said."""
    first, end, rest = stderr.partition("\n")
    assert first.startswith(f"{origin}: ")
    assert "precision" in first
    assert first.isprintable()
    assert end == "\n"
    return rest
