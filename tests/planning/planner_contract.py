"""The contract of a named planner: any entry of the registry, those of the docs among them."""

from eenn.planning.exhaustive import Plan
from eenn.planning.planners.base import Asked, find_planner
from eenn.planning.table import Table
from tests.planning.drawn import every_plan, rows_of


def check_planner(name: str, seed: int) -> None:
    """Check what a planner chooses from a drawn table of plans."""
    table, asked = every_plan(seed)
    check_choice(name, table, asked)
    # Plans that it does not know change nothing.
    own = table.at(rows_of(name, table, asked))
    found = own.designs[find_planner(name).choose(own, asked).row]
    assert found == table.designs[find_planner(name).choose(table, asked).row]


def check_choice(name: str, table: Table[Plan], asked: Asked) -> None:
    """Check that a choice is a plan that the planner knows, and not better than the joint one's."""
    planner = find_planner(name)
    found, joint = planner.choose(table, asked), find_planner("joint").choose(table, asked)
    assert planner.admits(table.designs[found.row], asked), name
    if not found.keeps_limits:
        return
    first = asked.goal.objectives[0]
    values = table.metric(first.metric, asked.at) * (-1 if first.most else 1)
    assert joint.keeps_limits
    assert values[joint.row] <= values[found.row] + 1e-9, name
    for limit in asked.goal.limits:
        value = table.metric(limit.metric, asked.at)[found.row]
        assert limit.least - 1e-9 <= value <= limit.most + 1e-9
