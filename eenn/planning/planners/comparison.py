"""The plans of several named planners side by side, with their regret to the joint one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from eenn.errors import EennError, require_numbers
from eenn.planning.engine import Power
from eenn.planning.exhaustive import Plan
from eenn.planning.planners.base import Asked, find_planner
from eenn.planning.planners.joint import Joint
from eenn.planning.table import ENERGY, LATE, P95, Table


@dataclass(frozen=True)
class Comparison:
    """The planners to compare.

    Args:
        planners: their names.
        watts: of the device while it computes, sends and waits; None leaves energy out.
        frames_per_s: rate of images; None where each is answered before the next.

    Raises:
        EennError: a planner that does not exist or is named twice; watts or a rate that are not
            positive numbers.
    """

    planners: tuple[str, ...] = ()
    watts: tuple[float, ...] | None = None
    frames_per_s: float | None = None

    def __post_init__(self) -> None:
        for name in self.planners:
            find_planner(name)
        if len(set(self.planners)) < len(self.planners):
            raise EennError(f"plan.compare={', '.join(self.planners)}: name each planner once")
        rate = 1.0 if self.frames_per_s is None else self.frames_per_s
        require_numbers(**{"plan.frames_per_s": rate})
        if not 0 < rate < math.inf:
            raise EennError(f"plan.frames_per_s={rate:g}: allowed is a number above 0")
        if self.watts is not None:
            Power.of("plan.watts", self.watts)

    @property
    def power(self) -> Power | None:
        """Return the device's power, if it is known."""
        return None if self.watts is None else Power.of("plan.watts", self.watts)


@dataclass(frozen=True)
class Compared:
    """The plan of a named planner.

    Args:
        keeps_limits: see `Choice`.
        p95_ms: latency that 95 % of the answers keep.
        late_share: share of the answers after the deadline; 0 without one.
        energy_mj: modelled from the user's watts; NaN without them.
        regret: lost to the plan of `joint`: the share that the latency is longer, or the accuracy
            that is missing where that is the first objective; negative where the limits are broken.
        lacks: graphs that the publication has and an artifact has not.
    """

    planner: str
    plan: Plan
    keeps_limits: bool
    p95_ms: float
    late_share: float
    energy_mj: float
    regret: float
    lacks: str


def compared(table: Table[Plan], asked: Asked, names: Sequence[str]) -> list[Compared]:
    """Let planners choose from a table of plans.

    Raises:
        NoPlan: the table has no design that a planner knows.
    """
    best = table.designs[find_planner(Joint.name).choose(table, asked).row]
    energy_mj = None
    if asked.power is not None:
        energy_mj = table.metric(ENERGY, asked.at, asked.power)
    p95_ms, late = (table.metric(name, asked.at) for name in (P95, LATE))
    found = []
    for name in names:
        planner = find_planner(name)
        choice = planner.choose(table, asked)
        plan = table.designs[choice.row]
        regret = plan.latency_ms / best.latency_ms - 1
        if asked.goal.objectives[0].most:
            regret = best.accuracy - plan.accuracy
        energy = math.nan if energy_mj is None else float(energy_mj[choice.row])
        found.append(
            Compared(
                name, plan, choice.keeps_limits, float(p95_ms[choice.row]),
                float(late[choice.row]), energy, regret, planner.lacks,
            )
        )  # fmt: skip
    return found
