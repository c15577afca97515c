"""Images in flight: one is computed while others are away, and answers keep the order."""

import threading
from collections.abc import Sequence
from threading import Condition, Event, Lock, Thread
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eenn.exits.policies.threshold import Confidence
from eenn.offload.edge import clouds, deadlines
from eenn.offload.edge import flight as flight_module
from eenn.offload.edge import runtime as runtime_module
from eenn.offload.edge.answers import as_json
from eenn.offload.edge.clouds import LocalCloud, Rest
from eenn.offload.edge.deadlines import RESERVE_S, turn_in_time
from eenn.offload.edge.flight import Flight
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.protocol.wire import Cut
from eenn.preprocess import Preprocessing
from tests.offload.edge.edge_service import Failing, Floats, runtime_of
from tests.offload.edge.guarded import without_times
from tests.offload.exported import CLASSES, Exported
from tests.offload.patience import PATIENCE_S, wait_until
from tests.offload.simulated_clock import SimulatedClock


class Scripted:
    """A runtime that finishes images in a given order, as far as they are in flight together.

    Args:
        ranks: of every image; of those in flight the one of the lowest rank is finished next.
        broken: images that cannot be begun; `lost` are those that cannot be finished.
    """

    def __init__(
        self, ranks: Sequence[int], in_flight: int, broken: frozenset[int], lost: frozenset[int]
    ) -> None:
        self._ranks, self._in_flight, self._broken, self._lost = ranks, in_flight, broken, lost
        self._changed = Condition()
        self._next: int | None = None
        self.begun = list[int]()
        self.away, self.finished, self.most_away = set[int](), set[int](), 0

    def begin(self, file: str) -> int:
        number = int(file)
        self.begun.append(number)
        if number in self._broken:
            raise ValueError(f"broken {number}")
        return number

    def finish(self, number: int) -> list[str]:
        with self._changed:
            self.away.add(number)
            self.most_away = max(self.most_away, len(self.away))
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._next == number, PATIENCE_S)
            self._next = None
            self.away.remove(number)
            self.finished.add(number)
            self._changed.notify_all()
        if number in self._lost:
            raise ValueError(f"lost {number}")
        return [f"answer {number}"]

    def control(self) -> None:
        """Let all images finish, each once all that can be in flight beside it are."""
        for _ in set(range(len(self._ranks))) - self._broken:
            with self._changed:
                assert self._changed.wait_for(self._is_full, PATIENCE_S)
                self._next = min(self.away, key=self._ranks.__getitem__)
                self._changed.notify_all()
                assert self._changed.wait_for(lambda: self._next is None, PATIENCE_S)

    def _is_full(self) -> bool:
        over = self.finished | self._broken
        left = [number for number in range(len(self._ranks)) if number not in over]
        return self.away == set(left[: self._in_flight])


@given(data=st.data(), in_flight=st.integers(1, 5), images=st.integers(1, 9))
def test_answers_keep_the_order_whatever_the_order_in_which_the_cloud_answers(
    data: st.DataObject, in_flight: int, images: int
) -> None:
    some = st.frozensets(st.sampled_from(range(images)))
    ranks, broken, lost = (data.draw(own) for own in (st.permutations(range(images)), some, some))
    scripted = Scripted(ranks, in_flight, broken, lost)
    control = Thread(target=scripted.control)
    control.start()
    said = []
    with Flight(cast(EdgeRuntime, scripted), in_flight) as flight:
        for file, result in flight.answers([str(number) for number in range(images)]):
            error = result.exception(PATIENCE_S)
            said.append((file, str(error or result.result())))
    control.join()
    kinds = ["broken" if n in broken else "lost" if n in lost else "answer" for n in range(images)]
    assert said == [(str(number), f"{kind} {number}") for number, kind in enumerate(kinds)]
    assert scripted.begun == list(range(images))
    assert scripted.most_away == min(in_flight, images - len(broken))


class Away:
    """A cloud that holds every image until its answer is allowed; its answers are its own."""

    def __init__(self, images: Floats) -> None:
        self._images = images
        self.asked = [Event() for _ in images]
        self.allowed = [Event() for _ in images]

    def infer(
        self, features: Floats, cut: Cut, deadline: float | None, heads: str = "plain"
    ) -> Floats:
        found = [np.array_equal(own, features[0]) for own in self._images].index(True)
        self.asked[found].set()
        assert self.allowed[found].wait(PATIENCE_S)
        return np.eye(len(CLASSES), dtype=np.float32)[[found % len(CLASSES)]]


def test_the_next_images_are_begun_while_one_is_away(exported: Exported) -> None:
    cloud, found = Away(exported.images), list[tuple[str, int]]()
    runtime = runtime_of(exported, cloud, active=())
    files = [str(file) for file in exported.files[:6]]

    def collect() -> None:
        with Flight(runtime, 3) as flight:
            for file, result in flight.answers(files):
                found.append((file, result.result(PATIENCE_S).label))

    collecting = Thread(target=collect)
    collecting.start()
    for asked in cloud.asked[:3]:
        assert asked.wait(PATIENCE_S)
    # Three are away at once; the fourth is begun when one of them is answered, whichever it is.
    assert not cloud.asked[3].is_set()
    cloud.allowed[1].set()
    assert cloud.asked[3].wait(PATIENCE_S)
    assert not cloud.asked[4].is_set()
    cloud.allowed[2].set()
    assert cloud.asked[4].wait(PATIENCE_S)
    assert not found
    cloud.allowed[0].set()
    wait_until(lambda: len(found) == 3)
    assert cloud.asked[5].wait(PATIENCE_S)
    for allowed in cloud.allowed:
        allowed.set()
    collecting.join(PATIENCE_S)
    assert found == [(file, number % len(CLASSES)) for number, file in enumerate(files)]


