"""The cut of DADS (Hu et al., 2019): least latency under light load, most images under heavy load.

With blocks that are not cut inside, a backbone is a chain; there the minimum cut of the graph is
the best of all cuts, and so is the least time of the slowest of device, link and cloud.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

from eenn.planning.engine import Conditions
from eenn.planning.exhaustive import Plan
from eenn.planning.planners.base import UNROUNDED, Asked, Planner, is_chain, register
from eenn.planning.table import EQUAL, FASTEST, Goal, Limit, NoPlan, Objective, Table

D = TypeVar("D")

SLOWEST = "slowest_ms"
HEAVY = Objective(SLOWEST)


@dataclass(frozen=True)
class Paced:
    """A choice for a rate of images.

    Args:
        is_light: whether the fastest design keeps up with the images, and is chosen.
        keeps_up: whether the chosen design does.
    """

    row: int
    is_light: bool
    keeps_up: bool


def paced(
    table: Table[D], at: Conditions, frames_per_s: float, limits: tuple[Limit, ...] = ()
) -> Paced:
    """Choose the fastest design if it keeps up with the images, else the one that does best.

    Raises:
        NoPlan: no design keeps the limits.
    """
    in_time = 1e3 / frames_per_s * (1 + EQUAL)
    slowest_ms = table.metric(SLOWEST, at)
    row = table.choose(at, Goal((FASTEST, HEAVY), limits))
    if slowest_ms[row] <= in_time:
        return Paced(row, True, True)
    row = table.choose(at, Goal((HEAVY,), limits))
    return Paced(row, False, bool(slowest_ms[row] <= in_time))


@register("dads")
class Dads(Planner):
    """Cuts a network without branches; without a rate of images the load is light."""

    def admits(self, plan: Plan, asked: Asked) -> bool:
        return not plan.setting.active and is_chain(plan, UNROUNDED)

    def objectives(self, asked: Asked) -> tuple[Objective, ...]:
        return (FASTEST,)

    def _pick(self, own: Table[Plan], asked: Asked) -> tuple[int, bool]:
        if asked.frames_per_s is None:
            return super()._pick(own, asked)
        try:
            found = paced(own, asked.at, asked.frames_per_s, asked.goal.limits)
        except NoPlan:
            return super()._pick(own, replace(asked, frames_per_s=None))
        return found.row, found.keeps_up
