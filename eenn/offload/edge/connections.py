"""Connections to the edge's HTTP server: limits on their number and time, and their orderly end.

Every connection has its thread. Where there are too many, a connection without a request is ended,
and where all have a request, a new connection is accepted only after another one has ended.
"""

import io
import socket
import threading
import time
from contextlib import suppress
from email.errors import (
    FirstHeaderLineIsContinuationDefect,
    MisplacedEnvelopeHeaderDefect,
    MissingHeaderBodySeparatorDefect,
)
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BACKLOG = 128  # connections that the operating system keeps until they are accepted
MAX_CONNECTIONS = 256
HEAD_S = 10.0  # for the head of a request, from its first byte on
IDLE_S = 30.0  # for a connection without a request, and for a client to receive its reply
LINGER_S, LINGER_BYTES = 10.0, 33 * 2**20  # limits on receiving after the last reply
ENDING_S = 20.0  # for requests under way when the server ends
RETRY_S = 0.01
ONCE = ("Content-Length", "Expect", "Host")
# Lines that are not headers: another reader may find a length or a host in them.
DEFECTS = (
    FirstHeaderLineIsContinuationDefect,
    MissingHeaderBodySeparatorDefect,
    MisplacedEnvelopeHeaderDefect,
)


class _Idle(NamedTuple):
    """A connection without a request, since a time in seconds; `has_had` if it had one before."""

    has_had: bool
    since: float
    connection: socket.socket


class ConnectionServer(ThreadingHTTPServer):
    """Serves a bounded number of connections; closing waits for requests under way."""

    daemon_threads = True  # kept connections do not delay the end
    request_queue_size = BACKLOG

    def __init__(self, address: tuple[str, int], handler: type["PatientHandler"]) -> None:
        self._changed = threading.Condition()
        self._open: set[object] = set()
        self._idle: dict[object, _Idle] = {}
        super().__init__(address, handler)

    def get_request(self) -> tuple[socket.socket, object]:
        try:
            if len(self._open) >= MAX_CONNECTIONS:
                raise BlockingIOError("too many connections")
            connection, address = super().get_request()
        except OSError:
            # Too many connections, or no file descriptor is left. The server tries again soon.
            self._end_an_idle_one()
            time.sleep(RETRY_S)
            raise
        with self._changed:
            self._open.add(connection)
        self.has_none(connection, has_had=False)
        return connection, address

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        with self._changed:
            self._open.discard(request)
            self._idle.pop(request, None)
            self._changed.notify_all()
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        with self._changed:
            self._changed.wait_for(lambda: self._open == self._idle.keys(), ENDING_S)

    def has_request(self, connection: socket.socket) -> None:
        """Note that a request has arrived on a connection."""
        with self._changed:
            self._idle.pop(connection, None)

    def has_none(self, connection: socket.socket, has_had: bool) -> None:
        """Note that a connection has no request, so it may be ended.

        Args:
            has_had: whether it had a request before; such a connection is ended after those
                without.
        """
        with self._changed:
            self._idle[connection] = _Idle(has_had, time.monotonic(), connection)
            self._changed.notify_all()

    def _end_an_idle_one(self) -> None:
        with self._changed:
            if self._idle:
                first = min(self._idle.values(), key=attrgetter("has_had", "since"))
                # The connection's thread wakes up, as if the client had closed it, and cleans up.
                with suppress(OSError):
                    first.connection.shutdown(socket.SHUT_RDWR)


class Incoming(io.RawIOBase):
    """The bytes that a client sends, with a time limit `until` in seconds of `time.monotonic()`.

    Raises:
        TimeoutError: a read has reached the limit.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.until = 0.0
        self._awaits_head = False

    def await_head(self) -> None:
        """Allow `IDLE_S` until the next request begins, and `HEAD_S` for its head."""
        self.until, self._awaits_head = time.monotonic() + IDLE_S, True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        left_s = self.until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._connection.settimeout(left_s)
        received = self._connection.recv_into(buffer)
        if self._awaits_head:
            self.until, self._awaits_head = time.monotonic() + HEAD_S, False
        return received


class Refused(Exception):
    """A refused request, which is answered with an error."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class PatientHandler(BaseHTTPRequestHandler):
    """Reads requests within time limits, and closes so that the last reply reaches the client."""

    server: ConnectionServer
    wbufsize = -1  # headers and body are sent together
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.incoming = Incoming(self.connection)
        self.rfile = io.BufferedReader(self.incoming)
        self._has_had = False

    def handle_one_request(self) -> None:
        self.server.has_none(self.connection, self._has_had)
        self.incoming.await_head()
        super().handle_one_request()

    def parse_request(self) -> bool:
        self._awaits_continue = False
        is_whole = super().parse_request()
        self.server.has_request(self.connection)
        self._has_had = True
        self.connection.settimeout(IDLE_S)
        if is_whole:
            try:
                self.check_head()
            except Refused as refused:
                self.send_error(refused.status, str(refused))
                return False
        return is_whole

    def check_head(self) -> None:
        """Check the headers of a request before it is handled.

        Raises:
            Refused: the headers are malformed, or leave the end of the request open: its unread
                bytes would be taken for the next request.
        """
        twice = [name for name in ONCE if len(self.headers.get_all(name, [])) > 1]
        if twice or any(isinstance(defect, DEFECTS) for defect in self.headers.defects):
            raise Refused(HTTPStatus.BAD_REQUEST, "the headers are malformed")
        if self.headers.get("Expect", "100-continue").lower() != "100-continue":
            raise Refused(HTTPStatus.EXPECTATION_FAILED, "allowed is Expect: 100-continue")
        has_body = self.headers.get("Content-Length", "0") != "0"
        if self.command in ("GET", "HEAD") and (has_body or "Transfer-Encoding" in self.headers):
            raise Refused(HTTPStatus.BAD_REQUEST, f"allowed is a {self.command} without a body")

    def handle_expect_100(self) -> bool:
        # The reply "100 Continue" is sent when the body is wanted; until then the request may be
        # refused.
        self._awaits_continue = True
        return True

    def say_continue(self) -> None:
        """Send "100 Continue" to a client that waits for it."""
        if self._awaits_continue:
            super().handle_expect_100()
            self.wfile.flush()

    def finish(self) -> None:
        super().finish()
        self.server.has_none(self.connection, self._has_had)
        with suppress(OSError):
            self._linger()

    def _linger(self) -> None:
        """Receive and discard bytes that the client still sends.

        A connection that is closed with unread bytes is reset, and the client may never see the
        reply.
        """
        self.connection.shutdown(socket.SHUT_WR)
        until, left_bytes = time.monotonic() + LINGER_S, LINGER_BYTES
        while left_bytes > 0 and (left_s := until - time.monotonic()) > 0:
            self.connection.settimeout(left_s)
            received = len(self.connection.recv(2**16))
            if not received:
                break
            left_bytes -= received
