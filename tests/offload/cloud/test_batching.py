"""The cloud's queue and its batches: who is computed together, who is not computed at all."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from threading import Event
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from eenn.offload.cloud.batching import Batcher, Computed, QueuedTooLong, QueueFull
from tests.offload.cloud.passing_time import movable
from tests.offload.patience import PATIENCE_S

Floats = NDArray[np.float32]


class Model:
    """Multiplies by its own factor, when it is let, and notes the sizes of its batches."""

    def __init__(self, factor: float = 1.0, log: list[Any] | None = None) -> None:
        self.factor, self.batches = factor, log if log is not None else []
        self.begun, self.go = Event(), Event()
        self.go.set()

    def __call__(self, features: Floats) -> Floats:
        self.batches.append((self.factor, len(features)))
        self.begun.set()
        assert self.go.wait(PATIENCE_S)
        return features.reshape(len(features), -1) * np.float32(self.factor)


class Queue:
    """A batcher at work, with places that stay taken until computed or cancelled.

    Args:
        let_pass: moves its clock on.
    """

    def __init__(self, let_pass: Callable[[float], None], **given: Any) -> None:
        self.let_pass = let_pass
        self.noted: list[tuple[int, float]] = []
        settings = {
            "limit": 1000, "max_batch": 8, "batch_wait_ms": 0.0, "timeout_ms": 60_000.0,
            "slowdown": 1.0, "note": lambda *batch: self.noted.append(batch),
        }  # fmt: skip
        self.batcher = Batcher(**(settings | given))
        self.places = ExitStack()

    def submit(
        self, model: Any, samples: int = 1, first: float = 0.0, is_background: bool = False
    ) -> "asyncio.Future[Computed]":
        features = np.arange(first, first + samples, dtype=np.float32)[:, None]
        place = self.places.enter_context(self.batcher.place(samples, is_background))
        return self.batcher.submit(place, model, features)


def at_work(test: Callable[[Queue], Awaitable[None]], **given: Any) -> None:
    """Run a test against a queue that computes."""

    async def run() -> None:
        queue = Queue(movable(asyncio.get_running_loop()), **given)
        computing = asyncio.create_task(queue.batcher.run())
        try:
            with queue.places:
                await asyncio.wait_for(test(queue), PATIENCE_S)
            assert queue.batcher.waiting == 0
        finally:
            computing.cancel()
            with suppress(asyncio.CancelledError):
                await computing

    asyncio.run(run())


async def busy(queue: Queue, model: Model) -> "asyncio.Future[Computed]":
    """A first job, which the model holds on to; what comes now has to queue."""
    model.go.clear()
    job = queue.submit(model, first=100)
    await asyncio.to_thread(model.begun.wait, PATIENCE_S)
    return job


def test_what_queued_meanwhile_is_one_batch() -> None:
    model = Model(2.0)

    async def test(queue: Queue) -> None:
        jobs = [await busy(queue, model), *(queue.submit(model, 2, first=i) for i in range(3))]
        assert queue.batcher.waiting == 6
        model.go.set()
        logits = [(await job).logits.ravel().tolist() for job in jobs]
        assert logits == [[200.0], [0.0, 2.0], [2.0, 4.0], [4.0, 6.0]]
        assert model.batches == [(2.0, 1), (2.0, 6)]
        assert [samples for samples, _ in queue.noted] == [1, 6]

    at_work(test)


def test_nobody_waits_for_company() -> None:
    model = Model()

    async def test(queue: Queue) -> None:
        for _ in range(3):
            await queue.submit(model)
        assert model.batches == 3 * [(1.0, 1)]

    at_work(test)


def test_a_batch_that_may_wait_goes_when_it_is_full() -> None:
    model = Model()

    async def test(queue: Queue) -> None:
        first = queue.submit(model, 3)
        await asyncio.sleep(0)
        assert not model.batches
        await asyncio.gather(first, queue.submit(model, 5))
        assert model.batches == [(1.0, 8)]

    at_work(test, batch_wait_ms=1e6)


@pytest.mark.clock
def test_a_batch_that_may_wait_goes_when_its_time_is_up() -> None:
    model = Model()

    async def test(queue: Queue) -> None:
        computed = await queue.submit(model)
        assert computed.queue_ms >= 20

    at_work(test, batch_wait_ms=20)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 12)), min_size=1, max_size=20),
    st.integers(1, 10),
)
def test_batches_hold_one_model_in_order_and_everyone_gets_its_own(
    jobs: list[tuple[int, int]], max_batch: int
) -> None:
    log: list[tuple[float, int]] = []
    models = [Model(factor, log) for factor in (1.0, 10.0, 100.0)]
    finished: list[int] = []

    async def test(queue: Queue) -> None:
        first = await busy(queue, models[0])
        futures = []
        for number, (model, samples) in enumerate(jobs):
            future = queue.submit(models[model], samples, first=7 * number)
            future.add_done_callback(lambda _, number=number: finished.append(number))
            futures.append(future)
        models[0].go.set()
        await first
        for number, (model, samples) in enumerate(jobs):
            logits = (await futures[number]).logits.ravel()
            expected = np.arange(7 * number, 7 * number + samples) * models[model].factor
            assert logits.tolist() == expected.tolist()

    at_work(test, max_batch=max_batch)
    assert max(samples for _, samples in log) <= max_batch
    assert sum(samples for _, samples in log[1:]) == sum(samples for _, samples in jobs)
    for own in range(3):
        of_model = [number for number in finished if jobs[number][0] == own]
        assert of_model == sorted(of_model)


def test_the_oldest_is_never_overtaken_by_another_models_batch() -> None:
    log: list[tuple[float, int]] = []
    one, other = Model(1.0, log), Model(2.0, log)

    async def test(queue: Queue) -> None:
        jobs = [await busy(queue, one)]
        jobs += [queue.submit(model) for model in (other, one, other, one)]
        one.go.set()
        await asyncio.gather(*jobs)
        assert log == [(1.0, 1), (2.0, 2), (1.0, 2)]

    at_work(test)


JOBS = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 6), st.booleans()), max_size=12)


@given(JOBS, st.integers(1, 8))
def test_background_jobs_come_last_and_leave_other_batches_as_they_are(
    jobs: list[tuple[int, int, bool]], max_batch: int
) -> None:
    def order(jobs: list[tuple[int, int, bool]]) -> tuple[list[int], list[Any]]:
        """The numbers of the jobs as they finish, and the batches."""
        log: list[Any] = []
        models = [Model(factor, log) for factor in (1.0, 10.0)]
        finished: list[int] = []

        async def test(queue: Queue) -> None:
            futures = [await busy(queue, models[0])]
            for number, (model, samples, is_background) in enumerate(jobs):
                job = queue.submit(models[model], samples, 7.0 * number, is_background)
                job.add_done_callback(lambda _, number=number: finished.append(number))
                futures.append(job)
            models[0].go.set()
            await asyncio.gather(*futures)
            for number, (model, samples, _) in enumerate(jobs):
                expected = (7 * number + np.arange(samples)) * models[model].factor
                assert futures[1 + number].result().logits.ravel().tolist() == expected.tolist()

        at_work(test, max_batch=max_batch)
        return finished, log

    normal = [number for number, job in enumerate(jobs) if not job[2]]
    background = [number for number, job in enumerate(jobs) if job[2]]
    finished, log = order(jobs)
    assert sorted(finished[: len(normal)]) == normal
    assert finished[len(normal) :] == background
    _, log_alone = order([jobs[number] for number in normal])
    assert log[: len(log_alone)] == log_alone
    assert sum(samples for _, samples in log[len(log_alone) :]) == sum(
        jobs[number][1] for number in background
    )


def test_a_background_job_does_not_wait_for_company() -> None:
    model = Model()

    async def test(queue: Queue) -> None:
        await queue.submit(model, is_background=True)
        assert model.batches == [(1.0, 1)]

    at_work(test, batch_wait_ms=1e6)


def test_a_full_queue_gives_up_the_newest_background_jobs_for_others() -> None:
    model = Model()

    async def test(queue: Queue) -> None:
        first = await busy(queue, model)
        old, new = (queue.submit(model, 2, is_background=True) for _ in range(2))
        with pytest.raises(QueueFull, match="4 samples are waiting; at most 5 may"):
            queue.submit(model, 2, is_background=True)
        normal = queue.submit(model, 3)
        with pytest.raises(QueueFull, match="gave way"):
            await new
        assert queue.batcher.waiting == 5
        with pytest.raises(QueueFull, match="3 samples are waiting"):
            queue.submit(model, 3)
        with pytest.raises(QueueFull, match="gave way"):
            await old
        model.go.set()
        await asyncio.gather(first, normal)
        assert model.batches == [(1.0, 1), (1.0, 3)]

    at_work(test, limit=5)


def test_a_background_job_that_is_being_computed_gives_nothing_up() -> None:
    model = Model()

    async def test(queue: Queue) -> None:
        model.go.clear()
        background = queue.submit(model, 2, is_background=True)
        await asyncio.to_thread(model.begun.wait, PATIENCE_S)
        normal = queue.submit(model, 2)
        model.go.set()
        await asyncio.gather(background, normal)

    at_work(test, limit=2)


def test_the_queue_is_bounded_and_gives_room_back() -> None:
    model = Model()

    async def test(queue: Queue) -> None:
        first = await busy(queue, model)
        jobs = [queue.submit(model, 3)]
        with pytest.raises(QueueFull, match="3 samples are waiting; at most 4 may"):
            queue.submit(model, 2)
        with queue.batcher.place(1):
            assert queue.batcher.waiting == 4
        jobs.append(queue.submit(model, 1))
        model.go.set()
        await asyncio.gather(first, *jobs)
        await queue.submit(model, 4)

    at_work(test, limit=4)


def test_who_left_is_not_computed() -> None:
    model = Model()

    async def test(queue: Queue) -> None:
        first = await busy(queue, model)
        gone, stays = queue.submit(model, 3), queue.submit(model, 2)
        gone.cancel()
        model.go.set()
        await asyncio.gather(first, stays)
        assert model.batches == [(1.0, 1), (1.0, 2)]

    at_work(test)


def test_who_waited_too_long_is_told_so_and_not_computed() -> None:
    model = Model()

    async def test(queue: Queue) -> None:
        first, late = await busy(queue, model), queue.submit(model)
        queue.let_pass(PATIENCE_S / 2)
        with pytest.raises(QueuedTooLong):
            await late
        model.go.set()
        await first
        await queue.submit(model, 2)
        assert model.batches == [(1.0, 1), (1.0, 2)]

    at_work(test, timeout_ms=1e3 * PATIENCE_S / 2)


def test_a_model_that_fails_fails_its_own_batch_only() -> None:
    model = Model()

    def broken(features: Floats) -> Floats:
        raise RuntimeError("out of memory")

    async def test(queue: Queue) -> None:
        first = await busy(queue, model)
        failing, good = [queue.submit(broken), queue.submit(broken)], queue.submit(model)
        model.go.set()
        for job in failing:
            with pytest.raises(RuntimeError, match="out of memory"):
                await job
        await asyncio.gather(first, good)

    at_work(test)


@pytest.mark.clock
def test_a_slowdown_stretches_what_is_measured() -> None:
    took_ms: list[float] = []

    def model(features: Floats) -> Floats:
        start = time.perf_counter()
        time.sleep(0.02)
        took_ms.append(1e3 * (time.perf_counter() - start))
        return features

    async def test(queue: Queue) -> None:
        assert (await queue.submit(model)).model_ms >= 5 * took_ms[0]

    at_work(test, slowdown=5.0)
