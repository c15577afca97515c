"""The cloud's queue: a bounded number of waiting samples, computed in batches.

One thread runs one batch after the other. A batch holds the samples that queued for the same model
while the last batch ran; a batch does not wait to be filled, unless `batch_wait_ms` asks for it.
Background jobs are computed while no normal job waits, and give up their room to normal ones.
All but the models' work happens on the event loop, so no lock is needed.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from eenn.errors import EennError

Floats = NDArray[np.float32]
Model = Callable[[Floats], Floats]
T = TypeVar("T")


class QueueFull(EennError):
    """A request that does not fit into the queue."""


class QueuedTooLong(EennError):
    """A request whose time was up before its computation began."""


@dataclass(frozen=True)
class Computed:
    """The result of one job's samples.

    Args:
        logits: (N, classes).
        queue_ms: time that the job waited.
        model_ms: computing time of the batch that the job was part of.
    """

    logits: Floats
    queue_ms: float
    model_ms: float


class Place:
    """Room in the queue for the samples of one request; see `Batcher.place`."""

    def __init__(self, batcher: "Batcher", samples: int, is_background: bool) -> None:
        self._batcher, self._samples, self.is_background = batcher, samples, is_background
        batcher.waiting += samples

    def leave(self) -> None:
        """Free the room in the queue, if that was not done yet."""
        self._batcher.waiting -= self._samples
        self._samples = 0


@dataclass(eq=False)
class _Job:
    model: Model
    features: Floats
    place: Place
    computed: "asyncio.Future[Computed]"
    queued: float


class Batcher:
    """Computes queued samples in batches while `run` runs; `waiting` is the samples in the queue.

    Args:
        limit: largest number of waiting samples.
        max_batch: largest number of samples of a model's batch; a job with more is computed in
            parts.
        batch_wait_ms: time that the oldest job waits for others to fill its batch.
        timeout_ms: longest waiting time of a job.
        slowdown: factor by which batches are slowed down, as an emulation.
        note: called with samples and milliseconds of every batch.
    """

    def __init__(
        self,
        limit: int,
        max_batch: int,
        batch_wait_ms: float,
        timeout_ms: float,
        slowdown: float,
        note: Callable[[int, float], None],
    ) -> None:
        self.limit, self.waiting = limit, 0
        self._max_batch, self._slowdown, self._note = max_batch, slowdown, note
        self._batch_wait_s, self._timeout_s = batch_wait_ms / 1e3, timeout_ms / 1e3
        self._jobs: deque[_Job] = deque()
        self._arrived = asyncio.Event()

    def make_room(self, samples: int, is_background: bool) -> None:
        """Make room for a request's samples; for a normal one, background jobs are given up.

        Raises:
            QueueFull: the queue does not have that much room.
        """
        given_up = [] if is_background else [job for job in self._jobs if job.place.is_background]
        while given_up and self.waiting + samples > self.limit:
            job = given_up.pop()
            if not job.computed.done():
                job.computed.set_exception(QueueFull("it gave way to a normal request"))
            job.place.leave()
        if self.waiting + samples > self.limit:
            raise QueueFull(
                f"the queue is full: {self.waiting} samples are waiting; at most {self.limit} may"
            )

    @contextmanager
    def place(self, samples: int, is_background: bool = False) -> Iterator[Place]:
        """Reserve room for some samples until a batch takes them or the block ends.

        Raises:
            QueueFull: see `make_room`.
        """
        self.make_room(samples, is_background)
        place = Place(self, samples, is_background)
        try:
            yield place
        finally:
            place.leave()

    def submit(self, place: Place, model: Model, features: Floats) -> "asyncio.Future[Computed]":
        """Queue features for a model; return a future of the result, which can be cancelled.

        Raises (the future):
            QueuedTooLong: see there.
            QueueFull: a background job gave way to a normal request.
        """
        loop = asyncio.get_running_loop()
        job = _Job(model, features, place, loop.create_future(), time.perf_counter())
        self._jobs.append(job)
        self._arrived.set()
        timer = loop.call_later(self._timeout_s, self._expire, job)

        def settled(_: object) -> None:
            timer.cancel()
            if job in self._jobs:
                self._jobs.remove(job)

        job.computed.add_done_callback(settled)
        return job.computed

    async def run(self) -> None:
        """Compute batches until cancelled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "model") as thread:
            while True:
                batch = await self._next_batch()
                begun = time.perf_counter()
                try:
                    logits, model_ms = await loop.run_in_executor(thread, self._compute, batch)
                except Exception as error:
                    for job in batch:
                        if not job.computed.done():
                            job.computed.set_exception(error)
                    continue
                self._note(len(logits), model_ms)
                start = 0
                for job in batch:
                    own = logits[start : start + len(job.features)]
                    start += len(own)
                    if not job.computed.done():
                        queue_ms = 1e3 * (begun - job.queued)
                        job.computed.set_result(Computed(own, queue_ms, model_ms))

    async def _next_batch(self) -> list[_Job]:
        while True:
            batch, is_full = self._fitting()
            wait_s = None
            if batch:
                wait_s = batch[0].queued + self._batch_wait_s - time.perf_counter()
                if is_full or wait_s <= 0:
                    break
            self._arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), wait_s)
        for job in batch:
            self._jobs.remove(job)
            job.place.leave()
        return batch

    def _fitting(self) -> tuple[list[_Job], bool]:
        """Collect the oldest job and others of its model; tell whether the batch is full."""
        waiting = [job for job in self._jobs if not job.computed.done()]
        normal = [job for job in waiting if not job.place.is_background]
        if not normal:
            # A normal job that comes meanwhile should wait for one background job at most. No batch
            # has both kinds, because its normal jobs would wait for the others' computation.
            return waiting[:1], True
        batch: list[_Job] = []
        samples = 0
        for job in normal:
            if batch and job.model is not batch[0].model:
                continue
            samples += len(job.features)
            if batch and samples > self._max_batch:
                return batch, True
            batch.append(job)
        return batch, samples >= self._max_batch

    def _expire(self, job: _Job) -> None:
        if job in self._jobs and not job.computed.done():
            job.computed.set_exception(QueuedTooLong("no time was left to compute it"))

    def _compute(self, batch: list[_Job]) -> tuple[Floats, float]:
        """Compute the logits of all samples of a batch, and measure the milliseconds."""
        parts = [job.features for job in batch]

        def work() -> Floats:
            features = parts[0] if len(parts) == 1 else np.concatenate(parts)
            logits = [
                batch[0].model(features[first : first + self._max_batch])
                for first in range(0, len(features), self._max_batch)
            ]
            return logits[0] if len(logits) == 1 else np.concatenate(logits)

        return run_slowed(self._slowdown, work)


def run_slowed(slowdown: float, work: Callable[[], T]) -> tuple[T, float]:
    """Run `work` slowed down by a factor; return its result and the milliseconds that it took."""
    start = time.perf_counter()
    result = work()
    if slowdown > 1:
        time.sleep((slowdown - 1) * (time.perf_counter() - start))
    return result, 1e3 * (time.perf_counter() - start)
