"""Limits of a connection that uvicorn leaves open: a request's head in bytes and seconds, and how
many connections there are."""

import asyncio
from operator import itemgetter

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 2**16
HEAD_TIMEOUT_S = 10.0
MAX_CONNECTIONS = 512


class GuardedProtocol(HttpToolsProtocol):
    """Closes a connection whose request does not get on.

    Where there are too many, one that is idle makes room, and where none is, the newest is refused.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._timer: asyncio.TimerHandle | None = None
        self._idle_bytes = 0
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self._make_room()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._timer is None and self._is_between:
            self._await_head()
        # Names and values of headers are kept until the head is whole, as are those behind a body
        # in chunks, and what stands beside a chunk's length. Body is not counted here.
        self._idle_bytes += len(data)
        super().data_received(data)
        if self._idle_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(b"431 Request Header Fields Too Large")

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._is_between, self._idle_bytes = False, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_between, self._idle_bytes = True, 0
        super().on_message_complete()

    def _make_room(self) -> None:
        # uvicorn lets a connection end at some moment from when its answer was given, if idle.
        idle = [
            (connection.timeout_keep_alive_task.when(), connection.transport)
            for connection in self.connections
            if isinstance(connection, GuardedProtocol)
            and connection.timeout_keep_alive_task
            and not connection.transport.is_closing()
        ]
        if idle:
            _, oldest = min(idle, key=itemgetter(0))
            oldest.close()
        else:
            self._refuse(b"503 Service Unavailable\r\nRetry-After: 1")

    def _await_head(self) -> None:
        self._is_between = True
        self._timer = self.loop.call_later(HEAD_TIMEOUT_S, self._late)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        # Who has said nothing is not answered.
        if self._idle_bytes:
            self._refuse(b"408 Request Timeout")
        else:
            self.transport.abort()

    def _refuse(self, status: bytes) -> None:
        self.transport.write(
            b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status
        )
        self.transport.close()
