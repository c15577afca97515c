"""A circuit breaker: while the cloud keeps failing, only an occasional probe is sent.

closed     calls go through; after `threshold` failures in a row it opens
open       calls fail at once, until a pause is over
half-open  one call, the probe, goes through: its success closes the circuit, its failure
           opens it for a pause twice as long
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Literal

from eenn.errors import EennError
from eenn.offload.protocol.errors import CloudUnreachable, OffloadError

State = Literal["closed", "open", "half-open"]

# Causes of errors of a cloud that works: it refuses the request, or asks for another try later.
CAUSES_OF_A_WORKING_CLOUD = frozenset({"request", "overloaded"})


class CircuitBreaker:
    """Counts failures of the cloud and blocks calls while it keeps failing. Thread-safe.

    Args:
        threshold: failures in a row that open the circuit.
        pause_s: longest pause of the first opening; the actual pause is drawn between half of it
            and all of it, so that devices that lost the cloud together do not return together.
        max_pause_s: upper limit of the doubled pauses.
        seed: seed of the random pauses.
        clock: returns monotonic seconds.

    Raises:
        EennError: the threshold is below 1, or the pauses are not positive and ascending.
    """

    def __init__(
        self,
        threshold: int = 5,
        pause_s: float = 1.0,
        max_pause_s: float = 30.0,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if threshold < 1 or not 0 < pause_s <= max_pause_s:
            raise EennError(
                f"threshold={threshold}, pause_s={pause_s}, max_pause_s={max_pause_s}: allowed "
                "are a threshold of 1 or more and 0 < pause_s <= max_pause_s"
            )
        self._threshold, self._pause_s, self._max_pause_s = threshold, pause_s, max_pause_s
        self._clock, self._random, self._lock = clock, random.Random(seed), Lock()
        self._failures = 0  # in a row
        self._openings = 0  # in a row, without a success between
        self._open_until = 0.0  # half-open from then on
        self._last_failure = ""
        # The result of a call that began before the circuit last opened or closed does not count.
        self._era = 0
        self._probing = False

    @property
    def state(self) -> State:
        """Return the state that the next call meets."""
        with self._lock:
            return self._state()

    @contextmanager
    def call(self) -> Iterator[None]:
        """Guard a call to the cloud: an OffloadError that leaves the block counts as a failure.

        Errors with a cause in CAUSES_OF_A_WORKING_CLOUD count as successes; other exceptions count
        as neither.

        Raises:
            CloudUnreachable: the circuit is open, or a probe is under way.
        """
        era = self._enter()
        failure: str | None = None
        try:
            yield
            failure = ""
        except OffloadError as error:
            failure = "" if error.cause in CAUSES_OF_A_WORKING_CLOUD else error.cause
            raise
        finally:
            self._leave(era, failure)

    def _enter(self) -> int:
        with self._lock:
            if self._state() == "open":
                wait_s = max(self._open_until - self._clock(), 0)
                when = "once the probe has succeeded" if self._probing else f"in {wait_s:.1f} s"
                raise CloudUnreachable(
                    f"the cloud failed {self._failures} times in a row, the last time by "
                    f"{self._last_failure}; it is asked again {when}",
                    "breaker",
                )
            self._probing = self._openings > 0
            return self._era

    def _leave(self, era: int, failure: str | None) -> None:
        with self._lock:
            if era != self._era:
                return
            self._probing = False
            if failure:
                self._failures, self._last_failure = self._failures + 1, failure
                if self._openings or self._failures >= self._threshold:
                    self._open()
            elif failure is not None:
                self._era += self._openings > 0
                self._failures = self._openings = 0

    def _open(self) -> None:
        # The exponent is limited because a long outage would exceed the range of floats.
        pause_s = min(self._pause_s * 2.0 ** min(self._openings, 60), self._max_pause_s)
        self._open_until = self._clock() + pause_s * self._random.uniform(0.5, 1)
        self._openings += 1
        self._era += 1

    def _state(self) -> State:
        if not self._openings:
            return "closed"
        return "open" if self._probing or self._clock() < self._open_until else "half-open"
