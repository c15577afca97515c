"""HTTP exchanges with one server over kept connections, each limited in time and size.

Connecting and the exchange on the connection are two phases with a deadline each. Proxies and
.netrc of the environment are ignored. Redirects are not followed, content is not decompressed, and
a reply that is longer than allowed is not read to its end.
"""

import logging
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from typing import NamedTuple

from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError, LocationParseError, ProtocolError, SSLError
from urllib3.response import HTTPResponse
from urllib3.util import parse_url

from eenn.errors import EennError
from eenn.offload.client.sockets import Limit, LimitedSocket, Traffic, connect, tls_context
from eenn.offload.protocol.errors import BadReply, CloudBroken, CloudUnreachable

PIECE_BYTES = 65_536

# urllib3 logs a traceback for every reply with malformed headers.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)


class HttpRequest(NamedTuple):
    """An HTTP request; `path` is relative to the path of the URL."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | None = None


class HttpReply(NamedTuple):
    """Status, headers by their names in lower case, and the body as it was sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class ExchangeCounts(Traffic):
    """The counts of an exchange: bytes of HTTP, new connections, tries."""

    connections: int = 0
    tries: int = 0


@dataclass(frozen=True)
class Timeouts:
    """Time limits of an exchange, in milliseconds.

    Args:
        connect_ms: for the look-up of the host's name, the connection and the TLS handshake.
        read_ms: for sending a request and receiving the whole reply.

    Raises:
        EennError: a limit is not positive.
    """

    connect_ms: float = 1_000.0
    read_ms: float = 5_000.0

    def __post_init__(self) -> None:
        if not (self.connect_ms > 0 and self.read_ms > 0):
            raise EennError(
                f"timeouts connect_ms={self.connect_ms}, read_ms={self.read_ms}: allowed is more "
                "than 0"
            )


DEFAULT_TIMEOUTS = Timeouts()


class Transport:
    """Exchanges with one server. Thread-safe: every exchange has a connection to itself.

    Args:
        url: http:// or https://, a host, and optionally a port and a path.
        ca_file: certificates (PEM) that are trusted instead of the system's.

    Raises:
        EennError: the URL has another form, or `ca_file` cannot be read.
    """

    def __init__(self, url: str, ca_file: str | None, timeouts: Timeouts) -> None:
        shown = re.sub(r"//.*@", "//***@", url)  # A password must not be shown.
        try:
            parts = parse_url(url)
        except LocationParseError as error:
            raise EennError(f"{shown} is not a URL; {_FORM}") from error
        superfluous = parts.auth or parts.query or parts.fragment
        if parts.scheme not in _PORTS or not parts.host or superfluous:
            raise EennError(f"{shown} is not the URL of a cloud; {_FORM}")
        self._host, self._port = parts.host.strip("[]"), parts.port or _PORTS[parts.scheme]
        self._netloc, self._path = parts.netloc or "", (parts.path or "").rstrip("/")
        self._tls = tls_context(ca_file) if parts.scheme == "https" else None
        self._connect_timeout_s = timeouts.connect_ms / 1e3
        self._read_timeout_s = timeouts.read_ms / 1e3
        self._idle: list[HTTPConnection] = []

    def close(self) -> None:
        """Close the connections that are kept for the next exchange."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def exchange(
        self, request: HttpRequest, max_bytes: int, deadline: float | None, counts: ExchangeCounts
    ) -> HttpReply:
        """Send a request and return the server's reply, of any status.

        A kept connection that turns out to be closed is replaced and the request sent again, so
        requests must be safe to repeat.

        Args:
            max_bytes: of the reply's body.
            deadline: seconds of `time.monotonic()` by which the call ends; None for no deadline.
            counts: counts that the exchange is added to.

        Raises:
            CloudUnreachable, CloudTimeout, CloudBroken, BadReply: see
                `eenn.offload.protocol.errors`.
        """
        kept = self._kept()
        if kept:
            with suppress(CloudUnreachable):
                return self._exchange_on(kept, request, max_bytes, deadline, counts)
        limit = Limit.of("connect", "no connection", self._connect_timeout_s, deadline)
        fresh = HTTPConnection(self._host, self._port)
        fresh.sock = connect(self._host, self._port, self._tls, limit)
        counts.connections += 1
        return self._exchange_on(fresh, request, max_bytes, deadline, counts)

    def _kept(self) -> HTTPConnection | None:
        with suppress(IndexError):
            while True:
                connection = self._idle.pop()
                if connection.is_connected:
                    return connection
                connection.close()
        return None

    def _exchange_on(
        self,
        connection: HTTPConnection,
        request: HttpRequest,
        max_bytes: int,
        deadline: float | None,
        counts: ExchangeCounts,
    ) -> HttpReply:
        socket = connection.sock
        assert isinstance(socket, LimitedSocket)
        try:
            socket.limit = Limit.of("read", "no whole reply", self._read_timeout_s, deadline)
            socket.traffic = counts
            counts.tries += 1
            with _translated():
                reply = self._converse(connection, request, max_bytes)
        except BaseException:
            connection.close()
            # Other kept connections may have broken as well.
            self.close()
            raise
        if connection.sock:
            self._idle.append(connection)
        return reply

    def _converse(
        self, connection: HTTPConnection, request: HttpRequest, max_bytes: int
    ) -> HttpReply:
        headers = {"Host": self._netloc, **request.headers}
        # A server that refuses a request may answer and close before it has read the whole body.
        with suppress(ConnectionError):
            connection.request(
                request.method,
                self._path + request.path,
                request.body,
                headers,
                preload_content=False,
                decode_content=False,
            )
        with connection.getresponse() as response:
            body = _body(response, max_bytes)
        return HttpReply(
            response.status,
            {name.lower(): value for name, value in response.headers.items()},
            body,
        )


def _body(response: HTTPResponse, max_bytes: int) -> bytes:
    declared = response.headers.get("Content-Length", "0")
    if not (declared.isascii() and declared.isdigit()):
        raise BadReply(f"the reply's Content-Length is {declared[:40]!r}, not a number of bytes")
    body = bytearray()
    # One piece may exceed the limit, and int() refuses very long numbers.
    if len(declared) < 20 and int(declared) <= max_bytes:
        while piece := response.read(PIECE_BYTES):
            body += piece
            if len(body) > max_bytes:
                break
        else:
            return bytes(body)
    raise BadReply(f"the reply is longer than the {max_bytes} bytes that any answer takes")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (ConnectionError, ssl.SSLEOFError) as error:
        raise CloudUnreachable(f"the connection broke: {error}", "reset") from error
    except (ssl.SSLError, SSLError) as error:
        raise CloudUnreachable(f"TLS broke: {error}", "tls") from error
    except OSError as error:
        raise CloudUnreachable(f"the cloud cannot be reached: {error}", "network") from error
    except ProtocolError as error:
        raise CloudBroken(f"the reply was cut short: {error}", "truncated") from error
    except (HTTPException, HTTPError) as error:
        raise BadReply(f"the reply is not HTTP: {error!r}") from error


_FORM = "allowed is http://HOST:PORT or https://HOST:PORT, optionally with a path"
_PORTS = {"http": 80, "https": 443}
