"""Metrics against scikit-learn, SciPy, enumeration and plain loops."""

import math
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import brier_score_loss, roc_auc_score

from eenn.errors import EennError
from eenn.statistics import metrics

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

quick = settings(max_examples=100)
# Confidence, in three levels so that ties are many, and whether the answer is right.
answers = st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=6)


def draw_answers(seed: int) -> tuple[Floats, Bools]:
    """Confidences with many ties, and answers that are right about as often as they say."""
    generator = np.random.default_rng(seed)
    confidence = generator.uniform(0.2, 1, 300).round(2)
    return confidence, generator.random(300) < confidence


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_wilson_intervals_are_scipys(level: float) -> None:
    counts = [(k, n) for n in (1, 2, 7, 40) for k in range(n + 1)] + [(29_411, 30_000)]
    expected = [stats.binomtest(k, n).proportion_ci(level, "wilson") for k, n in counts]
    found = metrics.wilson_interval(*np.transpose(counts), level)
    np.testing.assert_allclose(np.transpose(found), expected, rtol=1e-10, atol=1e-14)


@quick
@given(
    st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.integers(2, 50),
    st.floats(0.01, 0.98),
)
@example((0, 1), 2, 0.26554472346002245)  # where the textbook form rounds below 0
def test_wilson_intervals_hold_the_share_and_shrink(
    counts: tuple[int, int], more: int, level: float
) -> None:
    k, n = counts
    low, high = metrics.wilson_interval(k, n, level)
    assert 0 <= low <= k / n <= high <= 1
    closer_low, closer_high = metrics.wilson_interval(more * k, more * n, level)
    assert closer_high - closer_low < high - low
    wider_low, wider_high = metrics.wilson_interval(k, n, level + 0.01)
    assert wider_low <= low <= high <= wider_high


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("decimals", [-1, 9], ids=["few distinct", "all distinct"])
def test_bootstrap_intervals_are_scipys(decimals: int, level: float) -> None:
    values = np.random.default_rng(0).exponential(9, 100).round(decimals)
    scipys = stats.bootstrap(
        (values,), np.mean, confidence_level=level, method="percentile", rng=3, n_resamples=10_000
    )
    noise = 0.15 * scipys.standard_error  # of ends found by 10,000 resamples
    for found in (
        metrics.Resamples(len(values), 10_000).mean_interval(values, level=level),
        metrics.bootstrap_statistic(np.mean, values, level=level, resamples=10_000),
    ):
        np.testing.assert_allclose(found, scipys.confidence_interval, rtol=0, atol=noise)


def test_bootstrap_intervals_cover_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    samples = generator.choice([5.0, 20.0, 80.0], (2_000, 200), p=[0.2, 0.45, 0.35])
    intervals = [
        metrics.Resamples(len(values), 300, seed).mean_interval(values, level=0.9)
        for seed, values in enumerate(samples)
    ]
    covered = [low <= 38 <= high for low, high in intervals]
    assert np.mean(covered) == pytest.approx(0.9, abs=0.02)


def test_a_mean_over_some_samples_is_resampled_with_their_number() -> None:
    generator = np.random.default_rng(0)
    values, some = generator.exponential(1e9, 60), generator.random(60) < 0.4
    scipys = stats.bootstrap(
        (values, some), lambda v, w, axis: (v * w).sum(axis) / w.sum(axis), paired=True,
        method="percentile", rng=3, n_resamples=10_000, vectorized=True,
    )  # fmt: skip
    found = metrics.Resamples(60, 10_000).mean_interval(values, some)
    noise = 0.15 * scipys.standard_error
    np.testing.assert_allclose(found, scipys.confidence_interval, rtol=0, atol=noise)


def test_samples_that_a_mean_leaves_out_move_nothing() -> None:
    values, where = np.array([[5.0, 5.0, 5.0, -1e6]]), np.array([[True, True, True, False]])
    low, high = metrics.Resamples(4, 200).mean_interval(values, where)
    assert (low[0], high[0]) == (5.0, 5.0)


