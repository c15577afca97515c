"""More connections than the cloud keeps: idle ones make room, and busy ones are left alone."""

import http.client
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from eenn.offload.cloud.command import RunningCloud, running
from eenn.offload.cloud.connections import MAX_CONNECTIONS
from tests.offload.exported import Exported

HEALTH = b"GET /v2/health/live HTTP/1.1\r\nHost: cloud\r\n\r\n"


@pytest.fixture
def server(exported: Exported) -> Iterator[RunningCloud]:
    with running([exported.path]) as server:
        yield server


def connected(server: RunningCloud, stack: ExitStack) -> socket.socket:
    parts = urlsplit(server.url)
    return stack.enter_context(socket.create_connection((parts.hostname, parts.port), timeout=60))


def status(connection: socket.socket) -> int:
    """Of the next reply, which is read to its end."""
    reply = http.client.HTTPResponse(connection)
    reply.begin()
    reply.read()
    return reply.status


def test_a_connection_that_was_idle_long_makes_room(server: RunningCloud) -> None:
    with ExitStack() as stack:
        kept = [connected(server, stack) for _ in range(MAX_CONNECTIONS)]
        for connection in kept:
            connection.sendall(HEALTH)
            assert status(connection) == 200
        for _ in range(3):
            newest = connected(server, stack)
            newest.sendall(HEALTH)
            assert status(newest) == 200
        ended: set[int] = set()
        while len(ended) < 3:
            readable, _, _ = select.select(kept, [], [], 60)
            assert readable
            ended |= {place for place, connection in enumerate(kept) if connection in readable}
        # The clock of the server's loop makes some of them equally old.
        assert max(ended) < MAX_CONNECTIONS / 2
        kept[-1].sendall(HEALTH)
        assert status(kept[-1]) == 200


def test_where_none_is_idle_the_newest_is_refused(server: RunningCloud) -> None:
    with ExitStack() as stack:
        # A head that has begun is work; it is given its ten seconds.
        kept = [connected(server, stack) for _ in range(MAX_CONNECTIONS)]
        for connection in kept:
            connection.sendall(HEALTH[:-2])
        newest = connected(server, stack)
        assert status(newest) == 503
        kept[0].sendall(b"\r\n")
        assert status(kept[0]) == 200
