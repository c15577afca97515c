"""Whom the cloud lets in: the token, the head and the body of a request, and refusals as replies.

What can be refused before a body is read is; and bodies take their time and memory from a fixed
allowance.
"""

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from eenn.errors import EennError
from eenn.offload.cloud.batching import QueuedTooLong, QueueFull
from eenn.offload.cloud.repository import UnknownModel, WrongArtifact
from eenn.offload.protocol.errors import BadRequest

CONTENT_TYPES = ("application/octet-stream", "application/json")
CONTENT_ENCODINGS = ("identity", "zstd")
# Bodies being read and decoded take no more memory than that many of the largest.
BODIES = 8
RETRY_AFTER_S = 1


class Refused(EennError):
    """A request that gets an error: the HTTP status, and one word for the counter of causes."""

    def __init__(self, status: int, cause: str, message: str) -> None:
        super().__init__(message)
        self.status, self.cause = status, cause


def refused(error: Exception) -> Refused:
    """What an error is for the client. What nobody foresaw is a bug, and its log says more."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, HTTPException):
        return Refused(error.status_code, "path", error.detail)
    for kind, (status, cause) in _REFUSALS.items():
        if isinstance(error, kind):
            return Refused(status, cause, str(error))
    return Refused(500, "bug", "a bug in the server; its log says more")


def reply_to(refusal: Refused, headers: Headers) -> Response:
    """The reply, which ends the connection where the rest of the body is not worth receiving."""
    own = {}
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
    return JSONResponse({"error": str(refusal)}, refusal.status, own)


class Bearing:
    """Middleware that wants a token from everyone but those who ask after the server's health.

    Args:
        refuse: makes the reply to those who have it not.
    """

    def __init__(
        self, app: ASGIApp, token: str, refuse: Callable[[Request, Exception], Awaitable[Response]]
    ) -> None:
        self._app, self._expected, self._refuse = app, f"Bearer {token}".encode(), refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith("/v2/health/"):
            headers = Headers(scope=scope)
            given = headers.get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(given, self._expected):
                refusal = Refused(401, "token", "this server wants its token as bearer token")
                reply = await self._refuse(Request(scope), refusal)
                await reply(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Bodies:
    """Reads requests' bodies, within limits of each and of all together.

    Args:
        max_bytes: of one body.
        timeout_s: until all of it has to be there.
    """

    def __init__(self, max_bytes: int, timeout_s: float) -> None:
        self._max_bytes, self._timeout_s = max_bytes, timeout_s
        self._held_bytes = 0

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
        for name, allowed in (
            ("Content-Type", CONTENT_TYPES),
            ("Content-Encoding", CONTENT_ENCODINGS),
        ):
            given = headers.get(name, allowed[0])
            if given.split(";")[0].strip().lower() not in allowed:
                raise Refused(
                    415, "type", f"{name} is {given[:80]}; allowed are {', '.join(allowed)}"
                )

    @asynccontextmanager
    async def read(self, http: Request) -> AsyncIterator[bytes]:
        """The body, whose memory is counted until the block ends.

        Raises:
            Refused: it is longer than allowed, comes too slowly, or too many are being read.
            ClientDisconnect: it does not come at all.
        """
        chunks: list[bytes] = []
        try:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._collect(http, chunks)
            except TimeoutError:
                raise Refused(408, "slow", "the body did not come in time") from None
            yield chunks[0] if len(chunks) == 1 else b"".join(chunks)
        finally:
            self._held_bytes -= sum(map(len, chunks))

    async def _collect(self, http: Request, chunks: list[bytes]) -> None:
        length = 0
        async for chunk in http.stream():
            chunks.append(chunk)
            self._held_bytes += len(chunk)
            length += len(chunk)
            if length > self._max_bytes:
                raise self._too_large(length)
            if self._held_bytes > BODIES * self._max_bytes:
                raise Refused(429, "full", "too many large requests at once")

    def _too_large(self, length: int) -> Refused:
        allowed = self._max_bytes
        return Refused(413, "length", f"a body of at least {length} bytes; allowed are {allowed}")


def _length(headers: Headers) -> int | None:
    """The body's length, if the head says it."""
    given = headers.get("content-length", "")
    # int() alone would take signs, blanks, underscores and other alphabets' digits.
    return int(given) if given.isascii() and given.isdigit() and len(given) < 20 else None


# A body that is refused for its length is let in and thrown away up to here.
MAX_DISCARDED_BYTES = 2**28

_REFUSALS: dict[type[Exception], tuple[int, str]] = {
    BadRequest: (400, "request"),
    UnknownModel: (404, "model"),
    WrongArtifact: (409, "artifact"),
    QueueFull: (429, "full"),
    # Nobody reads that one, but it is counted.
    ClientDisconnect: (499, "left"),
    QueuedTooLong: (503, "late"),
}
