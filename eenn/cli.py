"""How scripts meet a user's mistake: one clear line on stderr, exit code 1, no traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from eenn.errors import EennError

# HYDRA_FULL_ERROR is Hydra's own switch for full tracebacks. A user who sets it gets them from us
# too; otherwise it is set for Hydra alone, so that its errors come here instead of ending in its
# own long report. Further processes of the same run inherit what the user asked for.
_ASKED = "EENN_TRACEBACKS"
os.environ.setdefault(_ASKED, os.environ.get("HYDRA_FULL_ERROR", ""))
os.environ["HYDRA_FULL_ERROR"] = "1"


@contextmanager
def one_line_errors(job: str | None = None) -> Iterator[None]:
    """End the program with one line if the block meets an error that the user can mend.

    Those are ours, the operating system's about files, and those of the configuration. Anything
    else is a bug and keeps its traceback.

    Args:
        job: name of a sweep's job. The others go on, so the line is printed and nothing ends.
    """
    try:
        yield
    except Exception as error:
        line = _line(error)
        if line is None or os.environ[_ASKED]:
            raise
        print(f"error: {line}" if job is None else f"error in job {job}: {line}", file=sys.stderr)
        if job is None:
            raise SystemExit(1) from None


def _line(error: Exception) -> str | None:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, EennError):
            return str(cause)
        # A resolver's own error comes wrapped in OmegaConf's.
        cause = cause.__cause__
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if type(error).__module__.split(".")[0] in ("hydra", "omegaconf"):
        return " ".join(str(error).split("To append")[0].split()) + _allowed_keys(error)
    if type(error).__name__ == "MisconfigurationException":
        return f"trainer: {error}"
    return None


def _allowed_keys(error: Exception) -> str:
    # OmegaConf's key errors carry the node whose key was not found.
    parent = getattr(error.__cause__, "parent_node", None)
    return f" Allowed here are {', '.join(map(str, parent))}." if parent is not None else ""
