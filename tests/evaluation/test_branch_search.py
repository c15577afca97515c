"""The search for active branches, against the enumeration of a planner and plain searches."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import sem

from eenn.errors import EennError
from eenn.evaluation.branch_search import branch_sets, saving, search
from eenn.evaluation.fitting import Fitted, Goal, fit
from eenn.evaluation.grid import Case, Service
from eenn.evaluation.rows import Network
from eenn.exits.decide import decide
from eenn.exits.policies.base import ExitProbs, Knob, Validation
from eenn.exits.policies.threshold import Confidence
from eenn.exits.rests import DEVICE
from eenn.planning.costs import CostModel, Costs, Link
from eenn.planning.engine import Conditions
from eenn.planning.planners.flexdnn import every_set
from eenn.planning.table import FASTEST
from eenn.planning.table import Goal as PlanGoal
from eenn.statistics.risk_control import Infeasible

SETS = ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
MS = st.lists(st.floats(0.1, 20), min_size=4, max_size=4)
THRESHOLD = 0.7
# Few candidates, the safest first, so that plain searches over all of them take little time.
COARSE = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.0)


def case(samples: int, seed: int, segments: list[float], heads: list[float]) -> Case:
    """Four exits with drawn probabilities, the later the better, on a device alone."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(3, size=samples)
    exits = []
    for exit in range(4):
        logits = generator.standard_normal((samples, 3))
        logits[np.arange(samples), labels] += 1.5 * exit * generator.random(samples)
        weights = np.exp(logits)
        exits.append(ExitProbs(exit, weights / weights.sum(1, keepdims=True)))
    costs = Costs(tuple(segments), tuple(heads))
    model = CostModel(costs, costs, costs, (3000, 2000, 1500, 1000), Link(10, 5))
    network = Network("3 branches", 3, 0)
    return Case(network, 0.0, exits, labels, model, Service(8, 16), DEVICE)


def searched(goal: Goal, data: Case, candidates: Sequence[float] = COARSE) -> Fitted:
    """Search with the confidence policy, which has these thresholds to choose from."""
    with pytest.MonkeyPatch.context() as patch:
        knob = Knob("p_tar", 0.8, lambda _: candidates, lambda _: candidates)
        patch.setattr(Confidence, "knob", knob)
        return search(goal, data, "confidence", {})


@settings(max_examples=40)
@given(seed=st.integers(0, 99), segments=MS, heads=MS, samples=st.integers(1, 40))
def test_the_cheapest_set_of_a_fixed_policy_is_that_of_the_planner(
    seed: int, segments: list[float], heads: list[float], samples: int
) -> None:
    data = case(samples, seed, segments, heads)
    goal = Goal("accuracy_drop", 0.999, minimise="latency_ms", one_standard_error=False)
    accepts = np.stack([exit.confidence >= THRESHOLD for exit in data.outputs[:-1]], axis=1)
    table = every_set(segments[:3], heads[:3], segments[3] + heads[3], accepts)
    at = Conditions(Link(10, 5))
    # Nothing is right, so that nothing is lost, whatever leaves early.
    found = searched(goal, replace(data, labels=np.full(samples, -1)), [THRESHOLD])
    best = table.choose(at, PlanGoal((FASTEST,)))
    times = table.metric("latency_ms", at)
    assert found.validation_cost == pytest.approx(times[best])
    (own,) = (row for row, kept in enumerate(table) if kept == found.active)
    assert times[own] == pytest.approx(times[best])


@pytest.mark.parametrize("minimise", ["macs", "offloaded"])
@settings(max_examples=10)
@given(seed=st.integers(0, 99), drop=st.floats(0, 0.2))
def test_a_drop_is_kept_by_the_cheapest_of_all_sets_and_thresholds(
    minimise: str, seed: int, drop: float
) -> None:
    data = replace(case(60, seed, [5, 5, 5, 5], [1, 1, 1, 1]), rest="cloud")
    right = data.outputs[-1].prediction == data.labels
    costs: dict[tuple[int, ...], list[float]] = {}
    for active in SETS:
        for p_tar in COARSE:
            found = decide(Confidence(p_tar=p_tar), data.outputs, active)
            lost = right.astype(float) - (found.label == data.labels)
            if lost.mean() + sem(lost) <= drop + 1e-9:
                of = data.costs.answer_macs(found) if minimise == "macs" else ~found.on_edge
                costs.setdefault(active, []).append(float(of.mean()))
    least = {active: min(own) for active, own in costs.items()}
    expected = min(least, key=lambda active: (least[active], len(active), active))
    fitted = searched(Goal("accuracy_drop", drop, minimise=minimise), data)
    assert (fitted.active, fitted.validation_cost) == (expected, least[expected])


