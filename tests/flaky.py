"""A small server on loopback whose every connection is handled by a function of the test."""

import json
import socket
import ssl
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from http.client import parse_headers
from io import BufferedReader
from threading import Event, Lock, Thread

import numpy as np

from eenn.offload import wire
from eenn.offload.errors import BadRequest
from eenn.offload.wire import Request, decode_request, encode_response, unpack

ARTIFACT_ID = "0123456789abcdef" * 4
CLASSES = 5


@dataclass
class HttpRequest:
    """One request as it came in; `size` counts its bytes."""

    line: str
    headers: Message
    body: bytes
    size: int

    def decoded(self) -> Request:
        return decode_request(self.body, dict(self.headers))


class Connection:
    """A connection of a client, as the server sees it."""

    def __init__(self, sock: socket.socket, stopping: Event) -> None:
        self.sock, self.stopping, self.sent_bytes = sock, stopping, 0
        self._stream: BufferedReader = sock.makefile("rb")

    def request(self) -> HttpRequest | None:
        """The next one; None when the client has gone."""
        line = self._stream.readline()
        if not line:
            return None
        headers = parse_headers(self._stream)
        body = self._stream.read(int(headers.get("Content-Length", 0)))
        # As urllib3 writes them: "Name: value\r\n" each, and an empty line.
        size = sum(len(name) + len(value) + 4 for name, value in headers.items()) + 2
        return HttpRequest(line.decode().strip(), headers, body, len(line) + size + len(body))

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)
        self.sent_bytes += len(data)

    def reply(
        self, body: bytes, headers: Mapping[str, str] | None = None, status: str = "200 OK"
    ) -> None:
        given = {"Content-Length": str(len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        self.send(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self._stream.close()
        self.sock.close()


Behaviour = Callable[[Connection], None]


class Flaky:
    """The server; `connections` counts those that were accepted."""

    def __init__(self, behave: Behaviour, context: ssl.SSLContext | None) -> None:
        self.behave, self.connections, self._context = behave, 0, context
        self._stopping, self._lock = Event(), Lock()
        self._open: list[socket.socket] = []
        self._threads: list[Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                with self._lock:
                    self.connections += 1
                    self._open.append(sock)
                thread = Thread(target=self._handle, args=[sock])
                self._threads.append(thread)
                thread.start()

    def _handle(self, sock: socket.socket) -> None:
        try:
            if self._context:
                sock = self._context.wrap_socket(sock, server_side=True)
                self._open.append(sock)
            connection = Connection(sock, self._stopping)
            with suppress(OSError):
                self.behave(connection)
            connection.close()
        except OSError:
            pass
        finally:
            sock.close()

    def stop(self) -> None:
        self._stopping.set()
        for sock in [self._listener, *self._open]:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()


@contextmanager
def serving(behave: Behaviour, context: ssl.SSLContext | None = None) -> Iterator[Flaky]:
    """A server whose connections are handled by `behave`, each in a thread."""
    server = Flaky(behave, context)
    thread = Thread(target=server.accept)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()


def v2(connection: Connection) -> None:
    """As a cloud of artifact ARTIFACT_ID that answers."""
    while request := connection.request():
        answer(connection, request)


def answer(connection: Connection, request: HttpRequest) -> None:
    method, path, _ = request.line.split(" ")
    if method == "GET":
        connection.reply(json.dumps({"versions": [ARTIFACT_ID[:12]]}).encode())
        return
    try:
        asked = request.decoded()
    except BadRequest as error:
        connection.reply(json.dumps({"error": str(error)}).encode(), status="400 Bad Request")
        return
    if asked.parameters.get(wire.ARTIFACT) != ARTIFACT_ID:
        connection.reply(b'{"error": "another artifact"}', status="409 Conflict")
        return
    body, headers = encode_response(asked, path.split("/")[3], {"logits": logits_of(asked)})
    connection.reply(body, {**headers, "Server-Timing": "queue;dur=1.25, model;dur=3.5"})


def logits_of(request: Request) -> np.ndarray:
    """Of features, their first values; of files, their first bytes."""
    if wire.IMAGE in request.inputs:
        rows = [list(file[:CLASSES]) for file in request.inputs[wire.IMAGE]]
        return np.array(rows, np.float32)
    features = unpack(request.inputs["features"], request.parameters)
    return features.reshape(len(features), -1)[:, :CLASSES]
