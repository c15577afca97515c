"""The exit and cut under a deadline, in the spirit of Edgent (Li et al., 2020), the static form.

Every image leaves at one and the same exit, whatever its confidence. The device computes the first
blocks; in the publication it computes the last ones.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eenn.exits.policies.base import Ints
from eenn.exits.rests import NOBODY
from eenn.planning.chain import Chain, ChainExit
from eenn.planning.engine import Conditions
from eenn.planning.exhaustive import Plan
from eenn.planning.planners.base import UNROUNDED, Asked, Planner, is_chain, register
from eenn.planning.table import FASTEST, Goal, Limit, Table


class RightSized(NamedTuple):
    """The exit of all images, counted from 1, and the cut."""

    exit: int
    cut: int


def right_sized(
    chain: Chain, exits: Sequence[ChainExit], accuracy: Sequence[float]
) -> Table[RightSized]:
    """Tabulate every exit that all images leave at, with every cut before it.

    Args:
        exits: the last one is behind the last block.
        accuracy: of every exit on all images.
    """
    return Table.of(
        chain.row(RightSized(number, cut), cut, (exit,), (1.0, 0.0), accuracy[number - 1])
        for number, exit in enumerate(exits, 1)
        for cut in range(exit.after + 1)
    )


def deepest_in_time(
    table: Table[RightSized], at: Conditions, deadline_ms: float
) -> Table[RightSized]:
    """Select the fastest cuts of the deepest exit that meets a deadline; none if no exit does."""
    exits = np.array([design.exit for design in table])
    return table.at(_deepest(table, exits, at, (Limit("latency_ms", most=deadline_ms),)))


@register("edgent")
class Edgent(Planner):
    """Chooses the deepest exit that keeps the limits, and its fastest cut.

    The graphs of a network end in the cloud at its last exit, so an earlier one is the device's.
    """

    lacks = "stages of the cloud that end at a branch"

    def admits(self, plan: Plan, asked: Asked) -> bool:
        alone = len(plan.setting.active) == 1 and plan.route.rest == NOBODY
        return alone or (not plan.setting.active and is_chain(plan, UNROUNDED))

    def _pick(self, own: Table[Plan], asked: Asked) -> tuple[int, bool]:
        exits = np.array([min(plan.setting.active, default=math.inf) for plan in own])
        rows = _deepest(own, exits, asked.at, asked.goal.limits)
        if not len(rows):
            return own.choose(asked.at, Goal((FASTEST,))), False
        return int(rows[own.at(rows).choose(asked.at, Goal((FASTEST,)))]), True


def _deepest(
    table: Table[Plan] | Table[RightSized],
    exits: NDArray[np.number],
    at: Conditions,
    limits: tuple[Limit, ...],
) -> Ints:
    """Find the fastest designs of the deepest exit that keeps the limits, ascending."""
    for exit in np.unique(exits)[::-1]:
        rows = np.flatnonzero(exits == exit)
        found = table.at(rows).equally_good(at, Goal((FASTEST,), limits))
        if len(found):
            return rows[found]
    return np.arange(0)
