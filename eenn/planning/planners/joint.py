"""The planner that knows every design: all branches, policies, cuts and formats together."""

from eenn.planning.exhaustive import Plan
from eenn.planning.planners.base import Asked, Planner, register


@register("joint")
class Joint(Planner):
    """Chooses among all plans."""

    def admits(self, plan: Plan, asked: Asked) -> bool:
        return True
