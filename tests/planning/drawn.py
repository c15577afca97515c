"""Drawn problems of planners: chains with exits, walks of single images, and tables of plans."""

from collections.abc import Sequence
from functools import cache
from itertools import combinations
from typing import NamedTuple

import numpy as np

from eenn.exits.policies.base import ExitProbs, Outputs
from eenn.exits.policies.registry import make_policy
from eenn.exits.rests import PHOTOGRAPH
from eenn.planning.chain import Chain, ChainExit
from eenn.planning.costs import Costs, Link
from eenn.planning.engine import Conditions, Power
from eenn.planning.exhaustive import Plan, goal_of, plan, variants
from eenn.planning.planners.base import Asked, find_planner
from eenn.planning.table import Table
from eenn.planning.times import RequestCost, Times

WATTS = Power(2.0, 1.5, 0.4)
BRANCHES = 3
CLOUD_PAYLOADS = ("fp32", "uint8")
POLICY = make_policy("confidence", {"p_tar": 0.7})


class Walk(NamedTuple):
    """What one image takes."""

    device_ms: float
    sending_ms: float
    waiting_ms: float
    cloud_ms: float

    @property
    def ms(self) -> float:
        return sum(self)


def walk(
    chain: Chain, at: Conditions, cut: int, heads: Sequence[ChainExit], stop: int | None
) -> Walk:
    """Follow one image block by block: through all heads up to the block where it stops."""
    device = cloud = sending = waiting = 0.0
    for block in range(1, len(chain.device_ms) + 2):
        if block == cut + 1 <= len(chain.device_ms):
            sending = 8e-3 * chain.payload_bytes[cut] / at.link.bandwidth_mbps
            waiting = at.link.rtt_ms
        if block > len(chain.device_ms):
            break
        here = [head for head in heads if head.after == block]
        if block <= cut:
            device += chain.device_ms[block - 1] + sum(head.head_ms for head in here)
        else:
            cloud += chain.cloud_ms[block - 1] + sum(head.cloud_head_ms for head in here)
        if block == stop:
            break
    return Walk(at.slowdown * device, sending, waiting, at.cloud_load * cloud)


def drawn_chain(generator: np.random.Generator) -> tuple[Chain, Conditions, list[ChainExit]]:
    """Draw up to six blocks, their link, and exits, of which the last is behind the last block."""
    blocks = int(generator.integers(1, 7))
    device, cloud = generator.uniform(1, 50, blocks), generator.uniform(0.1, 9, blocks)
    sizes = generator.uniform(500, 2e5, blocks)
    chain = Chain(tuple(device.tolist()), tuple(cloud.tolist()), tuple(sizes.tolist()))
    link = Link(float(10 ** generator.uniform(-0.5, 2)), float(generator.uniform(0, 60)))
    at = Conditions(link, *(float(factor) for factor in generator.uniform(0.5, 4, 2)))
    behind = [block for block in range(1, blocks) if generator.random() < 0.5]
    heads = generator.uniform(0.05, 3, (blocks + 1, 2)).tolist()
    return chain, at, [ChainExit(block, *heads[block]) for block in (*behind, blocks)]


@cache
def drawn_plans(seed: int) -> tuple[Table[Plan], Conditions]:
    """Plan for drawn times, links and outputs."""
    generator = np.random.default_rng(seed)

    def ms(most: float) -> float:
        return float(generator.uniform(0.1, most))

    splits = range(BRANCHES + 1)
    requests = {
        (cut, payload): RequestCost(ms(4e4), ms(5), ms(1))
        for cut in splits
        for payload in CLOUD_PAYLOADS
    }
    times = Times(
        preprocess_ms=ms(3),
        classifier_ms=0.0,
        stage_ms={step: ms(20) for step in combinations(splits, 2)},
        rest_ms={cut: ms(30) for cut in splits},
        requests={**requests, (0, PHOTOGRAPH): RequestCost(ms(4e4), ms(9), ms(1))},
        link=Link(float(10 ** generator.uniform(-0.5, 2)), ms(60)),
    )
    labels = generator.integers(4, size=60)
    probs = generator.dirichlet(np.full(4, 0.4), (BRANCHES + 1, 60))
    probs[:, range(60), labels] += generator.uniform(0, 1, (BRANCHES + 1, 60))
    probs /= probs.sum(axis=2, keepdims=True)
    outputs = Outputs([ExitProbs(k, own) for k, own in enumerate(probs)], labels)
    weights = Costs((1.0,) * (BRANCHES + 1), (1.0,) * (BRANCHES + 1))
    return plan(times, weights, outputs, variants([POLICY], BRANCHES)), times.conditions


def every_plan(seed: int, at: Conditions | None = None) -> tuple[Table[Plan], Asked]:
    """Draw a table of plans, and a question under its own conditions or others."""
    table, measured = drawn_plans(seed)
    at = at or measured
    least = float(np.median(table.accuracy))
    deadline_ms = float(np.median(table.metric("latency_ms", at)))
    goal = goal_of(*[(0.0,), (least,), (least, deadline_ms), (1.1,)][seed % 4])
    return table, Asked(at, goal, POLICY, BRANCHES, power=WATTS)


def rows_of(name: str, table: Table[Plan], asked: Asked) -> list[int]:
    """List the rows of the designs that a planner knows."""
    return [row for row, own in enumerate(table) if find_planner(name).admits(own, asked)]
