"""The frontier over networks: the most accurate ways to answer at every cost.

Designs are chosen by their validation results and reported on other images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eenn.errors import EennError
from eenn.evaluation.cascades import check_together
from eenn.evaluation.designs import (
    COSTS,
    KINDS,
    SINGLE_EXIT,
    Design,
    Family,
    correctness,
    families,
)
from eenn.evaluation.evaluated import Evaluated, Evaluation
from eenn.evaluation.fitting import LABELS, Goal
from eenn.evaluation.grid import Decided, point
from eenn.evaluation.rows import Point
from eenn.exits.decide import last_exit
from eenn.exits.policies.base import Bools, Floats
from eenn.records.evaluated_artifact import EvaluatedArtifact
from eenn.statistics.intervals import UNKNOWN, Estimate, means
from eenn.statistics.risk_control import ROUNDING, cheapest_within_drop, most_accurate_within

GOALS = ("accuracy_drop", "edge_probability", "macs", "latency_ms")
# A round step divides the range of a cost into at most so many budgets.
BUDGETS = 16


class Reported(NamedTuple):
    """A design and its results on the images of the evaluation.

    Args:
        correct: bool (samples,).
        costs: of every sample, by the names of COSTS.
    """

    design: Design
    point: Point
    correct: Bools
    costs: dict[str, Floats]


@dataclass(frozen=True)
class WithinBudget:
    """The most accurate design of a kind within a budget, beside single exits of the same cost.

    Args:
        cost, budget: one of COSTS, and the most that its validation mean may be.
        best: true for the kind whose design is most accurate on the validation split.
        single_accuracy: of the best mixture of two single exits that costs exactly as much on the
            reported images; NaN where every single exit costs more.
        difference: of accuracy, less that of the mixture, paired.
    """

    cost: str
    budget: float
    reported: Reported
    best: bool
    single_accuracy: float
    difference: Estimate


class Frontier:
    """Designs over several networks, chosen on validation, and reported on a split.

    Args:
        named: as `named_artifacts` gives them.
        rests: places of the rest to choose from.
        strict: values to try for policies that have it; None for the policies' own.

    Raises:
        EennError: fewer than two networks, networks of other classes or splits, several levels, or
            images without labels.
    """

    def __init__(
        self,
        named: Sequence[tuple[str, EvaluatedArtifact]],
        evaluation: Evaluation,
        rests: Sequence[str],
        strict: Sequence[float] | None,
    ) -> None:
        ids = {artifact.manifest.id for _, artifact in named}
        if len(named) < 2 or len(ids) < len(named):
            raise EennError(
                f"artifacts: {len(ids)} different ones given; allowed are two or more, each once"
            )
        if len(evaluation.levels) > 1:
            raise EennError(f"distortion.level={list(evaluation.levels)}: allowed is one level")
        for _, other in named[1:]:
            check_together(named[0][1], other)
        self.named, self.evaluation = named, evaluation
        for name, artifact in named:
            Evaluated(name, artifact, evaluation).check_fit()
        self._reference = self._most_accurate_network()
        self.designs = [
            design
            for family in families(named, evaluation, rests)
            for design in self._designs(family, strict)
        ]
        self._reported: dict[int, Reported] = {}

    def front(self, cost: str, *kinds: str) -> list[Design]:
        """List the designs of these kinds that no other of them beats, the cheapest first."""
        own = [one for one in self.designs if one.kind in kinds and one.counts_for(cost)]
        return [own[at] for at in pareto(*_arrays(own, cost))]

    def spaced(self, cost: str, kind: str, count: int) -> list[Design]:
        """List the designs of a kind's frontier within `count` budgets, which are evenly spaced."""
        front = self.front(cost, kind)
        if not front:
            return []
        ends = front[0].costs[cost], front[-1].costs[cost]
        found = {
            id(one): one for to in np.linspace(*ends, count) if (one := _within(front, cost, to))
        }
        return list(found.values())

    def chosen(self, goal: Goal) -> Design:
        """Choose the design that meets a goal best on the validation split.

        Raises:
            Infeasible: none meets the goal.
            EennError: a goal that designs of several networks are not fitted to.
        """
        if goal.goal not in GOALS or goal.against != LABELS:
            raise EennError(
                f"fit.goal={goal.goal} fit.against={goal.against} over several networks: allowed "
                f"are {', '.join(GOALS)}, against {LABELS}"
            )
        own = [one for one in self.designs if one.counts_for(goal.cost)]
        accuracy, cost = _arrays(own, goal.cost)
        if goal.goal == "accuracy_drop":
            errors = np.array([one.error for one in own])
            sure = accuracy - goal.one_standard_error * errors
            reference = float(self._reference.mean())
            return own[cheapest_within_drop(sure, cost, reference, goal.limit)]
        limit = 1 - goal.limit + ROUNDING if goal.goal == "edge_probability" else goal.limit
        return own[most_accurate_within(accuracy, cost, limit)]

    def report(self, design: Design) -> Reported:
        """Measure a design on the images of the evaluation."""
        known = self._reported.get(id(design))
        if known is None:
            evaluated, active = design.family.evaluated, design.family.active
            case = evaluated.case(evaluated.split, self.evaluation.levels[0])
            decisions = case.decide(design.policy, active)
            known = self._reported[id(design)] = Reported(
                design,
                point(case, Decided(design.setting, decisions)),
                correctness(case, decisions),
                {name: of(case, decisions) for name, of in COSTS.items()},
            )
        return known

    def compared(self, cost: str) -> list[WithinBudget]:
        """Compare every kind's most accurate designs within some round budgets."""
        fronts = {kind: self.front(cost, kind) for kind in KINDS}
        rows = []
        for budget in self.budgets(cost):
            found = [_within(front, cost, budget) for front in fronts.values()]
            within = [design for design in found if design is not None]
            # Of equally accurate ones the cheapest, then the simplest.
            best = max(within, key=lambda one: (one.accuracy, -one.costs[cost]), default=None)
            for design in within:
                reported = self.report(design)
                rows.append(
                    WithinBudget(
                        cost,
                        budget,
                        reported,
                        design is best,
                        *self.against_singles(cost, reported),
                    )
                )
        return rows

    def against_singles(self, cost: str, reported: Reported) -> tuple[float, Estimate]:
        """Compare a design with single exits of exactly the same mean cost.

        Returns:
            Their accuracy, and the paired difference to it; NaN where every single exit costs more.
        """
        singles = [self.report(one) for one in self.front(cost, SINGLE_EXIT)]
        mixed = mixture(singles, cost, float(reported.costs[cost].mean()))
        if mixed is None:
            return np.nan, UNKNOWN
        difference = means({"accuracy": reported.correct - mixed})["accuracy"]
        return float(mixed.mean()), difference

    def budgets(self, cost: str) -> list[float]:
        """List round budgets between the cheapest and the most accurate design."""
        front = self.front(cost, *KINDS)
        if not front:
            return []
        return round_steps(front[0].costs[cost], front[-1].costs[cost], BUDGETS)

    def _most_accurate_network(self) -> Bools:
        """Compare with labels the validation answers of the most accurate network's last exit."""
        right = []
        for name, artifact in self.named:
            evaluated = Evaluated(name, artifact, self.evaluation)
            case = evaluated.case(evaluated.fit_split, 0)
            right.append(correctness(case, last_exit(case.outputs)))
        return max(right, key=lambda own: float(own.mean()))

    def _designs(self, family: Family, strict: Sequence[float] | None) -> list[Design]:
        """Try the policies of a family; keep those that no other of them beats at any cost."""
        case = family.evaluated.case(family.evaluated.fit_split, 0)
        tried = []
        for policy in family.policies(strict):
            decisions = case.decide(policy, family.active)
            correct = correctness(case, decisions)
            difference = correct.astype(np.float64) - self._reference
            error = float(difference.std() / np.sqrt(len(correct)))
            costs = {name: float(of(case, decisions).mean()) for name, of in COSTS.items()}
            tried.append(Design(family, policy, float(correct.mean()), error, costs))
        kept = {at for cost in COSTS for at in pareto(*_arrays(tried, cost))}
        return [tried[at] for at in sorted(kept)]


