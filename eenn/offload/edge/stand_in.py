"""A stand-in for the cloud on this device: answers at once, so that requests can be measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.client import parse_headers
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np

from eenn.offload.protocol.encoding import encode_response
from eenn.offload.protocol.wire import LOGITS, Request, model_name

if TYPE_CHECKING:
    from socketserver import _RequestType

PIECE_BYTES = 2**16


@contextmanager
def standing_in(classes: int) -> Iterator[str]:
    """Answer every request as a cloud answers one image, until the block ends; yield the URL.

    Clients have to be closed inside the block.

    Args:
        classes: number of logits in an answer.
    """
    logits = {LOGITS: np.zeros((1, classes), np.float32)}
    body, headers = encode_response(Request({}, outputs={LOGITS: True}), model_name(), logits)
    lines = [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *lines, "", ""])
    with ThreadingTCPServer(("127.0.0.1", 0), partial(_Answering, head.encode() + body)) as server:
        Thread(target=server.serve_forever, name="stand-in", daemon=True).start()
        host, port = server.server_address[:2]
        try:
            yield f"http://{host!s}:{port}"
        finally:
            server.shutdown()


class _Answering(StreamRequestHandler):
    """Reads the requests of a connection, and sends the same reply to each."""

    def __init__(
        self, reply: bytes, request: "_RequestType", address: object, server: ThreadingTCPServer
    ) -> None:
        self._reply = reply
        super().__init__(request, address, server)

    def handle(self) -> None:
        while self.rfile.readline(PIECE_BYTES):
            left = int(parse_headers(self.rfile).get("Content-Length", 0))
            while left > 0 and (piece := self.rfile.read1(min(left, PIECE_BYTES))):
                left -= len(piece)
            self.wfile.write(self._reply)
