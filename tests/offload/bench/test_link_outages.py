"""What a link does to connections while it is not up, and afterwards."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from eenn.offload.bench.link import EmulatedLink, Outage
from eenn.planning.costs import Link
from tests.offload.bench.test_link import FAST, connect, connected, exchange_ms, linked, receive


def test_a_stall_delays_what_is_sent_and_loses_nothing() -> None:
    with connected(FAST) as (link, client):
        link.set("stall")
        client.settimeout(0.15)
        with pytest.raises(TimeoutError):
            exchange_ms(client)
        link.set("up")
        client.settimeout(10)
        assert receive(client, 1) == b"\0"
        assert exchange_ms(client, 500_000, 500_000) < 1_000


def test_a_stall_does_not_end_in_a_burst() -> None:
    with connected(Link(40, 1)) as (link, client), ThreadPoolExecutor() as pool:
        link.set("stall")
        sending = pool.submit(exchange_ms, client, 1_000_000)
        time.sleep(0.1)
        start = time.perf_counter()
        link.set("up")
        sending.result()
        # 0.2 s at that rate, but for what was on its way already.
        assert time.perf_counter() - start > 0.17


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


def test_a_trace_is_followed() -> None:
    with linked(FAST, outages=[Outage(0.2, 0.3, "stall"), Outage(0.7, 0.2, "refuse")]) as link:
        start, refused, slowest = time.perf_counter(), [], 0.0
        while (now := time.perf_counter() - start) < 1.1:
            try:
                with connect(link) as client:
                    slowest = max(slowest, exchange_ms(client))
            except ConnectionError:
                refused.append(now)
            time.sleep(0.01)
    assert slowest == pytest.approx(300, abs=100)
    assert 0.65 < min(refused) < 0.8 < max(refused) < 0.95


def test_a_dead_target_resets_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with EmulatedLink("127.0.0.1", port, FAST) as link:
        for _ in range(2):
            with connect(link) as client, pytest.raises(ConnectionResetError):
                receive(client, 1)
