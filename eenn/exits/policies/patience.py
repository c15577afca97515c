"""The policy that waits until exits in a row agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from eenn.errors import EennError
from eenn.exits.policies.base import Bools, ExitProbs, Knob, Policy
from eenn.exits.policies.registry import register

# With one more than the number of active branches only the last exit answers.
AGREE = Knob(
    "agree", 2, lambda branches: range(1, branches + 1), lambda branches: range(branches + 1, 0, -1)
)


@register("patience")
@dataclass(frozen=True, kw_only=True)
class Patience(Policy):
    """Lets an image leave once `agree` exits in a row agree (Zhou et al., NeurIPS 2020)."""

    knob: ClassVar[Knob | None] = AGREE

    agree: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.agree) is not int or self.agree < 1:
            raise EennError(
                f"policy.agree={self.agree}: allowed is a whole number of exits, 1 or more"
            )

    def accept(self, seen: Sequence[ExitProbs], last: bool) -> Bools:
        newest = seen[-1].prediction
        if len(seen) < self.agree:
            return np.zeros(len(newest), bool)
        agreeing = [exit.prediction == newest for exit in seen[-self.agree :]]
        return np.asarray(np.all(agreeing, axis=0))
