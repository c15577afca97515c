"""A small server on loopback whose every connection is handled by a function of the test."""

import json
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from http.client import parse_headers
from io import BufferedReader
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from eenn.offload.client import sockets
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.protocol import wire
from eenn.offload.protocol.codecs import unpack
from eenn.offload.protocol.decoding import decode_request
from eenn.offload.protocol.encoding import encode_response
from eenn.offload.protocol.errors import BadRequest, OffloadError
from eenn.offload.protocol.wire import IMAGE_CUT, Request
from tests.offload.patience import PATIENCE_S, PATIENT
from tests.offload.simulated_clock import SimulatedClock

ARTIFACT_ID = "0123456789abcdef" * 4
CLASSES = 5


@dataclass
class HttpRequest:
    """One request as it came in."""

    line: str
    headers: Message
    body: bytes

    @property
    def size(self) -> int:
        """Its bytes, written as "Name: value" and without superfluous blanks."""
        lines = [self.line, *(f"{name}: {value}" for name, value in self.headers.items()), ""]
        return sum(len(line) + 2 for line in lines) + len(self.body)

    def decoded(self) -> Request:
        return decode_request(self.body, dict(self.headers))


class Connection:
    """A connection of a client, as the server sees it.

    Args:
        stopping: is set when the server is to stop.
        clock: the client's, if that is simulated.
    """

    def __init__(
        self, sock: socket.socket, stopping: Event, clock: SimulatedClock | None = None
    ) -> None:
        self.sock, self.stopping, self._clock = sock, stopping, clock
        self._pauses = 0
        self._stream: BufferedReader = sock.makefile("rb")

    def request(self) -> HttpRequest | None:
        """The next one; None when the client has gone."""
        line = self._stream.readline()
        if not line:
            return None
        headers = parse_headers(self._stream)
        body = self._stream.read(int(headers.get("Content-Length", 0)))
        return HttpRequest(line.decode().strip(), headers, body)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def pause(self) -> bool:
        """Let a little time pass; returns whether to go on.

        Of simulated time that is a look of the client, who so never finds more than it looked for.
        """
        if self._clock is None:
            return not self.stopping.wait(0.01)
        self._pauses += 1
        patience = time.monotonic() + PATIENCE_S / 2
        while self._clock.looks < self._pauses:
            if self.stopping.wait(0.001) or time.monotonic() > patience:
                return False
        return True

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self._stream.close()
        self.sock.close()


Behaviour = Callable[[Connection], None]


class Flaky:
    """The server; `connections` counts those that were accepted."""

    def __init__(
        self, behave: Behaviour, context: ssl.SSLContext | None, clock: SimulatedClock | None
    ) -> None:
        self.behave, self.connections, self._context, self._clock = behave, 0, context, clock
        self._stopping = Event()
        self._open: list[socket.socket] = []
        self._threads: list[Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self._accepting = Thread(target=self._accept)
        self._accepting.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                self._open.append(sock)
                self._threads.append(Thread(target=self._handle, args=[sock]))
                self._threads[-1].start()

    def _handle(self, sock: socket.socket) -> None:
        with suppress(OSError), sock:
            if self._context:
                sock = self._context.wrap_socket(sock, server_side=True)
                self._open.append(sock)
            with sock, closing(Connection(sock, self._stopping, self._clock)) as connection:
                self.behave(connection)

    def stop(self) -> None:
        self._stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()


@contextmanager
def serving(
    behave: Behaviour,
    context: ssl.SSLContext | None = None,
    clock: SimulatedClock | None = None,
) -> Iterator[Flaky]:
    """A server whose connections are handled by `behave`, each in a thread.

    Args:
        clock: of the client, which then decides how fast the server is.
    """
    server = Flaky(behave, context, clock)
    try:
        yield server
    finally:
        server.stop()


def http(body: bytes, headers: Mapping[str, str] | None = None, status: str = "200 OK") -> bytes:
    """A reply."""
    given = {"Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def v2(connection: Connection) -> None:
    """As a cloud of artifact ARTIFACT_ID that answers."""
    while request := connection.request():
        connection.send(answer(request))


def answer(request: HttpRequest, **more_headers: str) -> bytes:
    """The reply of that cloud."""
    method, path, _ = request.line.split(" ")
    if method == "GET":
        return http(json.dumps({"versions": [ARTIFACT_ID[:12]]}).encode())
    try:
        asked = request.decoded()
    except BadRequest as error:
        return http(json.dumps({"error": str(error)}).encode(), status="400 Bad Request")
    if asked.parameters.get(wire.ARTIFACT) != ARTIFACT_ID:
        return http(b'{"error": "another artifact"}', status="409 Conflict")
    body, headers = encode_response(asked, path.split("/")[3], {"logits": logits_of(asked)})
    timing = {"Server-Timing": "queue;dur=1.25, model;dur=3.5"}
    return http(body, {**headers, **timing, **more_headers})


def logits_of(request: Request) -> np.ndarray:
    """Of features, their first values; of files, their first bytes."""
    if wire.IMAGE in request.inputs:
        rows = [list(file[:CLASSES]) for file in request.inputs[wire.IMAGE]]
        return np.array(rows, np.float32)
    features = unpack(request.inputs["features"], request.parameters)
    return features.reshape(len(features), -1)[:, :CLASSES]


# What a connection may be handled by, instead.

OK = b"HTTP/1.1 200 OK\r\n"


def once_asked(send: Callable[[Connection], None]) -> Behaviour:
    """What to do with the first request, before the connection is closed."""

    def behave(connection: Connection) -> None:
        assert connection.request()
        send(connection)

    return behave


def raw(data: bytes) -> Behaviour:
    return once_asked(lambda connection: connection.send(data))


def replying(*given: Any, **options: Any) -> Behaviour:
    return raw(http(*given, **options))


def black_hole(connection: Connection) -> None:
    connection.request()
    connection.stopping.wait()


def deaf(connection: Connection) -> None:
    """Takes nothing of what it is sent, beyond what the system takes for it."""
    connection.stopping.wait()


def trickle(start: bytes, drop: bytes) -> Behaviour:
    def send(connection: Connection) -> None:
        connection.send(start)
        while connection.pause():
            connection.send(drop)

    return once_asked(send)


def flood(start: bytes, wave: bytes) -> Behaviour:
    def send(connection: Connection) -> None:
        connection.send(start)
        while not connection.stopping.is_set():
            connection.send(wave)

    return once_asked(send)


# What a client then says.

IMAGE = np.zeros((1, 3, 8, 8), np.float32)


def asking(url: str, **options: Any) -> HttpCloud:
    """A client that hardly anything is too slow for, unless `options` say otherwise."""
    return HttpCloud(url, ARTIFACT_ID, **(PATIENT | options))


def failure(
    url: str, deadline_s: float | None = None, retries: int = 0, **options: Any
) -> tuple[OffloadError, int]:
    """The error of one question, and how often it was tried.

    Args:
        deadline_s: by the client's clock, which may be a simulated one.
    """
    with asking(url, retries=retries, **options) as cloud:
        deadline = None if deadline_s is None else sockets.time.monotonic() + deadline_s
        with pytest.raises(OffloadError) as caught:
            cloud.infer(IMAGE, IMAGE_CUT, deadline)
        return caught.value, cloud.last.tries


def failure_of(
    behave: Behaviour, clock: SimulatedClock | None = None, **options: Any
) -> tuple[OffloadError, int]:
    with serving(behave, clock=clock) as server:
        return failure(server.url, **options)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
