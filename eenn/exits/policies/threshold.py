"""Policies with a threshold on how sure the newest exit is: confidence, entropy, margin."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from eenn.errors import EennError
from eenn.exits.policies.base import Bools, ExitProbs, Knob, Policy, check_share
from eenn.exits.policies.registry import register

CURVE = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0)
CANDIDATES = tuple(np.linspace(1, 0, 201).tolist())
P_TAR = Knob("p_tar", 0.8, lambda _: CURVE, lambda _: CANDIDATES)


@dataclass(frozen=True, kw_only=True)
class Threshold(Policy):
    """A policy that compares a number from 0 to 1 with `p_tar`."""

    knob: ClassVar[Knob | None] = P_TAR

    p_tar: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("p_tar", self.p_tar)


@register("confidence")
@dataclass(frozen=True, kw_only=True)
class Confidence(Policy):
    """Leave once the confidence reaches the threshold (Pacheco et al., Information 2021).

    Args:
        p_tar: one threshold, or one per exit.
    """

    knob: ClassVar[Knob | None] = P_TAR

    p_tar: float | tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        for threshold in self.p_tar if isinstance(self.p_tar, Sequence) else [self.p_tar]:
            check_share("p_tar", threshold)

    def check(self, branches: int) -> None:
        given, exits = np.shape(self.p_tar), branches + 1
        if given not in ((), (exits,)):
            raise EennError(
                f"p_tar has {np.size(self.p_tar)} thresholds and the network {exits} exits; give "
                "one number, or one for every exit"
            )

    @property
    def promised_accuracy(self) -> float:
        return float(np.min(self.p_tar))

    @property
    def least_confidence(self) -> float:
        return math.nan if isinstance(self.p_tar, tuple) else self.p_tar

    def accept(self, seen: Sequence[ExitProbs], last: bool) -> Bools:
        newest, thresholds = seen[-1], np.asarray(self.p_tar)
        return newest.confidence >= (thresholds[newest.exit] if thresholds.ndim else thresholds)


@register("entropy")
@dataclass(frozen=True, kw_only=True)
class Entropy(Threshold):
    """BranchyNet: leave once the entropy is low, that is the certainty reaches the threshold."""

    def accept(self, seen: Sequence[ExitProbs], last: bool) -> Bools:
        return seen[-1].certainty >= self.p_tar


@register("margin")
@dataclass(frozen=True, kw_only=True)
class Margin(Threshold):
    """Leave once the most probable class leads the next by the threshold."""

    def accept(self, seen: Sequence[ExitProbs], last: bool) -> Bools:
        return seen[-1].margin >= self.p_tar


# The rule of a device that nobody chose another for.
DEFAULT = Confidence.name


def baseline_rule(p_tar: float | tuple[float, ...]) -> Policy:
    """Build the rule of the baselines: one threshold on the confidence, else the last exit."""
    return Confidence(p_tar=p_tar, fallback_to="last_exit")
