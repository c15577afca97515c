"""The deadline of an answer, and the time that it leaves the cloud and a standby."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import TIMEOUT_MAX, Lock

# The end of the time before a deadline, kept for the edge's own answer.
RESERVE_S = 0.005
# The cloud is given up this many times the standby's expected time before the deadline.
STANDBY_MARGIN = 1.5


def deadline_from_now(limit_ms: float | None) -> float | None:
    """Compute the cloud's deadline, seconds of `time.monotonic()`; None for no deadline.

    Args:
        limit_ms: for the whole answer.
    """
    return None if limit_ms is None else time.monotonic() + limit_ms / 1e3 - RESERVE_S


def given_up(deadline: float | None, standby_s: float) -> float | None:
    """Compute the time to give up the cloud, so that a standby can meet the deadline."""
    if deadline is None:
        return None
    earlier = deadline - STANDBY_MARGIN * standby_s
    # If the standby would be too slow in any case, the cloud gets all of the time.
    return earlier if earlier > time.monotonic() else deadline


@contextmanager
def turn_in_time(computing: Lock, deadline: float | None, needed_s: float) -> Iterator[bool]:
    """Hold the turn to compute, if it comes so early that `needed_s` are left; say if it does."""
    spare_s = -1.0 if deadline is None else deadline - needed_s - time.monotonic()
    in_time = deadline is None or spare_s >= 0
    has_turn = in_time and computing.acquire(timeout=min(spare_s, TIMEOUT_MAX))
    try:
        yield has_turn
    finally:
        if has_turn:
            computing.release()
