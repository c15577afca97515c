"""What a link does to connections while it is not up, and afterwards."""

import asyncio
import socket

import pytest

from eenn.offload.bench.link import EmulatedLink, Outage
from eenn.planning.costs import Link
from tests.offload.bench.linked import (
    FAST,
    connect,
    connected,
    exchange_ms,
    receive,
)
from tests.offload.bench.simulated_time import Client, simulated
from tests.offload.patience import PATIENCE_S


@pytest.mark.clock
def test_a_stall_delays_what_is_sent_and_loses_nothing() -> None:
    with connected(FAST) as (link, client):
        link.set("stall")
        client.settimeout(0.15)
        with pytest.raises(TimeoutError):
            exchange_ms(client)
        link.set("up")
        client.settimeout(PATIENCE_S)
        assert receive(client, 1) == b"\0"
        exchange_ms(client, 500_000, 500_000)


def test_a_stall_does_not_end_in_a_burst() -> None:
    async def during_a_stall(link: EmulatedLink) -> None:
        async with Client(link) as client:
            await client.exchange_ms()
            await asyncio.sleep(0.15 - asyncio.get_running_loop().time())
            # 50 ms until it is over, and 200 ms at that rate.
            assert await client.exchange_ms(1_000_000) == pytest.approx(251, abs=0.02)

    simulated(during_a_stall, Link(40, 1), outages=[Outage(0.1, 0.1, "stall")])


@pytest.mark.clock
def test_dropped_connections_never_answer_and_new_ones_do_afterwards() -> None:
    with connected(FAST) as (link, client):
        link.set("drop")
        with connect(link) as during:
            for state in ("drop", "up"):
                link.set(state)
                for dead in (client, during):
                    dead.settimeout(0.1)
                    with pytest.raises(TimeoutError):
                        exchange_ms(dead)
        with connect(link) as after:
            exchange_ms(after)


def test_refusal_meets_new_connections_only_and_ends() -> None:
    with connected(FAST) as (link, client):
        link.set("refuse")
        with pytest.raises(ConnectionRefusedError):
            connect(link)
        exchange_ms(client)
        link.set("up")
        with connect(link) as after:
            exchange_ms(after)


def test_a_reset_meets_connections_old_and_new() -> None:
    with connected(FAST) as (link, client):
        link.set("reset")
        with pytest.raises(ConnectionResetError):
            exchange_ms(client)
        with pytest.raises(ConnectionError), connect(link) as during:
            receive(during, 1)
        link.set("up")
        with connect(link) as after:
            exchange_ms(after)


def test_what_came_during_a_reset_is_reset_though_the_link_is_up_when_its_turn_comes() -> None:
    with connected(FAST) as (link, _):

        async def accept_during_a_reset() -> socket.socket:
            await link._switch("reset")
            client = connect(link)
            assert link._listener
            link._accept(link._listener)
            await link._switch("up")
            return client

        client = asyncio.run_coroutine_threadsafe(accept_during_a_reset(), link._loop).result()
        with client, pytest.raises(ConnectionResetError):
            exchange_ms(client)
        with connect(link) as after:
            exchange_ms(after)


def test_a_trace_is_followed() -> None:
    refused: list[float] = []
    stalled: list[tuple[float, float]] = []

    async def ask_all_the_time(link: EmulatedLink) -> None:
        loop = asyncio.get_running_loop()
        while (start := loop.time()) < 1.1:
            try:
                async with Client(link) as client:
                    took_ms = await client.exchange_ms()
            except ConnectionError:
                refused.append(start)
            else:
                if took_ms > 3:
                    stalled.append((start, took_ms))
            await asyncio.sleep(0.01)

    outages = [Outage(0.2, 0.3, "stall"), Outage(0.7, 0.2, "refuse")]
    simulated(ask_all_the_time, FAST, outages=outages)
    ((start, took_ms),) = stalled
    assert start == pytest.approx(0.2, abs=0.013)
    assert start + took_ms / 1e3 == pytest.approx(0.5, abs=0.003)
    assert min(refused) == pytest.approx(0.7, abs=0.013)
    assert max(refused) == pytest.approx(0.9, abs=0.013)


def test_a_dead_target_resets_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with EmulatedLink("127.0.0.1", port, FAST) as link:
        for _ in range(2):
            with connect(link) as client, pytest.raises(ConnectionResetError):
                receive(client, 1)