def test_bootstrap_memory_does_not_grow_with_the_resamples() -> None:
    values = np.random.default_rng(0).random(30_000)
    tracemalloc.start()
    metrics.bootstrap_statistic(np.mean, values, resamples=200)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 200 * values.nbytes / 2


def test_rows_are_resampled_together() -> None:
    rows = np.random.default_rng(0).random((50, 3))
    apart = metrics.bootstrap_statistic(lambda a, b: np.ptp(a - b[:, 0]), rows[:, 0], rows)
    assert apart == (0, 0)


def test_resamples_without_a_statistic_are_left_out() -> None:
    def failing_at_3(values: Floats) -> float:
        return math.nan if (values == 3).sum() > 1 else float(values.min())

    values = np.array([1.0, 1.0, 1.0, 3.0])
    assert metrics.bootstrap_statistic(failing_at_3, values) == (1, 1)
    assert np.isnan(metrics.bootstrap_statistic(lambda _: math.nan, np.zeros(3))).all()


@pytest.mark.parametrize("classes", [2, 5])
def test_brier_score_is_a_plain_loops_and_scikit_learns(classes: int) -> None:
    generator = np.random.default_rng(classes)
    probs = generator.dirichlet(np.ones(classes), 100)
    labels = generator.integers(classes, size=100)
    found = metrics.brier_per_sample(probs, labels).mean()
    cells = np.ndindex(100, classes)
    squares = [(probs[sample, c] - (labels[sample] == c)) ** 2 for sample, c in cells]
    assert found == pytest.approx(sum(squares) / 100, rel=1e-12)
    one_vs_rest = [brier_score_loss(labels == c, probs[:, c]) for c in range(classes)]
    assert found == pytest.approx(sum(one_vs_rest), rel=1e-12)
    np.testing.assert_allclose(probs.sum(-1), 1)  # what was given is left alone


@pytest.mark.parametrize("seed", range(5))
def test_failure_auroc_is_scikit_learns(seed: int) -> None:
    confidence, correct = draw_answers(seed)
    expected = roc_auc_score(correct, confidence)
    assert metrics.failure_auroc(confidence, correct) == pytest.approx(expected, abs=1e-9)


@quick
@given(answers)
def test_risk_and_coverage_are_the_mean_over_all_orders_of_ties(
    drawn: list[tuple[int, bool]],
) -> None:
    n = len(drawn)
    curves = []
    for order in permutations(drawn):
        ranked = sorted(order, key=lambda answer: -answer[0])  # stable: ties stay in this order
        wrong = [not right for _, right in ranked]
        curves.append([sum(wrong[:covered]) / covered for covered in range(1, n + 1)])
    confidence, correct = np.transpose(drawn)
    coverage, risk = metrics.risk_coverage(confidence, correct)
    np.testing.assert_allclose(coverage, [covered / n for covered in range(1, n + 1)])
    np.testing.assert_allclose(risk, np.mean(curves, axis=0), atol=1e-12)
    assert metrics.aurc(confidence, correct) == pytest.approx(np.mean(curves), abs=1e-12)


def test_the_order_of_the_input_does_not_change_a_bit_of_aurc() -> None:
    confidence, correct = draw_answers(0)
    shuffled = np.random.default_rng(1).permutation(len(correct))
    assert metrics.aurc(confidence[shuffled], correct[shuffled]) == metrics.aurc(
        confidence, correct
    )


@quick
@given(answers, st.integers(0, 5))
def test_confidence_helps_in_right_answers_and_hurts_in_wrong_ones(
    drawn: list[tuple[int, bool]], which: int
) -> None:
    confidence, correct = np.transpose(drawn)
    raised, which = confidence.copy(), which % len(drawn)
    raised[which] = 4
    sign = 1 if correct[which] else -1
    assert sign * metrics.aurc(raised, correct) <= sign * metrics.aurc(confidence, correct) + 1e-12
    if 0 < correct.sum() < len(drawn):
        assert sign * metrics.failure_auroc(raised, correct) >= sign * metrics.failure_auroc(
            confidence, correct
        )


