"""Anytime bounds against a scan over all means, exact sums over all outcomes, and streams."""

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eenn.offload.adaptation.bounds import VALUES, RunningBounds

events = st.integers(0, 300)
weights = st.floats(0.01, 1000)
deltas = st.floats(1e-4, 0.5)


def evidence(x: float, events: int, weight: float, mean: float) -> float:
    """The logarithm of the supermartingale of x, or -x, were the mean probability `mean`."""
    return -x * events + (1 - math.exp(-x)) * mean * weight


def test_the_values_are_geometric() -> None:
    assert (len(VALUES), VALUES[0], VALUES[-1]) == (16, pytest.approx(0.05), pytest.approx(4))
    np.testing.assert_allclose(np.diff(np.log(VALUES)), math.log(80) / 15)


@given(events, weights, deltas, st.floats(0, 1))
def test_the_interval_holds_the_means_that_no_supermartingale_speaks_against(
    events: int, weight: float, delta: float, mean: float
) -> None:
    low, high = RunningBounds(events, 1000, weight).interval(delta)
    worst = max(evidence(x, events, weight, mean) for own in VALUES for x in (own, -own))
    distance = worst - math.log(32 / delta)
    if abs(distance) > 1e-9:
        assert (low <= mean <= high) == (distance < 0) or (
            # Nothing in [0, 1] fits; then the end that is nearest stays.
            distance > 0 and low == mean == 1
        )


@given(events, events, weights, weights, deltas)
def test_more_events_raise_the_interval_and_more_weight_lowers_it(
    events: int, more: int, weight: float, other: float, delta: float
) -> None:
    few, many = sorted((events, more))
    light, heavy = sorted((weight, other))
    low, high = RunningBounds(few, 0, heavy).interval(delta)
    assert 0 <= low <= high <= 1
    for above in (RunningBounds(many, 0, heavy), RunningBounds(few, 0, light)):
        assert low <= above.interval(delta)[0]
        assert high <= above.interval(delta)[1]


@given(events, weights, deltas, deltas)
def test_less_doubt_makes_a_wider_interval(
    events: int, weight: float, delta: float, other: float
) -> None:
    bounds = RunningBounds(events, 0, weight)
    wide, narrow = (bounds.interval(own) for own in sorted((delta, other)))
    assert wide[0] <= narrow[0] <= narrow[1] <= wide[1]


def test_nothing_is_known_before_the_first_audit() -> None:
    assert RunningBounds().interval(0.05) == (0, 1)


def test_images_count_by_their_rate() -> None:
    bounds = RunningBounds()
    bounds.count(True, 0.5, Counter({0.25: 3, 0.0: 7}))
    bounds.count(False, 0.1, {})
    assert (bounds.events, bounds.audits) == (1, 2)
    assert bounds.weight == pytest.approx(0.5 + 3 * 0.25 + 0.1)


def test_the_evidence_is_a_supermartingale() -> None:
    """Exact, over all outcomes of four images whose rates and risks follow what was seen.

    Every image is audited or not, and an audit finds the event or does not.
    """
    length, outcomes = 4, ("unaudited", "right", "event")
    for sign, own in product((1, -1), VALUES):
        x, total, chances = sign * own, 0.0, 0.0
        for course in product(outcomes, repeat=length):
            chance, weight, of_events = 1.0, 0.0, 0.0
            for image, outcome in enumerate(course):
                seen = course[:image]
                rate = 0.7 if "event" in seen else 0.2
                risk = 0.9 if seen[-1:] == ("right",) else 0.3
                chance *= {
                    "unaudited": 1 - rate,
                    "right": rate * (1 - risk),
                    "event": rate * risk,
                }[outcome]
                weight += rate
                of_events += rate * risk
            mean = of_events / weight
            total += chance * math.exp(evidence(x, course.count("event"), weight, mean))
            chances += chance
        assert chances == pytest.approx(1)
        assert total <= 1 + 1e-12


def stream(seed: int, images: int) -> tuple[list[tuple[float, float]], float]:
    """Intervals and means after every audit of a stream whose risk and rate of audits change."""
    generator = np.random.default_rng(seed)
    phase, swing, base = generator.random(3)
    draws = generator.random((2, images))
    bounds, others, delta = RunningBounds(), Counter[float](), 0.1
    margins: list[tuple[float, float]] = []
    frequent, weight, risky = 0, 0.0, 0.0
    for image in range(images):
        risk = 0.4 * base * (1 + swing * math.sin(6 * phase + image / 150))
        rate = 0.3 if frequent else 0.04
        weight, risky, frequent = weight + rate, risky + rate * risk, max(frequent - 1, 0)
        if draws[0, image] >= rate:
            others[rate] += 1
            continue
        event = bool(draws[1, image] < risk)
        frequent = 40 if event and rate < 0.3 else frequent
        bounds.count(event, rate, others)
        others.clear()
        low, high = bounds.interval(delta)
        margins.append((risky / weight - low, high - risky / weight))
    assert bounds.weight + sum(own * n for own, n in others.items()) == pytest.approx(weight)
    return margins, high - low


def test_the_interval_holds_the_mean_at_all_times_in_most_streams() -> None:
    """At most a share of 0.1 of streams may leave it ever; more would have a rate that is off."""
    streams = [stream(seed, 1500) for seed in range(300)]
    broken = sum(min(min(pair) for pair in margins) < 0 for margins, _ in streams)
    assert broken <= 0.1 * len(streams)
    # Wide intervals would hold anything.
    assert np.median([width for _, width in streams]) < 0.35
