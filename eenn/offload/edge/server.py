"""The edge over HTTP: an image in, its answer out, and a page to try it with.

    POST /classify   the bytes of an image file -> the answer, see `answers.as_json`
    GET /health      what runs here, what it answered, and how often the cloud failed
    GET /            the page

Every connection has its thread, and a lock lets one image at a time be decoded and classified: the
stages would share the same cores anyway, and the memory for large photos does not add up. Only so
many images may wait. Standard library, as on a device there is nothing else.
"""

import json
import math
import socket
import socketserver
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

from eenn.errors import EennError
from eenn.files import Json, JsonObject
from eenn.offload.edge.answers import as_json, place_of
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.protocol.errors import OffloadError
from eenn.preprocess import UnreadableImage

MAX_BODY_BYTES = 32 * 2**20
MAX_WAITING = 16  # images that are received or answered at the same time; others are sent away
BODY_S = 20.0  # for receiving an image
IDLE_S = 30.0  # that a connection is kept without a request

PAGE = {
    path: (Path(__file__).with_name(name).read_bytes(), content_type)
    for path, name, content_type in (
        ("/", "page.html", "text/html; charset=utf-8"),
        ("/page.css", "page.css", "text/css; charset=utf-8"),
        ("/page.js", "page.js", "text/javascript; charset=utf-8"),
    )
}
HEADERS = {
    # The page shows the photo that was picked, and asks nobody but this server.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src blob: data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class EdgeServer(ThreadingHTTPServer):
    """Serves a runtime, from `serve_forever` on; closing it waits for images that are under way.

    Args:
        settings: shown on the page and by /health.

    Raises:
        EennError: host and port are taken, or not allowed.
    """

    daemon_threads = True  # connections that are kept do not hold up the end

    def __init__(self, host: str, port: int, runtime: EdgeRuntime, settings: JsonObject) -> None:
        self._runtime, self._settings = runtime, settings
        self._lock = threading.Lock()
        self._answered: Counter[str] = Counter()
        self.waiting = threading.BoundedSemaphore(MAX_WAITING)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise EennError(
                f"cannot listen on {host}, port {port} ({error}); choose another"
            ) from error

    def server_bind(self) -> None:
        # HTTPServer also looks up the host's name, for which some networks take seconds.
        socketserver.TCPServer.server_bind(self)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = str(self.server_address[0]), self.server_address[1]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def server_close(self) -> None:
        super().server_close()
        deadline = time.monotonic() + BODY_S
        free = 0
        while free < MAX_WAITING and self.waiting.acquire(
            timeout=max(deadline - time.monotonic(), 0)
        ):
            free += 1
        if free:
            self.waiting.release(free)

    def handle_error(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):  # the client left
            super().handle_error(request, client_address)

    def classify(self, image: bytes) -> dict[str, Json]:
        """The answer for an image file, for one thread at a time.

        Raises:
            UnreadableImage, OffloadError: see `EdgeRuntime.classify_file`.
        """
        with self._lock:
            result = self._runtime.classify_file(BytesIO(image))
            self._answered[place_of(result)] += 1
            return as_json(result, self._runtime)

    def health(self) -> dict[str, Json]:
        """What runs here, and counters since the start; it waits for no image."""
        runtime, least = self._runtime, self._runtime.policy.least_confidence
        return {
            "status": "ok",
            "artifact_id": runtime.manifest.id,
            "classes": len(runtime.manifest.classes),
            "exits": runtime.branches + 1,
            "active": [branch + 1 for branch in runtime.active],
            "cloud": runtime.cloud is not None,
            **self._settings,
            "least_confidence": None if math.isnan(least) else least,
            "max_body_bytes": MAX_BODY_BYTES,
            "answered": {place: self._answered[place] for place in ("edge", "cloud")},
            "failures": dict(runtime.failures),
        }


class _Refused(Exception):
    """A request that is answered with an error, after which the connection is closed."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: EdgeServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "eenn-edge", ""
    timeout = IDLE_S
    wbufsize = -1  # headers and body leave together
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path in PAGE:
            self._reply(HTTPStatus.OK, *PAGE[path])
        elif path == "/health":
            self._reply_json(HTTPStatus.OK, self.server.health())
        elif path == "/classify":
            self.send_error(HTTPStatus.METHOD_NOT_ALLOWED, "POST the bytes of an image file here")
        else:
            self.send_error(HTTPStatus.NOT_FOUND, _PATHS)

    def do_POST(self) -> None:
        try:
            if self.path.partition("?")[0] != "/classify":
                raise _Refused(HTTPStatus.NOT_FOUND, _PATHS)
            length = self._length()
            with self._turn():
                self._reply_json(HTTPStatus.OK, self._answer(self._body(length)))
                self.wfile.flush()
        except _Refused as refused:
            self.send_error(refused.status, str(refused))
        except OSError:  # the client left
            raise
        except Exception:
            self.server.handle_error(self.request, self.client_address)
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, "a bug; eenn-edge has printed where")

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self.server.waiting.acquire(blocking=False):
            raise _Refused(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_WAITING} images are waiting; try again soon"
            )
        try:
            yield
        finally:
            self.server.waiting.release()

    def _answer(self, image: bytes) -> dict[str, Json]:
        try:
            return self.server.classify(image)
        except UnreadableImage:
            raise _Refused(
                HTTPStatus.BAD_REQUEST,
                "this is no image that can be read to its end; allowed are files such as JPEG, "
                "PNG, WebP, GIF, BMP and TIFF",
            ) from None
        except OffloadError as error:
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"the cloud failed: {error}") from None

    def _length(self) -> int:
        """Of the body, checked before any of it is read."""
        if self.headers.get_content_maintype() == "multipart":
            raise _Refused(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "send the image file itself, not a form: curl --data-binary @photo.jpg",
            )
        length = self.headers.get("Content-Length")
        if length is None or "Transfer-Encoding" in self.headers:
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "send a Content-Length, not chunks")
        if not (length.isascii() and length.isdecimal()):
            raise _Refused(HTTPStatus.BAD_REQUEST, "Content-Length is no number")
        if len(length) > 12 or int(length) > MAX_BODY_BYTES:
            raise _Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the image file is too large; allowed are {MAX_BODY_BYTES // 2**20} MiB",
            )
        return int(length)

    def _body(self, length: int) -> bytes:
        deadline, body = time.monotonic() + BODY_S, bytearray()
        try:
            while len(body) < length:
                self.connection.settimeout(max(deadline - time.monotonic(), 1e-3))
                part = self.rfile.read1(min(2**16, length - len(body)))
                if not part:
                    raise _Refused(HTTPStatus.BAD_REQUEST, "the body is shorter than its length")
                body += part
        except TimeoutError:
            raise _Refused(
                HTTPStatus.REQUEST_TIMEOUT, f"the image did not arrive within {BODY_S:g} s"
            ) from None
        self.connection.settimeout(IDLE_S)
        return bytes(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Every error, also those that http.server finds, as JSON; what follows is not read."""
        self.close_connection = True
        self._reply_json(code, {"error": message or explain or HTTPStatus(code).phrase})

    def _reply_json(self, status: int, content: JsonObject) -> None:
        self._reply(status, json.dumps(content).encode(), "application/json")

    def _reply(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        own = {"Content-Type": content_type, "Content-Length": str(len(body))}
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            own["Retry-After"] = "1"
        if self.close_connection:
            own["Connection"] = "close"
        for name, value in (own | HEADERS).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: /health has the counters."""


_PATHS = "there are / (the page), /health and, to POST images to, /classify"
