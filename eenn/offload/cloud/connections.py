"""HTTP connections with limits that uvicorn lacks: time and bytes of a request's head, time for the
client to read replies, and an end that lets the client read the last reply."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from eenn.offload.cloud.gate import Gate, Stage, Visitor
from eenn.offload.cloud.settings import (
    DISCARD_TIMEOUT_S,
    HEAD_TIMEOUT_S,
    LINGER_BYTES,
    LINGER_S,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_PIPELINED,
    PROBE_S,
    UNREAD_BYTES,
    WRITE_TIMEOUT_S,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from uvicorn._types import ASGI3Application


class GuardedProtocol(HttpToolsProtocol, Visitor):
    """HTTP on one connection, which is ended when it makes no progress in time.

    Args:
        gate: counts the connection from `arrive` on.
        loop: event loop of the connection; the other arguments are those of uvicorn's protocols.
    """

    def __init__(
        self,
        gate: Gate,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self._gate = gate
        self._timers: dict[str, asyncio.TimerHandle] = {}
        # Bytes received since the newest head or body began.
        self._idle_bytes = self._unheard_bytes = 0
        # The request being answered, or answered last; others may wait behind it.
        self._answered: RequestResponseCycle | None = None
        # True if no request has begun whose body has not arrived.
        self._is_between = True
        self._can_say = self._is_leaving = self._is_deaf = False

    def arrive(self, address: str, arriving: "asyncio.Task[None]") -> None:
        """Count the connection before its TLS handshake.

        Args:
            address: of the client, as `network_of` gives it.
            arriving: task that calls `connection_made` unless it is cancelled before.
        """
        self.address, self._arriving = address, arriving
        self._gate.enter(self)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._wire, self._can_say = transport, True
        transport.set_write_buffer_limits(high=UNREAD_BYTES)
        super().connection_made(cast(asyncio.Transport, _Ending(transport, self)))
        self.parser = _UpgradeIgnoring(self)
        self._arm("head", HEAD_TIMEOUT_S, self._late)
        if self._is_leaving:
            transport.abort()
        elif self.stage == Stage.REFUSED:
            self.refuse_entry()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_leaving = True
        self._gate.leave(self)
        for name in list(self._timers):
            self._disarm(name)
        super().connection_lost(exc)
        if self._answered:
            _tell_left(self._answered)

    def data_received(self, data: bytes) -> None:
        if self._is_leaving or self._is_deaf:
            self._unheard_bytes += len(data)
            if self._unheard_bytes > LINGER_BYTES:
                self._wire.abort()
            return
        if self._is_between:
            if "head" not in self._timers:
                self._arm("head", HEAD_TIMEOUT_S, self._late)
            if self.stage == Stage.IDLE:
                self._gate.move(self, Stage.SENDING)
        # Headers are kept until the head is complete, and so are trailers and extensions of chunks.
        # The body itself is not counted here.
        self._idle_bytes += len(data)
        super().data_received(data)
        if self._idle_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(_TOO_LARGE)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer a client that has closed its sending side, if it still reads."""
        is_whole = self._is_between and self._is_answering
        if self._is_leaving or not is_whole or self.scheme == "https":
            return False
        self.cycle.keep_alive = False
        self._probe()
        return True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_deaf:
            return
        if len(self.headers) == MAX_HEADERS:
            self._refuse(_TOO_LARGE)
            raise HttpParserError("too many headers")  # which ends the parsing
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            self._stop_listening()
        if self._is_deaf or self.parser.should_upgrade():
            return  # The head is parsed once more without the upgrade.
        self._disarm("head")
        self._is_between, self._idle_bytes = False, 0
        self._gate.move(self, Stage.SENDING)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        if not self._is_deaf:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_deaf or self.parser.should_upgrade():
            return
        self._is_between, self._idle_bytes = True, 0
        super().on_message_complete()
        if self._is_answering:
            self._gate.move(self, Stage.BUSY)
        else:
            self._rest()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_answering or self._is_leaving:
            return
        if self._is_between:
            self._rest()
        else:
            self._arm("discard", DISCARD_TIMEOUT_S, self.end)

    def send_400_response(self, _: str) -> None:
        if not self._is_leaving:
            self._refuse(b"400 Bad Request")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._arm("write", WRITE_TIMEOUT_S, self._unread)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._disarm("write")

    def shutdown(self) -> None:
        super().shutdown()
        if not self._is_answering:
            self._arm("end", LINGER_S, self._wire.abort)

    def make_room(self) -> None:
        if self.stage == Stage.SENDING:
            self._refuse(b"503 Service Unavailable\r\nRetry-After: 1")
        else:
            self.cut_off()

    def refuse_entry(self) -> None:
        # Otherwise the reply is sent after the TLS handshake.
        if self._can_say:
            self._refuse(b"503 Service Unavailable\r\nRetry-After: 1")

    def cut_off(self) -> None:
        self._is_leaving = True
        if self._can_say:
            self._wire.abort()
        else:
            self._arriving.cancel()

    def end(self) -> None:
        """Close the connection; a client that may still send first gets time to read."""
        if self._is_leaving:
            return
        self._is_leaving = True
        self._disarm("head")
        is_heard = self._is_between and not self._idle_bytes and not self._is_deaf
        if is_heard and self.stage not in _UNHEARD:
            self._wire.close()
            self._arm("end", WRITE_TIMEOUT_S, self._wire.abort)
            return
        # Closing with unread bytes would reset the connection and lose the reply.
        if self._wire.can_write_eof():
            with suppress(OSError):  # The client may be gone.
                self._wire.write_eof()
        self.flow.resume_reading()
        self._arm("end", LINGER_S, self._wire.abort)

    @property
    def is_leaving(self) -> bool:
        """Tell whether the connection is ending, so that received bytes are ignored."""
        return self._is_leaving or self._wire.is_closing()

    def plain_head(self) -> bytes:
        """Rebuild the newest request's head without the upgrade to another protocol.

        Raises:
            HttpParserError: the request makes no sense without the upgrade.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise HttpParserError("this is not a proxy")
        lines = [b"%s %s HTTP/%s" % (method, self.url, self.parser.get_http_version().encode())]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _rest(self) -> None:
        """Wait for the next request, within uvicorn's limit from the last reply on."""
        self._disarm("discard")
        self._gate.move(self, Stage.IDLE)
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _probe(self) -> None:
        """Probe whether the client still reads: a second write to a closed one fails."""
        if not self._is_answering or self.transport.is_closing():
            return
        # The line must not be sent in the middle of another reply.
        is_next = not self.pipeline and not self.cycle.response_started
        if is_next and self.scope["http_version"] == "1.1":
            self._wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._arm("probe", PROBE_S, self._probe)

    def _late(self) -> None:
        self._disarm("head")
        # A client that has sent nothing gets no reply.
        if self._idle_bytes:
            self._refuse(b"408 Request Timeout")
        else:
            self.cut_off()

    def _unread(self) -> None:
        self._gate.say("unread", "a reply was not read in time")
        self.cut_off()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: "ASGI3Application") -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def _stop_listening(self) -> None:
        """Answer the requests received so far, and close the connection with the last reply."""
        self._is_deaf, self.cycle.keep_alive = True, False

    def _refuse(self, status: bytes) -> None:
        if self._is_leaving:
            self.cut_off()
        elif self._is_answering and self._is_between:
            self._stop_listening()  # A refusal must not overtake replies to earlier requests.
        elif self._is_answering and (self.pipeline or self.cycle.response_started):
            self.cut_off()
        else:
            # If no request is being answered, a client still sending a body has had its reply.
            if self._is_answering or self._is_between:
                self._wire.write(b"HTTP/1.1 %s\r\n%s\r\n" % (status, _NO_MORE))
            if self._is_answering:
                _tell_left(self.cycle)
            self.end()

    def _arm(self, name: str, seconds: float, act: Callable[[], None]) -> None:
        self._disarm(name)
        self._timers[name] = self.loop.call_later(seconds, act)

    def _disarm(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer:
            timer.cancel()


_NO_MORE = b"Connection: close\r\nContent-Length: 0\r\n"
_TOO_LARGE = b"431 Request Header Fields Too Large"
# Stages in which a client may have sent bytes that were not received yet.
_UNHEARD = (Stage.ARRIVING, Stage.REFUSED)


def _tell_left(cycle: RequestResponseCycle) -> None:
    cycle.disconnected = True
    cycle.message_event.set()


class _Ending:
    """A transport that closes its connection by `GuardedProtocol.end`."""

    def __init__(self, transport: asyncio.Transport, protocol: GuardedProtocol) -> None:
        self._transport, self._protocol = transport, protocol

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        # An earlier request may be answered after the one that ended the connection.
        if not self._protocol.is_leaving:
            self._transport.write(data)

    def close(self) -> None:
        self._protocol.end()

    def is_closing(self) -> bool:
        return self._protocol.is_leaving


class _UpgradeIgnoring(HttpRequestParser):
    """A parser that ignores upgrades and stays with HTTP/1.1, as every server may.

    The base parser stops at the body of a request that asks for another protocol, and uvicorn,
    which supports no other, would parse that body as the next request.
    """

    def __init__(self, protocol: GuardedProtocol) -> None:
        super().__init__(protocol)
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._protocol = protocol

    def feed_data(self, data: "ReadableBuffer") -> None:
        rest = memoryview(data)
        while rest:
            try:
                super().feed_data(rest)
                return
            except HttpParserUpgrade as upgrade:
                super().feed_data(self._protocol.plain_head())
                rest = rest[upgrade.args[0] :]
