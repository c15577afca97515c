"""What requests share: amounts that run out, and threads that they use in turns.

Where an amount has run out, the heaviest of those who hold some gives way to one that is much
lighter; threads go to the lightest first. So a few requests that cost much keep nobody out.
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

# How many times as heavy a request has to be to give way; among equals the first one stays.
HEAVIER = 4


class NoRoom(EennError):
    """Others hold what a request needs, and none of them gives way."""


class Share:
    """What one request holds of an amount; see `Amount.share`."""

    def __init__(self, amount: "Amount", timer: asyncio.Timeout) -> None:
        self._amount, self._timer = amount, timer
        self.held = self.weight = 0
        self.gives_way = False
        self.late: Exception = NoRoom(amount.said)

    def until(self, moment: float | None, late: Exception) -> None:
        """Set the moment, in the loop's time, at which the block ends with the error `late`.

        None is never.

        Raises:
            NoRoom: it ends already.
        """
        self._check()
        self._timer.reschedule(moment)
        self.late = late

    def take(self, more: int, weight: int) -> None:
        """Hold more of the amount, and weigh more.

        Raises:
            NoRoom: there is none, and nobody gives way.
        """
        self._check()
        self.held += more
        self.weight += weight
        self._amount.held += more
        self._amount.make_room(self)

    def give_way(self) -> None:
        """Release what is held, and end the block as soon as it waits."""
        self.release()
        self.gives_way, self.late = True, NoRoom(self._amount.said)
        if not self._timer.expired():
            self._timer.reschedule(0.0)

    def release(self) -> None:
        """Hold nothing any more."""
        self._amount.held -= self.held
        self.held = 0

    def _check(self) -> None:
        if self.gives_way:
            raise self.late


class Amount:
    """An amount that requests hold shares of, within a limit of all together.

    `held` is what they hold.

    Args:
        said: to those who get nothing.
    """

    def __init__(self, limit: int, said: str) -> None:
        self._limit, self.said, self.held = limit, said, 0
        self._shares: set[Share] = set()

    @asynccontextmanager
    async def share(self) -> AsyncIterator[Share]:
        """A share, held until the block ends.

        Raises:
            NoRoom: it had to give way, or see `Share.take`; and what was told to `Share.until`.
        """
        share: Share | None = None
        try:
            async with asyncio.timeout(None) as timer:
                share = Share(self, timer)
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
        """Let heavier requests give way until the limit holds.

        Raises:
            NoRoom: the others are not so much heavier than `share`.
        """
        while self.held > self._limit:
            heaviest = max(self._shares, key=attrgetter("weight"))
            if heaviest.weight < HEAVIER * share.weight:
                raise NoRoom(self.said)
            heaviest.give_way()
            self._shares.discard(heaviest)


class PriorityThreads:
    """Threads that do one piece of work after the other, the smallest of those that wait first."""

    def __init__(self, threads: int, name: str) -> None:
        self._threads, self._free = ThreadPoolExecutor(threads, name), threads
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = count()

    async def run(self, size: int, work: Callable[[], T]) -> T:
        """What `work` returns; it is not begun if the caller is cancelled before its turn."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        waiting = (size, next(self._numbers), turn)
        heappush(self._waiting, waiting)
        self._begin_next()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._end()
            elif waiting in self._waiting:
                # Its turn may never come, while lighter ones do.
                self._waiting.remove(waiting)
                heapify(self._waiting)
            raise
        working = self._threads.submit(work)
        # The thread goes on when the caller is cancelled, and is free no earlier than it ends.
        working.add_done_callback(lambda _: loop.call_soon_threadsafe(self._end))
        return await asyncio.wrap_future(working)

    def close(self) -> None:
        """Wait for the work that is being done."""
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
    """Do some work, and rest for as long as it took.

    Parsing JSON keeps the interpreter from all other threads, which have it half of the time so.
    """
    start = time.perf_counter()
    try:
        return work()
    finally:
        time.sleep(time.perf_counter() - start)
