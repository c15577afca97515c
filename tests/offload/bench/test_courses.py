"""Courses of a stream against loops over its images."""

import math
from functools import cache

import numpy as np
import pytest

from eenn.artifact.guard_settings import GuardSettings
from eenn.exits.policies.base import ExitProbs
from eenn.exits.policies.registry import make_policy
from eenn.offload.adaptation.guard import Guard
from eenn.offload.adaptation.refit import Candidates
from eenn.offload.bench.courses import (
    Course,
    Segment,
    Stream,
    clairvoyant_course,
    guarded_course,
    segment_rows,
    static_course,
    whole_row,
)
from eenn.offload.bench.stream import RecordedImages
from eenn.statistics.metrics import wilson_interval

RISK, P_TAR, CLASSES, RECORDED = 0.1, 0.6, 4, 200
ACTIVE = (0, 2)  # of three branches


def segment(name: str, spread: float, images: int, candidates: Candidates) -> Segment:
    """Images of a network whose branches err the more, the smaller `spread` is."""
    random = np.random.default_rng(images)
    labels = random.integers(CLASSES, size=RECORDED)
    exits = []
    for exit in range(4):
        logits = random.normal(size=(RECORDED, CLASSES))
        logits[np.arange(RECORDED), labels] += spread * (exit + 1)
        probs = np.exp(2 * logits)
        exits.append(ExitProbs(exit, probs / probs.sum(1, keepdims=True)))
    recorded = RecordedImages.of(exits, ACTIVE, candidates)
    return Segment(name, exits, labels, recorded, random.integers(RECORDED, size=images))


@cache
def stream() -> Stream:
    candidates = Candidates(make_policy("confidence", {"p_tar": P_TAR}), ACTIVE)
    clean, worse = (segment(*own, candidates) for own in (("clean", 2.0, 300), ("worse", 0.3, 500)))
    return Stream([clean, worse, clean], candidates, ACTIVE)


@cache
def courses() -> tuple[Course, ...]:
    own = stream()
    reference = float(own.segments[0].recorded.leaves[:, own.candidates.start].mean())
    guard = Guard(
        GuardSettings(RISK, 0.1, 0.2), own.candidates.values, own.candidates.start, reference
    )
    return static_course(own), guarded_course(own, guard), clairvoyant_course(own, RISK)


def images() -> list[tuple[int, Segment, int]]:
    """Every image that comes: the number of its segment, the segment, its number there."""
    return [
        (number, own, int(image))
        for number, own in enumerate(stream().segments)
        for image in own.order
    ]


@pytest.mark.parametrize("number", range(3))
def test_every_image_leaves_at_the_first_branch_that_reaches_the_threshold(number: int) -> None:
    course = courses()[number]
    for at, (_, own, image) in enumerate(images()):
        threshold, probs = course.thresholds[at], [exit.probs[image] for exit in own.exits]
        left = [e for e in ACTIVE if probs[e].max() >= threshold]  # none reaches NaN
        label = int(probs[left[0] if left else -1].argmax())
        assert course.kept[at] == bool(left)
        assert course.differs[at] == (label != probs[-1].argmax())
        assert course.correct[at] == (label == own.labels[image])


def test_the_thresholds_are_those_of_each_way() -> None:
    static, guarded, clairvoyant = courses()
    assert set(static.thresholds) == {P_TAR}
    assert guarded.thresholds[0] == P_TAR
    assert guarded.alarms
    first = guarded.alarms[0][0]
    assert math.isnan(guarded.thresholds[first + 1])  # everything is offloaded from there on
    assert first >= 300
    for own, at in zip(stream().segments, stream().places, strict=True):
        (threshold,) = set(clairvoyant.thresholds[at])
        assert threshold == best_threshold(own)


def best_threshold(own: Segment) -> float:
    """The threshold that keeps most of the recorded images at the promised risk."""
    found = []
    for threshold in stream().candidates.values:
        kept = lost = 0
        for image in range(RECORDED):
            probs = [exit.probs[image] for exit in own.exits]
            left = [e for e in ACTIVE if probs[e].max() >= threshold]
            kept += bool(left)
            lost += bool(left) and probs[left[0]].argmax() != probs[-1].argmax()
        if lost <= RISK * RECORDED:
            found.append((kept, threshold))
    return max(found, key=lambda pair: pair[0])[1]


def test_what_is_sent_is_offloaded_or_audited() -> None:
    static, guarded, clairvoyant = courses()
    for course in (static, clairvoyant):
        np.testing.assert_array_equal(course.sent, ~course.kept)
    assert guarded.sent[~guarded.kept].all()
    assert 0 < guarded.sent[guarded.kept].mean() < 1


def test_rows_are_sums_over_the_images_of_a_segment() -> None:
    rows = segment_rows(stream(), courses())
    assert [(row.segment, row.images) for row in rows[::3]] == [
        (1, "clean"), (2, "worse"), (3, "clean"),
    ]  # fmt: skip
    for row in rows:
        course = next(own for own in courses() if own.way == row.way)
        here = [at for at, (number, *_) in enumerate(images()) if number == row.segment - 1]
        n = len(here)
        for estimate, values in (
            (row.risk, course.differs),
            (row.edge_probability, course.kept),
            (row.sent, course.sent),
            (row.accuracy, course.correct),
        ):
            count = sum(bool(values[at]) for at in here)
            low, high = wilson_interval(count, n)
            assert estimate == pytest.approx((count / n, float(low), float(high)))
        alarms = [at - here[0] for at, _ in course.alarms if at in here]
        assert row.alarms == len(alarms)
        assert row.detection == alarms[0] + 1 if alarms else math.isnan(row.detection)
        assert math.isnan(row.answer_ms.value)


def test_the_whole_stream_is_one_row() -> None:
    course = courses()[1]
    row = whole_row(stream(), course)
    assert (row.n, row.alarms) == (1100, len(course.alarms))
    assert row.risk.value == course.differs.mean()
