"""How far a loop is, told by a clock that the tests turn."""

import sys
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eenn import cli
from eenn.cli import PAUSE_S, Pace, duration_text, with_progress


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.floats(0, 3 * PAUSE_S), min_size=1, max_size=60))
def test_lines_come_no_more_often_than_the_pause_and_say_what_is_left(steps: list[float]) -> None:
    clock = Clock()
    pace, told = Pace("record", len(steps), "batches", clock), [clock.now]
    for done, step in enumerate(steps, 1):
        clock.now += step
        line = pace.line(done)
        due = clock.now - told[-1] >= PAUSE_S
        assert (line is not None) == due
        if line is not None:
            told.append(clock.now)
            left_s = (clock.now - 100) / done * (len(steps) - done)
            assert line.startswith(f"record: {done} of {len(steps)} batches (")
            assert line.endswith(f"{duration_text(left_s)} left")
    assert all(later - earlier >= PAUSE_S for earlier, later in pairwise(told))


def test_without_a_total_only_the_count_is_told() -> None:
    clock = Clock()
    pace = Pace("record", 0, "images", clock)
    clock.now += PAUSE_S
    assert pace.line(7) == "record: 7 images"


def test_counting_yields_every_item_and_tells_of_long_loops_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    monkeypatch.setattr(cli, "Pace", partial(Pace, clock=clock))

    def slow() -> Iterator[int]:
        for item in range(5):
            yield item
            clock.now += 4

    assert list(with_progress(range(5), "quick", "graphs")) == [*range(5)]
    assert capsys.readouterr().err == ""
    assert list(with_progress(slow(), "slow", "graphs", 5)) == [*range(5)]
    assert capsys.readouterr().err == "slow: 4 of 5 graphs (80 %), 3 s left\n"


def test_a_terminal_gets_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(with_progress("abc", "export", "graphs")) == ["a", "b", "c"]
    assert "3/3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (12000, "3 h 20 min")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration_text(seconds) == words
