"""The edge over HTTP: an image in, its answer out, and a page to try it with.

    POST /classify   the bytes of an image file -> the answer, see `answers.as_json`
    GET /health      the running deployment, and counts of answers and of failures of the cloud
    GET /metrics     counts and the guard in numbers, for Prometheus
    GET /            the page

One image at a time is decoded and computed: the stages would share the same cores anyway, and the
memory for large photographs does not add up. While the cloud is asked about some images, the next
one is computed. The number of completely received images without an answer is limited. The server
needs nothing but the standard library.
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
from eenn.offload.edge.metrics import CONTENT_TYPE, metrics
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.protocol.errors import OffloadError
from eenn.preprocess import UnreadableImage

MAX_BODY_BYTES = 32 * 2**20
MAX_HELD_BYTES = 4 * MAX_BODY_BYTES  # of all images being received or waiting
MAX_WAITING = 16  # images waiting or being answered; further ones are refused
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
    # The page shows the chosen photograph, and sends requests to this server alone.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src blob: data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class _Served(NamedTuple):
    """A runtime and the settings shown for it; they change together."""

    runtime: EdgeRuntime
    settings: JsonObject


class EdgeServer(ConnectionServer):
    """Serves a runtime, from `serve_forever` on; closing waits for images under way.

    Args:
        settings: settings shown on the page and by /health.

    Raises:
        EennError: host and port are in use, or not allowed.
    """

    def __init__(self, host: str, port: int, runtime: EdgeRuntime, settings: JsonObject) -> None:
        self._served = _Served(runtime, settings)
        self._turn, self._finishing = threading.Lock(), threading.Condition()
        self._begun = 0  # images that are being answered, without those that wait for their turn
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
        # HTTPServer also looks up the host's name, which takes seconds on some networks.
        socketserver.TCPServer.server_bind(self)

    @property
    def url(self) -> str:
        """Return the URL that the server listens at."""
        host, port = str(self.server_address[0]), self.server_address[1]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def handle_error(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        if not isinstance(sys.exception(), OSError):  # the client left
            super().handle_error(request, client_address)

    def is_own(self, host: str) -> bool:
        """Tell whether a request's Host may name this server.

        This prevents DNS rebinding: a foreign page could have its own name resolved to this device
        and then read what is served to this device alone.
        """
        if not ipaddress.ip_address(str(self.server_address[0])).is_loopback:
            return True
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in ("localhost", self._host) or ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False

    def hold(self, size: int) -> bool:
        """Count bytes of a held image; negative for bytes that are released.

        Returns:
            True if there was room for the bytes.
        """
        with self._holding:
            fits = self._held_bytes + size <= MAX_HELD_BYTES
            self._held_bytes += size * fits
            return fits

    def use(self, runtime: EdgeRuntime, settings: JsonObject) -> None:
        """Replace the runtime, from the next image on, once the images under way are answered.

        The old runtime is unused when the method returns; the counts of failures are kept.
        """
        with self._turn, self._finishing:
            self._finishing.wait_for(lambda: not self._begun)
            runtime.failures.update(self._served.runtime.failures)
            before, self._served = self._served.runtime.watcher, _Served(runtime, settings)
        if before is not None:
            before.retire()

    def save(self) -> None:
        """Write what the runtime's guard has learnt so far, if it has a guard."""
        watcher = self._served.runtime.watcher
        if watcher is not None:
            watcher.save()

    def classify(self, image: BytesIO) -> dict[str, Json]:
        """Classify an image file.

        Raises:
            UnreadableImage, OffloadError: see `EdgeRuntime.classify_file`.
        """
        with self._turn:
            runtime = self._served.runtime
            batch = runtime.begin(image)
            with self._finishing:
                self._begun += 1
        try:
            (result,) = runtime.finish(batch)
            with self._finishing:
                self._answered[place_of(result)] += 1
            return as_json(result)
        finally:
            with self._finishing:
                self._begun -= 1
                self._finishing.notify()

    def health(self) -> dict[str, Json]:
        """Describe the running deployment and its counters, without waiting for images."""
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
            "guard": None if runtime.watcher is None else runtime.watcher.status(),
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
        elif path == "/metrics":
            text = metrics(self.server.health()).encode()
            self._reply(HTTPStatus.OK, text, CONTENT_TYPE)
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
            content = {"error": "a bug in eenn-edge; see its stderr"}
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
                "this is not an image that can be read to its end; allowed are files such as JPEG, "
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
        """Read the length of the body, and check it before any of the body is read."""
        if self.headers.get_content_maintype() == "multipart":
            raise Refused(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "send the image file itself, not a form: curl --data-binary @photo.jpg",
            )
        length = self.headers.get("Content-Length")
        if length is None or "Transfer-Encoding" in self.headers:
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "send a Content-Length, not chunks")
        if not (length.isascii() and length.isdecimal()):
            raise Refused(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
        if len(length) > 12 or int(length) > MAX_BODY_BYTES:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the image file is too large; allowed are {MAX_BODY_BYTES // 2**20} MiB",
            )
        return int(length)

    @contextmanager
    def _received(self, length: int) -> Iterator[BytesIO]:
        """Receive a body, and count its bytes as held until the block ends."""
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
            raise Refused(HTTPStatus.BAD_REQUEST, "the body is shorter than its Content-Length")
        return part

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with an error as JSON, also for http.server's errors; close afterwards."""
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
        """Log nothing: /health has the counters."""


_PATHS = "allowed are / (the page), /health, /metrics, and /classify to POST images to"
