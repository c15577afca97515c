"""Detectors of a change against fractions, sums over all starts and all sequences of events."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eenn.offload.adaptation.detectors import (
    ALARM,
    LARGEST,
    RISK_RATIOS,
    SHARE_SHIFTS,
    Detector,
    RiskDetector,
    ShareDetector,
)

HALF, QUARTER = Fraction(1, 2), Fraction(1, 4)


def likelihood_ratio(event: bool, p0: Fraction, p1: Fraction) -> Fraction:
    return p1 / p0 if event else (1 - p1) / (1 - p0)


def sum_over_starts(events: Sequence[bool], p0: Fraction, p1: Fraction) -> Fraction:
    """The likelihood of a change at an image, over that of none, summed over all images."""
    total = Fraction(0)
    for start in range(len(events)):
        ratio = Fraction(1)
        for event in events[start:]:
            ratio *= likelihood_ratio(event, p0, p1)
        total += ratio
    return total


def test_three_images_by_hand() -> None:
    detector = Detector([0.0, 0.0])
    found = []
    for event in (True, False, True):
        detector.see(event, 0.25, [0.5, 0.75])
        found.append(detector.values)
    # (0 + 1) 2 = 2, (2 + 1) 2/3 = 2, (2 + 1) 2 = 6; (0 + 1) 3 = 3, (3 + 1) 1/3, (4/3 + 1) 3 = 7.
    assert found == [pytest.approx([2, 3]), pytest.approx([2, 4 / 3]), pytest.approx([6, 7])]
    assert detector.mean == pytest.approx(6.5)


def test_three_audits_by_hand() -> None:
    """At a risk of 0.1: half of the images are audited, then all, then half."""
    detector = RiskDetector(0.1)
    detector.count_audit(True, 0.5)
    assert detector.values == pytest.approx(RISK_RATIOS)
    detector.count_audit(False, 1.0)
    # The events have a probability of 0.1 without a change; 12 times as much is more than is there.
    stays = [0.85, 0.8, 0.7, 0.5, 0.2, 1 - LARGEST]
    second = [(ratio + 1) * own / 0.9 for ratio, own in zip(RISK_RATIOS, stays, strict=True)]
    assert detector.values == pytest.approx(second)
    detector.count_others(1, 0.5)
    stays = [0.925, 0.9, 0.85, 0.75, 0.6, 0.4]
    third = [(value + 1) * own / 0.95 for value, own in zip(second, stays, strict=True)]
    assert detector.values == pytest.approx(third)
    assert detector.mean == pytest.approx(sum(third) / 6)


@given(st.lists(st.booleans(), max_size=30))
def test_values_are_sums_over_all_starts(events: list[bool]) -> None:
    detector = RiskDetector(0.5)
    for event in events:
        detector.count_audit(event, rate=1)
    alternatives = [Fraction(3, 4), *[Fraction(LARGEST)] * 5]
    expected = [float(sum_over_starts(events, HALF, own)) for own in alternatives]
    assert detector.values == pytest.approx(expected, rel=1e-9)
    assert detector.mean == pytest.approx(sum(expected) / 6, rel=1e-9)


@given(
    times=st.integers(0, 400),
    risk=st.floats(0.001, 0.5),
    rate=st.floats(0.001, 1),
    values=st.lists(st.floats(0, 1e5), min_size=6, max_size=6),
)
def test_images_in_a_row_count_as_one_by_one(
    times: int, risk: float, rate: float, values: list[float]
) -> None:
    at_once, one_by_one = RiskDetector(risk, values), RiskDetector(risk, values)
    at_once.count_others(times, rate)
    for _ in range(times):
        one_by_one.count_audit(False, rate)
    assert at_once.values == pytest.approx(one_by_one.values, rel=1e-7)


@pytest.mark.parametrize("p", [Fraction(0), Fraction(1, 20), Fraction(1, 8), QUARTER])
def test_the_mean_value_is_at_most_the_number_of_images(p: Fraction) -> None:
    """Exact, over all sequences of events; at p0 = 1/4 the mean is the number of images."""
    for length in range(1, 9):
        means = np.zeros(3)
        for events in product((False, True), repeat=length):
            detector = Detector([0.0] * 3)
            for event in events:
                detector.see(event, 0.25, [0.375, 0.5, 0.999])
            means += float(p ** sum(events) * (1 - p) ** (length - sum(events))) * np.array(
                detector.values
            )
        if p == QUARTER:
            assert means == pytest.approx(length)
        else:
            assert (means < length).all()


def test_rates_of_audits_may_follow_what_was_seen() -> None:
    """Exact: the rate is chosen by the past, as under suspicion; the risk is the promised one."""
    risk, length = 0.25, 6

    def mean(detector: RiskDetector, left: int) -> float:
        if not left:
            return detector.mean
        rate = 0.8 if detector.mean > 1 else 0.3
        total = 0.0
        for disagrees, chance in ((True, rate * risk), (False, 1 - rate * risk)):
            after = RiskDetector(risk, detector.values)
            after.count_audit(disagrees, rate)
            total += chance * mean(after, left - 1)
        return total

    assert mean(RiskDetector(risk), length) == pytest.approx(length)


def share_by_hand(reference: float, tolerance: float, leaves: Sequence[bool]) -> list[float]:
    """Values of both sides, one image after the other; a side that cannot happen stays at 0."""
    values = [0.0] * 6
    for one in leaves:
        for side, (event, share) in enumerate(((one, reference), (not one, 1 - reference))):
            p0 = max(share + tolerance, 0.001)
            for number, shift in enumerate(SHARE_SHIFTS if p0 < 0.999 else ()):
                p1 = min(p0 + shift, 0.999)
                at = 3 * side + number
                values[at] = (values[at] + 1) * (p1 / p0 if event else (1 - p1) / (1 - p0))
    return values


@given(
    reference=st.sampled_from([0.0, 0.001, 0.03, 0.3, 0.5, 0.9, 0.959, 0.97, 1.0]),
    tolerance=st.sampled_from([0.0, 0.03, 0.04]),
    leaves=st.lists(st.booleans(), max_size=40),
)
def test_both_sides_of_the_share(reference: float, tolerance: float, leaves: list[bool]) -> None:
    detector = ShareDetector(reference, tolerance)
    for one in leaves:
        detector.count(one)
    expected = share_by_hand(reference, tolerance, leaves)
    assert detector.values == pytest.approx(expected, rel=1e-9)
    assert detector.mean == pytest.approx(sum(expected) / 6, rel=1e-9)


@given(reference=st.floats(0, 1), tolerance=st.floats(0, 0.1), leaves=st.lists(st.booleans()))
def test_the_sides_change_places_with_what_leaves(
    reference: float, tolerance: float, leaves: list[bool]
) -> None:
    one, other = ShareDetector(reference, tolerance), ShareDetector(1 - reference, tolerance)
    for own in leaves:
        one.count(own)
        other.count(not own)
    assert one.values == pytest.approx([*other.values[3:], *other.values[:3]], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("reference", [0.0, 0.01, 0.03, 0.97, 0.99, 1.0])
def test_a_share_within_its_tolerance_is_never_an_alarm(reference: float) -> None:
    """Also where all images leave, or none: 20,000 of them, in a regular order."""
    for share in {reference, round(reference)}:
        detector, largest = ShareDetector(reference, 0.04), 0.0
        for image in range(20_000):
            detector.count(int((image + 1) * share) > int(image * share))
            largest = max(largest, detector.mean)
        assert largest < ALARM / 10


@pytest.mark.parametrize("reference", [0.0, 0.02, 0.5, 0.98, 1.0])
@pytest.mark.parametrize("change", [0.3, -0.3])
def test_another_share_is_an_alarm(reference: float, change: float) -> None:
    share = reference + change
    if not 0 <= share <= 1:
        return
    detector = ShareDetector(reference, 0.04)
    for image in range(200):
        detector.count(int((image + 1) * share) > int(image * share))
        if detector.mean >= ALARM:
            break
    assert detector.mean >= ALARM


@settings(max_examples=30)
@given(st.lists(st.booleans(), min_size=1, max_size=20), st.integers(0, 20))
def test_a_detector_goes_on_from_its_values(events: list[bool], at: int) -> None:
    make: list[Callable[[Sequence[float]], RiskDetector | ShareDetector]] = [
        lambda values: RiskDetector(0.03, values),
        lambda values: ShareDetector(0.6, 0.04, values),
    ]
    for made in make:

        def count(detector: RiskDetector | ShareDetector, event: bool) -> None:
            if isinstance(detector, RiskDetector):
                detector.count_audit(event, 0.3)
            else:
                detector.count(event)

        whole, part = made(()), made(())
        for number, event in enumerate(events):
            count(whole, event)
            if number == at:
                part = made(part.values)
            count(part, event)
        assert part.values == whole.values


@given(risk=st.floats(0.001, 0.5), rate=st.floats(0.001, 1))
def test_without_an_event_the_risk_detector_tends_to_its_quiet_value(
    risk: float, rate: float
) -> None:
    detector = RiskDetector(risk)
    detector.count_others(10**9, rate)
    assert detector.mean == pytest.approx(detector.quiet(rate), rel=1e-6)
