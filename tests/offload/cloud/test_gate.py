"""The gate against its rules in plain words, whoever comes, goes and waits in whatever order."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from eenn.offload.cloud import gate as gate_module
from eenn.offload.cloud.gate import Gate, Stage, Visitor, network_of
from eenn.offload.cloud.settings import IDLE_S, LOG_INTERVAL_S, SENDING_S

LIMIT, OF_ADDRESS, REFUSED = 8, 6, 3


class Guest(Visitor):
    """A connection that does what it is told, and remembers it."""

    def __init__(self, address: str) -> None:
        self.address, self.told = address, ""

    def make_room(self) -> None:
        self.told += "make room"

    def refuse_entry(self) -> None:
        self.told += "refused"

    def cut_off(self) -> None:
        self.told += "cut off"


class Model(RuleBasedStateMachine):
    """Guests of three addresses; `inside` are those that were told nothing, in order of coming."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.gate = Gate(LIMIT, lambda _: None, lambda: self.now)
        self.inside: list[Guest] = []
        self.refused: list[Guest] = []
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(gate_module, "MAX_REFUSED_CONNECTIONS", REFUSED)
        self.since: dict[Guest, float] = {}

    def teardown(self) -> None:
        self.patch.undo()

    @rule(seconds=st.floats(0, 2 * IDLE_S))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(address=st.sampled_from("abc"))
    def come(self, address: str) -> None:
        newest = Guest(address)
        before = list(self.inside)
        own = [guest for guest in before if guest.address == address]
        candidates = own if len(own) == OF_ADDRESS else before if len(before) == LIMIT else []
        is_full = bool(candidates)
        self.gate.enter(newest)
        gone = [guest for guest in before if guest.told]
        self.inside = [guest for guest in before if not guest.told]
        if not is_full:
            assert not gone
            assert not newest.told
        elif room := self.first_to_go(candidates):
            assert gone == [room]
            assert room.told == "make room"
            assert not newest.told
        else:
            assert not gone
            told = "refused" if len(self.refused) < REFUSED else "cut off"
            assert newest.told == told
            if told == "refused":
                self.refused.append(newest)
        if not newest.told:
            self.inside.append(newest)
            self.since[newest] = self.now

    def first_to_go(self, guests: list[Guest]) -> Guest | None:
        for stage in (Stage.ARRIVING, Stage.IDLE, Stage.SENDING):
            patience_s = {Stage.IDLE: IDLE_S, Stage.SENDING: SENDING_S}.get(stage, 0.0)
            found = [
                guest
                for guest in guests
                if guest.stage == stage and self.now - self.since[guest] >= patience_s
            ]
            if found:
                oldest = min(self.since[guest] for guest in found)
                # Several may be equally old.
                return next(
                    (guest for guest in found if guest.told),
                    next(guest for guest in found if self.since[guest] == oldest),
                )
        return None

    @rule(place=st.integers(0, 7), stage=st.sampled_from([Stage.IDLE, Stage.SENDING, Stage.BUSY]))
    def go_on(self, place: int, stage: Stage) -> None:
        if place < len(self.inside):
            guest = self.inside[place]
            if guest.stage != stage:
                self.since[guest] = self.now
            self.gate.move(guest, stage)

    @rule(place=st.integers(0, 7), of_refused=st.booleans())
    def leave(self, place: int, of_refused: bool) -> None:
        guests = self.refused if of_refused else self.inside
        if place < len(guests):
            guest = guests.pop(place)
            self.gate.leave(guest)
            self.gate.leave(guest)
            self.gate.move(guest, Stage.IDLE)

    @invariant()
    def limits_hold(self) -> None:
        assert len(self.inside) <= LIMIT
        for address in "abc":
            own = [guest for guest in self.inside if guest.address == address]
            assert len(own) <= OF_ADDRESS
            assert self.gate._addresses[address] == len(own)
        for stage in Stage:
            those: Any = self.refused if stage == Stage.REFUSED else self.inside
            assert set(self.gate._stages[stage]) == {g for g in those if g.stage == stage}


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=40)


def test_what_happens_is_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    noted: list[str] = []
    now = 0.0
    gate = Gate(LIMIT, noted.append, lambda: now)
    for number in range(2 * LIMIT):
        gate.enter(Guest(f"192.0.2.{number}"))
    assert noted == LIMIT * ["room"]
    now = LOG_INTERVAL_S
    gate.say("handshake", "late")
    said = "a connection was ended to make room for a new one"
    assert caplog.messages == [f"1 x {said}", f"{LIMIT - 1} x {said}", "1 x late"]


def test_addresses_are_networks() -> None:
    assert network_of(("192.0.2.7", 1)) == "192.0.2.7"
    assert network_of(("::ffff:192.0.2.7", 1, 0, 0)) == "192.0.2.7"
    assert network_of(("2001:db8:1:2:3:4:5:6", 1, 0, 0)) == "2001:db8:1:2::"
    assert network_of(("fe80::1%eth0", 1, 0, 2)) == "fe80::"
    assert network_of("") == ""
