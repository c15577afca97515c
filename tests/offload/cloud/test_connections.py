"""More connections than the cloud keeps: idle ones make room, and busy ones are left alone."""

import http.client
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread
from urllib.parse import urlsplit

import pytest
import uvicorn
from starlette.applications import Starlette

from eenn.offload.cloud import connections
from eenn.offload.cloud.app import make_app
from eenn.offload.cloud.command import running
from eenn.offload.cloud.connections import MAX_CONNECTIONS, GuardedProtocol
from tests.offload.exported import Exported
from tests.offload.patience import PATIENCE_S

HEALTH = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
Address = tuple[str, int]


@contextmanager
def in_this_process(app: Starlette) -> Iterator[Address]:
    """Serve an application in a thread, by constants that a test may have changed."""
    config = uvicorn.Config(
        app, loop="asyncio", http=GuardedProtocol, ws="none", lifespan="on", log_level="error"
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=server.run, args=[[listener]])
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join()


def connected(address: Address, stack: ExitStack) -> socket.socket:
    return stack.enter_context(socket.create_connection(address, PATIENCE_S))


def status(connection: socket.socket) -> int:
    """Of the next reply, which is read to its end."""
    reply = http.client.HTTPResponse(connection)
    reply.begin()
    reply.read()
    return reply.status


def test_a_connection_that_was_idle_long_makes_room(exported: Exported) -> None:
    with running([exported.path]) as server, ExitStack() as stack:
        parts = urlsplit(server.url)
        assert parts.hostname
        assert parts.port
        address = (parts.hostname, parts.port)
        kept = [connected(address, stack) for _ in range(MAX_CONNECTIONS)]
        for connection in kept:
            connection.sendall(HEALTH)
            assert status(connection) == 200
        for _ in range(3):
            newest = connected(address, stack)
            newest.sendall(HEALTH)
            assert status(newest) == 200
        ended: set[int] = set()
        while len(ended) < 3:
            readable, _, _ = select.select(kept, [], [], PATIENCE_S)
            assert readable
            ended |= {place for place, connection in enumerate(kept) if connection in readable}
        # The clock of the server's loop makes some of them equally old.
        assert max(ended) < MAX_CONNECTIONS / 2
        kept[-1].sendall(HEALTH)
        assert status(kept[-1]) == 200


def test_where_none_is_idle_the_newest_is_refused(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 20)
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 10 * PATIENCE_S)
    with in_this_process(make_app([exported.path])) as address, ExitStack() as stack:
        # A head that has begun is work.
        kept = [connected(address, stack) for _ in range(20)]
        for connection in kept:
            connection.sendall(HEALTH[:-2])
        newest = connected(address, stack)
        assert status(newest) == 503
        kept[0].sendall(b"\r\n")
        assert status(kept[0]) == 200
