"""Choice of a knob's value from images that the cloud answered, without SciPy.

A value of the knob is known by its position among the candidates, from the safest to the boldest.
"""

import json
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eenn.errors import EennError
from eenn.exits.policies.base import Bools, ExitProbs, Policy

HALVINGS = 6
ROUNDING = 1e-9  # of a tail, relative; a p-value of just delta passes

Counts = NDArray[np.int64]


class Evidence(NamedTuple):
    """The fate that every candidate would have given an image that the cloud answered.

    Args:
        leaves: whether the image leaves on the edge, bool (candidates,).
        differs: whether it leaves with another answer than the cloud's, bool (candidates,).
    """

    leaves: Bools
    differs: Bools


@dataclass
class Tally:
    """Sums of the evidence of `images` images for every candidate, int (candidates,)."""

    leaves: Counts
    differs: Counts
    images: int = 0

    @classmethod
    def empty(cls, candidates: int) -> "Tally":
        """Make the sums of no images."""
        return cls(np.zeros(candidates, np.int64), np.zeros(candidates, np.int64))

    def add(self, evidence: Evidence) -> None:
        """Add the evidence of an image."""
        self.leaves += evidence.leaves
        self.differs += evidence.differs
        self.images += 1

    def drop(self, evidence: Evidence) -> None:
        """Take the evidence of an image away again."""
        self.leaves -= evidence.leaves
        self.differs -= evidence.differs
        self.images -= 1

    def shares(self, position: int) -> tuple[float, float]:
        """Compute the shares of images that leave, and that differ, by one candidate."""
        return (
            float(self.leaves[position]) / self.images,
            float(self.differs[position]) / self.images,
        )


class Candidates:
    """A policy at every value of its knob, from the safest to the boldest.

    A bolder candidate lets every image leave that a safer one does, and no later. The policy's own
    value is among them, at position `start`.

    Args:
        active: the active branches, counted from 0, ascending.

    Raises:
        EennError: the policy has no knob, or a list in place of one number.
    """

    def __init__(self, policy: Policy, active: Sequence[int]) -> None:
        knob, own = policy.knob, policy.knob_value
        if knob is None or isinstance(own, tuple):
            given = "no knob" if knob is None else f"a list as {knob.name}"
            raise EennError(
                f"guard: policy {policy.name} with {given}: allowed are policies with one "
                "threshold for all exits, which can be refitted; see docs/deployment.md"
            )
        if not active:
            raise EennError("guard: without an active branch no image leaves; activate a branch")
        self.knob, self._last = knob.name, active[-1]
        # Safer values are the larger ones for some knobs, and the smaller ones for others.
        values = knob.candidates(len(active))
        self.values = sorted({*values, *_finer(*values[:2]), own}, reverse=values[0] > values[-1])
        settings = json.loads(policy.to_json())
        del settings["name"]
        self.policies = [policy.of({**settings, knob.name: value}) for value in self.values]
        self.start = self.values.index(own)

    def __len__(self) -> int:
        return len(self.values)

    def evidence(self, seen: Sequence[ExitProbs], cloud_label: int) -> Evidence:
        """Find what every candidate would have done with one image.

        Args:
            seen: probabilities of every active branch for the image, in order.
        """
        leaves = np.zeros(len(self), bool)
        differs = np.zeros(len(self), bool)
        for end in range(len(seen), 0, -1):
            so_far = seen[:end]
            last = so_far[-1].exit == self._last
            first = bisect_left(
                self.policies,
                True,
                key=lambda own: bool(own.accept(so_far, last)[0]),
            )
            leaves[first:] = True
            if first < len(self):
                label = int(self.policies[first].answer(so_far).label[0])
                differs[first:] = label != cloud_label
        return Evidence(leaves, differs)


def _finer(safest: float, next_: float) -> list[float]:
    """List values between the two safest ones, which networks that are very sure need."""
    if float(next_).is_integer():
        return []
    return [safest + (next_ - safest) / 2**halving for halving in range(1, HALVINGS + 1)]


def binomial_tail(count: int, n: int, share: float) -> float:
    """Compute P(Binomial(n, share) <= count), the p-value of Clopper and Pearson (1934).

    Args:
        count: from 0 to `n`.
        share: in (0, 1).
    """
    if count >= n:
        return 1.0
    log_odds = math.log(share) - math.log1p(-share)
    start = n * math.log1p(-share)
    logs = [
        start + math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * log_odds
        for k in range(count + 1)
    ]
    return min(math.fsum(map(math.exp, logs)), 1.0)


def losses_allowed(n: int, risk: float, delta: float) -> int:
    """Count the losses with which `n` images still show a risk of at most `risk`; -1 for none."""
    allowed = -1
    while binomial_tail(allowed + 1, n, risk) <= delta * (1 + ROUNDING):
        allowed += 1
    return allowed


def images_needed(risk: float, delta: float) -> int:
    """Count the images that show a risk of at most `risk` where no image is lost."""
    return math.ceil(math.log(delta) / math.log1p(-risk))


def boldest(tally: Tally, risk: float, delta: float) -> int:
    """Choose the boldest candidate shown to have a risk of at most `risk`; -1 if none passes.

    A fixed-sequence test from the safest candidate on, as
    `eenn.statistics.risk_control.controlled` with the method of Clopper and Pearson: over the draw
    of the images the risk is above `risk` with probability `delta` at most.
    """
    passed = tally.differs <= losses_allowed(tally.images, risk, delta)
    return int(np.logical_and.accumulate(passed).sum()) - 1
