"""Admission of requests: token and host name, head and body, and refusals as replies.

A request is refused before its body is read where possible; bodies share a fixed allowance of time
and memory.
"""

import asyncio
import hmac
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from eenn.errors import EennError
from eenn.offload.cloud.batching import QueuedTooLong, QueueFull
from eenn.offload.cloud.repository import UnknownModel, WrongArtifact
from eenn.offload.cloud.settings import BODIES, MAX_DISCARDED_BYTES, RETRY_AFTER_S
from eenn.offload.cloud.sharing import Amount, NoRoom
from eenn.offload.protocol.bounds import Bounds
from eenn.offload.protocol.decoding import declared_bytes
from eenn.offload.protocol.errors import BadRequest
from eenn.offload.protocol.wire import BACKGROUND_URGENCY, PRIORITY

CONTENT_TYPES = ("application/octet-stream", "application/json")
CONTENT_ENCODINGS = ("identity", "zstd")
# Much longer than any that says no more than urgency and `i`.
MAX_PRIORITY_CHARACTERS = 256


class Refused(EennError):
    """A refused request: the HTTP status, and one word for the counter of causes.

    Args:
        headers: further headers of the reply.
    """

    def __init__(
        self, status: int, cause: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.cause, self.headers = status, cause, headers or {}


def asks_for_background(headers: Headers) -> bool:
    """Tell whether a request asks for the lowest priority, by RFC 9218.

    Its header is a dictionary of RFC 8941, of which the last `u` counts. One that is malformed
    counts as absent, and so does one that has strings, which may hide commas, or is too long.
    """
    said = ",".join(headers.getlist(PRIORITY))
    if len(said) > MAX_PRIORITY_CHARACTERS:
        return False
    members = [_MEMBER.fullmatch(member.strip(" \t")) for member in said.split(",")]
    urgencies = [member[2] for member in members if member and member[1] == "u"]
    return all(members) and urgencies[-1:] == [str(BACKGROUND_URGENCY)]


def refusal_of(error: Exception) -> Refused:
    """Convert an error to a refusal; an unexpected error is a bug and gets status 500."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, HTTPException):
        return Refused(error.status_code, "path", error.detail, error.headers)
    for kind, (status, cause) in _REFUSALS.items():
        if isinstance(error, kind):
            return Refused(status, cause, str(error))
    return Refused(500, "bug", "a bug in the server; see the server's log")


def refusal_of_background(error: Exception) -> Exception:
    """Convert an error of too little room or time to a background request's refusal."""
    if isinstance(error, QueueFull | NoRoom | QueuedTooLong):
        return Refused(429, "background", str(error))
    return error


def reply_to(refusal: Refused, headers: Headers) -> Response:
    """Make the reply; it ends the connection if the rest of the body is not worth receiving."""
    own = dict(refusal.headers)
    if refusal.status in (429, 503):
        own["Retry-After"] = str(RETRY_AFTER_S)
    if refusal.status == 401:
        own["WWW-Authenticate"] = "Bearer"
    # A client that is cut off while it sends may never read the reason, so bodies are received and
    # discarded, but not gigabytes.
    length = _length(headers)
    is_endless = "transfer-encoding" in headers or (length or 0) > MAX_DISCARDED_BYTES
    if refusal.status == 408 or is_endless:
        own["Connection"] = "close"
    # Texts of library objects contain memory addresses, which must not leave the server.
    text = re.sub(r" at 0x[0-9a-f]+", "", str(refusal))
    return JSONResponse({"error": text}, refusal.status, own)


class AccessGuard:
    """Middleware that admits requests with the token, or to a loopback name of this machine.

    Requests for the server's health need no token. The host name is checked against DNS rebinding:
    a foreign web page could have its own name resolved to this machine and send requests from its
    visitor's browser, but then Host holds that name.

    Args:
        token: the required bearer token; None if none is required.
        is_local: whether the host name has to be a loopback name of this machine.
        refuse: makes the reply to refused requests.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str | None,
        is_local: bool,
        refuse: Callable[[Request, Exception], Awaitable[Response]],
    ) -> None:
        self._app, self._refuse, self._is_local = app, refuse, is_local
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal:
            reply = await self._refuse(Request(scope), refusal)
            await reply(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Refused | None:
        headers = Headers(scope=scope)
        if self._is_local and not _names_loopback(headers.getlist("host"), scope["http_version"]):
            return Refused(
                421, "host",
                "this server answers on this machine alone, as localhost or 127.0.0.1; "
                "start it with --token-file to reach it by another name",
            )  # fmt: skip
        if self._token is not None and not scope["path"].startswith("/v2/health/"):
            scheme, _, given = headers.get("authorization", "").partition(" ")
            is_same = hmac.compare_digest(given.strip().encode("latin-1"), self._token)
            if scheme.lower() != "bearer" or not is_same:
                return Refused(
                    401, "token", "the bearer token is missing or wrong; send this server's token"
                )
        return None


class Body(NamedTuple):
    """A body as received, and the number of bytes that it decompresses to."""

    content: bytes
    declared_bytes: int


class Bodies:
    """Reads bodies of requests, within limits for each body and for all together.

    Args:
        max_bytes: largest body, as sent and decompressed.
        timeout_s: time limit for receiving a body.
    """

    def __init__(self, max_bytes: int, timeout_s: float) -> None:
        self._max_bytes, self._timeout_s = max_bytes, timeout_s
        self._memory = Amount(BODIES * max_bytes, "too many large requests at once")

    def check(self, headers: Headers) -> None:
        """Check the head of a request before its body is read.

        Raises:
            Refused: the length is missing or beyond the limit, or type or encoding is unknown.
        """
        length = _length(headers)
        if length is None and "transfer-encoding" not in headers:
            raise Refused(411, "length", "Content-Length is missing; send a body with its length")
        if length is not None and length > self._max_bytes:
            raise self._too_large(length)
        content_type = headers.get("Content-Type", CONTENT_TYPES[0])
        for name, given, allowed in (
            ("Content-Type", content_type.split(";")[0], CONTENT_TYPES),
            ("Content-Encoding", headers.get("Content-Encoding", "identity"), CONTENT_ENCODINGS),
        ):
            if given.strip().lower() not in allowed:
                raise Refused(
                    415, "type", f"{name} is {given[:80]}; allowed are {', '.join(allowed)}"
                )

    @asynccontextmanager
    async def read(self, http: Request, bounds: Bounds, is_background: bool) -> AsyncIterator[Body]:
        """Read the body; it counts, with its decompressed size, until the block ends.

        Raises:
            Refused: the body is longer than allowed or arrives too slowly.
            NoRoom: all bodies together take too much memory, and this one is not among the smaller
                ones.
            BadRequest: a compressed body does not declare its size.
            ClientDisconnect: the client left before the body had arrived.
        """
        slow = Refused(408, "slow", "the body did not come in time")
        loop = asyncio.get_running_loop()
        async with self._memory.share(is_background) as memory:
            memory.until(loop.time() + self._timeout_s, slow)
            chunks: list[bytes] = []
            async for chunk in http.stream():
                chunks.append(chunk)
                memory.take(len(chunk), len(chunk))
                if memory.held > self._max_bytes:
                    raise self._too_large(memory.held)
            memory.until(None, slow)
            body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            declared = declared_bytes(body, http.headers, bounds)
            more = max(declared - len(body), 0)
            memory.take(more, more)
            yield Body(body, declared)

    def _too_large(self, length: int) -> Refused:
        allowed = self._max_bytes
        return Refused(
            413, "length", f"a body of {length} bytes or more; allowed are {allowed} bytes"
        )


def is_loopback(host: str) -> bool:
    """Tell whether a name or address is the loopback of this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() in ("localhost", "localhost.")


def _names_loopback(hosts: list[str], http_version: str) -> bool:
    """Tell whether a request has exactly one Host header and it names this machine."""
    if not hosts:
        return http_version == "1.0"  # which browsers do not speak
    name = re.sub(r":[0-9]*$", "", hosts[0]).strip()
    return len(hosts) == 1 and is_loopback(name.removeprefix("[").removesuffix("]"))


def whole_number(text: str) -> int | None:
    """Parse a number of bytes in a header; return None if it is not a number."""
    # int() alone would accept signs, spaces, underscores and digits of other alphabets.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _length(headers: Headers) -> int | None:
    """Read the body's length from the head, if given."""
    return whole_number(headers.get("content-length", ""))


# A key, and its value and parameters, if any.
_MEMBER = re.compile(r"([a-z*][a-z0-9_.*-]*)(?:=([!#-:<-~]+))?(?:;[ !#-:<-~]+)*")
_REFUSALS: dict[type[Exception], tuple[int, str]] = {
    BadRequest: (400, "request"),
    UnknownModel: (404, "model"),
    WrongArtifact: (409, "artifact"),
    QueueFull: (429, "full"),
    NoRoom: (429, "full"),
    # The client has left, but the refusal is counted.
    ClientDisconnect: (499, "left"),
    QueuedTooLong: (503, "late"),
}
