"""The emulated link against a clock and against the bytes that went in."""

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eenn.errors import EennError
from eenn.offload.bench.link import EmulatedLink, Outage
from eenn.planning.costs import Link

FAST = Link(bandwidth_mbps=2000, rtt_ms=1)
PIECE = 1 << 16


def receive(end: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (piece := end.recv(min(PIECE, size - len(data)))):
        data += piece
    return bytes(data)


class Answer(BaseRequestHandler):
    """Takes messages of (n, m) and n bytes, and answers each with m bytes."""

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(ConnectionError):
            while header := receive(self.request, 8):
                sent, wanted = struct.unpack("!II", header)
                receive(self.request, sent)
                self.request.sendall(bytes(wanted))


class Echo(BaseRequestHandler):
    """Sends everything back when the other end has said all it has to say."""

    def handle(self) -> None:
        self.request.sendall(receive(self.request, 1 << 30))


class Server(ThreadingTCPServer):
    request_queue_size = 200


@contextmanager
def serve(handler: type[BaseRequestHandler]) -> Iterator[int]:
    """A server of its own; yields the port."""
    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def linked(
    link: Link, handler: type[BaseRequestHandler] = Answer, **arguments: Any
) -> Iterator[EmulatedLink]:
    with serve(handler) as port, EmulatedLink("127.0.0.1", port, link, **arguments) as emulated:
        yield emulated


def connect(link: EmulatedLink) -> socket.socket:
    client = socket.create_connection((link.host, link.port), timeout=10)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def exchange_ms(client: socket.socket, sent: int = 1, wanted: int = 1) -> float:
    """Milliseconds until `sent` bytes are there and `wanted` bytes are back."""
    message = struct.pack("!II", sent, wanted) + bytes(sent)
    start = time.perf_counter()
    client.sendall(message)
    assert len(receive(client, wanted)) == wanted
    return (time.perf_counter() - start) * 1e3


@contextmanager
def connected(link: Link, **arguments: Any) -> Iterator[tuple[EmulatedLink, socket.socket]]:
    with linked(link, **arguments) as emulated, connect(emulated) as client:
        exchange_ms(client)
        yield emulated, client


def assert_takes(measure_ms: Callable[[], float], expected_ms: float, late_ms: float) -> None:
    """Never early, and late by no more than that: on a busy machine, in one of many attempts."""
    limit = time.monotonic() + 15
    while True:
        took = measure_ms()
        assert took >= expected_ms
        if took <= expected_ms + late_ms:
            return
        assert time.monotonic() < limit, f"{took:.1f} ms instead of {expected_ms:.1f}"


@pytest.mark.parametrize("rtt_ms", [0.5, 12.8, 50])
def test_a_ping_takes_the_round_trip_time(rtt_ms: float) -> None:
    late_ms = 1 + rtt_ms / 100
    with connected(Link(94, rtt_ms)) as (_, client):
        assert_takes(lambda: min(exchange_ms(client) for _ in range(10)), rtt_ms, late_ms)


@pytest.mark.parametrize("direction", ["sent", "wanted"])
@pytest.mark.parametrize(
    ("link", "size"),
    [
        (Link(12, 1), 300_000),
        (Link(94, 1), 2_400_000),
        (Link(300, 1), 7_500_000),
        (Link(94, 12.8), 18_816),
        (Link(94, 12.8), 75_264),
    ],
)
def test_a_transfer_takes_what_the_rate_and_the_cost_model_say(
    link: Link, size: int, direction: str
) -> None:
    expected = link.latency_ms(size)
    with connected(link) as (_, client):
        late_ms = max(1.5, 0.05 * expected)
        assert_takes(lambda: exchange_ms(client, **{direction: size}), expected, late_ms)


def test_a_new_connection_waits_for_its_handshake() -> None:
    def first_exchange_ms() -> float:
        start = time.perf_counter()
        with connect(link) as client:
            exchange_ms(client)
            return (time.perf_counter() - start) * 1e3

    with linked(Link(94, 30)) as link:
        assert_takes(first_exchange_ms, 60, late_ms=4)


def test_connections_share_the_rate_and_directions_do_not() -> None:
    def together_ms(*amounts: tuple[int, int]) -> float:
        start = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda c, amount: exchange_ms(c, *amount), clients, amounts))
        return (time.perf_counter() - start) * 1e3

    size = 1_000_000  # 0.1 s at 80 Mbps
    with connected(Link(80, 1)) as (link, one), connect(link) as other:
        clients = (one, other)
        exchange_ms(other)
        assert_takes(lambda: together_ms((size, 1), (size, 1)), 201, late_ms=10)
        # The short request of one waits in the queue of the other's long one.
        assert_takes(lambda: together_ms((size, 1), (1, size)), 101, late_ms=30)


