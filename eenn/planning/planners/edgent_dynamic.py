"""The exit and cut that a map has for a bandwidth, in the spirit of Edgent (Li et al., 2020).

This is the publication's form for links that change: the map is made beforehand for states of the
bandwidth, and the choice is that of the state nearest to the link's.
"""

from dataclasses import replace
from typing import TypeVar

import numpy as np

from eenn.exits.policies.base import Floats
from eenn.planning.costs import Link
from eenn.planning.engine import Conditions
from eenn.planning.exhaustive import Plan
from eenn.planning.planners.base import Asked, register
from eenn.planning.planners.edgent import Edgent
from eenn.planning.table import Goal, Limit, Objective, Table, first_choice

D = TypeVar("D")

STATES_MBPS = np.geomspace(0.05, 100, 25)
REWARD = Objective("reward", most=True)
# Without a deadline, everything is in time.
IN_TIME = Limit("latency_ms")


def nearest_state(bandwidth_mbps: float) -> int:
    """Find the state with the smallest ratio between its bandwidth and the given one."""
    return int(np.abs(np.log(STATES_MBPS / bandwidth_mbps)).argmin())


def bandwidth_map(table: Table[D], at: Conditions, limits: tuple[Limit, ...]) -> list[int]:
    """Choose the design with the largest reward for every state.

    The reward is exp(accuracy) + 1 / latency, and 0 for a design that breaks a limit, of which the
    deadline is one. The latency counts in seconds, so that its inverse is a number of images per
    second: the throughput, as which the publication has it.

    Args:
        at: the round trip, and how slow the device and the cloud are, in every state.

    Returns:
        Rows of the table, one for each state; where no design keeps the limits, the fastest.
    """
    links = [Link(mbps, at.link.rtt_ms) for mbps in STATES_MBPS.tolist()]
    return [_most_rewarded(table, replace(at, link=link), limits) for link in links]


def _most_rewarded(table: Table[D], at: Conditions, limits: tuple[Limit, ...]) -> int:
    kept = table.equally_good(at, Goal((), (IN_TIME, *limits)))
    images_per_s = 1e3 / table.metric("latency_ms", at)
    rewards = np.zeros(len(table))
    rewards[kept] = (np.exp(table.accuracy) + images_per_s)[kept]

    def metric(name: str) -> Floats:
        return rewards if name == REWARD.metric else table.metric(name, at)

    row = first_choice(metric, Goal((REWARD,)))
    assert row is not None
    return row


@register("edgent_dynamic")
class EdgentDynamic(Edgent):
    """Looks up one exit for all images and its cut, by the link's bandwidth."""

    def _pick(self, own: Table[Plan], asked: Asked) -> tuple[int, bool]:
        limits = asked.goal.limits
        row = bandwidth_map(own, asked.at, limits)[nearest_state(asked.at.link.bandwidth_mbps)]
        return row, row in own.equally_good(asked.at, Goal((), (IN_TIME, *limits)))
