"""Status and headers of a cloud's reply, read without trust in them."""

import json
import math
import re

from eenn.offload.client.transport import HttpReply
from eenn.offload.protocol.errors import (
    BadReply,
    CloudBroken,
    CloudOverloaded,
    CloudRefused,
    CloudTimeout,
    OffloadError,
)


def refusal(reply: HttpReply) -> OffloadError:
    """Make the error for a reply with a status other than 200."""
    status = reply.status
    said = f"the cloud answers {status}: {_error_text(reply.body)}"
    if status in (429, 503):
        cause = "overloaded" if status == 429 else "unavailable"
        return CloudOverloaded(said, cause, _retry_after_s(reply))
    if status >= 500:
        return CloudBroken(said, "server")
    if status == 408:
        return CloudTimeout(said, "read")
    if status >= 400:
        return CloudRefused(said, _CAUSES.get(status, "request"))
    return BadReply(f"{said}; this is not a reply of the protocol, so check the URL")


def _error_text(body: bytes) -> str:
    """Extract the message in `{"error": "..."}`, or else the body's start, short and printable."""
    try:
        text = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        text = body[:800].decode(errors="replace")
    return "".join(letter if letter.isprintable() else " " for letter in text[:200])


def _retry_after_s(reply: HttpReply) -> float:
    """Read the pause that the cloud asks for, in seconds: 0 if absent, infinite if not a number."""
    seconds = reply.headers.get("retry-after", "0")
    return float(seconds) if re.fullmatch(r"[0-9]{1,9}", seconds) else math.inf


def server_times(reply: HttpReply) -> dict[str, float]:
    """Read the milliseconds of the cloud's parts by name, such as queue and model, if given."""
    # The time of the search grows with the square of the length.
    entries = _SERVER_TIMING.findall(reply.headers.get("server-timing", "")[:500])
    return {name.lower(): float(ms) for name, ms in entries}


_CAUSES = {401: "token", 403: "token", 409: "artifact"}
_SERVER_TIMING = re.compile(r"([\w-]+)\s*;(?:[^,]*;)?\s*dur\s*=\s*\"?([0-9]+(?:\.[0-9]+)?)")
