"""The rows of an evaluation: baselines, promises, fitted thresholds, and the quality of exits."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from eenn.errors import EennError
from eenn.evaluation.exit_metrics import exit_quality
from eenn.evaluation.fitting import Goal, fit
from eenn.evaluation.grid import (
    Case,
    Service,
    by_baselines,
    by_policies,
    exit_outputs,
    exits_taken,
    point,
    tradeoff,
)
from eenn.evaluation.rows import ExitTaken, Network, Point
from eenn.exits.decide import decide
from eenn.exits.policies.base import Policy, Validation
from eenn.exits.policies.registry import POLICIES
from eenn.exits.policies.threshold import CANDIDATES, Confidence
from eenn.exits.settings import Baseline, Swept
from eenn.planning.costs import CostModel, Costs, Link
from eenn.records.records import ExitRecords, Origin
from eenn.statistics.calibration import Temperatures, ece, nll
from eenn.statistics.intervals import Estimate
from eenn.statistics.risk_control import Infeasible

NETWORK = Network("2 branches", 2, 0)
VALIDATION = Validation((0.4, 0.6, 0.8))
ORIGIN = Origin("an artifact", "test", "a split", "none", 0.0, 32)
MACS = Costs((100.0, 200.0, 300.0), (1.0, 2.0, 3.0))
TEMPERATURES = (1.5, 0.8, 1.2)
# At a threshold of 1 nothing is lost then.
LAST_EXIT = {"fallback_to": "last_exit"}


def records(samples: int, seed: int = 0) -> ExitRecords:
    """Three exits, each better than the one before."""
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((3, samples, 5)).astype(np.float32)
    labels = generator.integers(5, size=samples)
    for exit, strength in enumerate((0.8, 2.0, 4.0)):
        logits[exit, np.arange(samples), labels] += strength * generator.random(samples)
    return ExitRecords(logits, labels, tuple(map(str, range(samples))), ORIGIN)


def case(samples: int = 400, seed: int = 0) -> Case:
    recorded = records(samples, seed)
    ms = Costs((1.0, 2.0, 3.0), (0.1, 0.2, 0.3))
    costs = CostModel(MACS, ms, ms, (3000, 2000, 1000), Link(10, 5))
    outputs = exit_outputs(recorded, TEMPERATURES)
    return Case(NETWORK, 0.0, outputs.exits, outputs.labels, costs, Service(8, 16))


def grid(
    data: Case, policies: list[Swept], p_tars: list[float], actives: list[tuple[int, ...]]
) -> tuple[list[Point], list[ExitTaken]]:
    decided = by_policies(data, policies, actives, VALIDATION)
    decided += by_baselines(data, p_tars, max(actives, key=len))
    exits = [row for each in decided for row in exits_taken(data, each)]
    return [point(data, each) for each in decided], exits


def test_the_baselines_are_what_their_names_say() -> None:
    data = case()
    points, _ = grid(data, [Swept("confidence", {}, [0.7])], [0.7], [(0,), (0, 1)])
    row = {row.setting.baseline: row for row in points}
    first, second, last = data.outputs
    early = first.confidence >= 0.7
    edge_label = np.where(early, first.prediction, second.prediction)
    assert row[Baseline.EDGE_ONLY].accuracy.value == pytest.approx(
        (edge_label == data.labels).mean()
    )
    assert row[Baseline.EDGE_ONLY].edge_probability.value == 1
    assert row[Baseline.LAST_EXIT_ONLY].accuracy.value == pytest.approx(
        (last.prediction == data.labels).mean()
    )
    assert row[Baseline.LAST_EXIT_ONLY].macs.value == pytest.approx(603)
    assert row[Baseline.LAST_EXIT_ONLY].latency_ms.value == pytest.approx(
        6 + 0.3 + 5 + 3000 * 8 / 10e6 * 1e3
    )
    right = np.any([exit.prediction == data.labels for exit in data.outputs], axis=0)
    assert row[Baseline.ORACLE].accuracy.value == pytest.approx(right.mean())


def test_only_thresholds_that_promise_an_accuracy_have_an_outage() -> None:
    settings = {"patience": [2]}
    policies = [Swept(name, {}, settings.get(name, [0.9])) for name in POLICIES]
    points, _ = grid(case(), policies, [0.9], [(0, 1)])
    promising = {row.setting.name for row in points if np.isfinite(row.outage.value)}
    assert promising == {"confidence", "committee", "geometric_committee"}
    printed, _ = grid(case(), [Swept("committee", {"as_printed": True}, [0.9])], [0.9], [(0, 1)])
    assert np.isnan(printed[0].outage.value)


def test_shares_of_the_exits_add_up_and_intervals_hold_their_means() -> None:
    policies = [Swept("confidence", {}, [0.6, 0.9])]
    points, exits = grid(case(), policies, [0.6, 0.9], [(0, 1), (1,)])
    for row in points:
        own = [e for e in exits if e.setting == row.setting]
        assert sum(e.exit_n for e in own) == row.n
        assert own[-1].left_by_here == pytest.approx(1)
        for estimate in vars(row).values():
            if isinstance(estimate, Estimate):
                assert not estimate.low > estimate.value + 1e-9
                assert not estimate.value > estimate.high + 1e-9


def test_quality_is_that_of_each_exit_alone_at_its_temperature() -> None:
    recorded = records(300)
    for row, logits, t in zip(
        exit_quality(NETWORK, 0.0, recorded, TEMPERATURES),
        recorded.logits,
        TEMPERATURES,
        strict=True,
    ):
        probs = np.exp(logits.astype(float) / t)
        probs /= probs.sum(-1, keepdims=True)
        correct = probs.argmax(-1) == recorded.labels
        assert row.accuracy.value == pytest.approx(correct.mean())
        assert row.ece.value == pytest.approx(ece(probs, recorded.labels))
        assert row.nll.value == pytest.approx(nll(logits, recorded.labels, t))
        assert row.nll_raw.value == pytest.approx(nll(logits, recorded.labels))
        one_hot = np.eye(5)[recorded.labels]
        assert row.brier.value == pytest.approx(((probs - one_hot) ** 2).sum(-1).mean())
        assert row.failure_auroc.value == pytest.approx(roc_auc_score(correct, probs.max(-1)))
        raw = softmax(logits.astype(float), axis=-1).max(-1)
        assert row.failure_auroc_raw.value == pytest.approx(roc_auc_score(correct, raw))
        for name in ("ece", "nll", "brier", "failure_auroc", "aurc"):
            for key in (name, f"{name}_raw"):
                estimate = getattr(row, key)
                assert estimate.low <= estimate.value <= estimate.high


def test_temperatures_are_the_chosen_ones() -> None:
    fitted = Temperatures((1.5, 0.8), 1.1)
    assert fitted.chosen("per_exit") == (1.5, 0.8)
    assert fitted.chosen("shared") == (1.1, 1.1)
    assert fitted.chosen("none") == (1, 1)


def test_the_tradeoff_has_every_policy_from_always_to_never() -> None:
    rows = tradeoff(case(), (0, 1), VALIDATION)
    bounds = {Baseline.LAST_EXIT_ONLY, Baseline.EDGE_ONLY, Baseline.ORACLE}
    names = {row.setting.name for row in rows if row.setting.baseline is None}
    assert names == set(POLICIES)
    assert {row.setting.baseline for row in rows} == {None, *bounds}
    confident = [row for row in rows if row.setting.name == "confidence"]
    assert confident[0].edge_probability.value == 1
    assert all(
        later.edge_probability.value <= earlier.edge_probability.value
        for earlier, later in pairwise(confident)
    )
    assert [row.setting.value for row in rows if row.setting.name == "patience"] == [1, 2]


@given(st.integers(0, 50), st.floats(0, 0.3))
def test_the_fitted_drop_is_the_cheapest_of_all_candidates(seed: int, drop: float) -> None:
    data = case(120, seed)
    reference = (data.outputs[-1].prediction == data.labels).mean()
    fitted = fit(
        Goal("accuracy_drop", drop, 0.1, "hoeffding_bentkus"), data, "confidence", LAST_EXIT, (0, 1)
    )
    allowed = []
    for p_tar in CANDIDATES:
        decisions = decide(Confidence(p_tar=p_tar, **LAST_EXIT), data.outputs, (0, 1))
        if (decisions.label == data.labels).mean() >= reference - drop - 1e-9:
            allowed.append(data.costs.answer_macs(decisions).mean())
    assert fitted.validation_cost == pytest.approx(min(allowed))


@pytest.mark.parametrize(("goal", "limit"), [("macs", 450), ("latency_ms", 9)])
def test_a_budget_is_kept_and_used(goal: str, limit: float) -> None:
    fitted = fit(Goal(goal, limit, 0.1, "clopper_pearson"), case(), "confidence", LAST_EXIT, (0, 1))
    assert 0.8 * limit <= fitted.validation_cost <= limit


@pytest.mark.parametrize("name", sorted(POLICIES))
@pytest.mark.parametrize("seed", [0, 1])
def test_any_policy_is_fitted_to_the_best_value_of_its_knob(name: str, seed: int) -> None:
    data = case(80, seed)
    goal = Goal("macs", 450, 0.1, "clopper_pearson")
    fitted = fit(goal, data, name, {}, (0, 1), VALIDATION)
    knob = POLICIES[name].knob
    assert knob
    within = []
    for value in knob.candidates(2):
        policy = POLICIES[name].fit({knob.name: value}, VALIDATION)
        decisions = decide(policy, data.outputs, (0, 1))
        if data.costs.answer_macs(decisions).mean() <= goal.limit:
            within.append((decisions.label == data.labels).mean())
    assert fitted.validation_accuracy == pytest.approx(max(within))


@pytest.mark.parametrize("method", ["hoeffding_bentkus", "clopper_pearson"])
def test_a_fitted_risk_holds_on_fresh_samples(method: str) -> None:
    goal = Goal("risk", 0.08, 0.1, method)
    fresh = case(20_000, seed=999)
    broken = bold = 0
    for seed in range(40):
        fitted = fit(goal, case(400, seed), "confidence", LAST_EXIT, (0, 1)).observed(fresh)
        assert fitted.risk
        broken += fitted.risk.test_risk > goal.limit
        bold += fitted.setting.number < 0.9
        assert fitted.risk.test_risk_upper_bound > fitted.risk.test_risk
    assert broken <= 8
    assert bold >= 20


def test_impossible_fits_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Infeasible, match=r"50 validation samples .*: no number would do"):
        fit(Goal("risk", 0.001, 0.1, "hoeffding_bentkus"), case(50), "confidence", {}, (0,))

    class Rigid(Policy):
        def accept(self, seen: object, last: bool) -> np.ndarray:
            raise AssertionError("not asked")

    monkeypatch.setitem(POLICIES, "rigid", Rigid)
    with pytest.raises(EennError, match="policy rigid has no knob to fit"):
        fit(Goal("macs", 500, 0.1, "hoeffding_bentkus"), case(50), "rigid", {}, (0,))
