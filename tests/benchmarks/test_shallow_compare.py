"""The comparison of trained variants against a loop over images and thresholds."""

import numpy as np
import pytest

from benchmarks.policies import thresholds
from benchmarks.policies.recorded import Recorded
from benchmarks.shallow.compare import BASELINE, LAST_EXIT, SHARES, Trial, compared
from tests.benchmarks.records import made_up, part_costs


@pytest.fixture(autouse=True)
def few_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try few thresholds, which keeps the loops short."""
    monkeypatch.setattr(thresholds, "SETTINGS", 31)


def trial(seed: int, exits: int = 4) -> Trial:
    return Trial(
        made_up(exits=exits, seed=seed), made_up(exits=exits, seed=seed + 100), part_costs()
    )


def accuracy_at(mean_macs: float, one: Trial) -> float:
    """Walk every image through the exits under every threshold, and interpolate."""
    settings = np.quantile(one.validation.confidence[:-1], np.linspace(0, 1, thresholds.SETTINGS))
    test, last = one.test, len(one.test.exits) - 1
    found = [(sum(one.costs.segments) + one.costs.heads[last], float(test.right[last].mean()))]
    for setting in settings:
        macs, right = 0.0, 0
        for image in range(len(test.labels)):
            exit = 0
            while exit < last and test.confidence[exit, image] < setting:
                exit += 1
            macs += sum(one.costs.segments[: exit + 1]) + sum(one.costs.heads[: exit + 1])
            right += int(test.prediction[exit, image] == test.labels[image])
        found.append((macs / len(test.labels), right / len(test.labels)))
    return float(np.interp(mean_macs, *zip(*sorted(found), strict=True)))


def test_accuracy_and_gain_are_those_of_a_loop_over_images() -> None:
    baseline, other = trial(1), trial(2)
    rows = compared({BASELINE: {0: baseline}, "other": {0: other}})
    assert len(rows) == 2 * (len(SHARES) + 1)
    whole = sum(baseline.costs.segments) + sum(baseline.costs.heads)
    for row in rows:
        one = other if row.variant == "other" else baseline
        if row.budget == LAST_EXIT:
            expected, against = (float(own.test.right[-1].mean()) for own in (one, baseline))
        else:
            assert isinstance(row.budget, float)
            expected, against = (accuracy_at(row.budget * whole, own) for own in (one, baseline))
        assert row.accuracy.value == pytest.approx(expected)
        assert row.gain.value == pytest.approx(expected - against, abs=1e-9)
        assert row.gain.low <= row.gain.value <= row.gain.high


def test_seeds_are_compared_apart_and_together_where_both_have_them() -> None:
    by_seed = {seed: trial(seed) for seed in (0, 1)}
    wrong = trial(5)
    labels = (wrong.test.prediction[-1] + 1) % 5
    never_right = wrong._replace(test=Recorded(wrong.test.exits, labels))
    rows = compared({BASELINE: by_seed, "unfinished": {1: never_right}})
    assert [row.seed for row in rows if row.budget == LAST_EXIT] == [0, 1, None, 1]
    assert all(row.gain.value == 0 for row in rows if row.variant == BASELINE)
    (lost,) = (r for r in rows if r.variant == "unfinished" and r.budget == LAST_EXIT)
    assert lost.accuracy.value == 0
    assert lost.gain.value == pytest.approx(-by_seed[1].test.right[-1].mean())
    (together,) = (r for r in rows if r.seed is None and r.budget == LAST_EXIT)
    assert together.n == 2 * len(wrong.test.labels)