@settings(max_examples=10)
@given(seed=st.integers(0, 99), limit=st.floats(8, 30))
def test_a_budget_is_spent_on_the_most_accurate_of_all_sets_and_thresholds(
    seed: int, limit: float
) -> None:
    data = case(60, seed, [5, 5, 5, 5], [1, 1, 1, 1])
    within = []
    for active in SETS:
        for p_tar in COARSE:
            found = decide(Confidence(p_tar=p_tar), data.outputs, active)
            cost = float(data.costs.answer_macs(found).mean())
            if cost <= limit:
                accuracy = float((found.label == data.labels).mean())
                within.append((-accuracy, cost, len(active), active))
    fitted = searched(Goal("macs", limit), data)
    best = min(within)
    assert (fitted.validation_accuracy, fitted.validation_cost) == (-best[0], best[1])
    assert fitted.active == best[-1]


def test_an_exit_whose_head_costs_more_than_it_saves_is_switched_off() -> None:
    goal = Goal("accuracy_drop", 0.1)
    cheap = case(400, 1, [10, 10, 10, 70], [0.1, 0.1, 0.1, 0.1])
    assert 2 in searched(goal, cheap).active
    # An image that leaves at the last branch saves what lies behind: 70 and the last head.
    dear = case(400, 1, [10, 10, 10, 70], [0.1, 0.1, 71, 0.1])
    chosen = searched(goal, dear)
    assert chosen.active == (1,)
    compared = saving(dear, fit(goal, dear, "confidence", {}, (0, 1, 2)), chosen)
    assert (compared.off, compared.difference.n) == ("1 3", 400)
    assert compared.difference.macs.high < 0


def test_where_no_head_pays_no_branch_stays() -> None:
    data = case(100, 2, [10, 10, 10, 10], [99, 99, 99, 1])
    assert searched(Goal("accuracy_drop", 0.3), data).active == ()


def test_ties_go_to_fewer_branches_and_then_to_the_earlier_ones() -> None:
    probs = np.array([[0.9, 0.1], [0.1, 0.9]])
    exits = [ExitProbs(exit, probs) for exit in range(4)]
    drawn = case(2, 0, [5, 5, 5, 5], [1, 1, 1, 1])
    alike = replace(drawn, outputs=exits, labels=np.array([0, 1]), rest="cloud")
    goal = Goal("accuracy_drop", 0.0, minimise="offloaded")
    # Every set with a branch answers all on the edge, and all right.
    assert searched(goal, alike).active == (0,)


def test_the_risk_of_every_set_is_tested_at_an_even_share_of_delta() -> None:
    data = case(800, 3, [10, 10, 10, 70], [1, 1, 1, 1])
    goal = Goal("risk", 0.1, 0.2, strict=(1, 4))
    share = replace(goal, delta=0.2 / len(SETS))
    alone = [fit(share, data, "confidence", {}, active) for active in SETS]
    cheapest = min(alone, key=lambda one: one.validation_cost)
    found = search(goal, data, "confidence", {})
    assert (found.policy, found.active) == (cheapest.policy, cheapest.active)
    # A risk observed on other samples is that of one policy, so that its bound has all of delta.
    assert found.goal == goal


def test_a_searched_risk_holds_on_fresh_samples() -> None:
    goal = Goal("risk", 0.1, 0.1)
    given = ([10, 10, 10, 70], [1, 1, 1, 1])
    fresh = case(20_000, 999, *given)
    found = [searched(goal, case(300, seed, *given)).observed(fresh) for seed in range(20)]
    broken = sum(one.risk is not None and one.risk.test_risk > goal.limit for one in found)
    assert broken <= 4
    assert sum(bool(one.active) for one in found) >= 15


@pytest.mark.parametrize("name", ["committee", "patience"])
def test_policies_that_look_at_several_exits_are_searched_for(name: str) -> None:
    data = case(40, 4, [10, 10, 10, 70], [1, 1, 1, 1])
    validation = Validation((0.4, 0.5, 0.7, 0.9))
    found = search(Goal("macs", 90), data, name, {}, validation)
    alone = [fit(Goal("macs", 90), data, name, {}, own, validation) for own in SETS[1:]]
    assert found.validation_accuracy == max(one.validation_accuracy for one in alone)


def test_sets_are_all_sets_and_not_too_many() -> None:
    assert branch_sets(3) == list(SETS)
    assert len({*branch_sets(10)}) == sum(1 for n in range(11) for _ in combinations(range(10), n))
    with pytest.raises(
        EennError, match=r"over 11 branches: allowed are 10 or fewer; .*active_sets"
    ):
        branch_sets(11)


def test_a_goal_that_no_set_meets_is_said() -> None:
    data = case(30, 5, [10, 10, 10, 70], [1, 1, 1, 1])
    with pytest.raises(Infeasible, match="none of 8 sets of branches meets the goal, all: fit of"):
        searched(Goal("macs", 1), data)
