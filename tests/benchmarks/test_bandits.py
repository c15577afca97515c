"""Bandits against a memory of every play, answers against walks, and what the result file says."""

import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.bandits import runs
from benchmarks.bandits.arms import Bandit
from benchmarks.bandits.recorded import Images, Parts, Ways
from benchmarks.bandits.runs import BANDITS, NEWEST, SEEDS, PartRow, Stream, found_after
from benchmarks.bandits.summary import Cell, summaries
from benchmarks.readme.results import run_of
from eenn.planning.costs import Costs, Link
from eenn.planning.engine import Conditions

PARTS = Parts(Costs((3.0, 2.0, 4.0), (0.5, 0.25, 1.0)), (4000.0, 1000.0), 9000.0)


def remembered(bandit: Bandit, rewards: np.ndarray, seed: int) -> list[int]:
    """Play by sums over all plays so far, each weighted by its age."""
    images, arms = rewards.shape
    generator = np.random.default_rng(seed)
    explores = generator.random(images) < bandit.explored
    drawn = generator.integers(arms, size=images)
    told: list[tuple[int, int]] = []  # when, and of which arm
    learning: list[int] = []
    pulls: list[int] = []
    for now in range(images):
        means, weights = [0.0] * arms, [0.0] * arms
        for when, arm in told:
            weight = bandit.kept ** sum(later > when for later in learning)
            weights[arm] += weight
            means[arm] += weight * float(rewards[when, arm])
        means = [
            own / weight if weight else 0.0 for own, weight in zip(means, weights, strict=True)
        ]
        plays = sum(bandit.kept**age for age in range(len(learning)))
        if now < arms:
            arm = now
        elif now >= bandit.trial and explores[now]:
            arm = int(drawn[now])
        elif now >= bandit.trial:
            arm = max(range(arms), key=means.__getitem__)
        else:
            arm = max(
                range(arms),
                key=lambda a: means[a] + bandit.beta * math.sqrt(math.log(plays) / weights[a]),
            )
        pulls.append(arm)
        if now < bandit.trial or bandit.explored:
            learning.append(now)
            told += [(now, own) for own in (range(arm + 1) if bandit.looks_back else [arm])]
    return pulls


@pytest.mark.parametrize("name", BANDITS)
def test_arms_are_those_of_a_memory_of_every_play(name: str) -> None:
    bandit = BANDITS[name]
    soon = Bandit(**{**asdict(bandit), "trial": min(bandit.trial, 40)})
    rewards = np.random.default_rng(0).uniform([-1, -0.9, -0.7, -0.8], 1, (120, 4))
    assert soon.pulls(rewards, seed=2) == remembered(soon, rewards, seed=2)


def test_a_frozen_bandit_stays_whatever_comes() -> None:
    generator = np.random.default_rng(0)
    rewards = generator.uniform(0, 1, (400, 3)) * [0.5, 1.0, 0.2]
    other = rewards.copy()
    other[100:] = generator.uniform(-1, 1, (300, 3))
    frozen = Bandit(trial=100)
    assert frozen.pulls(rewards) == frozen.pulls(other)
    assert set(frozen.pulls(rewards)[100:]) == {1}
    exploring = Bandit(trial=100, explored=0.1).pulls(rewards)[100:]
    assert 0.02 < np.mean(np.array(exploring) != 1) < 0.15


@pytest.mark.parametrize("looks_back", [False, True])
def test_little_is_lost_where_arms_differ(looks_back: bool) -> None:
    generator = np.random.default_rng(1)
    means = np.array([0.1, 0.6, -0.4, -0.5])
    rewards = means + generator.normal(0, 0.2, (3000, 4))
    pulls = Bandit(looks_back=looks_back).pulls(rewards)
    assert (0.6 - means[pulls]).mean() <= 0.05 * (0.6 + 0.5)


def drawn_images(seed: int, images: int = 80) -> Images:
    generator = np.random.default_rng(seed)
    confidence = generator.uniform(0.2, 1, (images, 3)) ** [2.0, 1.0, 0.5]
    return Images(confidence, generator.random((images, 3)) < confidence)


