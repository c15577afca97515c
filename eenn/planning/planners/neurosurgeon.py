"""The one cut of a chain without exits, in the spirit of Neurosurgeon (Kang et al., 2017)."""

from eenn.planning.chain import Chain
from eenn.planning.exhaustive import Plan
from eenn.planning.planners.base import UNROUNDED, Asked, Planner, is_chain, register
from eenn.planning.table import ENERGY, FASTEST, Objective, Table


def every_cut(chain: Chain) -> Table[int]:
    """Tabulate every cut of a chain that everyone follows to its end."""
    return Table.of(chain.row(cut, cut, (), (1.0,)) for cut in chain.cuts)


@register("neurosurgeon")
class Neurosurgeon(Planner):
    """Cuts a network without branches where latency or the device's energy is least.

    Unlike the publication, it counts the round trip and the watts of waiting.
    """

    def admits(self, plan: Plan, asked: Asked) -> bool:
        return not plan.setting.active and is_chain(plan, UNROUNDED)

    def objectives(self, asked: Asked) -> tuple[Objective, ...]:
        first = asked.goal.objectives[0]
        return (first,) if first.metric == ENERGY else (FASTEST,)
