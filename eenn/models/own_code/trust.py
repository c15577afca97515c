"""Code of the user's own that may build networks: what the command line names, and no file.

Artifacts, run directories and sweeps hold such names as labels. A name counts only as the user
typed it for this run; processes that the run starts are told by an environment variable.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from eenn.errors import EennError

# The source of networks that the user's own code builds; a backbone is `custom/MODULE:FUNCTION`.
CUSTOM = "custom"
# Settings whose values, where they are typed, may be imported; eenn-export has --build.
BUILD_KEYS = ("build", "model.build")

_PART = r"[^\W\d]\w*"
_NAME = re.compile(rf"{_PART}(?:\.{_PART})*:{_PART}")
_VARIABLE = "EENN_BUILD"
# Read once, so that what a job's settings put into the environment comes too late.
_INHERITED = os.environ.get(_VARIABLE)
_trusted = set((_INHERITED or "").split())


def check_code(key: str, name: str) -> None:
    """Check that a text names a function of a module.

    Args:
        key: of the setting, for the message.

    Raises:
        EennError: the text has another form.
    """
    if not _NAME.fullmatch(name):
        raise EennError(
            f"{key}={name}: allowed is MODULE:FUNCTION, as in mypackage.mynet:blocks, where "
            "FUNCTION gives the blocks and the classifier of a network"
        )


def names_code(argument: str) -> bool:
    """Tell whether an argument of a command line is one of the settings that name code."""
    return argument.lstrip("+").partition("=")[0] in BUILD_KEYS


def typed(arguments: Iterable[str]) -> list[str]:
    """List the functions that the settings of a command line name, also several in one setting."""
    return [name for one in arguments if names_code(one) for name in _NAME.findall(one)]


@contextmanager
def trusting(names: Iterable[str]) -> Iterator[None]:
    """Let functions build networks, in this process and in those that it starts.

    In a process that belongs to a run already, the names of the run's first process count alone.

    Args:
        names: as `MODULE:FUNCTION`.
    """
    if _INHERITED is not None:
        yield
        return
    before, variable = _trusted.copy(), os.environ.get(_VARIABLE)
    _trusted.update(names)
    os.environ[_VARIABLE] = " ".join(_trusted)
    try:
        yield
    finally:
        _trusted.intersection_update(before)
        del os.environ[_VARIABLE]
        if variable is not None:
            os.environ[_VARIABLE] = variable


def require_trust(name: str) -> None:
    """Check that the command line names a function.

    Raises:
        EennError: it does not.
    """
    if name not in _trusted:
        raise EennError(
            f"the network is custom, made by {name}; if you trust that code, add build={name} to "
            f"the command line (train.py: model.build={name}, eenn-export: --build {name})"
        )