@pytest.mark.parametrize("looks_back", [False, True])
def test_answers_are_those_of_walks(looks_back: bool) -> None:
    images, at, mu, alpha = drawn_images(0), Conditions(Link(2.0, 7.0), 3.0), 0.5, 0.6
    answers = Ways(PARTS, at, mu).answers(images, alpha, looks_back)
    heads = [
        [0.5],
        [0.5, 0.25] if looks_back else [0.25],
        [0.5, 0.25, 1.0] if looks_back else [1.0],
    ]
    device_ms = [3 * (own + sum(head)) for own, head in zip((3.0, 5.0, 9.0), heads, strict=True)]
    sending_ms = [7 + 4000 * 8e-3 / 2, 7 + 1000 * 8e-3 / 2, 0.0]
    photograph_ms = 7 + 9000 * 8e-3 / 2
    # The slowest way with all heads: 3 (3 + 0.5) + 23, 3 (5 + 0.75) + 11, 3 (9 + 1.75), 43.
    slowest_ms = 43.0
    for image, (confidence, correct) in enumerate(zip(*images, strict=True)):
        for arm in range(3):
            stays = arm == 2 or confidence[arm] >= alpha
            ms = device_ms[arm] + (0.0 if stays else sending_ms[arm])
            exit = arm if stays else 2
            assert answers.latency_ms[image, arm] == pytest.approx(ms)
            assert answers.correct[image, arm] == correct[exit]
            assert answers.sent[image, arm] == (not stays)
            reward = confidence[exit] - mu * ms / slowest_ms
            assert answers.reward[image, arm] == pytest.approx(reward)
        assert answers.latency_ms[image, 3] == pytest.approx(photograph_ms)
        assert answers.reward[image, 3] == pytest.approx(confidence[2] - mu)
        assert answers.correct[image, 3] == correct[2]
    assert answers.sent[:, 3].all()


@settings(max_examples=50)
@given(st.floats(0.05, 1e3), st.floats(0, 500), st.floats(0.1, 50), st.floats(0, 1), st.booleans())
def test_rewards_are_numbers_from_minus_one_to_one(
    mbps: float, rtt_ms: float, slowdown: float, mu: float, looks_back: bool
) -> None:
    ways = Ways(PARTS, Conditions(Link(mbps, rtt_ms), slowdown), mu)
    assert np.abs(ways.answers(drawn_images(1), 0.6, looks_back).reward).max() <= 1 + 1e-9


@given(st.lists(st.integers(0, 2), min_size=1, max_size=400), st.integers(0, 2))
def test_an_arm_is_found_where_it_answers_most_of_the_newest(pulls: list[int], best: int) -> None:
    expected = math.inf
    for count in range(1, len(pulls) + 1):
        if pulls[max(0, count - NEWEST) : count].count(best) > NEWEST / 2:
            expected = count
            break
    assert found_after(np.array(pulls), best) == expected


def stream_of(monkeypatch: pytest.MonkeyPatch) -> Stream:
    monkeypatch.setattr(runs, "IMAGES", 200)
    ways = Ways(PARTS, Conditions(Link(2.0, 7.0), 3.0), 0.5)
    parts = {"clean": drawn_images(0), "noisy": drawn_images(5, 60)}
    return Stream.fitted(ways, drawn_images(7), parts)


def test_the_fitted_choice_is_the_best_on_validation_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = stream_of(monkeypatch)
    means = {
        (alpha, arm): float(stream.ways.answers(drawn_images(7), alpha).reward[:, arm].mean())
        for alpha in runs.ALPHAS
        for arm in range(3)
    }
    assert means[stream.alpha, stream.fixed] == pytest.approx(max(means.values()))
    branches = {key: own for key, own in means.items() if key[1] < 2}
    assert max(branches[stream.alpha, arm] for arm in range(2)) == max(branches.values())


