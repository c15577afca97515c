"""Fits a policy's knob on the validation split: to an accuracy, a budget or a risk."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from eenn.errors import EennError, require_numbers
from eenn.evaluation.grid import Case, Decided, by_policy
from eenn.evaluation.rows import Network
from eenn.exits.decide import decide
from eenn.exits.policies.base import Policy, Validation
from eenn.exits.policies.registry import find_policy
from eenn.exits.settings import Setting, Swept
from eenn.statistics.risk_control import (
    P_VALUES,
    Infeasible,
    cheapest_within_drop,
    controlled,
    most_accurate_within,
    risk_upper_bound,
    samples_needed,
)

GOALS = ("accuracy_drop", "macs", "latency_ms", "risk")


@dataclass(frozen=True)
class Goal:
    """What a knob is fitted to.

    Args:
        goal: `accuracy_drop`: the fewest MACs that lose at most `limit` against the last exit;
            `macs` or `latency_ms`: the most accurate within a mean of `limit` MACs (not millions of
            them) or milliseconds; `risk`: the boldest
            for which P(answer wrong although the last exit is right) is at most `limit`, except
            with probability `delta`.
        method: of the risk's test: `hoeffding_bentkus`, or `clopper_pearson`, which is exact here
            and bolder.

    The promise of `risk` is over validation samples that nothing else was fitted to. Early stopping
    and temperatures have seen them too, so it is exact only for a validation split of its own.

    Raises:
        EennError: unknown goal or method.
    """

    goal: str
    limit: float
    delta: float
    method: str

    def __post_init__(self) -> None:
        require_numbers(limit=self.limit, delta=self.delta)
        if self.goal not in GOALS:
            raise EennError(f"fit.goal={self.goal}: allowed are {', '.join(GOALS)}")
        if self.method not in P_VALUES:
            raise EennError(f"fit.method={self.method}: allowed are {', '.join(P_VALUES)}")

    def __str__(self) -> str:
        return f"{self.goal} {self.limit:g}"


@dataclass(frozen=True)
class Risk:
    """A risk that was observed on samples that nothing was fitted to, and its upper bound."""

    test_risk: float
    test_risk_upper_bound: float


@dataclass(frozen=True)
class Fitted:
    """A policy whose knob was fitted on validation samples, and what it did there.

    Args:
        validation_n: samples that it was fitted on.
        validation_cost: mean MACs, or milliseconds where the goal is a latency.
        risk: observed on the split that is reported, where the goal is a risk.
    """

    network: Network
    policy: Policy
    active: tuple[int, ...]
    goal: Goal
    validation_n: int
    validation_accuracy: float
    validation_cost: float
    risk: Risk | None = None

    @property
    def setting(self) -> Setting:
        """The fitted way to answer."""
        return Setting(self.policy, self.active, goal=str(self.goal))

    def decide(self, case: Case) -> Decided:
        """Decide by the fitted policy, which promises no accuracy."""
        return by_policy(case, self.policy, self.active)._replace(
            setting=self.setting, promised=np.nan
        )

    def observed(self, case: Case) -> "Fitted":
        """Observe the risk on samples that the knob was not fitted to."""
        wrong = decide(self.policy, case.outputs, self.active).label != case.labels
        risk = float((wrong & (case.outputs[-1].prediction == case.labels)).mean())
        bound = risk_upper_bound(risk, len(case.labels), self.goal.delta, self.goal.method)
        return replace(self, risk=Risk(risk, float(bound)))


def fit(
    goal: Goal,
    case: Case,
    name: str,
    settings: Mapping[str, object],
    active: tuple[int, ...],
    validation: Validation | None = None,
) -> Fitted:
    """Fit the knob of the policy `name` to the goal on these validation samples.

    Args:
        settings: of the policy, without its knob.
        validation: what else the policy is fitted to.

    Raises:
        Infeasible: no value of the knob meets the goal.
        EennError: the policy has no knob.
    """
    knob = find_policy(name).knob
    if knob is None:
        raise EennError(f"fit: policy {name} has no knob to fit; leave fit or the policy out")
    candidates = knob.candidates(len(active))
    made = Swept(name, settings, candidates).policies(validation)
    decisions = [decide(policy, case.outputs, active) for policy in made]
    correct = np.stack([decision.label == case.labels for decision in decisions])
    reference = case.outputs[-1].prediction == case.labels
    lost = ~correct & reference
    accuracy = correct.mean(1)
    cost_of = case.costs.latency_ms if goal.goal == "latency_ms" else case.costs.answer_macs
    cost = np.array([cost_of(decision).mean() for decision in decisions])
    index: int | None
    if goal.goal == "risk":
        index = controlled(lost, goal.limit, goal.delta, goal.method)
        if index is None:
            needed = samples_needed(float(lost[0].mean()), goal.limit, goal.delta, goal.method)
            more = f"{needed:,} would do" if needed else "no number would do"
            raise Infeasible(
                f"fit: {lost.shape[1]} validation samples cannot show a risk of at most "
                f"{goal.limit:g} at delta {goal.delta:g} for any {knob.name} of {name}; allow more "
                f"risk, or validate on more images: {more}, with losses as frequent as now"
            )
    else:
        try:
            if goal.goal == "accuracy_drop":
                index = cheapest_within_drop(accuracy, cost, float(reference.mean()), goal.limit)
            else:
                index = most_accurate_within(accuracy, cost, goal.limit)
        except Infeasible as error:
            unit = " MACs, of which tables show millions" if goal.goal == "macs" else ""
            raise Infeasible(f"fit of {name} to {goal}{unit}: {error}") from error
    return Fitted(
        network=case.network,
        policy=made[index],
        active=active,
        goal=goal,
        validation_n=lost.shape[1],
        validation_accuracy=float(accuracy[index]),
        validation_cost=float(cost[index]),
    )
