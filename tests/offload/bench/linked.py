"""Servers behind an emulated link, and clients that ask them through it."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

from eenn.offload.bench.link import EmulatedLink
from eenn.planning.costs import Link
from tests.offload.patience import PATIENCE_S

FAST = Link(bandwidth_mbps=2000, rtt_ms=1)
PIECE = 1 << 16


def receive(end: socket.socket, size: int) -> bytes:
    """Read so many bytes, or to the end of the stream."""
    data = bytearray()
    while len(data) < size and (piece := end.recv(min(PIECE, size - len(data)))):
        data += piece
    return bytes(data)


def question(sent: int, wanted: int) -> bytes:
    """Build a message of `sent` bytes that wants `wanted` bytes back."""
    return struct.pack("!II", sent, wanted) + bytes(sent)


class Answer(BaseRequestHandler):
    """Takes questions, and answers each with as many bytes as it wants."""

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(ConnectionError):
            while header := receive(self.request, 8):
                sent, wanted = struct.unpack("!II", header)
                receive(self.request, sent)
                self.request.sendall(bytes(wanted))


class Server(ThreadingTCPServer):
    request_queue_size = 200


@contextmanager
def serve(handler: type[BaseRequestHandler]) -> Iterator[int]:
    """Run a server of its own; yields the port."""
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
    """Put a link before a server."""
    with serve(handler) as port, EmulatedLink("127.0.0.1", port, link, **arguments) as emulated:
        yield emulated


def connect(link: EmulatedLink) -> socket.socket:
    """Open a connection through the link."""
    client = socket.create_connection((link.host, link.port), timeout=PATIENCE_S)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


@contextmanager
def connected(link: Link, **arguments: Any) -> Iterator[tuple[EmulatedLink, socket.socket]]:
    """Put a link before a server, with a connection that has been used."""
    with linked(link, **arguments) as emulated, connect(emulated) as client:
        exchange_ms(client)
        yield emulated, client


def exchange_ms(client: socket.socket, sent: int = 1, wanted: int = 1) -> float:
    """Measure the milliseconds until `sent` bytes are there and `wanted` bytes are back."""
    start = time.perf_counter()
    client.sendall(question(sent, wanted))
    assert len(receive(client, wanted)) == wanted
    return (time.perf_counter() - start) * 1e3