def pareto(accuracy: ArrayLike, cost: ArrayLike) -> list[int]:
    """Find the candidates that no other one beats: none is as accurate and costs less.

    Of equal candidates it is the first.

    Args:
        accuracy, cost: of every candidate, (candidates,).

    Returns:
        Their indices, the cheapest first; accuracy rises along them.
    """
    accuracies, costs = np.asarray(accuracy, np.float64), np.asarray(cost, np.float64)
    order = np.lexsort((np.arange(len(costs)), -accuracies, costs))
    before = np.maximum.accumulate(np.concatenate([[-np.inf], accuracies[order][:-1]]))
    return [int(at) for at in order[accuracies[order] > before]] if len(order) else []


def round_steps(low: float, high: float, most: int) -> list[float]:
    """List the multiples of a round step, 1, 2 or 5 times a power of ten, from `low` to `high`.

    The last one is the first that reaches `high`. There are at most `most`.
    """
    if high <= low:
        return [high]
    power = 10.0 ** np.floor(np.log10((high - low) / most))
    for factor in (1, 2, 5, 10, 20, 50):
        step = factor * power
        first, last = int(np.ceil(low / step)), int(np.ceil(high / step))
        if last - first + 1 <= most:
            break
    return [step * at for at in range(first, last + 1)]


