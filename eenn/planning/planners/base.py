"""The protocol of named planners, and their registry.

A planner is a restriction of the table of all plans: the designs that it knows, and the objectives
that it follows. So none of them can beat the planner that knows all designs on the same goal.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

from eenn.errors import EennError
from eenn.exits.policies.base import Policy
from eenn.exits.rests import CLOUD, DEVICE, NOBODY, PHOTOGRAPH
from eenn.planning.engine import Conditions, Power
from eenn.planning.exhaustive import Plan
from eenn.planning.table import FASTEST, Goal, NoPlan, Objective, Table

# Formats of features, as of `eenn.offload.protocol.codecs`.
UNROUNDED, EIGHT_BITS = "fp32", "uint8"


@dataclass(frozen=True)
class Asked:
    """The question to a planner.

    Args:
        policy: the one that a planner takes which does not choose thresholds.
        branches: of the network.
        frames_per_s: rate of images; None where each is answered before the next.
        power: of the device; None leaves energy out.
    """

    at: Conditions
    goal: Goal
    policy: Policy
    branches: int
    frames_per_s: float | None = None
    power: Power | None = None


@dataclass(frozen=True)
class Choice:
    """A planner's choice.

    Args:
        row: of the table of all plans.
        keeps_limits: false if no design that the planner knows keeps the limits; then the choice is
            the fastest of them.
    """

    row: int
    keeps_limits: bool


class Planner(ABC):
    """A named planner.

    Args:
        lacks: graphs that the publication runs and an artifact has not, in words.
    """

    name: ClassVar[str]
    lacks: ClassVar[str] = ""

    @abstractmethod
    def admits(self, plan: Plan, asked: Asked) -> bool:
        """Tell whether the planner knows a design."""

    def objectives(self, asked: Asked) -> tuple[Objective, ...]:
        """List the planner's objectives; without its own, those asked for."""
        return asked.goal.objectives

    def choose(self, table: Table[Plan], asked: Asked) -> Choice:
        """Choose one of the designs that the planner knows.

        Raises:
            NoPlan: the table has none of these designs.
        """
        rows = [row for row, plan in enumerate(table) if self.admits(plan, asked)]
        if not rows:
            raise NoPlan(f"{self.name} knows none of {len(table)} plans; measure more parts")
        row, keeps = self._pick(table.at(rows), asked)
        return Choice(rows[row], keeps)

    def _pick(self, own: Table[Plan], asked: Asked) -> tuple[int, bool]:
        """Pick a row of the planner's own designs, and tell whether it keeps the limits."""
        goal = replace(asked.goal, objectives=self.objectives(asked))
        try:
            return own.choose(asked.at, goal, asked.power), True
        except NoPlan:
            return own.choose(asked.at, Goal((FASTEST,))), False


P = TypeVar("P", bound=type[Planner])

PLANNERS: dict[str, Planner] = {}


def register(name: str) -> Callable[[P], P]:
    """Register a class of planners under `name`."""

    def known(planner: P) -> P:
        planner.name = name
        PLANNERS[name] = planner()
        return planner

    return known


def find_planner(name: str) -> Planner:
    """Find the planner of that name.

    Raises:
        EennError: no planner has that name.
    """
    if name not in PLANNERS:
        raise EennError(f"planner {name}: allowed are {', '.join(PLANNERS)}")
    return PLANNERS[name]


def is_chain(plan: Plan, payload: str) -> bool:
    """Tell whether a plan runs one network along its chain of blocks, cut once at most.

    Args:
        payload: the only format of features that is sent; the image itself may always be.
    """
    route = plan.route
    if route.upstream or route.rest == NOBODY:
        return False
    if route.rest == CLOUD and not plan.cut:
        return route.payload in (PHOTOGRAPH, payload)
    return route.rest == DEVICE or route.payload == payload


def is_prefix(active: tuple[int, ...]) -> bool:
    """Tell whether all branches up to the last active one are active."""
    return active == tuple(range(len(active)))
