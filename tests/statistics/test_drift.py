"""Tests of drift against SciPy and brute force, and how often they are wrong."""

from itertools import permutations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from eenn.errors import EennError
from eenn.evaluation.drift import Observed, drift, verdict
from eenn.evaluation.rows import Network
from eenn.exits.decide import decide
from eenn.exits.policies.base import ExitProbs
from eenn.exits.policies.threshold import baseline_rule
from eenn.exits.settings import Setting
from eenn.statistics.drift import LEVEL, confidences_differ, holm, shares_differ

# Few values, so that there are ties.
numbers = st.lists(st.integers(0, 6).map(lambda tenth: tenth / 10), min_size=2, max_size=30)


@settings(max_examples=40)
@given(numbers, numbers)
def test_the_gap_between_confidences_is_scipys(new: list[float], known: list[float]) -> None:
    tested = confidences_differ(new, known)
    expected = ks_2samp(new, known, method="asymp")
    assert tested.difference == pytest.approx(expected.statistic)
    assert tested.p_value == pytest.approx(expected.pvalue, abs=1e-9)


@given(st.integers(0, 8), st.integers(1, 8), st.integers(0, 8), st.integers(1, 8))
def test_shares_are_compared_as_by_counting_all_tables(a: int, n: int, b: int, m: int) -> None:
    a, b = min(a, n), min(b, m)
    # Of all ways to mark a + b of n + m samples, those with tables no more probable than this one.
    ways = {x: comb(n, x) * comb(m, a + b - x) for x in range(a + b + 1) if x <= n}
    expected = sum(w for w in ways.values() if w <= ways[a]) / comb(n + m, a + b)
    tested = shares_differ(a, n, b, m)
    assert tested.p_value == pytest.approx(expected)
    assert tested.difference == pytest.approx(a / n - b / m)


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_holm_rejects_what_stepping_down_rejects(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for level in (0.01, 0.05, 0.3):
        rejected = set()
        for step, index in enumerate(np.argsort(p_values, kind="stable")):
            if p_values[index] * (len(p_values) - step) >= level:
                break
            rejected.add(int(index))
        assert set(np.flatnonzero(adjusted < level)) == rejected
    for order in permutations(range(len(p_values))):
        np.testing.assert_allclose(holm([p_values[i] for i in order]), adjusted[list(order)])


def test_nothing_is_tested_on_no_samples() -> None:
    with pytest.raises(EennError, match="no samples"):
        confidences_differ([], [0.5])
    with pytest.raises(EennError, match="no samples"):
        shares_differ(0, 0, 1, 2)


def observed(logits: np.ndarray) -> Observed:
    """Draw the outputs of three exits on samples: (exits, samples, classes)."""
    exits = [
        ExitProbs(exit, np.exp(own) / np.exp(own).sum(-1, keepdims=True))
        for exit, own in enumerate(logits)
    ]
    return Observed(exits, decide(baseline_rule(0.8), exits, (0, 1)))


SETTING = Setting(baseline_rule(0.8), (0, 1))
NETWORK = Network("two branches", 2, 0)


def test_resamples_are_not_flagged_and_less_confident_samples_are() -> None:
    generator = np.random.default_rng(0)
    scale = np.array([2.0, 3.0, 4.0])[:, None, None]
    population = scale * generator.normal(size=(3, 800, 5))
    known = observed(population)
    flagged = {"resampled": 0, "blurred": 0}
    for _ in range(40):
        rows = generator.integers(800, size=150)
        for name, factor in (("resampled", 1.0), ("blurred", 0.5)):
            found = drift(NETWORK, 0, SETTING, observed(factor * population[:, rows]), known)
            flagged[name] += any(row.drift for row in found)
    assert flagged == {"resampled": 0, "blurred": 40}


def test_false_alarms_on_new_samples_keep_to_the_level() -> None:
    generator = np.random.default_rng(1)
    alarms = 0
    for _ in range(100):
        known, new = (observed(3 * generator.normal(size=(3, n, 4))) for n in (300, 120))
        alarms += any(row.drift for row in drift(NETWORK, 0, SETTING, new, known))
    # The chance of more than 5 of 100 at 1 % each is below 0.1 %; the seed is fixed anyway.
    assert alarms <= 5


def test_a_verdict_names_what_differs() -> None:
    logits = 3 * np.random.default_rng(2).normal(size=(3, 400, 4))
    changed = logits.copy()
    changed[1] *= 0.3
    rows = drift(NETWORK, 0, SETTING, observed(changed), observed(logits))
    quantities = {row.quantity for row in rows}
    assert quantities == {
        "confidence of exit 1", "confidence of exit 2", "confidence of exit 3",
        "stopped at exit 1", "stopped at exit 2", "edge share",
    }  # fmt: skip
    said = verdict(rows)
    assert said.startswith("drift: confidence of exit 2")
    assert "exit 1" not in said
    for row in rows:
        assert row.drift == (row.p_adjusted < LEVEL)
        assert row.p_value <= row.p_adjusted
    shares = {row.quantity: row.value.value for row in rows}
    seen = observed(changed).decisions
    assert shares["stopped at exit 2"] == pytest.approx((seen.taken == 1).mean())
    assert shares["edge share"] == pytest.approx((seen.taken < 2).mean())
    assert verdict(drift(NETWORK, 0, SETTING, observed(logits), observed(logits))).startswith("no")
