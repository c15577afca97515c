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
from eenn.evaluation.fitting import CANDIDATES, Goal, fit_p_tar, observed_risk
from eenn.evaluation.grid import Case, Service, exit_outputs, grid, tradeoff
from eenn.exits.decide import decide
from eenn.exits.policies.registry import POLICIES
from eenn.exits.policies.threshold import Confidence
from eenn.exits.settings import EDGE_ONLY, LAST_EXIT_ONLY, ORACLE, active_sets
from eenn.planning.costs import CostModel, Costs, Link
from eenn.records.records import ExitRecords, Origin
from eenn.statistics.calibration import Temperatures, ece, nll

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
    return Case(exit_outputs(recorded, TEMPERATURES), recorded.labels, costs, Service(8, 16))


def test_the_baselines_are_what_their_names_say() -> None:
    data = case()
    points, _ = grid(data, {"confidence": {}}, [0.7], [(0,), (0, 1)])
    row = {row["policy"]: row for row in points}
    first, second, last = data.outputs
    early = first.confidence >= 0.7
    edge_label = np.where(early, first.prediction, second.prediction)
    assert row[EDGE_ONLY]["accuracy"] == pytest.approx((edge_label == data.labels).mean())
    assert row[EDGE_ONLY]["edge_probability"] == 1
    assert row[LAST_EXIT_ONLY]["accuracy"] == pytest.approx((last.prediction == data.labels).mean())
    assert row[LAST_EXIT_ONLY]["macs"] == pytest.approx(603)
    assert row[LAST_EXIT_ONLY]["latency_ms"] == pytest.approx(6 + 0.3 + 5 + 3000 * 8 / 10e6 * 1e3)
    right = np.any([exit.prediction == data.labels for exit in data.outputs], axis=0)
    assert row[ORACLE]["accuracy"] == pytest.approx(right.mean())


def test_only_thresholds_that_promise_an_accuracy_have_an_outage() -> None:
    policies = {name: {"weights": (0.4, 0.6), "agree": 2} for name in POLICIES}
    points, _ = grid(case(), policies, [0.9], [(0, 1)])
    promising = {row["policy"] for row in points if np.isfinite(row["outage"])}
    assert promising == {"confidence", "committee", "geometric_committee"}
    printed, _ = grid(
        case(), {"committee": {"weights": (0.4, 0.6), "as_printed": True}}, [0.9], [(0, 1)]
    )
    assert np.isnan(printed[0]["outage"])


def test_shares_of_the_exits_add_up_and_intervals_hold_their_means() -> None:
    points, exits = grid(case(), {"confidence": {}}, [0.6, 0.9], [(0, 1), (1,)])
    for row in points:
        own = [e for e in exits if all(e[k] == row[k] for k in ("policy", "active"))]
        own = [e for e in own if str(e["p_tar"]) == str(row["p_tar"])]
        assert sum(e["exit_n"] for e in own) == row["n"]
        assert own[-1]["left_by_here"] == pytest.approx(1)
        for name in [key.removesuffix("_low") for key in row if key.endswith("_low")]:
            low, high = row[f"{name}_low"], row[f"{name}_high"]
            assert not low > row[name] + 1e-9
            assert not row[name] > high + 1e-9


def test_quality_is_that_of_each_exit_alone_at_its_temperature() -> None:
    recorded = records(300)
    for row, logits, t in zip(
        exit_quality(recorded, TEMPERATURES), recorded.logits, TEMPERATURES, strict=True
    ):
        probs = np.exp(logits.astype(float) / t)
        probs /= probs.sum(-1, keepdims=True)
        correct = probs.argmax(-1) == recorded.labels
        assert row["accuracy"] == pytest.approx(correct.mean())
        assert row["ece"] == pytest.approx(ece(probs, recorded.labels))
        assert row["nll"] == pytest.approx(nll(logits, recorded.labels, t))
        assert row["nll_raw"] == pytest.approx(nll(logits, recorded.labels))
        one_hot = np.eye(5)[recorded.labels]
        assert row["brier"] == pytest.approx(((probs - one_hot) ** 2).sum(-1).mean())
        assert row["failure_auroc"] == pytest.approx(roc_auc_score(correct, probs.max(-1)))
        raw = softmax(logits.astype(float), axis=-1).max(-1)
        assert row["failure_auroc_raw"] == pytest.approx(roc_auc_score(correct, raw))
        for name in ("ece", "nll", "brier", "failure_auroc", "aurc"):
            for key in (name, f"{name}_raw"):
                assert row[f"{key}_low"] <= row[key] <= row[f"{key}_high"]


