"""The turn of a standby: in time, too late, and under a limit beyond all clocks."""

import time
from threading import Lock

import pytest

from eenn.offload.edge.deadlines import deadline_from_now, turn_in_time


@pytest.mark.parametrize("limit_ms", [None, 1e6, 1e30])
def test_a_free_turn_is_taken_under_any_limit(limit_ms: float | None) -> None:
    computing = Lock()
    with turn_in_time(computing, deadline_from_now(limit_ms), 1.0) as has_turn:
        assert has_turn
        assert computing.locked()
    assert not computing.locked()


def test_a_turn_that_leaves_too_little_time_is_not_taken() -> None:
    computing = Lock()
    with turn_in_time(computing, time.monotonic() + 1.0, 1e6) as has_turn:
        assert not has_turn
        assert not computing.locked()
