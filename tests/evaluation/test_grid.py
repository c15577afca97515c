"""The rows of an evaluation: baselines, promises, fitted thresholds, and the quality of exits."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from eenn.evaluation.exit_metrics import evaluate_exits
from eenn.evaluation.grid import (
    Case,
    by_baselines,
    by_policies,
    exits_taken,
    point,
    tradeoff,
)
from eenn.evaluation.rows import ExitTaken, Point
from eenn.exits.policies.registry import POLICIES
from eenn.exits.settings import Baseline, Swept
from eenn.statistics.calibration import Temperatures, ece, nll
from eenn.statistics.intervals import Estimate
from tests.evaluation.cases import NETWORK, TEMPERATURES, VALIDATION, case, records


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
        evaluate_exits(NETWORK, 0.0, recorded, TEMPERATURES),
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
    assert names == {*POLICIES, "confidence, strict 10"}
    assert {row.setting.baseline for row in rows} == {None, *bounds}
    confident = [row for row in rows if row.setting.name == "confidence"]
    assert confident[0].edge_probability.value == 1
    assert all(
        later.edge_probability.value <= earlier.edge_probability.value
        for earlier, later in pairwise(confident)
    )
    assert [row.setting.value for row in rows if row.setting.name == "patience"] == [1, 2]