def test_temperatures_are_the_chosen_ones() -> None:
    fitted = Temperatures((1.5, 0.8), 1.1)
    assert fitted.chosen("per_exit") == (1.5, 0.8)
    assert fitted.chosen("shared") == (1.1, 1.1)
    assert fitted.chosen("none") == (1, 1)


def test_the_tradeoff_has_every_policy_from_always_to_never() -> None:
    rows = tradeoff(case(), (0.4, 0.6), (0, 1))
    assert set(POLICIES) | {LAST_EXIT_ONLY, EDGE_ONLY, ORACLE} == {row["policy"] for row in rows}
    confident = [row for row in rows if row["policy"] == "confidence"]
    assert confident[0]["edge_probability"] == 1
    assert all(
        later["edge_probability"] <= earlier["edge_probability"]
        for earlier, later in pairwise(confident)
    )
    assert [row["setting"] for row in rows if row["policy"] == "patience"] == [1, 2]


@given(st.integers(0, 50), st.floats(0, 0.3))
def test_the_fitted_drop_is_the_cheapest_of_all_candidates(seed: int, drop: float) -> None:
    data = case(120, seed)
    reference = (data.outputs[-1].prediction == data.labels).mean()
    fitted = fit_p_tar(
        Goal("accuracy_drop", drop, 0.1, "hoeffding_bentkus"), data, "confidence", LAST_EXIT, (0, 1)
    )
    allowed = []
    for p_tar in CANDIDATES:
        decisions = decide(
            Confidence(p_tar=float(p_tar), fallback_to="last_exit"), data.outputs, (0, 1)
        )
        if (decisions.label == data.labels).mean() >= reference - drop - 1e-9:
            allowed.append(data.costs.answer_macs(decisions).mean())
    assert fitted["validation_macs"] == pytest.approx(min(allowed))


@pytest.mark.parametrize(("goal", "limit"), [("macs", 450), ("latency_ms", 9)])
def test_a_budget_is_kept_and_used(goal: str, limit: float) -> None:
    fitted = fit_p_tar(
        Goal(goal, limit, 0.1, "clopper_pearson"), case(), "confidence", LAST_EXIT, (0, 1)
    )
    assert 0.8 * limit <= fitted[f"validation_{goal}"] <= limit


@pytest.mark.parametrize("method", ["hoeffding_bentkus", "clopper_pearson"])
def test_a_fitted_risk_holds_on_fresh_samples(method: str) -> None:
    goal = Goal("risk", 0.08, 0.1, method)
    fresh = case(20_000, seed=999)
    broken = bold = 0
    for seed in range(40):
        fitted = fit_p_tar(goal, case(400, seed), "confidence", LAST_EXIT, (0, 1))
        risk = observed_risk(goal, fresh, "confidence", LAST_EXIT, fitted)
        broken += risk["test_risk"] > goal.limit
        bold += fitted["p_tar"] < 0.9
        assert risk["test_risk_upper_bound"] > risk["test_risk"]
    assert broken <= 8
    assert bold >= 20


def test_what_cannot_be_fitted_is_said() -> None:
    with pytest.raises(EennError, match="validation samples cannot show"):
        fit_p_tar(Goal("risk", 0.001, 0.1, "hoeffding_bentkus"), case(50), "confidence", {}, (0,))
    with pytest.raises(EennError, match="no threshold p_tar"):
        fit_p_tar(Goal("macs", 500, 0.1, "hoeffding_bentkus"), case(50), "patience", {}, (0,))


def test_active_sets_are_what_users_write_counted_from_zero() -> None:
    assert active_sets(None, 3) == [(0,), (0, 1), (0, 1, 2)]
    assert active_sets(2, 3) == [(0, 1)]
    assert active_sets([1, [2, 3]], 3) == [(0,), (1, 2)]
