"""The settings of a fit on validation images."""

from dataclasses import dataclass

from eenn.errors import EennError

# Of `fit.active`: the fit chooses among all sets of branches.
SEARCH = "search"


@dataclass(frozen=True)
class FitSettings:
    """The goal and images of a fit of thresholds; as of `eenn.evaluation.fitting.Goal`.

    Args:
        active: SEARCH, or None for the active branches of the evaluation.
        images: a folder in place of the validation split.
    """

    goal: str | None
    limit: float | None
    active: str | None
    minimise: str
    one_standard_error: bool
    strict: float | tuple[float, ...] | None
    delta: float
    method: str
    images: str | None
    against: str

    def __post_init__(self) -> None:
        if self.active not in (None, SEARCH):
            raise EennError(f"fit.active={self.active}: allowed are {SEARCH} or null")
        for name in ("images", "active"):
            value = getattr(self, name)
            if self.goal is None and value is not None:
                raise EennError(f"fit.{name}={value} without fit.goal: give a goal, or leave it")
        if self.goal is not None and self.limit is None:
            raise EennError("fit.limit=null: allowed is a number, as fit.goal is given")
