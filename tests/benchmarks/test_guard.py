"""The simulation of the guard: rows against a loop over images, and baselines in plain cases."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from benchmarks.guard.baselines import (
    ARMS,
    AUDIT,
    BASELINES,
    STEP,
    WINDOW,
    Sums,
    alarm_only,
    by_side_observations,
    online_gradient,
)
from benchmarks.guard.recorded import SETTINGS, Field, Part
from benchmarks.guard.runs import SEEDS, clairvoyant, fixed, rows_of, static
from eenn.exits.policies.threshold import Confidence
from eenn.offload.adaptation.guard import Guard
from eenn.offload.adaptation.refit import Candidates
from eenn.offload.bench.stream import RecordedImages, Streamed

CANDIDATES = Candidates(Confidence(p_tar=0.9), (0,))
COUNT = len(CANDIDATES)


def images_of(n: int, wrong: float, seed: int = 0) -> RecordedImages:
    """Images that leave from a drawn candidate on; a share of them leaves with a wrong answer."""
    generator = np.random.default_rng(seed)
    first = generator.integers(1, COUNT, size=n)
    leaves = np.arange(COUNT) >= first[:, None]
    return RecordedImages(leaves, leaves & (generator.random(n) < wrong)[:, None])


def field_of(images: RecordedImages) -> Field:
    """What the rules need of a field, without an artifact."""
    shares = images.leaves.mean(0)

    def guard(seed: int, audit: float = SETTINGS.audit, kind: type[Guard] = Guard) -> Guard:
        settings = type(SETTINGS)(audit=audit)
        return kind(settings, CANDIDATES.values, COUNT // 2, float(shares[COUNT // 2]), seed=seed)

    return cast(
        Field,
        SimpleNamespace(
            start=COUNT // 2,
            shares=shares,
            risk=SETTINGS.risk,
            guard=guard,
            confidence_of=lambda own: np.where(own.differs, 0.5, 0.9),
        ),
    )


def stream_of(*images: RecordedImages) -> Any:
    return lambda _, generator: [
        Part(f"part {n}", own, generator.integers(len(own.leaves), size=400))
        for n, own in enumerate(images)
    ]


def test_rows_are_those_of_a_loop_over_the_images() -> None:
    good, bad = images_of(200, 0.02), images_of(200, 0.5, seed=1)
    field, stream = field_of(good), stream_of(good, bad)
    rows = rows_of("static", static, field, stream)
    for number, row in enumerate(rows):
        risks, edges = [], []
        for seed in range(SEEDS):
            part = stream(field, np.random.default_rng(seed))[number]
            risks.append(sum(part.images.differs[i, COUNT // 2] for i in part.order) / 400)
            edges.append(sum(part.images.leaves[i, COUNT // 2] for i in part.order) / 400)
        assert row.risk == pytest.approx(np.mean(risks))
        assert row.largest_risk == pytest.approx(max(risks))
        assert row.edge == pytest.approx(np.mean(edges))
        assert row.sent == pytest.approx(1 - np.mean(edges))
        assert (row.detected, row.median_images) == (0, np.inf)


def test_an_alarm_counts_for_its_part_from_its_first_image_on() -> None:
    good = images_of(50, 0.0)

    def late(field: Field, parts: Sequence[Part], seed: int) -> Streamed:
        course = static(field, parts, seed)
        return Streamed(course.kept, course.differs, course.audited, ((400 + seed, "risk"),))

    first, second = rows_of("late", late, field_of(good), stream_of(good, good))
    assert (first.detected, second.detected, second.by_audits) == (0, SEEDS, SEEDS)
    assert second.median_images == np.median(np.arange(1, SEEDS + 1))


def test_the_clairvoyant_keeps_the_promise_and_most_images() -> None:
    bad = images_of(300, 0.3)
    parts = [Part("bad", bad, np.arange(300))]
    course = clairvoyant(field_of(bad), parts, 0)
    assert course.differs.mean() <= SETTINGS.risk
    bolder = next(at for at in range(COUNT) if bad.leaves[:, at].mean() > course.kept.mean())
    assert bad.differs[:, bolder].mean() > SETTINGS.risk
    assert not fixed(parts, [None]).kept.any()


def test_sums_over_the_newest_images_forget_the_others() -> None:
    sums, every = Sums(newest=3), np.ones(12)
    for reward in (9.0, 1.0, 2.0, 3.0):
        sums.note(np.full(12, reward), every)
    assert sums.rewards.tolist() == [6.0] * 12
    assert sums.weights.tolist() == [3.0] * 12


def test_the_online_gradient_moves_by_its_step() -> None:
    # Without any loss it offloads a share of 3 % times the step less with every image.
    good = images_of(2000, 0.0)
    parts = [Part("good", good, np.arange(2000))]
    course = online_gradient(field_of(good), parts, 0)
    more = STEP * SETTINGS.risk * 2000
    expected = good.leaves[:, COUNT // 2].mean()
    assert expected < course.kept[-500:].mean() <= expected + more + 0.05


def test_an_alarm_alone_changes_nothing_but_what_is_sent() -> None:
    bad = images_of(500, 0.6)
    parts = [Part("bad", bad, np.arange(500).repeat(4))]
    field = field_of(bad)
    course = alarm_only(field, parts, 0)
    plain = static(field, parts, 0)
    assert (course.kept == plain.kept).all()
    assert course.alarms
    assert course.audited.sum() == pytest.approx(AUDIT * plain.kept.sum(), rel=0.5)


@pytest.mark.parametrize("name", BASELINES)
def test_a_rule_plays_the_same_course_again(name: str) -> None:
    images = images_of(200, 0.2)
    parts = [Part("part", images, np.random.default_rng(0).integers(200, size=600))]
    one, other = (BASELINES[name](field_of(images), parts, 3) for _ in range(2))
    assert (one.kept == other.kept).all()
    assert (one.audited == other.audited).all()
    assert not (one.differs & ~one.kept).any()
    assert not (one.audited & ~one.kept).any()


# The rules that learn from the cloud's answers, and so notice images whose answers change.
LEARNING = [
    name for name in BASELINES if name not in ("alarm only, 5 % audits", "UCB1, confidence")
]


def played(name: str, wrong: float, count: int = 6000) -> Streamed:
    """The course of a rule over images of which a share leaves with a wrong answer."""
    images = images_of(300, wrong)
    order = np.random.default_rng(1).integers(300, size=count)
    return BASELINES[name](field_of(images), [Part("part", images, order)], 0)


@pytest.mark.parametrize("name", LEARNING)
def test_a_rule_offloads_nearly_everything_where_nothing_agrees(name: str) -> None:
    assert played(name, 1.0).kept[-1000:].mean() < 0.1


@pytest.mark.parametrize("name", LEARNING)
def test_a_rule_keeps_more_where_everything_agrees(name: str) -> None:
    course = played(name, 0.0)
    assert not course.differs.any()
    assert course.kept[-1000:].mean() > played(name, 1.0).kept[-1000:].mean() + 0.3


@pytest.mark.parametrize("name", ["online gradient, 5 % audits", "side observations, 5 % audits"])
def test_a_rule_keeps_nearly_everything_where_everything_agrees(name: str) -> None:
    assert played(name, 0.0).kept[-1000:].mean() > 0.9


def test_confidences_alone_do_not_show_that_nothing_agrees() -> None:
    images = images_of(300, 1.0)
    field = field_of(images)
    field.confidence_of = lambda own: np.full(own.leaves.shape, 0.9)  # type: ignore[method-assign]
    parts = [Part("part", images, np.random.default_rng(1).integers(300, size=6000))]
    assert BASELINES["UCB1, confidence"](field, parts, 0).differs[-1000:].mean() > 0.3


def test_what_is_observed_weighs_as_much_as_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    # An image that is seen with probability a weighs 1 / a, so that no arm is favoured.
    noted = list[float]()
    note = Sums.note

    def counted(sums: Sums, rewards: Any, weights: Any) -> None:
        noted.append(float(weights[0]))
        note(sums, rewards, weights)

    monkeypatch.setattr(Sums, "note", counted)
    played("side observations, 5 % audits", 0.0)
    assert sum(noted) == pytest.approx(6000, rel=0.15)
    assert len(noted) < 3000


def test_a_window_changes_nothing_before_it_is_full() -> None:
    images = images_of(WINDOW, 0.2)
    parts = [Part("part", images, np.arange(WINDOW))]
    every, newest = (
        by_side_observations(own)(field_of(images), parts, 0) for own in (None, WINDOW)
    )
    assert (every.kept == newest.kept).all()


def test_an_arm_is_chosen_by_its_mean_and_by_how_little_is_known() -> None:
    sums = Sums()
    sums.note(np.full(ARMS, 0.5), np.arange(ARMS) != 7)
    assert sums.best(1) == 7  # of which nothing is known
    sums.note(np.full(ARMS, 0.5), np.full(ARMS, 100.0) * (np.arange(ARMS) != 3) + 1.0)
    assert sums.best(1000) == 3  # of equal means the one seen least
    sums.note(np.arange(ARMS) == 5, np.full(ARMS, 1e6))
    assert sums.best(1000) == 5
