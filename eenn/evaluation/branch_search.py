"""Chooses the active branches of a fit, in the spirit of FlexDNN (Fang et al., 2020)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

from eenn.errors import EennError
from eenn.evaluation.differences import Difference, difference, per_sample
from eenn.evaluation.fitting import Fitted, Goal, fit
from eenn.evaluation.grid import Case
from eenn.evaluation.rows import Network
from eenn.exits.policies.base import Validation
from eenn.exits.settings import Setting
from eenn.statistics.risk_control import Infeasible

# Of ten branches there are 1,024 sets, each with a fit of its own.
MOST_BRANCHES = 10


@dataclass(frozen=True)
class Saving:
    """The branches that a search switched off, and its effect on some images.

    Args:
        setting: with the branches that stay.
        off: the branches switched off, counted from 1.
        difference: the branches that stay less all branches, both fitted to the goal.
    """

    network: Network
    setting: Setting
    off: str
    difference: Difference


def search(
    goal: Goal,
    case: Case,
    name: str,
    settings: Mapping[str, object],
    validation: Validation | None = None,
) -> Fitted:
    """Fit the policy `name` over every set of branches, and choose the best of these fits.

    The best has least cost; for a goal that limits a cost it is the most accurate, of equals the
    cheapest. Ties go to fewer branches, then to the earlier ones. Without any branch, which is one
    of the sets, the rest answers all images. A risk is tested at an even share of `delta` for every
    set, so that all tests hold together except with probability `delta`.

    Args:
        case: validation samples.
        settings: of the policy, without its knob.

    Raises:
        Infeasible: no set meets the goal.
        EennError: more branches than MOST_BRANCHES; see `fit` as well.
    """
    sets = branch_sets(len(case.outputs) - 1)
    own = replace(goal, delta=goal.delta / len(sets))
    found: list[Fitted] = []
    for active in sets:
        try:
            found.append(fit(own, case, name, settings, active, validation))
        except Infeasible as error:
            unmet = error
    if not found:
        raise Infeasible(f"none of {len(sets)} sets of branches meets the goal, all: {unmet}")
    return replace(min(found, key=_dearness), goal=goal)


def branch_sets(branches: int) -> list[tuple[int, ...]]:
    """List every set of branches, counted from 0: smaller sets first, then those of earlier ones.

    Raises:
        EennError: more branches than MOST_BRANCHES.
    """
    if branches > MOST_BRANCHES:
        raise EennError(
            f"fit.active=search over {branches} branches: allowed are {MOST_BRANCHES} or fewer; "
            "leave it out, and give sets to choose from, as active_sets=[[1],[1,3]]"
        )
    return [own for size in range(branches + 1) for own in combinations(range(branches), size)]


def saving(case: Case, all_active: Fitted, fitted: Fitted) -> Saving:
    """Compare the branches that a search chose with all branches, on samples of any split."""
    first, second = (
        per_sample(case, case.decide(one.policy, one.active)) for one in (all_active, fitted)
    )
    names = all_active.setting.branches, fitted.setting.branches
    off = [str(branch + 1) for branch in all_active.active if branch not in fitted.active]
    compared = difference(*names, case.level, first, second)
    return Saving(case.network, fitted.setting, " ".join(off), compared)


def _dearness(fitted: Fitted) -> tuple[float, ...]:
    """Rank fits to one goal, the best lowest."""
    if fitted.goal.wants_cheapest:
        return (fitted.validation_cost,)
    return -fitted.validation_accuracy, fitted.validation_cost
