"""The import of a function of the user's own, and the errors of such code in one line."""

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch

import eenn
from eenn.errors import EennError
from eenn.models.own_code.trust import CUSTOM, check_code, require_trust

# Code in which an error of the user's own code surfaces, but does not arise.
_NOT_THEIRS = tuple(str(Path(own.__file__ or "").parent) for own in (eenn, torch, importlib))


def imported(name: str) -> Callable[[int], object]:
    """Import the function `MODULE:FUNCTION` if the command line names it.

    Raises:
        EennError: the command line does not name it, or it cannot be imported.
    """
    check_code("model.build", name)
    require_trust(name)
    module, _, function = name.partition(":")
    if (here := os.getcwd()) not in sys.path:
        # Last, so that a file there does not stand in for a module of a library.
        sys.path.append(here)
    try:
        found: object = getattr(import_module(module), function, None)
    except Exception as error:
        raise EennError(
            f"{CUSTOM}/{name} cannot be imported from Python's path or the working directory: "
            f"{told(error)}"
        ) from error
    if not callable(found):
        raise EennError(
            f"{CUSTOM}/{name}: {module} has no function {function}; it is to take the number of "
            "classes and to give blocks and classifier"
        )
    return found


def told(error: Exception) -> str:
    """Word an error of the user's own code in one line, with the place in that code."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    places = [
        f" ({frame.filename}, line {frame.lineno})"
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((*_NOT_THEIRS, "<frozen "))
    ]
    return (
        f"{type(error).__name__}: {said}{places[-1] if places else ''}; HYDRA_FULL_ERROR=1 shows "
        "the traceback"
    )
