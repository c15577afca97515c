"""Resources that requests share: limited amounts, and threads that are used in turns.

Where an amount runs out, the heaviest request that holds some of it gives way to one that is much
lighter; threads serve the lightest request first. So a few expensive requests do not block all
others.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from heapq import heapify, heappop, heappush
from itertools import count
from operator import attrgetter
from typing import TypeVar

from eenn.errors import EennError

T = TypeVar("T")

# A request gives way only if it is this many times as heavy; among equals the first one stays.
HEAVIER = 4
# The weight that a background request has from the start is far more than a normal one ever has.
BACKGROUND_WEIGHT = 2**60


class NoRoom(EennError):
    """An error raised when other requests hold all of an amount and none of them gives way."""


class Share:
    """The share of an amount that one request holds; see `Amount.share`."""

    def __init__(self, amount: "Amount", timer: asyncio.Timeout, weight: int) -> None:
        self._amount, self._timer = amount, timer
        self.held, self.weight = 0, weight
        self.gives_way = False
        self.late: Exception = NoRoom(amount.said)

    def until(self, moment: float | None, late: Exception) -> None:
        """Set the time, in seconds of the loop, at which the block ends with the error `late`.

        None removes the limit.

        Raises:
            NoRoom: the request has already had to give way.
        """
        self._check()
        self._timer.reschedule(moment)
        self.late = late

    def take(self, more: int, weight: int) -> None:
        """Take more of the amount, and add to the request's weight.

        Raises:
            NoRoom: the amount has run out, and no request gives way.
        """
        self._check()
        self.held += more
        self.weight += weight
        self._amount.held += more
        self._amount.make_room(self)

    def give_way(self) -> None:
        """Release the share, and end the block at its next wait."""
        self.release()
        self.gives_way, self.late = True, NoRoom(self._amount.said)
        if not self._timer.expired():
            self._timer.reschedule(0.0)

    def release(self) -> None:
        """Return all that is held to the amount."""
        self._amount.held -= self.held
        self.held = 0

    def _check(self) -> None:
        if self.gives_way:
            raise self.late


class Amount:
    """An amount that requests share, with a limit for all of them together.

    `held` is the sum of all shares.

    Args:
        said: message for requests that get no share.
    """

    def __init__(self, limit: int, said: str) -> None:
        self._limit, self.said, self.held = limit, said, 0
        self._shares: set[Share] = set()

    @asynccontextmanager
    async def share(self, is_background: bool) -> AsyncIterator[Share]:
        """Hold a share until the block ends; those of background requests are the first to go.

        Raises:
            NoRoom: the share had to give way; see also `Share.take`. At the limit of `Share.until`,
                its error is raised.
        """
        share: Share | None = None
        try:
            async with asyncio.timeout(None) as timer:
                share = Share(self, timer, BACKGROUND_WEIGHT if is_background else 0)
                self._shares.add(share)
                yield share
        except TimeoutError:
            if share is None or not timer.expired():
                raise
            raise share.late from None
        finally:
            if share is not None:
                share.release()
                self._shares.discard(share)

    def make_room(self, share: Share) -> None:
        """Make heavier requests give way until the limit holds.

        Raises:
            NoRoom: no other request is HEAVIER times as heavy as `share`.
        """
        while self.held > self._limit:
            heaviest = max(self._shares, key=attrgetter("weight"))
            if heaviest.weight < HEAVIER * share.weight:
                raise NoRoom(self.said)
            heaviest.give_way()
            self._shares.discard(heaviest)


class PriorityThreads:
    """Threads that do one piece of work after the other.

    The smallest waiting piece is next, and those of background requests are the last.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._threads, self._free = ThreadPoolExecutor(threads, name), threads
        self._waiting: list[tuple[bool, int, int, asyncio.Future[None]]] = []
        self._numbers = count()

    async def run(self, size: int, work: Callable[[], T], is_background: bool = False) -> T:
        """Run `work` in a thread, unless the caller is cancelled before its turn."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        waiting = (is_background, size, next(self._numbers), turn)
        heappush(self._waiting, waiting)
        self._begin_next()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._end()
            elif waiting in self._waiting:
                # The turn of heavy work may never come while lighter work arrives.
                self._waiting.remove(waiting)
                heapify(self._waiting)
            raise
        working = self._threads.submit(work)
        # The thread works on when the caller is cancelled, and is free only when the work ends.
        working.add_done_callback(lambda _: loop.call_soon_threadsafe(self._end))
        return await asyncio.wrap_future(working)

    def close(self) -> None:
        """Wait for the work under way, and end the threads."""
        self._threads.shutdown()

    def _end(self) -> None:
        self._free += 1
        self._begin_next()

    def _begin_next(self) -> None:
        while self._free and self._waiting:
            *_, turn = heappop(self._waiting)
            if not turn.done():
                self._free -= 1
                turn.set_result(None)


def run_and_rest(work: Callable[[], T]) -> T:
    """Run some work, and then rest for as long as the work took.

    Parsing JSON holds the interpreter's lock; the rest leaves other threads half of the time.
    """
    start = time.perf_counter()
    try:
        return work()
    finally:
        time.sleep(time.perf_counter() - start)
