"""Fits a policy's knob on the validation split: to an accuracy, a budget or a risk."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from eenn.errors import EennError, require_numbers
from eenn.evaluation.grid import Case, Decided, by_policy
from eenn.exits.decide import Decisions
from eenn.exits.policies.base import Bools, Floats, Policy, Validation
from eenn.exits.policies.registry import find_policy
from eenn.exits.settings import Setting, Swept
from eenn.statistics.risk_control import (
    P_VALUES,
    ROUNDING,
    Infeasible,
    cheapest_within_drop,
    controlled,
    most_accurate_within,
    risk_upper_bound,
    samples_needed,
)

GOALS = ("accuracy_drop", "edge_probability", "macs", "latency_ms", "risk")
MINIMISED = ("macs", "latency_ms", "offloaded")
LABELS, LAST_EXIT = AGAINST = ("labels", "last_exit")


@dataclass(frozen=True)
class Goal:
    """The goal that a policy's knob is fitted to.

    Args:
        goal: `accuracy_drop`: the cheapest that loses at most `limit` against the last exit;
            `edge_probability`: the most accurate with a share of `limit` or more on the edge;
            `macs` or `latency_ms`: the most accurate within a mean of `limit` MACs (not millions of
            MACs) or milliseconds; `risk`: the boldest for which P(answer wrong although the last
            exit is right) is at most `limit`, except with probability `delta`.
        method: of the risk's test: `hoeffding_bentkus`, or `clopper_pearson`, which is exact here
            and bolder.
        minimise: the cost that the cheapest has least of: `macs`, `latency_ms` or `offloaded`, the
            share of images that are sent.
        one_standard_error: a drop counts with one paired standard error on top, so that few images
            promise less.
        strict: values of a policy's `strict` to choose from, for policies that have it; None for
            the policy's own. Of a risk each is tested at an even share of `delta`.
        against: the answers that count as right: the `labels`, or those of the `last_exit`, for
            which no labels are needed. A drop is then the share of answers that differ from them.

    The promise of `risk` is over validation samples that nothing else was fitted to. Early stopping
    and temperatures have seen them too, so it is exact only for a validation split of its own.

    Raises:
        EennError: unknown goal, method or cost.
    """

    goal: str
    limit: float
    delta: float = 0.1
    method: str = "hoeffding_bentkus"
    minimise: str = "macs"
    one_standard_error: bool = True
    strict: tuple[float, ...] | None = None
    against: str = LABELS

    def __post_init__(self) -> None:
        require_numbers(limit=self.limit, delta=self.delta)
        if self.goal not in GOALS:
            raise EennError(f"fit.goal={self.goal}: allowed are {', '.join(GOALS)}")
        if self.method not in P_VALUES:
            raise EennError(f"fit.method={self.method}: allowed are {', '.join(P_VALUES)}")
        if self.minimise not in MINIMISED:
            raise EennError(f"fit.minimise={self.minimise}: allowed are {', '.join(MINIMISED)}")
        if self.against not in AGAINST:
            raise EennError(f"fit.against={self.against}: allowed are {', '.join(AGAINST)}")
        if self.goal == "edge_probability" and not 0 <= self.limit <= 1:
            raise EennError(f"fit.limit={self.limit:g}: allowed is a share, 0 to 1, as 0.92")
        if self.strict == ():
            raise EennError("fit.strict=[]: allowed is a number, a list of them, or null")

    def __str__(self) -> str:
        against = " against the last exit" if self.against == LAST_EXIT else ""
        return f"{self.goal} {self.limit:g}{against}"

    @property
    def cost(self) -> str:
        """Name the cost that a fit compares, one of MINIMISED."""
        if self.goal == "edge_probability":
            return "offloaded"
        return self.goal if self.goal in MINIMISED else self.minimise

    @property
    def wants_cheapest(self) -> bool:
        """Tell if the cheapest within a loss is sought, not the most accurate within a cost."""
        return self.goal in ("accuracy_drop", "risk")

    def with_reference(self, case: Case) -> Case:
        """Give a case with the labels that its answers are compared with."""
        return case.against_last_exit() if self.against == LAST_EXIT else case


@dataclass(frozen=True)
class Risk:
    """A risk observed on samples that nothing was fitted to, and its upper bound."""

    test_risk: float
    test_risk_upper_bound: float


@dataclass(frozen=True)
class Fitted:
    """A policy whose knob was fitted on validation samples, and its results there.

    Args:
        validation_accuracy: the share of right answers, right as the goal defines it.
        validation_cost: mean of the goal's cost: MACs, milliseconds or images sent.
        risk: observed on the split that is reported, where the goal is a risk.
        validation: the samples that the knob was fitted on.
    """

    policy: Policy
    active: tuple[int, ...]
    goal: Goal
    validation_accuracy: float
    validation_cost: float
    validation: Case
    risk: Risk | None = None

    @property
    def setting(self) -> Setting:
        """Build the fitted way to answer."""
        return Setting(self.policy, self.active, goal=str(self.goal))

    def decide(self, case: Case) -> Decided:
        """Decide by the fitted policy, which promises no accuracy."""
        return by_policy(case, self.policy, self.active)._replace(
            setting=self.setting, promised=np.nan
        )

    def observed(self, case: Case) -> "Fitted":
        """Add the risk on samples that the knob was not fitted to, where these have labels."""
        labels = self.goal.with_reference(case).labels
        if labels is None:
            return self
        wrong = case.decide(self.policy, self.active).label != labels
        risk = float((wrong & (case.outputs[-1].prediction == labels)).mean())
        bound = risk_upper_bound(risk, len(labels), self.goal.delta, self.goal.method)
        return replace(self, risk=Risk(risk, float(bound)))


def fit(
    goal: Goal,
    case: Case,
    name: str,
    settings: Mapping[str, object],
    active: tuple[int, ...],
    validation: Validation | None = None,
) -> Fitted:
    """Fit the knob of the policy `name`, and its strictness, on these validation samples.

    Args:
        settings: of the policy, without its knob.
        validation: the results that other settings of the policy are fitted to.

    Raises:
        Infeasible: no value of the knob meets the goal.
        EennError: the policy has no knob, or the goal needs labels and there are none.
    """
    knob = find_policy(name).knob
    if knob is None:
        raise EennError(f"fit: policy {name} has no knob to fit; leave fit or the policy out")
    candidates = knob.candidates(len(active))
    tried = [
        _tried(goal, case, Swept(name, own, candidates).policies(validation), active)
        for own in _settings(goal, name, settings)
    ]
    choose = _boldest if goal.goal == "risk" else _best
    index = choose(goal, tried, f"{knob.name} of {name}")
    all_of = _Tried.joined(tried)
    return Fitted(
        policy=all_of.policies[index],
        active=active,
        goal=goal,
        validation_accuracy=float(all_of.accuracy[index]),
        validation_cost=float(all_of.cost[index]),
        validation=case,
    )


def _settings(goal: Goal, name: str, settings: Mapping[str, object]) -> list[Mapping[str, object]]:
    """List the settings, without the knob, that a fit chooses from."""
    if goal.strict is None or "strict" not in find_policy(name).grids:
        return [settings]
    return [{**settings, "strict": strict} for strict in goal.strict]


class _Tried(NamedTuple):
    """Candidates of a fit, the safest first, and their results on the validation samples.

    Args:
        accuracy, cost: means of every candidate, (candidates,).
        error: the standard error of each accuracy's difference from the last exit's.
        lost: samples answered wrongly although the last exit is right, (candidates, samples).
        reference: the last exit's accuracy.
    """

    policies: Sequence[Policy]
    accuracy: Floats
    error: Floats
    cost: Floats
    lost: Bools
    reference: float

    @classmethod
    def joined(cls, parts: "Sequence[_Tried]") -> "_Tried":
        """Join candidates that were tried on the same samples."""
        return cls(
            [policy for part in parts for policy in part.policies],
            np.concatenate([part.accuracy for part in parts]),
            np.concatenate([part.error for part in parts]),
            np.concatenate([part.cost for part in parts]),
            np.concatenate([part.lost for part in parts]),
            parts[0].reference,
        )


def _tried(goal: Goal, case: Case, policies: Sequence[Policy], active: tuple[int, ...]) -> _Tried:
    """Measure candidates on the validation samples."""
    labels = goal.with_reference(case).labels
    if labels is None:
        raise EennError(
            "fit: these images have no labels; fit with fit.against=last_exit, or give a folder "
            "with one folder per class"
        )
    decisions = [case.decide(policy, active) for policy in policies]
    correct = np.stack([decision.label == labels for decision in decisions])
    reference = case.outputs[-1].prediction == labels
    samples = len(reference)
    difference = correct.astype(np.float64) - reference
    cost_of: dict[str, Callable[[Decisions], Floats | Bools]] = {
        "macs": case.costs.answer_macs,
        "latency_ms": case.costs.latency_ms,
        "offloaded": lambda decided: ~decided.on_edge,
    }
    return _Tried(
        policies,
        correct.mean(1),
        difference.std(1, ddof=min(1, samples - 1)) / np.sqrt(samples),
        np.array([cost_of[goal.cost](decision).mean() for decision in decisions]),
        ~correct & reference,
        float(reference.mean()),
    )


def _best(goal: Goal, parts: Sequence[_Tried], knob: str) -> int:
    """Choose among all candidates by accuracy and cost; gives the index among them."""
    tried = _Tried.joined(parts)
    try:
        if goal.goal == "accuracy_drop":
            sure = tried.accuracy - goal.one_standard_error * tried.error
            return cheapest_within_drop(sure, tried.cost, tried.reference, goal.limit)
        limit = goal.limit
        if goal.goal == "edge_probability":
            limit = 1 - limit + ROUNDING
        return most_accurate_within(tried.accuracy, tried.cost, limit)
    except Infeasible as error:
        meant = " MACs, of which tables show millions" if goal.goal == "macs" else ""
        if goal.goal == "accuracy_drop" and goal.one_standard_error:
            meant = ", one standard error taken off every accuracy"
        raise Infeasible(f"fit of {knob} to {goal}{meant}: {error}") from error


def _boldest(goal: Goal, parts: Sequence[_Tried], knob: str) -> int:
    """Choose the cheapest of the boldest candidates whose risk is under control, one of each part.

    Every part is a sequence that is tested at an even share of delta, so that all tests hold
    together except with probability delta (Bonferroni).
    """
    delta = goal.delta / len(parts)
    found: list[tuple[float, float, int]] = []
    start = 0
    for tried in parts:
        index = controlled(tried.lost, goal.limit, delta, goal.method)
        if index is not None:
            found.append((float(tried.cost[index]), -float(tried.accuracy[index]), start + index))
        start += len(tried.policies)
    if not found:
        lost = parts[0].lost
        needed = samples_needed(float(lost[0].mean()), goal.limit, delta, goal.method)
        more = f"{needed:,} are enough" if needed else "no number is enough"
        raise Infeasible(
            f"fit: {lost.shape[1]} validation samples cannot show a risk of at most "
            f"{goal.limit:g} at delta {delta:g} for any {knob}; allow more "
            f"risk, or validate on more images: {more}, with losses as frequent as now"
        )
    return min(found)[-1]
