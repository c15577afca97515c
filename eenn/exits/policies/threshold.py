"""Policies with a threshold on the newest exit's confidence, entropy or margin."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from eenn.errors import EennError
from eenn.exits.policies.base import Bools, ExitProbs, Floats, Knob, Policy, check_share
from eenn.exits.policies.registry import register

CURVE = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0)
CANDIDATES = tuple(k / 200 for k in range(200, -1, -1))
P_TAR = Knob("p_tar", 0.8, lambda _: CURVE, lambda _: CANDIDATES)


@dataclass(frozen=True, kw_only=True)
class Threshold(Policy):
    """A policy that compares a number from 0 to 1 with one threshold."""

    knob: ClassVar[Knob | None] = P_TAR

    p_tar: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("p_tar", self.p_tar)


@dataclass(frozen=True, kw_only=True)
class ExitThreshold(Policy):
    """A policy that lets an image leave once a score from 0 to 1 reaches its exit's threshold.

    Args:
        p_tar: one threshold, or one per exit.
        strict: with one threshold, the number of times that an inner exit may be wrong less often
            than the last active branch: an inner exit needs 1 - (1 - p_tar) / strict. The last
            active branch, which decides about offloading, needs p_tar.
    """

    knob: ClassVar[Knob | None] = P_TAR
    grids: ClassVar[tuple[str, ...]] = ("strict",)

    p_tar: float | tuple[float, ...]
    strict: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for threshold in self.p_tar if isinstance(self.p_tar, tuple) else [self.p_tar]:
            check_share("p_tar", threshold)
        is_number = isinstance(self.strict, int | float) and not isinstance(self.strict, bool)
        if not is_number or not 1 <= self.strict < math.inf:
            raise EennError(
                f"strict={self.strict}: allowed is a number from 1 up; 1 asks the same of all exits"
            )
        if self.strict != 1 and isinstance(self.p_tar, tuple):
            raise EennError(
                f"strict={self.strict:g} and one threshold per exit: allowed is one of them; with "
                "strict give one number as p_tar"
            )

    def check(self, branches: int) -> None:
        given, exits = np.shape(self.p_tar), branches + 1
        if given not in ((), (exits,)):
            raise EennError(
                f"p_tar has {np.size(self.p_tar)} thresholds and the network {exits} exits; give "
                "one number, or one for every exit"
            )

    @property
    def label(self) -> str:
        return self.name if self.strict == 1 else f"{self.name}, strict {self.strict:g}"

    def needed(self, exit: int, last: bool) -> float:
        """Compute the score from which on an image leaves.

        Args:
            exit: counted from 0.
            last: as in `accept`.
        """
        if isinstance(self.p_tar, tuple):
            return self.p_tar[exit]
        # 1 - (1 - p_tar) is not always p_tar.
        return self.p_tar if last or self.strict == 1 else 1 - (1 - self.p_tar) / self.strict

    @abstractmethod
    def score(self, exit: ExitProbs) -> Floats:
        """Rate every sample from 0 to 1, (samples,)."""

    def accept(self, seen: Sequence[ExitProbs], last: bool) -> Bools:
        return self.score(seen[-1]) >= self.needed(seen[-1].exit, last)


@dataclass(frozen=True, kw_only=True)
class ByConfidence(ExitThreshold):
    """A policy whose score is the confidence of the newest exit."""

    @property
    def least_confidence(self) -> float:
        one = self.strict == 1 and not isinstance(self.p_tar, tuple)
        return self.needed(0, last=True) if one else math.nan

    def score(self, exit: ExitProbs) -> Floats:
        return exit.confidence


@register("confidence")
@dataclass(frozen=True, kw_only=True)
class Confidence(ByConfidence):
    """Lets an image leave once its confidence reaches the threshold (Pacheco et al., 2021a)."""

    drawn: ClassVar[Sequence[Mapping[str, object]]] = ({}, {"strict": 10.0})

    @property
    def promised_accuracy(self) -> float:
        return float(np.min(self.p_tar))


@register("entropy")
@dataclass(frozen=True, kw_only=True)
class Entropy(ExitThreshold):
    """Lets an image leave once the entropy is low, that is, the certainty high (BranchyNet)."""

    def score(self, exit: ExitProbs) -> Floats:
        return exit.certainty


@register("margin")
@dataclass(frozen=True, kw_only=True)
class Margin(ExitThreshold):
    """Lets an image leave once its most probable class leads the next by the threshold."""

    def score(self, exit: ExitProbs) -> Floats:
        return exit.margin


# The policy of a device where no other was chosen.
DEFAULT = Confidence.name


def baseline_rule(p_tar: float | tuple[float, ...]) -> Policy:
    """Build the baselines' rule: one threshold on the confidence, else the last exit."""
    return Confidence(p_tar=p_tar)
