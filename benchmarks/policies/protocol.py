"""The comparison that all rules share: families of settings, priced and met at equal mean cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benchmarks.policies.recorded import Recorded
from eenn.exits.decide import Decisions
from eenn.exits.policies.base import Bools, Floats, Ints
from eenn.planning.costs import Costs
from eenn.statistics.intervals import Estimate

MACS, LATENCY = "macs", "latency_ms"
# The model of README's live times: the whole network on the device, in proportion to MACs, and the
# surplus of an image that is offloaded over the link of conf/link/rio_saopaulo.
WHOLE_MS, OFFLOADED_MS = 3.2, 16.0
OFF = np.inf


class Taken(NamedTuple):
    """The exit that answers every image under one setting, its answers, and the heads that ran.

    Args:
        exit: place of the exit, int (images,).
        label: int (images,).
        used: the branches that are evaluated, bool (exits - 1,).
    """

    exit: Ints
    label: Ints
    used: Bools


def own_predictions(records: Recorded) -> Ints:
    """Let every exit answer with its own prediction, (exits, images)."""
    return records.prediction


@dataclass(frozen=True)
class Family:
    """A rule's settings: an image leaves at the first branch whose score reaches its threshold.

    Args:
        score: of every branch, (exits - 1, images).
        thresholds: of every setting and branch, (settings, exits - 1); OFF for a branch that is
            not evaluated.
        answers: labels of every exit, (exits, images).
    """

    score: Callable[[Recorded], Floats]
    thresholds: Floats
    answers: Callable[[Recorded], Ints] = own_predictions

    def taken(self, records: Recorded) -> list[Taken]:
        """Decide for all images under every setting."""
        score, answers = self.score(records), self.answers(records)
        images = np.arange(score.shape[1])
        found = []
        for thresholds in self.thresholds:
            exit = first_exit(score, thresholds)
            found.append(Taken(exit, answers[exit, images], thresholds < OFF))
        return found


def first_exit(score: Floats, thresholds: Floats) -> Ints:
    """Find the first exit that accepts each image, (images,); the last exit accepts all."""
    accepted = (score >= thresholds[:, None]) & (thresholds < OFF)[:, None]
    everyone = np.ones((1, score.shape[1]), bool)
    return np.asarray(np.concatenate([accepted, everyone]).argmax(0))


@dataclass(frozen=True)
class Prices:
    """The cost of an answer at every exit, in one unit.

    Args:
        macs: of every segment and head of the network.
        active: the branches of the scenario, counted from 0.
        unit: MACS, on both sides, or LATENCY, which is modelled.
    """

    macs: Costs
    active: tuple[int, ...]
    unit: str

    def by_exit(self, used: Bools) -> Floats:
        """Compute the cost of leaving at every exit, (exits,), if only the branches `used` run."""
        last = len(self.macs.segments) - 1
        exits = np.array([*self.active, last])
        running = tuple(branch for branch, runs in zip(self.active, used, strict=True) if runs)
        decided = Decisions(exits, exits, np.ones(len(exits)), running, exits < last)
        macs = self.macs.edge(decided) + self.macs.cloud(decided)
        if self.unit == MACS:
            return macs
        return WHOLE_MS * macs / self.whole_macs + np.where(decided.on_edge, 0.0, OFFLOADED_MS)

    @property
    def whole_macs(self) -> float:
        """Sum the MACs of the backbone and of the heads of the active branches and last exit."""
        heads = [self.macs.heads[branch] for branch in self.active]
        return sum(self.macs.segments) + sum(heads) + self.macs.heads[-1]

    @property
    def relative(self) -> Floats:
        """Compute the cost of every exit over that of the last, all branches running, (exits,)."""
        costs = self.by_exit(np.ones(len(self.active), bool))
        return np.asarray(costs / costs[-1])


# Fits a rule to validation images; the costs are relative, (exits,).
Rule = Callable[[Recorded, Floats], Sequence[Family]]


@dataclass(frozen=True)
class Curve:
    """Settings of one rule on the reported images, the cheapest first.

    Args:
        cost: mean of every setting, (settings,).
        right: images answered correctly, (settings, images).
        on_edge: images answered by a branch, (settings, images).
    """

    cost: Floats
    right: Bools
    on_edge: Bools


def curve(families: Sequence[Family], records: Recorded, prices: Prices) -> Curve:
    """Measure every setting of a fitted rule, and the last exit alone as its dearest setting."""
    last = len(records.exits) - 1
    alone = np.full(len(records.labels), last)
    taken = [Taken(alone, records.prediction[-1], np.zeros(last, bool))]
    taken += [setting for family in families for setting in family.taken(records)]
    cost = np.array([prices.by_exit(setting.used)[setting.exit].mean() for setting in taken])
    order = np.argsort(cost, kind="stable")
    right = np.stack([setting.label == records.labels for setting in taken])
    on_edge = np.stack([setting.exit < last for setting in taken])
    return Curve(cost[order], right[order], on_edge[order])


class Met(NamedTuple):
    """A rule at a mean cost: chances of every image to be right, and to stay on the edge."""

    right: Floats
    on_edge: Floats


def at_cost(found: Curve, budget: float) -> Met | None:
    """Mix the two neighbouring settings so that the mean cost is the budget exactly.

    Returns:
        Floats (images,), or None where the rule cannot cost that much or that little.
    """
    above = int(np.searchsorted(found.cost, budget))
    if above == len(found.cost) or (above == 0 and found.cost[0] > budget):
        return None
    below = max(above - 1, 0)
    gap = found.cost[above] - found.cost[below]
    weight = (budget - found.cost[below]) / gap if gap > 0 else 1.0

    def mixed(of: Bools) -> Floats:
        return np.asarray((1 - weight) * of[below] + weight * of[above])

    return Met(mixed(found.right), mixed(found.on_edge))


def estimate(name: str, of: Estimate) -> dict[str, float]:
    """Name a quantity and the ends of its interval as result files do."""
    return {name: of.value, f"{name}_low": of.low, f"{name}_high": of.high}