def drawn_batches(samples: int, size: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(samples, size=(2_000, size))


@pytest.mark.parametrize(("p_tar", "size", "edge_share"), [
    ("0.07", 100, 1), ("0.8", 10, 0.6), ("0.8", 1, 0.3), ("1.0", 3, 0.1), ("0.7", 600, 0.5),
])  # fmt: skip
def test_outage_is_that_of_a_loop_over_batches(p_tar: str, size: int, edge_share: float) -> None:
    generator = np.random.default_rng(7)
    correct = generator.random(500) < 0.95 * float(p_tar)
    on_edge = generator.random(500) < edge_share
    outages = 0
    for batch in drawn_batches(500, size):
        answered = [bool(correct[sample]) for sample in batch if on_edge[sample]]
        # Fractions, so that an accuracy equal to the target is not below it.
        outages += bool(answered) and Fraction(sum(answered), len(answered)) < Fraction(p_tar)
    assert 0 < outages < 2_000
    assert metrics.outage(correct, on_edge, float(p_tar), size, 2_000) == (outages / 2_000, 2_000)


def test_outage_is_near_its_probability() -> None:
    # 30 of 100 samples are offloaded, 56 of the other 70 are right.
    sample = np.arange(100)
    found = metrics.outage(sample < 56, sample < 70, p_tar=0.75, batch_size=20, batches=20_000)
    expected = sum(
        stats.binom.pmf(answered, 20, 0.7)
        * stats.binom.cdf(math.ceil(Fraction(3, 4) * answered) - 1, answered, 0.8)
        for answered in range(1, 21)
    )
    assert found.share == pytest.approx(expected, abs=4 * math.sqrt(expected / 20_000))


@pytest.mark.parametrize("deadline_ms", [20, 45, 70])
def test_missed_deadlines_are_those_of_a_loop_over_batches(deadline_ms: float) -> None:
    latency_ms = np.random.default_rng(0).exponential(40, 300)
    missed = sum(latency_ms[batch].mean() > deadline_ms for batch in drawn_batches(300, 8))
    assert 0 < missed < 2_000
    assert metrics.missed_deadline(latency_ms, deadline_ms, 8, 2_000) == (missed / 2_000, 2_000)
    # Latencies equal to the deadline are in time, though 0.1 + 0.1 + 0.1 > 0.3.
    assert metrics.missed_deadline(np.full(20, 0.1), 0.1, 3).share == 0


@quick
@given(st.integers(0, 99), st.tuples(*[st.floats(0, 1)] * 2), st.integers(1, 9))
def test_higher_targets_and_more_errors_never_mean_fewer_outages(
    seed: int, targets: tuple[float, float], batch_size: int
) -> None:
    correct, on_edge, spoiled = np.random.default_rng(seed).random((3, 30)) < [[0.8], [0.6], [0.2]]

    def share(correct: Bools, p_tar: float) -> float:
        return metrics.outage(correct, on_edge, p_tar, batch_size, 100).share

    low, high = sorted(targets)
    assert share(correct, low) <= share(correct, high) <= share(correct & ~spoiled, high)
    # What happens to offloaded samples is no matter of the edge.
    assert share(correct, low) == share(correct ^ (spoiled & ~on_edge), low)


@quick
@given(st.integers(0, 99), st.tuples(*[st.floats(0, 80)] * 2), st.integers(1, 9))
def test_tighter_deadlines_and_slower_samples_never_mean_fewer_misses(
    seed: int, deadlines_ms: tuple[float, float], batch_size: int
) -> None:
    latency_ms, more_ms = np.random.default_rng(seed).exponential(40, (2, 30))
    tight, loose = sorted(deadlines_ms)

    def share(latency_ms: Floats, deadline_ms: float) -> float:
        return metrics.missed_deadline(latency_ms, deadline_ms, batch_size, 100).share

    assert (
        share(latency_ms, loose) <= share(latency_ms, tight) <= share(latency_ms + more_ms, tight)
    )


@pytest.mark.parametrize("draw", [
    lambda seed: float(metrics.Resamples(30, 1000, seed).mean_interval(np.arange(30.0))[0]),
    lambda **given: metrics.bootstrap_statistic(np.mean, np.arange(30.0), **given),
    lambda seed: metrics.outage(np.arange(30) > 9, np.arange(30) > 4, 0.7, 8, 300, seed),
    lambda seed: metrics.missed_deadline(np.arange(30), 15, 8, 300, seed),
])  # fmt: skip
def test_draws_depend_on_the_seed_and_not_on_the_portions(
    monkeypatch: pytest.MonkeyPatch, draw: Callable[..., object]
) -> None:
    found = draw(seed=1)
    assert len({draw(seed=seed) for seed in range(5)}) > 1
    for portion in (7, 70, 777):
        monkeypatch.setattr(metrics, "PORTION", portion)
        assert draw(seed=1) == found


def test_numbers_of_nothing_are_nan_and_an_idle_edge_is_no_outage() -> None:
    low, high = np.isnan(metrics.wilson_interval([0, 3, math.nan], [0, 10, 0]))
    assert low.tolist() == high.tolist() == [True, False, True]
    assert np.isnan(metrics.Resamples(0).mean_interval([])).all()
    assert np.isnan(metrics.Resamples(3).mean_interval(np.ones(3), np.zeros(3, bool))).all()
    assert np.isnan(metrics.bootstrap_statistic(np.mean, np.empty(0))).all()
    assert metrics.brier_per_sample(np.empty((0, 3)), np.empty(0, int)).size == 0
    assert math.isnan(metrics.aurc([], []))
    assert [curve.size for curve in metrics.risk_coverage([], [])] == [0, 0]
    for correct in ([], [True, True], [False]):
        assert math.isnan(metrics.failure_auroc(np.linspace(0, 1, len(correct)), correct))
    for share, batches in (metrics.outage([], [], 0.8, 4), metrics.missed_deadline([], 50, 4)):
        assert math.isnan(share)
        assert batches == 0
    # Batches without an edge answer are batches, and no outage.
    assert metrics.outage(np.zeros(5), np.zeros(5), p_tar=1, batch_size=4, batches=30) == (0, 30)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: metrics.wilson_interval(3, 2), "from 0 to n"),
    (lambda: metrics.wilson_interval([1, -1], 2), "from 0 to n"),
    (lambda: metrics.wilson_interval(1, 2, level=1), "level=1: allowed"),
    (lambda: metrics.Resamples(2).mean_interval([1, 2], level=95), "level=95: allowed"),
    (lambda: metrics.Resamples(2, resamples=0), "resamples=0: allowed is 1 or more"),
    (lambda: metrics.bootstrap_statistic(np.mean, np.ones(2), level=0), "level=0: allowed"),
    (lambda: metrics.bootstrap_statistic(np.mean, np.ones(2), resamples=0), "resamples=0: allowed"),
    (lambda: metrics.bootstrap_statistic(metrics.aurc, np.ones(2), np.ones(3)), r"\[2, 3\] rows"),
    (lambda: metrics.bootstrap_statistic(np.mean), "no rows"),
    (lambda: metrics.outage([1], [1], 1.2, 4), "p_tar=1.2: allowed is 0 to 1"),
    (lambda: metrics.outage([1], [1], 0.8, 0), "^batch_size=0: allowed is 1 or more"),
    (lambda: metrics.missed_deadline([1], math.nan, 4), "deadline_ms=nan: allowed is 0 or more"),
    (lambda: metrics.missed_deadline([1], 50, 4, batches=0), "^batches=0: allowed is 1 or more"),
])  # fmt: skip
def test_what_is_not_allowed_is_said(call: Callable[[], object], message: str) -> None:
    with pytest.raises(EennError, match=message):
        call()
