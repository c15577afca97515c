"""Problems whose planners eenn does not have: a bandit, a third tier, and a trace of a link."""

from collections.abc import Mapping
from itertools import pairwise
from math import inf
from typing import Any

import numpy as np

from benchmarks.bandits.arms import Bandit, rewards_of
from eenn.exits.policies.base import Floats
from eenn.planning.costs import Link
from eenn.planning.engine import Conditions, Way
from eenn.planning.table import Row, Table

Problem = Mapping[str, Any]


def split_by_bandit(problem: Problem) -> dict[str, Any]:
    """Choose a split for every sample, without and with the rewards of earlier splits."""
    mu = problem["mu"]
    cost = mu * np.array(problem["layer_cost"])
    confidence = np.array(problem["confidence"])
    rewards = rewards_of(confidence, problem["alpha"], cost, mu * problem["offload"])
    means = rewards.mean(axis=0)
    best = np.flatnonzero(means >= means.max() - 1e-9)
    found: dict[str, Any] = {"means": means.tolist(), "best": best.tolist()}
    for name, looks_back in (("plain", False), ("side", True)):
        pulls = Bandit(problem["beta"], looks_back).pulls(rewards)
        found[name] = {"pulls": pulls, "regret": float((means.max() - means[pulls]).sum())}
    return found


def three_tiers(problem: Problem) -> Table[tuple[int, int]]:
    """Tabulate every pair of cuts, with a box between device and cloud."""
    ends = range(len(problem["tiers_ms"][0]) + 1)
    rows = []
    for first in ends:
        for second in ends[first:]:
            whole = Way((_three_tiers_ms(problem, first, second),))
            rows.append(Row((first, second), first, whole.spent([1.0])))
    return Table.of(rows)


def _three_tiers_ms(problem: Problem, first: int, second: int) -> float:
    """Compute the mean milliseconds: blocks up to `first` on the device, to `second` in the box."""
    blocks, sizes = len(problem["tiers_ms"][0]), problem["payload_bytes"]
    links = {name: Link(**link) for name, link in problem["links"].items()}
    tier_of = np.repeat([0, 1, 2], [first, second - first, blocks - second])
    evaluating = problem.get("branch_tiers", (0, 1))
    branches = {own["after"] - 1: own for own in problem.get("branches", ())}
    staying = np.ones(blocks + 1)
    block_ms = np.array([problem["tiers_ms"][tier][block] for block, tier in enumerate(tier_of)])
    for block, branch in branches.items():
        if tier_of[block] in evaluating:
            staying[block + 1] = 1 - branch["exit_probability"]
            block_ms[block] += branch["head_ms"][tier_of[block]]
    reach = np.cumprod(staying)
    total = float(reach[:-1] @ block_ms)
    if first < second:
        hops = [("device_box", first), ("box_cloud", second)]
        return total + sum(
            float(reach[at]) * links[name].latency_ms(sizes[at]) for name, at in hops if at < blocks
        )
    if first == blocks:
        return total
    past = sum(links[name].latency_ms(sizes[first]) for name in ("device_box", "box_cloud"))
    direct = links["direct"].latency_ms(sizes[first]) if "direct" in links else inf
    return total + float(reach[first]) * min(past, direct)


def replanned(problem: Problem) -> dict[str, Any]:
    """Replay a trace of a link: the plan of every step, and what it costs.

    The link is known from the steps before, smoothed. A plan is left for one that is better by a
    margin, and not for some steps after it was taken.
    """
    rows = []
    for name, plan in problem["plans"].items():
        way = Way((plan["fixed_ms"], 0.0), (0.0,), plan["sent_bytes"])
        rows.append(Row(name, 0, way.spent([1.0, plan["offloaded"]])))
    table = Table.of(rows)
    steps = np.array([(8e-3 / mbps, rtt_ms) for mbps, rtt_ms in problem["trace"]])

    def latency_ms(step: Floats) -> Floats:
        return table.spent.latency_ms(Conditions(Link(8e-3 / float(step[0]), float(step[1]))))

    seen, since, chosen = steps[0], 0, list[int]()
    current = int(latency_ms(seen).argmin())
    for step in steps:
        expected = latency_ms(seen)
        better = int(expected.argmin())
        enough = expected[better] < (1 - problem["margin"]) * expected[current]
        if better != current and enough and since >= problem["dwell"]:
            current, since = better, 0
        since += 1
        chosen.append(current)
        seen = (1 - problem["weight"]) * seen + problem["weight"] * step
    paid = np.array([latency_ms(step) for step in steps])
    return {
        "chosen": [table.designs[row] for row in chosen],
        "switches": sum(a != b for a, b in pairwise(chosen)),
        "mean_ms": float(paid[range(len(steps)), chosen].mean()),
        "clairvoyant_ms": float(paid.min(axis=1).mean()),
        "best_static_ms": float(paid.mean(axis=0).min()),
    }
