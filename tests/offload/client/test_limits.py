"""The HTTP client keeps to its time, whatever it waits for."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from threading import Event
from typing import Any

import numpy as np
import pytest

from eenn.offload.client import sockets
from eenn.offload.client.transport import Timeouts
from eenn.offload.protocol.errors import CloudTimeout, CloudUnreachable
from eenn.offload.protocol.wire import IMAGE_CUT
from tests.offload.client.flaky import (
    IMAGE,
    OK,
    Behaviour,
    asking,
    black_hole,
    deaf,
    failure,
    failure_of,
    flood,
    free_port,
    serving,
    trickle,
    v2,
)
from tests.offload.patience import PATIENCE_S
from tests.offload.simulated_clock import SimulatedClock

# A look at the simulated clock takes a minute: as long as it would really be waited for the other
# side, which is there at once.
LOOK_S = PATIENCE_S
LIMIT_S = 40 * LOOK_S
NEVER = {"timeouts": Timeouts(1e9, 1e9)}


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(trickle(b"", b"H"), id="trickles the status line"),
        pytest.param(trickle(OK, b"A: b\r\n"), id="trickles headers"),
        pytest.param(trickle(OK + b"X: ", b"x"), id="trickles one header"),
        pytest.param(trickle(OK + b"Content-Length: 9999\r\n\r\n", b"x"), id="trickles the body"),
        pytest.param(trickle(OK + b"\r\n", b"x"), id="trickles a body without end"),
        pytest.param(
            trickle(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), id="trickles chunks"
        ),
        pytest.param(trickle(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), id="trickles 100 Continue"),
        pytest.param(flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 99), id="floods 100 Continue"),
    ],
)
def test_the_deadline_ends_every_exchange(behave: Behaviour, clock: SimulatedClock) -> None:
    clock.look_s, start = LOOK_S, clock.now
    error, tries = failure_of(behave, clock, deadline_s=LIMIT_S, retries=3, **NEVER)
    assert isinstance(error, CloudTimeout)
    assert (error.cause, tries) == ("deadline", 1)
    assert LIMIT_S <= clock.now - start < LIMIT_S + 6 * LOOK_S


def test_the_read_timeout_ends_an_exchange_without_deadline(clock: SimulatedClock) -> None:
    clock.look_s, start = LOOK_S, clock.now
    timeouts = Timeouts(1e9, 1e3 * LIMIT_S)
    error, tries = failure_of(trickle(OK, b"A: b\r\n"), clock, retries=1, timeouts=timeouts)
    assert isinstance(error, CloudTimeout)
    assert (error.cause, tries) == ("read", 2)
    assert 2 * LIMIT_S <= clock.now - start < 2 * LIMIT_S + 20 * LOOK_S


@pytest.mark.clock
def test_the_deadline_ends_a_wait(clock: SimulatedClock) -> None:
    error, tries = failure_of(black_hole, deadline_s=0.2, retries=3)
    assert isinstance(error, CloudTimeout)
    assert (error.cause, tries) == ("deadline", 1)


@pytest.mark.clock
def test_the_read_timeout_ends_a_wait_without_deadline() -> None:
    start = time.monotonic()
    error, tries = failure_of(black_hole, timeouts=Timeouts(read_ms=150), retries=1)
    assert (error.cause, tries) == ("read", 2)
    assert time.monotonic() - start >= 0.3


@pytest.mark.clock
def test_sending_ends_by_the_deadline_too(clock: SimulatedClock) -> None:
    more_than_buffers_hold = np.zeros((2, 3, 1024, 1024), np.float32)
    with serving(deaf) as server, asking(server.url) as cloud:
        with pytest.raises(CloudTimeout) as caught:
            cloud.infer(more_than_buffers_hold, IMAGE_CUT, clock.now + 0.2)
        assert (caught.value.cause, cloud.last.tries) == ("deadline", 1)
        assert 0 < cloud.last.sent_bytes < more_than_buffers_hold.nbytes


def test_no_time_left_is_known_before_anything_is_sent() -> None:
    with serving(v2) as server:
        error, tries = failure(server.url, deadline_s=-1)
        assert (error.cause, tries, server.connections) == ("deadline", 0, 0)


@pytest.fixture
def full_house() -> Iterator[str]:
    """The URL of a server whose system takes no further connection."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.clock
@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"timeouts": Timeouts(connect_ms=100)}, "connect"),
        ({"deadline_s": 0.1}, "deadline"),
    ],
)
def test_connecting_is_waited_for_no_longer_than_allowed(
    options: dict[str, Any], cause: str, full_house: str
) -> None:
    error, tries = failure(full_house, **options)
    assert isinstance(error, CloudTimeout)
    assert (error.cause, tries) == (cause, 0)


@pytest.mark.clock
def test_a_resolver_is_waited_for_no_longer_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    done = Event()
    real = socket.getaddrinfo

    def hanging(host: str, *rest: Any, **options: Any) -> Any:
        if options.get("flags") != socket.AI_NUMERICHOST:
            done.wait()
        return real("127.0.0.1" if done.is_set() else host, *rest, **options)

    monkeypatch.setattr(sockets, "getaddrinfo", hanging)
    error, _ = failure("http://cloud.example:8000", timeouts=Timeouts(connect_ms=100))
    done.set()
    assert error.cause == "connect"


def test_a_name_without_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(sockets, "getaddrinfo", failing)
    error, tries = failure("http://cloud.example:8000", retries=3)
    assert isinstance(error, CloudUnreachable)
    assert (error.cause, tries) == ("dns", 0)
    assert "cloud.example has no address" in str(error)


def test_the_next_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(v2) as server:
        there = socket.getaddrinfo("127.0.0.1", server.port, type=socket.SOCK_STREAM)
        not_there = socket.getaddrinfo("127.0.0.1", free_port(), type=socket.SOCK_STREAM)
        monkeypatch.setattr(sockets, "getaddrinfo", lambda *_, **__: not_there + there)
        with asking("http://cloud.example") as cloud:
            assert cloud.infer(IMAGE, IMAGE_CUT, None).shape == (1, 5)