def test_so_many_answers_are_held_for_an_earlier_one_and_no_more(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flight_module, "MOST_HELD", 4)
    cloud = Away(exported.images)
    for allowed in cloud.allowed[1:]:
        allowed.set()
    runtime = runtime_of(exported, cloud, active=())
    found = list[str]()

    def collect() -> None:
        with Flight(runtime, 2) as flight:
            found.extend(file for file, _ in flight.answers(map(str, exported.files[:6])))

    collecting = Thread(target=collect)
    collecting.start()
    assert cloud.asked[3].wait(PATIENCE_S)
    collecting.join(0.05)
    assert not cloud.asked[4].is_set()
    cloud.allowed[0].set()
    collecting.join(PATIENCE_S)
    assert found == [str(file) for file in exported.files[:6]]


@pytest.mark.parametrize("in_flight", [2, 16])
def test_answers_in_flight_are_those_of_images_one_by_one(
    in_flight: int, exported: Exported
) -> None:
    runtime = runtime_of(exported, LocalCloud(exported.path))
    alone = [without_times(as_json(runtime.classify_file(file))) for file in exported.files]
    with Flight(runtime, in_flight) as flight:
        answers = flight.answers(map(str, exported.files))
        together = [without_times(as_json(answer.result.result())) for answer in answers]
    assert together == alone
    assert {answer["place"] for answer in alone} == {"edge", "cloud"}


class Reading:
    """Holds the device: the first file that is read takes until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.released, self.reads = Event(), Event(), 0
        read = Preprocessing.read

        def reading(preprocessing: Preprocessing, file: Any) -> Any:
            self.reads += 1
            if self.reads == 1:
                self.begun.set()
                assert self.released.wait(PATIENCE_S)
            return read(preprocessing, file)

        monkeypatch.setattr(Preprocessing, "read", reading)


def test_one_image_at_a_time_is_computed_and_waiting_for_the_turn_counts_as_nothing(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, reading = runtime_of(exported, None), Reading(monkeypatch)
    runtime.deadline_ms = 500.0
    clock = SimulatedClock()
    for module in (runtime_module, clouds, deadlines):
        monkeypatch.setattr(module, "time", clock)
    found = list[Any]()
    first = Thread(target=runtime.begin, args=[exported.files[0]])
    first.start()
    assert reading.begun.wait(PATIENCE_S)
    second = Thread(target=lambda: found.append(runtime.begin(exported.files[1])))
    second.start()
    second.join(0.05)
    assert reading.reads == 1
    clock.now += 100
    reading.released.set()
    for thread in (first, second):
        thread.join(PATIENCE_S)
    (batch,) = found
    assert batch.deadline == clock.now + 0.5 - RESERVE_S
    (result,) = runtime.finish(batch)
    assert result.latency_ms == 0


@pytest.mark.parametrize("deadline_ms", [None, 50.0])
def test_a_standby_waits_for_its_turn_and_not_beyond_the_deadline(
    deadline_ms: float | None, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = Rest(Failing(), standby=LocalCloud(exported.path))
    policy = Confidence(p_tar=1.0)
    runtime = EdgeRuntime(exported.path, policy, (0, 1, 2), rest, deadline_ms=deadline_ms)
    batch, reading = runtime.begin(exported.files[1]), Reading(monkeypatch)
    other = Thread(target=runtime.begin, args=[exported.files[0]])
    other.start()
    assert reading.begun.wait(PATIENCE_S)
    found = list[Any]()
    waiting = Thread(target=lambda: found.extend(runtime.finish(batch)))
    waiting.start()
    if deadline_ms is None:
        waiting.join(0.05)
        assert not found
        reading.released.set()
    waiting.join(PATIENCE_S)
    reading.released.set()
    other.join(PATIENCE_S)
    (result,) = found
    assert (result.failure, result.exit) == ("read", 3 if deadline_ms is None else 2)


def test_a_turn_that_comes_too_late_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimulatedClock()
    monkeypatch.setattr(deadlines, "time", clock)
    computing = Lock()
    for deadline, needed_s, comes in (
        (None, 9.0, True),
        (clock.now + 3, 3.0, True),
        (clock.now + 3, 3.5, False),
        (clock.now - 1, 0.0, False),
    ):
        with turn_in_time(computing, deadline, needed_s) as has_turn:
            assert (has_turn, computing.locked()) == (comes, comes)
        assert not computing.locked()
    with computing, turn_in_time(computing, clock.now, 0.0) as has_turn:
        assert not has_turn
        assert computing.locked()


def test_images_without_a_turn_are_not_begun_once_the_flight_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flight_module, "ENDING_S", 0.0)
    begun, reading, released, over = list[str](), Event(), Event(), Event()

    class Stuck:
        """A runtime that reads the first file for ever."""

        def begin(self, file: str) -> None:
            begun.append(file)
            reading.set()
            assert released.wait(PATIENCE_S)

        def finish(self, batch: None) -> list[str]:
            over.set()
            return ["late"]

    before = set(threading.enumerate())
    with Flight(cast(EdgeRuntime, Stuck()), 3) as flight:
        next(flight.answers(["a", "b"]))
        assert reading.wait(PATIENCE_S)
    left = set(threading.enumerate()) - before
    assert len(left) == 2
    assert all(thread.daemon for thread in left)
    released.set()
    assert over.wait(PATIENCE_S)
    for thread in left:
        thread.join(PATIENCE_S)
    assert begun == ["a"]
