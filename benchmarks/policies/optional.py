"""Libraries that only some rows of the comparison need, imported when these rows are computed."""

from importlib import import_module
from types import ModuleType

from eenn.errors import EennError


def sklearn_ensemble() -> ModuleType:
    """Import scikit-learn's ensembles.

    Raises:
        EennError: scikit-learn is not installed.
    """
    return _imported("sklearn.ensemble")


def earlyon(module: str) -> ModuleType:
    """Import a module of earlyon.

    Raises:
        EennError: earlyon is not installed.
    """
    return _imported(f"earlyon.{module}")


def _imported(module: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise EennError(
            f"{module} is not installed; install eenn with its extra: pip install 'eenn[peers]'"
        ) from error
