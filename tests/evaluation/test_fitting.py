"""Fits against plain searches over all candidates, and what a fitted risk promises."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import sem

from eenn.errors import EennError
from eenn.evaluation.fitting import MINIMISED, Goal, fit
from eenn.evaluation.grid import Case
from eenn.exits.decide import Decisions, decide
from eenn.exits.policies.base import Policy
from eenn.exits.policies.registry import POLICIES
from eenn.exits.policies.threshold import CANDIDATES, Confidence
from eenn.statistics.risk_control import Infeasible
from tests.evaluation.cases import case
from tests.evaluation.fit_contract import check_fit

CLOPPER_PEARSON = {"method": "clopper_pearson"}


def cost_of(data: Case, name: str) -> Callable[[Decisions], float]:
    costs: dict[str, Callable[[Decisions], float]] = {
        "macs": lambda found: data.costs.answer_macs(found).mean(),
        "latency_ms": lambda found: data.costs.latency_ms(found).mean(),
        "offloaded": lambda found: 1 - found.on_edge.mean(),
    }
    return costs[name]


@pytest.mark.parametrize("minimise", MINIMISED)
@pytest.mark.parametrize("one_standard_error", [False, True])
@settings(max_examples=10)
@given(seed=st.integers(0, 50), drop=st.floats(0, 0.3))
def test_the_fitted_drop_is_the_cheapest_of_all_candidates(
    minimise: str, one_standard_error: bool, seed: int, drop: float
) -> None:
    data = case(120, seed)
    goal = Goal(
        "accuracy_drop", drop, minimise=minimise, one_standard_error=one_standard_error,
        strict=(1, 4),
    )  # fmt: skip
    right = data.outputs[-1].prediction == data.labels
    allowed = []
    for p_tar, strict in product(CANDIDATES, (1, 4)):
        found = decide(Confidence(p_tar=p_tar, strict=strict), data.outputs, (0, 1))
        lost = right.astype(float) - (found.label == data.labels)
        if lost.mean() + one_standard_error * sem(lost) <= drop + 1e-9:
            allowed.append(cost_of(data, minimise)(found))
    fitted = fit(goal, data, "confidence", {}, (0, 1))
    assert fitted.validation_cost == pytest.approx(min(allowed))
    found = decide(fitted.policy, data.outputs, (0, 1))
    assert cost_of(data, minimise)(found) == pytest.approx(fitted.validation_cost)


def test_one_validation_image_has_no_standard_error() -> None:
    fitted = fit(Goal("accuracy_drop", 0.0, strict=(1, 10)), case(1), "confidence", {}, (0, 1))
    assert len(fitted.validation.labels) == 1


@settings(max_examples=15)
@given(seed=st.integers(0, 50), share=st.floats(0, 1))
def test_a_share_on_the_edge_is_reached_as_accurately_as_can_be(seed: int, share: float) -> None:
    data = case(120, seed)
    goal = Goal("edge_probability", share, strict=(1, 4))
    fitted = fit(goal, data, "margin", {}, (0, 1))
    within = []
    for p_tar, strict in product(CANDIDATES, (1, 4)):
        policy = POLICIES["margin"].of({"p_tar": p_tar, "strict": strict})
        found = decide(policy, data.outputs, (0, 1))
        if found.on_edge.mean() >= share - 1e-9:
            within.append((found.label == data.labels).mean())
    assert fitted.validation_accuracy == pytest.approx(max(within))
    assert decide(fitted.policy, data.outputs, (0, 1)).on_edge.mean() >= share - 1e-9


@pytest.mark.parametrize(("goal", "limit"), [("macs", 450), ("latency_ms", 9)])
def test_a_budget_is_kept_and_used(goal: str, limit: float) -> None:
    fitted = fit(Goal(goal, limit), case(), "confidence", {}, (0, 1))
    assert 0.8 * limit <= fitted.validation_cost <= limit


@pytest.mark.parametrize("name", sorted(POLICIES))
@pytest.mark.parametrize("seed", [0, 1])
def test_any_policy_is_fitted_to_the_best_value_of_its_knob(name: str, seed: int) -> None:
    check_fit(name, seed)


def test_a_policy_that_cannot_be_strict_is_fitted_as_it_is() -> None:
    fitted = fit(Goal("macs", 450, strict=(1, 10)), case(), "patience", {}, (0, 1))
    assert fitted.policy == POLICIES["patience"].of({"agree": fitted.setting.number})


@pytest.mark.parametrize("strict", [(1,), (10,), (1, 3, 10)])
@pytest.mark.parametrize("method", ["hoeffding_bentkus", "clopper_pearson"])
def test_a_fitted_risk_holds_on_fresh_samples(method: str, strict: tuple[float, ...]) -> None:
    goal = Goal("risk", 0.08, 0.1, method, strict=strict)
    fresh = case(20_000, seed=999)
    broken = bold = 0
    for seed in range(40):
        fitted = fit(goal, case(400, seed), "confidence", {}, (0, 1)).observed(fresh)
        assert fitted.risk
        broken += fitted.risk.test_risk > goal.limit
        bold += fitted.setting.number < 0.9
        assert fitted.risk.test_risk_upper_bound > fitted.risk.test_risk
    assert broken <= 8
    assert bold >= 20


def test_several_risks_are_tested_at_an_even_share_of_delta() -> None:
    data = case(400)
    both = fit(Goal("risk", 0.08, 0.1, strict=(1, 10)), data, "confidence", {}, (0, 1))
    alone = [
        fit(Goal("risk", 0.08, 0.05, strict=(own,)), data, "confidence", {}, (0, 1))
        for own in (1, 10)
    ]
    assert both.policy == min(alone, key=lambda found: found.validation_cost).policy


def test_impossible_fits_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    worse = {"fallback_to": "most_confident"}
    with pytest.raises(Infeasible, match=r"50 validation samples .*: no number is enough"):
        fit(Goal("risk", 0.001), case(50), "confidence", worse, (0,))
    with pytest.raises(Infeasible, match="one standard error taken off every accuracy"):
        fit(Goal("accuracy_drop", 0.0), case(50), "window", {"low": 1}, (0,))

    class Rigid(Policy):
        def accept(self, seen: object, last: bool) -> np.ndarray:
            raise AssertionError("not asked")

    monkeypatch.setitem(POLICIES, "rigid", Rigid)
    with pytest.raises(EennError, match="policy rigid has no knob to fit"):
        fit(Goal("macs", 500), case(50), "rigid", {}, (0,))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"minimise": "joules"}, "fit.minimise=joules: allowed are macs, latency_ms, offloaded"),
        ({"strict": ()}, r"fit.strict=\[\]: allowed is a number"),
        ({"method": "luck"}, "fit.method=luck"),
        ({"goal": "edge_probability", "limit": 92}, "fit.limit=92: allowed is a share, 0 to 1"),
    ],
)
def test_other_goals_are_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(EennError, match=said):
        Goal(**{"goal": "accuracy_drop", "limit": 0.01, **given})
