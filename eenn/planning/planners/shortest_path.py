"""The cut of a chain with branches of known exit rates, in the spirit of Pacheco and Couto (2020).

They find it as the shortest path through a graph of places and blocks; here all cuts are tried,
which gives the same.
"""

from collections.abc import Sequence

import numpy as np

from eenn.exits.rests import DEVICE
from eenn.planning.chain import Chain, ChainExit
from eenn.planning.exhaustive import Plan
from eenn.planning.planners.base import (
    UNROUNDED,
    Asked,
    Planner,
    is_chain,
    is_prefix,
    register,
)
from eenn.planning.table import FASTEST, Objective, Row, Table


def expected(
    chain: Chain,
    branches: Sequence[ChainExit],
    exit_probabilities: Sequence[float],
    cloud_branches: bool = False,
) -> Table[int]:
    """Tabulate every cut of a chain whose branches let a share of images leave.

    Args:
        exit_probabilities: of the images that reach a branch; rates of branches by themselves,
            multiplied, would be wrong.
        cloud_branches: whether the cloud evaluates the branches behind the cut.
    """

    def row(cut: int) -> Row[int]:
        evaluated = sum(cloud_branches or branch.after <= cut for branch in branches)
        staying = 1 - np.array(exit_probabilities[:evaluated], np.float64)
        return chain.row(cut, cut, branches[:evaluated], np.cumprod([1.0, *staying]))

    return Table.of(row(cut) for cut in chain.cuts)


@register("shortest_path")
class ShortestPath(Planner):
    """Cuts a network whose branches up to the cut are all active, with the policy given."""

    def admits(self, plan: Plan, asked: Asked) -> bool:
        active = plan.setting.active
        if not is_prefix(active) or plan.setting.policy not in (None, asked.policy):
            return False
        # On the device alone every branch is before the cut.
        whole = plan.route.rest != DEVICE or len(active) == asked.branches
        return whole and is_chain(plan, UNROUNDED)

    def objectives(self, asked: Asked) -> tuple[Objective, ...]:
        return (FASTEST,)
