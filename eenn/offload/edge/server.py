"""The edge over HTTP: an image in, its answer out, and a page to try it with.

    POST /classify   the bytes of an image file -> the answer, see `answers.as_json`
    GET /health      what runs here, what it answered, and how often the cloud failed
    GET /            the page

A lock lets one image at a time be decoded and classified: the stages would share the same cores
anyway, and the memory for large photos does not add up. Only so many images may wait, from when
they are here as a whole. Standard library, as on a device there is nothing else.
"""

import ipaddress
import json
import math
import socket
import socketserver
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from eenn.errors import EennError
from eenn.files import Json, JsonObject
from eenn.offload.edge.answers import as_json, place_of
from eenn.offload.edge.connections import IDLE_S, ConnectionServer, PatientHandler, Refused
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.protocol.errors import OffloadError
from eenn.preprocess import UnreadableImage

MAX_BODY_BYTES = 32 * 2**20
MAX_HELD_BYTES = 4 * MAX_BODY_BYTES  # of all images that are received or waiting
MAX_WAITING = 16  # images that wait or are answered at the same time; others are sent away
BODY_S = 20.0  # for receiving an image

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


class _Served(NamedTuple):
    """What answers, and what is shown of it; they change together."""

    runtime: EdgeRuntime
    settings: JsonObject


class EdgeServer(ConnectionServer):
    """Serves a runtime, from `serve_forever` on; closing it waits for images that are under way.

    Args:
        settings: shown on the page and by /health.

    Raises:
        EennError: host and port are taken, or not allowed.
    """

    def __init__(self, host: str, port: int, runtime: EdgeRuntime, settings: JsonObject) -> None:
        self._served = _Served(runtime, settings)
        self._lock = threading.Lock()
        self._answered: Counter[str] = Counter()
        self._holding, self._held_bytes = threading.Lock(), 0
        self._host = host
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

    def handle_error(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        if not isinstance(sys.exception(), OSError):  # the client left
            super().handle_error(request, client_address)

    def is_own(self, host: str) -> bool:
        """Whether a request's Host may be this server.

        A page from elsewhere can have its own name lead to this device and then read what is served
        to this device alone.
        """
        if not ipaddress.ip_address(str(self.server_address[0])).is_loopback:
            return True
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in ("localhost", self._host) or ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False

    def hold(self, size: int) -> bool:
        """Account for bytes of an image that are held, or given back if negative.

        Returns:
            Whether there was room for them.
        """
        with self._holding:
            fits = self._held_bytes + size <= MAX_HELD_BYTES
            self._held_bytes += size * fits
            return fits

    def use(self, runtime: EdgeRuntime, settings: JsonObject) -> None:
        """Have another runtime answer from the next image on, once the image under way is answered.

        Nobody uses the one before when this returns; failures are counted on.
        """
        with self._lock:
            runtime.failures.update(self._served.runtime.failures)
            self._served = _Served(runtime, settings)

    def classify(self, image: BytesIO) -> dict[str, Json]:
        """The answer for an image file, for one thread at a time.

        Raises:
            UnreadableImage, OffloadError: see `EdgeRuntime.classify_file`.
        """
        with self._lock:
            runtime = self._served.runtime
            result = runtime.classify_file(image)
            self._answered[place_of(result)] += 1
            return as_json(result)

    def health(self) -> dict[str, Json]:
        """What runs here, and counters since the start; it waits for no image."""
        runtime, settings = self._served
        least = runtime.policy.least_confidence
        return {
            "status": "ok",
            "artifact_id": runtime.manifest.id,
            "classes": len(runtime.manifest.classes),
            "exits": runtime.branches + 1,
            "active": [branch + 1 for branch in runtime.active],
            "cloud": not (runtime.rest.is_nobody or runtime.rest.on_device),
            **settings,
            "least_confidence": None if math.isnan(least) else least,
            "max_body_bytes": MAX_BODY_BYTES,
            "answered": {place: self._answered[place] for place in ("edge", "cloud")},
            "failures": dict(runtime.failures),
        }


class _Handler(PatientHandler):
    server: EdgeServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "eenn-edge", ""

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

    do_HEAD = do_GET

    def do_POST(self) -> None:
        try:
            if self.path.partition("?")[0] != "/classify":
                raise Refused(HTTPStatus.NOT_FOUND, _PATHS)
            with self._received(self._length()) as image:
                self._classify(image)
        except Refused as refused:
            self.send_error(refused.status, str(refused))

    def _classify(self, image: BytesIO) -> None:
        try:
            with self._turn():
                status, content = HTTPStatus.OK, self._answer(image)
        except Refused as refused:
            status, content = refused.status, {"error": str(refused)}
        except Exception:
            with suppress(OSError):  # of a full disk that stderr goes to
                traceback.print_exc()
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            content = {"error": "a bug; eenn-edge has printed where"}
        self._reply_json(status, content)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self.server.waiting.acquire(blocking=False):
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_WAITING} images are waiting; try again soon"
            )
        try:
            yield
        finally:
            self.server.waiting.release()

    def _answer(self, image: BytesIO) -> dict[str, Json]:
        try:
            return self.server.classify(image)
        except UnreadableImage:
            raise Refused(
                HTTPStatus.BAD_REQUEST,
                "this is no image that can be read to its end; allowed are files such as JPEG, "
                "PNG, WebP, GIF, BMP and TIFF",
            ) from None
        except OffloadError as error:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"the cloud failed: {error}") from None

    def check_head(self) -> None:
        super().check_head()
        host = self.headers.get("Host")
        if host is not None and not self.server.is_own(host):
            raise Refused(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"{host} is not this device; allowed are localhost and 127.0.0.1",
            )

    def _length(self) -> int:
        """Of the body, checked before any of it is read."""
        if self.headers.get_content_maintype() == "multipart":
            raise Refused(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "send the image file itself, not a form: curl --data-binary @photo.jpg",
            )
        length = self.headers.get("Content-Length")
        if length is None or "Transfer-Encoding" in self.headers:
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "send a Content-Length, not chunks")
        if not (length.isascii() and length.isdecimal()):
            raise Refused(HTTPStatus.BAD_REQUEST, "Content-Length is no number")
        if len(length) > 12 or int(length) > MAX_BODY_BYTES:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the image file is too large; allowed are {MAX_BODY_BYTES // 2**20} MiB",
            )
        return int(length)

    @contextmanager
    def _received(self, length: int) -> Iterator[BytesIO]:
        """Receive a body, and account for its bytes until the block ends."""
        image, held = BytesIO(), 0
        self.incoming.until = time.monotonic() + BODY_S
        self.say_continue()
        try:
            while held < length:
                part = self._part(length - held)
                if not self.server.hold(len(part)):
                    raise Refused(
                        HTTPStatus.SERVICE_UNAVAILABLE,
                        "no memory for more images at present; try again soon",
                    )
                held += image.write(part)
            image.seek(0)
            self.connection.settimeout(IDLE_S)
            yield image
        finally:
            self.server.hold(-held)

    def _part(self, most: int) -> bytes:
        try:
            part = self.rfile.read1(min(2**16, most))
        except TimeoutError:
            raise Refused(
                HTTPStatus.REQUEST_TIMEOUT, f"the image did not arrive within {BODY_S:g} s"
            ) from None
        if not part:
            raise Refused(HTTPStatus.BAD_REQUEST, "the body is shorter than its length")
        return part

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
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: /health has the counters."""


_PATHS = "there are / (the page), /health and, to POST images to, /classify"
