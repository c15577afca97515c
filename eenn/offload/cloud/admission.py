"""Whom the cloud lets in: token and name, head and body of a request, and refusals as replies.

What can be refused before a body is read is; and bodies take their time and memory from a fixed
allowance.
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

CONTENT_TYPES = ("application/octet-stream", "application/json")
CONTENT_ENCODINGS = ("identity", "zstd")


class Refused(EennError):
    """A request that gets an error: the HTTP status, and one word for the counter of causes.

    Args:
        headers: of the reply.
    """

    def __init__(
        self, status: int, cause: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.cause, self.headers = status, cause, headers or {}


def refusal_of(error: Exception) -> Refused:
    """What an error is for the client. What nobody foresaw is a bug, and its log says more."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, HTTPException):
        return Refused(error.status_code, "path", error.detail, error.headers)
    for kind, (status, cause) in _REFUSALS.items():
        if isinstance(error, kind):
            return Refused(status, cause, str(error))
    return Refused(500, "bug", "a bug in the server; its log says more")


def reply_to(refusal: Refused, headers: Headers) -> Response:
    """The reply, which ends the connection where the rest of the body is not worth receiving."""
    own = dict(refusal.headers)
    if refusal.status in (429, 503):
        own["Retry-After"] = str(RETRY_AFTER_S)
    if refusal.status == 401:
        own["WWW-Authenticate"] = "Bearer"
    # A client that is cut off while it sends may never read why; nobody has to send gigabytes for
    # that, though.
    length = _length(headers)
    is_endless = "transfer-encoding" in headers or (length or 0) > MAX_DISCARDED_BYTES
    if refusal.status == 408 or is_endless:
        own["Connection"] = "close"
    # Objects of libraries show where they lie in memory, which is nobody's business.
    text = re.sub(r" at 0x[0-9a-f]+", "", str(refusal))
    return JSONResponse({"error": text}, refusal.status, own)


class AccessGuard:
    """Middleware that lets through whoever has the token, or comes by an address of this machine.

    Whoever asks after the server's health needs no token. Without one, a page of the world that has
    its name resolved to this machine could ask in its visitor's browser: the name that the browser
    was led by stands in Host.

    Args:
        token: that is wanted as bearer token; None for none.
        is_local: the name asked for has to be one of this machine's loopback.
        refuse: makes the reply to others.
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
                return Refused(401, "token", "this server wants its token as bearer token")
        return None


class Body(NamedTuple):
    """A body as it came, and its bytes when it is decompressed."""

    content: bytes
    declared_bytes: int


class Bodies:
    """Reads requests' bodies, within limits of each and of all together.

    Args:
        max_bytes: of one body, as sent and decompressed.
        timeout_s: until all of it has to be there.
    """

    def __init__(self, max_bytes: int, timeout_s: float) -> None:
        self._max_bytes, self._timeout_s = max_bytes, timeout_s
        self._memory = Amount(BODIES * max_bytes, "too many large requests at once")

    def check(self, headers: Headers) -> None:
        """Refuse a body for what its head says.

        Raises:
            Refused: no length, one beyond the limit, or a type or encoding not known here.
        """
        length = _length(headers)
        if length is None and "transfer-encoding" not in headers:
            raise Refused(411, "length", "a request needs a body, and so a Content-Length")
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
    async def read(self, http: Request, bounds: Bounds) -> AsyncIterator[Body]:
        """The body, which counts until the block ends with all that it takes decompressed.

        Raises:
            Refused: it is longer than allowed or comes too slowly.
            NoRoom: bodies take too much memory, and this one is not among the smaller ones.
            BadRequest: it does not say what it takes decompressed.
            ClientDisconnect: it does not come at all.
        """
        slow = Refused(408, "slow", "the body did not come in time")
        loop = asyncio.get_running_loop()
        async with self._memory.share() as memory:
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
        return Refused(413, "length", f"a body of at least {length} bytes; allowed are {allowed}")


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() in ("localhost", "localhost.")


def _names_loopback(hosts: list[str], http_version: str) -> bool:
    """Whether a request's Host headers are one, and name this machine."""
    if not hosts:
        return http_version == "1.0"  # which browsers do not speak
    name = re.sub(r":[0-9]*$", "", hosts[0]).strip()
    return len(hosts) == 1 and is_loopback(name.removeprefix("[").removesuffix("]"))


def whole_number(text: str) -> int | None:
    """What a header gives as a number of bytes; None if it gives none."""
    # int() alone would take signs, blanks, underscores and other alphabets' digits.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _length(headers: Headers) -> int | None:
    """The body's length, if the head says it."""
    return whole_number(headers.get("content-length", ""))


_REFUSALS: dict[type[Exception], tuple[int, str]] = {
    BadRequest: (400, "request"),
    UnknownModel: (404, "model"),
    WrongArtifact: (409, "artifact"),
    QueueFull: (429, "full"),
    NoRoom: (429, "full"),
    # Nobody reads that one, but it is counted.
    ClientDisconnect: (499, "left"),
    QueuedTooLong: (503, "late"),
}