def mixture(singles: Sequence[Reported], cost: str, mean_cost: float) -> Floats | None:
    """Mix two single exits, drawn at random for every image, to exactly a mean cost.

    The two are neighbours on the upper convex hull of the exits' validation accuracies.

    Args:
        singles: of the frontier of single exits.

    Returns:
        The probability that every sample is answered right, (samples,); that of the most accurate
        exit where all cost less, and None where all cost more.
    """
    costs = np.array([float(one.costs[cost].mean()) for one in singles])
    if not len(costs) or mean_cost < costs.min():
        return None
    hull = upper_hull(costs, [one.design.accuracy for one in singles])
    if mean_cost >= costs[hull[-1]]:
        return singles[hull[-1]].correct.astype(np.float64)
    right = next(at for at, own in enumerate(hull) if costs[own] > mean_cost)
    below, above = hull[right - 1], hull[right]
    share = (mean_cost - costs[below]) / (costs[above] - costs[below])
    mixed = (1 - share) * singles[below].correct + share * singles[above].correct
    return np.asarray(mixed, np.float64)


def upper_hull(x: ArrayLike, y: ArrayLike) -> list[int]:
    """Find the vertices of the upper convex hull of points, up to the highest one.

    Returns:
        Their indices in the order of x.
    """
    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    hull: list[int] = []
    for at in pareto(ys, xs):
        while len(hull) > 1 and _below(xs, ys, hull[-2], hull[-1], at):
            hull.pop()
        hull.append(at)
    return hull


def _below(xs: Floats, ys: Floats, first: int, middle: int, last: int) -> bool:
    """Tell if a point lies on or below the line between its neighbours."""
    rise, run = ys[last] - ys[first], xs[last] - xs[first]
    return bool((ys[middle] - ys[first]) * run <= rise * (xs[middle] - xs[first]))


def _within(front: Sequence[Design], cost: str, budget: float) -> Design | None:
    """Choose the most accurate design of a frontier within a budget."""
    within = [design for design in front if design.costs[cost] <= budget]
    return within[-1] if within else None


def _arrays(designs: Sequence[Design], cost: str) -> tuple[NDArray[np.float64], Floats]:
    accuracy = np.array([one.accuracy for one in designs])
    return accuracy, np.array([one.costs[cost] for one in designs])
