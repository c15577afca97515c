"""The kinds that images look like: counted since the last alarm, and told once there are enough."""

from collections.abc import Sequence

import numpy as np
import pytest

from eenn.offload.edge.kinds import ENOUGH, Kinds

SETS = ("plain", "gaussian_blur", "gaussian_noise")


def judged(numbers: Sequence[int], after_alarm: bool = True) -> tuple[Kinds, list[str]]:
    """Kinds that have judged images of these head sets, and what was said."""
    said: list[str] = []
    left = iter(numbers)
    kinds = Kinds(lambda _: np.array([next(left)]), SETS, said.append)
    if after_alarm:
        kinds.restart()
    for number in numbers:
        assert kinds.judge(np.zeros((1, 3, 4, 4), np.float32)) == SETS[number]
    return kinds, said


def test_shares_are_those_since_the_last_alarm() -> None:
    kinds, _ = judged([0, 1, 1, 2, 1, 1, 0, 1])
    assert kinds.shares() == {"gaussian_blur": 5 / 8, "plain": 2 / 8, "gaussian_noise": 1 / 8}
    kinds.restart()
    assert kinds.shares() is None


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ([1] * (ENOUGH - 1), None),
        ([1] * 2 * ENOUGH, f"100 % of {ENOUGH} images since the alarm look like gaussian_blur"),
        ([2] * 15 + [0] * 5, f"75 % of {ENOUGH} images since the alarm look like gaussian_noise"),
        ([0] * ENOUGH + [2] * 5, None),
        ([1, 2] * ENOUGH, None),
        ([0] * 3 * ENOUGH, None),
        ([0] * ENOUGH + [1] * 3 * ENOUGH, f"67 % of {3 * ENOUGH} images since the alarm look like"),
    ],
)
def test_most_images_of_a_kind_are_told_once_and_only_after_an_alarm(
    numbers: list[int], told: str | None
) -> None:
    _, said = judged(numbers)
    assert len(said) == (told is not None)
    if told:
        assert told in said[0]
    assert judged(numbers, after_alarm=False)[1] == []
