"""The exhaustive planner: every choice of branches, policy and rest, predicted from measured parts.

The parts are times of stages and of the cloud, bytes of requests, and the link; the exit records
give the share of images that leave at each exit. So the best choice for a device is found without
running every choice.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, combinations

import numpy as np

from eenn.errors import EennError
from eenn.exits.decide import Decisions, decide
from eenn.exits.policies.base import KnobValue, Outputs, Policy
from eenn.exits.policies.threshold import baseline_rule
from eenn.exits.rests import CLOUD, DEVICE, NOBODY, PHOTOGRAPH
from eenn.exits.settings import Setting
from eenn.planning.costs import Costs
from eenn.planning.engine import Conditions, Way
from eenn.planning.table import (
    ACCURACY,
    FASTEST,
    LATE,
    Goal,
    Limit,
    NoPlan,
    Objective,
    Row,
    Table,
    first_choice,
)
from eenn.planning.times import Route, Times, reached

MAX_SLOWDOWN = 100.0
# Factors by which inner exits are stricter than the last active branch.
STRICT = (1.0, 3.0, 10.0)


# The policy without active branches: the last exit always answers.
WITHOUT_BRANCHES = baseline_rule(1.0)


@dataclass(frozen=True)
class Plan:
    """A choice of branches, policy and rest, with its predicted costs.

    Args:
        cut: number of blocks that the edge runs before it passes an image on.
        latency_ms, sent_bytes: means over the images.
        edge_weight_bytes: size in fp32 of the weights that the edge keeps.
    """

    setting: Setting
    cut: int
    route: Route
    latency_ms: float
    accuracy: float
    edge_probability: float
    sent_bytes: float
    edge_weight_bytes: float


@dataclass(frozen=True)
class SlowerEdge:
    """The predicted latency of one way to answer, on an edge `slowdown` times slower."""

    slowdown: float
    way: str
    latency_ms: float


def variants(policies: Sequence[Policy], branches: int) -> list[Policy]:
    """List variants of policies by knob and strictness; the given policies come first."""
    found = dict.fromkeys(policies)
    for policy in policies:
        values: Sequence[KnobValue] = [policy.knob_value]
        if policy.knob is None or isinstance(policy.knob_value, tuple):
            continue
        values = [*values, *policy.knob.curve(branches)]
        stricter = [{"strict": strict} for strict in STRICT] if "strict" in policy.grids else [{}]
        for value in values:
            settings = {**vars(policy), policy.knob.name: value}
            found |= dict.fromkeys(policy.of({**settings, **own}) for own in stricter)
    return list(found)


def plan(
    times: Times,
    weight_bytes: Costs,
    outputs: Outputs,
    policies: Sequence[Policy],
    cascade: Outputs | None = None,
) -> Table[Plan]:
    """Plan for every set of active branches, every policy, and every route of the rest.

    The network is cut after the last active branch, or further back where that sends less.
    Accuracies do not account for rounded features.

    Args:
        weight_bytes: of the network's segments and heads, and of the upstream network if any.
        outputs: calibrated probabilities of every exit, and labels, on images like those of the
            field.
        policies: policies to choose from; those that do not fit the network are left out.
        cascade: the same outputs with one more exit, that of the upstream network in `times`.
    """
    rows: list[Row[Plan]] = []
    own = replace(weight_bytes, upstream=None)
    for policy, active in _choices(policies, len(outputs.exits) - 1):
        rows += _priced(times, own, outputs, policy, active, times.routes(active))
    if cascade is not None:
        exits = len(cascade.exits) - 1
        for policy, active in _choices(policies, exits):
            routes = [Route(CLOUD, PHOTOGRAPH, upstream=True)]
            if active:
                routes.append(Route(DEVICE, upstream=True))
            rows += _priced(times, weight_bytes, cascade, policy, active, routes)
    return Table.of(rows)


def decisions_of(
    outputs: Outputs, policy: Policy, active: tuple[int, ...], route: Route
) -> Decisions:
    """Decide by a policy over the active branches, with the rest of the route behind them."""
    return decide(policy, outputs.exits, active, cloud=route.rest != NOBODY)


def goal_of(
    min_accuracy: float = 0.0, deadline_ms: float = math.inf, max_late: float | None = None
) -> Goal:
    """Set out a planner's goal: accurate enough, within the deadline, and then the best.

    With a deadline that is the most accurate plan, without one the fastest.

    Args:
        deadline_ms: of the mean latency.
        max_late: largest share of images later than the deadline of the conditions; None for any.
    """
    accurate = Objective(ACCURACY, most=True)
    limits = [Limit(ACCURACY, least=min_accuracy), Limit(FASTEST.metric, most=deadline_ms)]
    if max_late is not None:
        limits.append(Limit(LATE, most=max_late))
    in_order = (accurate, FASTEST) if math.isfinite(deadline_ms) else (FASTEST, accurate)
    return Goal(in_order, tuple(limits))


def best(plans: Collection[Plan], min_accuracy: float = 0.0, deadline_ms: float = math.inf) -> Plan:
    """Choose the best of the plans by `goal_of`.

    Raises:
        NoPlan: no plan keeps the bounds.
    """
    every = list(plans)
    if not every:
        raise NoPlan("no plan keeps the limit of late answers; allow more, or a later deadline")
    columns = {
        "latency_ms": np.array([plan.latency_ms for plan in every]),
        "accuracy": np.array([plan.accuracy for plan in every]),
        "sent_bytes": np.array([plan.sent_bytes for plan in every]),
        "cut": np.array([float(plan.cut) for plan in every]),
    }
    row = first_choice(columns.__getitem__, goal_of(min_accuracy, deadline_ms))
    if row is None:
        raise NoPlan(
            f"no plan reaches an accuracy of {min_accuracy:.4g} within {deadline_ms:g} ms; the "
            f"most accurate reaches {max(plan.accuracy for plan in plans):.4g}, the fastest takes "
            f"{min(plan.latency_ms for plan in plans):.3g} ms"
        )
    return every[row]


def best_of_each(
    plans: Iterable[Plan], min_accuracy: float = 0.0, deadline_ms: float = math.inf
) -> list[Plan]:
    """Choose the best plan within the bounds for each rest and payload; the fastest comes first."""
    kinds: dict[Route, list[Plan]] = {}
    for plan in plans:
        kinds.setdefault(replace(plan.route, further=0), []).append(plan)
    found = []
    for alike in kinds.values():
        with suppress(NoPlan):
            found.append(best(alike, min_accuracy, deadline_ms))
    return sorted(found, key=lambda plan: plan.latency_ms)


def slower_edges(times: Times, ways: Mapping[str, tuple[Decisions, Route]]) -> list[SlowerEdge]:
    """Predict the latency of ways to answer on edges that compute up to MAX_SLOWDOWN times slower.

    Args:
        times: of the edge without slowdown.
        ways: decisions and route of each way to answer, by name.
    """
    means = {
        name: times.way(decisions.active, route).spent(reached(decisions).mean(axis=0))
        for name, (decisions, route) in ways.items()
    }
    return [
        SlowerEdge(slowdown, name, float(spent.latency_ms(Conditions(times.link, slowdown))))
        for slowdown in np.geomspace(1, MAX_SLOWDOWN, 41).tolist()
        for name, spent in means.items()
    ]


def _choices(policies: Sequence[Policy], exits: int) -> Iterator[tuple[Policy, tuple[int, ...]]]:
    """Yield every policy with every set of exits; the empty set comes once, without a policy."""
    every, fitting = range(exits), [policy for policy in policies if _fits(policy, exits)]
    sets = chain.from_iterable(combinations(every, size) for size in range(exits + 1))
    for active in sets:
        for policy in fitting if active else [WITHOUT_BRANCHES]:
            yield policy, active


def _priced(
    times: Times,
    weight_bytes: Costs,
    outputs: Outputs,
    policy: Policy,
    active: tuple[int, ...],
    routes: Sequence[Route],
) -> Iterator[Row[Plan]]:
    setting = Setting(policy if active else None, active)
    by_rest: dict[bool, tuple[Decisions, float]] = {}
    for route in routes:
        alone = route.rest == NOBODY
        if alone not in by_rest:
            decisions = decisions_of(outputs, policy, active, route)
            by_rest[alone] = decisions, float((decisions.label == outputs.labels).mean())
        decisions, accuracy = by_rest[alone]
        way = times.way(active, route)
        spent = way.spent(reached(decisions).mean(axis=0))
        leaving = np.bincount(decisions.taken, minlength=len(outputs.exits)) / len(outputs.labels)
        cut = times.cut_of(active, route)
        design = Plan(
            setting=setting,
            cut=cut,
            route=route,
            latency_ms=float(spent.latency_ms(times.conditions)),
            accuracy=accuracy,
            edge_probability=1.0 - float(spent.away),
            sent_bytes=float(spent.sent_bytes),
            edge_weight_bytes=weight_bytes.held(active, route.rest == DEVICE),
        )
        to_exit_ms = _to_exits(way, active, len(outputs.exits))
        yield Row(design, cut, spent, tuple(leaving.tolist()), accuracy, to_exit_ms)


def _to_exits(way: Way, active: tuple[int, ...], exits: int) -> tuple[float, ...]:
    """List the device's milliseconds up to each exit's decision; inactive ones pass at once."""
    passed = np.searchsorted(active, np.arange(exits), side="right")
    passed[-1] = len(active) + 1
    return tuple(np.cumsum([0.0, *way.device_ms])[passed].tolist())


def _fits(policy: Policy, branches: int) -> bool:
    try:
        policy.check(branches)
    except EennError:
        return False
    return True