def test_rows_are_means_over_the_streams_that_were_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = stream_of(monkeypatch)
    rows = {parts[0].rule: parts for parts in stream.rows()}
    assert list(rows) == ["static", "all on the device", "all in the cloud", *BANDITS]
    answers = [stream.ways.answers(own, stream.alpha) for own in stream.parts.values()]
    for name, arm in (("static", stream.fixed), ("all on the device", 2), ("all in the cloud", 3)):
        rewards = []
        for seed in range(SEEDS):
            generator = np.random.default_rng(seed)
            order = [generator.integers(count, size=200) for count in (80, 60)]
            rewards.append([own.reward[at, arm] for own, at in zip(answers, order, strict=True)])
        for row, own, drawn in zip(rows[name], answers, zip(*rewards, strict=True), strict=True):
            means = own.reward.mean(axis=0)
            lost = (means[:3].max() - means[arm]) / (means[:3].max() - means[:3].min())
            assert row.reward == pytest.approx(np.mean(drawn))
            assert row.regret == row.largest_regret == pytest.approx(lost)
            assert row.best == means[:3].argmax() + 1
            assert row.found == (51 if arm == row.best - 1 else math.inf)
    for name in BANDITS:
        for row in rows[name]:
            assert 0 <= row.regret <= row.largest_regret <= 1 + 1e-9
            assert 0 <= row.seeds_found <= SEEDS


def test_cells_are_counted_by_whether_their_best_arm_changes() -> None:
    def row(part: str, best: int, regret: float, found: float) -> PartRow:
        return PartRow("rule", part, 0.0, regret, regret, 0.0, 0.0, 0.0, best, found, 0)

    def cell(mu: float, *rows: PartRow) -> Cell:
        return Cell("lan", 1.0, mu, 0.5, 1, (rows,))

    found = summaries(
        [
            cell(1.0, row("clean", 1, 0.04, 51.0), row("noise", 2, 0.3, 500.0)),
            cell(1.0, row("clean", 1, 0.06, 51.0), row("noise", 2, 0.1, math.inf)),
            cell(1.0, row("clean", 1, 0.01, 51.0), row("noise", 1, 0.2, 51.0)),
            cell(0.1, row("clean", 1, 0.5, 51.0), row("noise", 1, 0.6, 501.0)),
        ]
    )
    assert [(own.mu, own.cells, own.regret, own.noisy_regret, own.within) for own in found] == [
        (1.0, 3, 0.04, 0.2, 2),
        (0.1, 1, 0.5, 0.6, 0),
    ]
    counts = [(own.changed, own.found, own.unchanged, own.kept) for own in found]
    assert counts == [(2, 1, 1, 1), (0, 0, 1, 0)]


def test_in_noise_more_reward_is_less_accuracy_as_the_page_says() -> None:
    noisy = [row for row in run_of("bandits")["shown"]["rows"] if row["part"] == "noise 20"]
    static, *others = noisy
    most = max(others, key=lambda row: float(row["reward"]))
    assert most["reward"] > static["reward"]
    assert most["accuracy"] == min(row["accuracy"] for row in noisy)


def test_what_the_page_says_of_bandits_is_what_was_measured() -> None:
    rows: dict[tuple[float, str], Any] = {
        (row["mu"], row["rule"]): row for row in run_of("bandits")["summary"]
    }
    fresh = "2 % explored, 0.99 kept"
    for name in ("SplitEE", "I-SplitEE"):
        assert rows[1.0, f"{name}, {fresh}"]["found"] == rows[1.0, f"{name}, {fresh}"]["changed"]
        assert rows[1.0, f"{name}, frozen after 500"]["found"] == 0
        assert rows[1.0, f"{name}, frozen after 500"]["within"] > rows[1.0, name]["within"]
        assert rows[1.0, name]["found"] < rows[1.0, name]["changed"]
        assert rows[0.1, name]["within"] < 0.5 * rows[0.1, name]["cells"]
    most = 0.5 * rows[1.0, "I-SplitEE"]["cells"]
    assert rows[1.0, "I-SplitEE"]["within"] > most > rows[1.0, "SplitEE"]["within"]
