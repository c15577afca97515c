"""The circuit breaker against a model in plain words, and among threads."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from threading import Barrier
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from eenn.errors import EennError
from eenn.offload.client.breaker import CircuitBreaker
from eenn.offload.protocol.errors import (
    CloudOverloaded,
    CloudRefused,
    CloudTimeout,
    CloudUnreachable,
    OffloadError,
)

THRESHOLD, PAUSE_S, MAX_PAUSE_S = 3, 1.0, 5.0


# Errors of a cloud that works.
QUESTIONS = {
    "question": CloudRefused("too large", "request"),
    "overload": CloudOverloaded("the queue is full", "overloaded", 1.0),
}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make(clock: Clock, **given: Any) -> CircuitBreaker:
    return CircuitBreaker(THRESHOLD, PAUSE_S, MAX_PAUSE_S, clock=clock, **given)


def fail(breaker: CircuitBreaker, cause: str = "read") -> None:
    with pytest.raises(CloudTimeout), breaker.call():
        raise CloudTimeout("too long", cause)


def succeed(breaker: CircuitBreaker) -> None:
    with breaker.call():
        pass


def is_closed_to_calls(breaker: CircuitBreaker) -> bool:
    with pytest.raises(CloudUnreachable) as caught, breaker.call():
        return False
    assert caught.value.cause == "breaker"
    return True


class Call:
    """A call that is under way."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._stack = ExitStack()
        self._stack.enter_context(breaker.call())

    def end(self, error: BaseException | None) -> None:
        if error is None:
            self._stack.close()
            return
        with pytest.raises(type(error)), self._stack:
            raise error


class Model(RuleBasedStateMachine):
    """Calls begin, overlap and end in any order while time passes.

    `log` holds the outcomes that count: of calls that began since the state last changed.
    """

    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = make(self.clock)
        self.log: list[str] = []
        self.state = "closed"
        self.opened_at = 0.0
        self.openings = 0
        self.probe: Call | None = None
        self.live: set[Call] = set()

    def pause_bounds(self) -> tuple[float, float]:
        whole = min(PAUSE_S * 2 ** (self.openings - 1), MAX_PAUSE_S)
        return whole / 2, whole

    @rule(seconds=st.floats(0, 8))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(target=calls)
    def begin(self) -> Any:
        waited = self.clock.now - self.opened_at
        shortest, longest = self.pause_bounds() if self.state == "open" else (0.0, 0.0)
        may_be_refused = self.state == "open" and (self.probe is not None or waited < longest)
        must_be_refused = self.state == "open" and (self.probe is not None or waited < shortest)
        try:
            call = Call(self.breaker)
        except CloudUnreachable as error:
            refused = error.cause
        else:
            refused = ""
            self.live.add(call)
            if self.state == "open":
                self.probe = call
        assert refused in ("", "breaker")
        assert not (refused and not may_be_refused)
        assert refused or not must_be_refused
        return None if refused else call

    @rule(call=consumes(calls), outcome=st.sampled_from(["good", "bad", *QUESTIONS, "unknown"]))
    def end(self, call: Call | None, outcome: str) -> None:
        if call is None:
            return
        errors: dict[str, BaseException | None] = {
            "good": None,
            "bad": CloudTimeout("too long", "read"),
            **QUESTIONS,
            "unknown": KeyboardInterrupt(),
        }
        call.end(errors[outcome])
        if call not in self.live:
            return
        self.live.discard(call)
        if call is self.probe:
            self.probe = None
        if outcome == "unknown":
            return
        if outcome == "bad":
            self.log.append(outcome)
            if self.state == "open" or self.log[-THRESHOLD:] == ["bad"] * THRESHOLD:
                self.state, self.opened_at = "open", self.clock.now
                self.openings += 1
                self.live.clear()
        else:
            self.log.append("good")
            if self.state == "open":
                self.state, self.openings = "closed", 0
                self.live.clear()

    @invariant()
    def states_agree(self) -> None:
        if self.state == "closed":
            assert self.breaker.state == "closed"
        elif self.probe:
            assert self.breaker.state == "open"
        else:
            assert self.breaker.state in ("open", "half-open")


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=200, stateful_step_count=40)


def test_failures_in_a_row_open_it_and_a_probe_closes_it() -> None:
    clock = Clock()
    breaker = make(clock)
    for _ in range(2):
        fail(breaker)
    succeed(breaker)
    states = []
    for _ in range(THRESHOLD):
        states.append(breaker.state)
        fail(breaker)
    assert is_closed_to_calls(breaker)
    states.append(breaker.state)
    clock.now += PAUSE_S
    states.append(breaker.state)
    succeed(breaker)
    states.append(breaker.state)
    assert states == ["closed", "closed", "closed", "open", "half-open", "closed"]


def test_the_pause_doubles_up_to_its_end_and_starts_anew_after_a_success() -> None:
    clock = Clock()
    breaker = make(clock)

    def pause_s() -> float:
        start = clock.now
        while breaker.state == "open":
            clock.now += 0.001
        return clock.now - start

    for _ in range(THRESHOLD):
        fail(breaker)
    for whole in (1, 2, 4, 5, 5):
        assert whole / 2 <= pause_s() <= whole + 0.002
        fail(breaker)
    pause_s()
    succeed(breaker)
    for _ in range(THRESHOLD):
        fail(breaker)
    assert pause_s() <= PAUSE_S + 0.002


def test_an_outage_of_days_is_outlasted() -> None:
    clock = Clock()
    breaker = make(clock)
    for _ in range(3000):
        fail(breaker)
        if breaker.state == "open":
            clock.now += MAX_PAUSE_S
    succeed(breaker)
    assert breaker.state == "closed"


def test_devices_with_other_seeds_return_at_other_times() -> None:
    clock = Clock()
    breakers = [make(clock, seed=seed) for seed in range(20)]
    for breaker in breakers:
        for _ in range(THRESHOLD):
            fail(breaker)
    clock.now += 0.75 * PAUSE_S
    back = sum(breaker.state == "half-open" for breaker in breakers)
    assert 3 <= back <= 17


def test_one_thread_probes_and_the_others_go_without() -> None:
    clock = Clock()
    breaker = make(clock)
    for _ in range(THRESHOLD):
        fail(breaker)
    clock.now += PAUSE_S
    everyone = Barrier(8)

    def call(_: int) -> bool:
        everyone.wait()
        with suppress(CloudUnreachable), breaker.call():
            everyone.wait()
            return True
        everyone.wait()
        return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(call, range(8))) == 1
    assert breaker.state == "closed"


def test_the_error_tells_why_and_when() -> None:
    clock = Clock()
    breaker = make(clock)
    for cause in ("read", "read", "deadline"):
        fail(breaker, cause)
    with pytest.raises(
        OffloadError, match=r"3 times in a row, the last time by deadline.* in 0\.\d"
    ):
        succeed(breaker)
    clock.now += PAUSE_S
    with breaker.call(), pytest.raises(OffloadError, match="once the probe has succeeded"):
        succeed(breaker)


@pytest.mark.parametrize(
    "given", [{"threshold": 0}, {"pause_s": 0}, {"pause_s": 2, "max_pause_s": 1}]
)
def test_settings_that_make_no_sense_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(EennError, match="a threshold of 1 or more"):
        CircuitBreaker(**given)  # type: ignore[arg-type]
