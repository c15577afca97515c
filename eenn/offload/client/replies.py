"""What the status and the headers of a cloud's reply say, to an edge that trusts neither."""

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
    """The error that a reply with another status than 200 stands for."""
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
    return BadReply(f"{said}; it is none of this protocol, so check the URL")


def _error_text(body: bytes) -> str:
    """The message in `{"error": "..."}`, or what is there instead, short and printable."""
    try:
        text = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        text = body[:800].decode(errors="replace")
    return "".join(letter if letter.isprintable() else " " for letter in text[:200])


def _retry_after_s(reply: HttpReply) -> float:
    """0 if the cloud names none; infinite if it does in another form than seconds."""
    seconds = reply.headers.get("retry-after", "0")
    return float(seconds) if re.fullmatch(r"[0-9]{1,9}", seconds) else math.inf


def server_times(reply: HttpReply) -> dict[str, float]:
    """Milliseconds of the cloud's parts by name, such as queue and model, as far as it says."""
    # The search takes the square of the length.
    entries = _SERVER_TIMING.findall(reply.headers.get("server-timing", "")[:500])
    return {name.lower(): float(ms) for name, ms in entries}


_CAUSES = {401: "token", 403: "token", 409: "artifact"}
_SERVER_TIMING = re.compile(r"([\w-]+)\s*;(?:[^,]*;)?\s*dur\s*=\s*\"?([0-9]+(?:\.[0-9]+)?)")
