"""The emulated link against its model, in simulated time, and against the bytes that went in."""

import asyncio
import os
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from socketserver import BaseRequestHandler
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eenn.errors import EennError
from eenn.offload.bench.link import READ_AHEAD_S, EmulatedLink, Outage, State, _PreciseSelector
from eenn.planning.costs import Link
from tests.offload.bench.linked import (
    FAST,
    Answer,
    connect,
    exchange_ms,
    linked,
    question,
    receive,
    serve,
)
from tests.offload.bench.simulated_time import Client, simulated
from tests.offload.patience import PATIENCE_S, wait_until

# Headers are on the link too, and its chunks are sent whole.
EXTRA_MS = 0.02


def assert_takes(took_ms: float, expected_ms: float, late_ms: float = EXTRA_MS) -> None:
    """Never early, and hardly late."""
    assert expected_ms <= took_ms <= expected_ms + late_ms


@pytest.mark.parametrize("rtt_ms", [0.5, 12.8, 50])
def test_a_ping_takes_the_round_trip_time(rtt_ms: float) -> None:
    async def ping(link: EmulatedLink) -> None:
        async with Client(link) as client:
            await client.exchange_ms()
            for _ in range(3):
                assert_takes(await client.exchange_ms(), rtt_ms)

    simulated(ping, Link(94, rtt_ms))


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
    async def transfer(emulated: EmulatedLink) -> None:
        async with Client(emulated) as client:
            await client.exchange_ms()
            for _ in range(2):
                assert_takes(await client.exchange_ms(**{direction: size}), link.latency_ms(size))

    simulated(transfer, link)


def test_a_new_connection_waits_for_its_handshake() -> None:
    async def first_exchange(link: EmulatedLink) -> None:
        async with Client(link) as client:
            assert_takes(await client.exchange_ms(), 60)

    simulated(first_exchange, Link(94, 30))


def test_connections_share_the_rate_and_directions_do_not() -> None:
    size = 1_000_000  # 0.1 s at 80 Mbps

    async def together(link: EmulatedLink) -> None:
        loop = asyncio.get_running_loop()

        async def together_ms(*amounts: tuple[int, int]) -> float:
            start = loop.time()
            pairs = zip((one, other), amounts, strict=True)
            await asyncio.gather(*(client.exchange_ms(*amount) for client, amount in pairs))
            return 1e3 * (loop.time() - start)

        async with Client(link) as one, Client(link) as other:
            await together_ms((1, 1), (1, 1))
            assert_takes(await together_ms((size, 1), (size, 1)), 201)
            # The short request of one waits in the queue of the other's long one.
            assert_takes(await together_ms((size, 1), (1, size)), 101, 1e3 * READ_AHEAD_S + 2)

    simulated(together, Link(80, 1))


def test_a_short_message_does_not_wait_for_all_of_a_long_one() -> None:
    async def beside(link: EmulatedLink) -> None:
        async with Client(link) as one, Client(link) as other:
            for client in (one, other):
                await client.exchange_ms()
            long = asyncio.create_task(one.exchange_ms(2_000_000))
            await asyncio.sleep(0.05)
            assert_takes(await other.exchange_ms(), 1, 1e3 * READ_AHEAD_S + 2)
            assert_takes(await long, 201)

    simulated(beside, Link(80, 1))


def test_jitter_is_uniform_in_each_direction() -> None:
    async def pings_ms(link: EmulatedLink) -> list[float]:
        async with Client(link) as client:
            await client.exchange_ms()
            return [await client.exchange_ms() for _ in range(1_000)]

    found = np.array(simulated(pings_ms, Link(94, 5), jitter_ms=10)) - 5
    # The sum of two uniform numbers from 0 to 10 is below x with probability x^2 / 200, to 10.
    assert 0 <= found.min() < found.max() <= 20 + EXTRA_MS
    for share in (0.1, 0.25, 0.5):
        assert np.quantile(found, share) == pytest.approx(np.sqrt(200 * share), abs=0.5)
        assert np.quantile(found, 1 - share) == pytest.approx(20 - np.sqrt(200 * share), abs=0.5)


@pytest.mark.clock
def test_real_time_passes_too() -> None:
    link = Link(94, 12.8)
    with linked(link) as emulated:
        start = time.perf_counter()
        with connect(emulated) as client:
            exchange_ms(client)
            assert 1e3 * (time.perf_counter() - start) >= 2 * link.rtt_ms
            assert exchange_ms(client) >= link.rtt_ms
            for amounts in ({"sent": 500_000}, {"wanted": 500_000}):
                assert exchange_ms(client, **amounts) >= link.latency_ms(500_000)


@pytest.mark.clock
def test_short_waits_are_not_rounded_up_to_milliseconds() -> None:
    def wait_ms(selector: selectors.BaseSelector) -> float:
        start = time.perf_counter()
        assert not selector.select(0.0002)
        return 1e3 * (time.perf_counter() - start)

    with closing(_PreciseSelector()) as precise, closing(selectors.EpollSelector()) as plain:
        limit, waits = time.monotonic() + PATIENCE_S, [wait_ms(precise)]
        # On a busy machine in one of many attempts.
        while min(waits) >= 1:
            assert time.monotonic() < limit, min(waits)
            waits.append(wait_ms(precise))
        assert min(waits) >= 0.2
        assert wait_ms(plain) >= 1


@pytest.fixture(scope="module")
def echo() -> Iterator[EmulatedLink]:
    class Echo(BaseRequestHandler):
        """Sends everything back when the other end has said all it has to say."""

        def handle(self) -> None:
            self.request.sendall(receive(self.request, 1 << 30))

    with linked(FAST, Echo, jitter_ms=2) as link:
        yield link


@settings(max_examples=25)
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


@pytest.mark.clock
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
def test_the_end_leaves_nothing_behind(state: State) -> None:
    def left() -> tuple[int, int]:
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    with serve(Answer) as port:
        before = left()
        with EmulatedLink("127.0.0.1", port, Link(10, 5)) as link:
            clients = [connect(link) for _ in range(5)]
            for client in clients[:3]:
                client.sendall(question(1, 10_000_000))
                client.recv(1)  # and so it is under way
            link.set(state)
            clients[1].close()
        with pytest.raises(ConnectionRefusedError):
            connect(link)
        with pytest.raises(ConnectionResetError):
            receive(clients[0], 20_000_000)
        for client in clients:
            client.close()
        wait_until(lambda: left() == before)


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