def test_a_short_message_does_not_wait_for_all_of_a_long_one() -> None:
    with (
        connected(Link(80, 1)) as (link, one),
        connect(link) as other,
        ThreadPoolExecutor() as pool,
    ):
        exchange_ms(other)

        def beside_ms() -> float:
            long = pool.submit(exchange_ms, one, 2_000_000)
            time.sleep(0.05)
            short_ms = exchange_ms(other)
            assert long.result() > 150
            return short_ms

        assert_takes(beside_ms, 1, late_ms=25)


@pytest.fixture(scope="module")
def echo() -> Iterator[EmulatedLink]:
    with linked(FAST, Echo, jitter_ms=2) as link:
        yield link


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 9_000) | st.integers(1, 200_000), max_size=8), st.integers(0, 99))
def test_every_byte_arrives_once_and_in_order(
    echo: EmulatedLink, sizes: list[int], seed: int
) -> None:
    pieces = [np.random.default_rng(seed + i).bytes(size) for i, size in enumerate(sizes)]
    with connect(echo) as client:
        for piece in pieces:
            client.sendall(piece)
        client.shutdown(socket.SHUT_WR)
        # The echo starts at the end of the stream: the closed half has to arrive, and no more.
        assert receive(client, 1 << 30) == b"".join(pieces)


def test_many_connections_are_kept_apart(echo: EmulatedLink) -> None:
    messages = [np.random.default_rng(i).bytes(1_000) for i in range(100)]
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(echo)) for _ in messages]
        for client, message in zip(clients, messages, strict=True):
            client.sendall(message)
            client.shutdown(socket.SHUT_WR)
        assert [receive(client, 2_000) for client in clients] == messages


def test_jitter_is_uniform_in_each_direction() -> None:
    with connected(Link(94, 5), jitter_ms=10) as (_, client):
        pings = [exchange_ms(client) for _ in range(30)]
        assert min(pings) >= 5
        assert np.subtract(*np.quantile(pings, [0.9, 0.1])) > 4
        assert_takes(lambda: max(exchange_ms(client) for _ in range(10)), 5, late_ms=21)
        assert_takes(lambda: sum(exchange_ms(client) for _ in range(30)) / 30 - 7, 5, late_ms=6)


def test_who_does_not_read_holds_the_sender_back() -> None:
    class Deaf(BaseRequestHandler):
        def handle(self) -> None:
            over.wait()

    over = threading.Event()
    with linked(FAST, Deaf) as link, connect(link) as client:
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(64 << 20))  # more than the kernel's buffers take
        over.set()


@pytest.mark.parametrize("state", ["up", "stall", "drop", "refuse"])
def test_the_end_leaves_nothing_behind(state: str) -> None:
    def left() -> tuple[int, int]:
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    with serve(Answer) as port:
        before = left()
        with EmulatedLink("127.0.0.1", port, Link(10, 5)) as link:
            clients = [connect(link) for _ in range(5)]
            for client in clients[:3]:
                client.sendall(struct.pack("!II", 1, 10_000_000) + b"?")
            time.sleep(0.05)
            link.set(state)
            clients[1].close()
        with pytest.raises(ConnectionRefusedError):
            connect(link)
        with pytest.raises(ConnectionResetError):
            receive(clients[0], 20_000_000)
        for client in clients:
            client.close()
        for _ in range(500):
            if left() == before:
                return
            time.sleep(0.01)
        pytest.fail("threads or descriptors are left")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"jitter_ms": -1}, "jitter of -1"),
        ({"outages": [Outage(1, 2, "stall"), Outage(2, 1, "drop")]}, "order of time"),
        ({"outages": [Outage(1, -0.5, "stall")]}, "order of time"),
        ({"outages": [Outage(-1, 0.5, "stall")]}, "order of time"),
        ({"target_host": "no.such.host.invalid"}, r"no\.such\.host\.invalid:1 has no address"),
    ],
)
def test_nonsense_is_refused(arguments: dict[str, Any], error: str) -> None:
    with pytest.raises(EennError, match=error):
        EmulatedLink(**{"target_host": "127.0.0.1", "target_port": 1, "link": FAST} | arguments)
