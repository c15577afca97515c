"""Fitting a policy's threshold on the validation split: to an accuracy, a budget or a risk."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from eenn.errors import EennError, require_numbers
from eenn.evaluation.grid import Case
from eenn.exits.decide import decide
from eenn.exits.policies import make_policy
from eenn.exits.settings import has_threshold
from eenn.statistics.intervals import Row
from eenn.statistics.risk_control import (
    P_VALUES,
    cheapest_within_drop,
    controlled,
    most_accurate_within,
    risk_upper_bound,
)

GOALS = ("accuracy_drop", "macs", "latency_ms", "risk")
# From the safest to the boldest.
CANDIDATES = np.linspace(1, 0, 201)


@dataclass(frozen=True)
class Goal:
    """What a threshold is fitted to.

    Args:
        goal: `accuracy_drop`: the fewest MACs that lose at most `limit` against the last exit;
            `macs` or `latency_ms`: the most accurate within a mean of `limit`; `risk`: the boldest
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


def fit_p_tar(
    goal: Goal, case: Case, name: str, settings: Mapping[str, Any], active: tuple[int, ...]
) -> Row:
    """The threshold of the policy `name` that meets the goal on these validation samples.

    With it come accuracy and mean cost there.

    Raises:
        EennError: no threshold does, or the policy has none.
    """
    if not has_threshold(name):
        raise EennError(f"fit: {name} has no threshold p_tar; leave fit or the policy out")
    made = [make_policy(name, {**settings, "p_tar": p_tar}) for p_tar in CANDIDATES]
    decisions = [decide(policy, case.outputs, active) for policy in made]
    correct = np.stack([decision.label == case.labels for decision in decisions])
    reference = case.outputs[-1].prediction == case.labels
    lost = ~correct & reference
    accuracy = correct.mean(1)
    by_latency = goal.goal == "latency_ms"
    cost_of = case.costs.latency_ms if by_latency else case.costs.answer_macs
    cost = np.array([cost_of(decision).mean() for decision in decisions])
    index: int | None
    if goal.goal == "risk":
        index = controlled(lost, goal.limit, goal.delta, goal.method)
        if index is None:
            raise EennError(
                f"fit: {lost.shape[1]} validation samples cannot show a risk of at most "
                f"{goal.limit:g} at delta {goal.delta:g} for any threshold of {name}; allow more "
                "risk, or validate on more images"
            )
    elif goal.goal == "accuracy_drop":
        index = cheapest_within_drop(accuracy, cost, float(reference.mean()), goal.limit)
    else:
        index = most_accurate_within(accuracy, cost, goal.limit)
    fitted = {
        "policy": name,
        "active": " ".join(str(branch + 1) for branch in active),
        "p_tar": float(CANDIDATES[index]),
        "goal": goal.goal,
        "limit": goal.limit,
        "validation_n": lost.shape[1],
        "validation_accuracy": float(accuracy[index]),
        "validation_latency_ms" if by_latency else "validation_macs": float(cost[index]),
    }
    return fitted | ({"delta": goal.delta, "method": goal.method} if goal.goal == "risk" else {})


def observed_risk(
    goal: Goal, case: Case, name: str, settings: Mapping[str, Any], fitted: Row
) -> Row:
    """Risk of a fitted threshold on samples it was not fitted to, and its upper bound."""
    active = tuple(int(branch) - 1 for branch in fitted["active"].split())
    policy = make_policy(name, {**settings, "p_tar": fitted["p_tar"]})
    wrong = decide(policy, case.outputs, active).label != case.labels
    risk = float((wrong & (case.outputs[-1].prediction == case.labels)).mean())
    bound = risk_upper_bound(risk, len(case.labels), goal.delta, goal.method)
    return {"test_risk": risk, "test_risk_upper_bound": float(bound)}
