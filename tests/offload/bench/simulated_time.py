"""An emulated link, its clients and their server on one event loop, in simulated time.

Whatever they do takes no time: the loop's clock stands still while anything is left to be done, and
then moves at once to the next moment that somebody waits for. What is measured by it is what the
link adds, to the microsecond and on every machine.
"""

import asyncio
import selectors
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any, Self, TypeVar

import pytest

from eenn.offload.bench import link as link_module
from eenn.offload.bench.link import EmulatedLink
from eenn.planning.costs import Link
from tests.offload.bench.linked import PIECE, question

T = TypeVar("T")


def simulated(test: Callable[[EmulatedLink], Awaitable[T]], link: Link, **arguments: Any) -> T:
    """Run a coroutine function on the loop of a link before a server that answers questions.

    Time, which is 0 when the link is opened, passes only while the coroutine runs.
    """
    with (
        pytest.MonkeyPatch.context() as patch,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        patch.setattr(link_module, "_PreciseLoop", _SimulatedLoop)
        listener.setblocking(False)
        with EmulatedLink(*listener.getsockname(), link, **arguments) as emulated:
            running = _run(test, emulated, listener)
            return asyncio.run_coroutine_threadsafe(running, emulated._loop).result()


class Client:
    """A connection through the link, inside an `async with` block.

    The handshake that the link adds is waited for by the first exchange.
    """

    def __init__(self, link: EmulatedLink) -> None:
        self._loop, self._address = asyncio.get_running_loop(), (link.host, link.port)
        self._sock = socket.socket()
        self._sock.setblocking(False)

    async def __aenter__(self) -> Self:
        try:
            await self._loop.sock_connect(self._sock, self._address)
        except OSError:
            self._sock.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sock.close()

    async def exchange_ms(self, sent: int = 1, wanted: int = 1) -> float:
        """Measure the milliseconds until `sent` bytes are there and `wanted` bytes are back."""
        start = self._loop.time()
        await self._loop.sock_sendall(self._sock, question(sent, wanted))
        await _receive(self._sock, wanted)
        return 1e3 * (self._loop.time() - start)


class _SimulatedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._skipping = _SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Let time pass inside the block."""
        self._skipping.passes = True
        try:
            yield
        finally:
            self._skipping.passes = False


class _SkippingSelector(selectors.DefaultSelector):
    """Never waits for a moment; skips the time until then instead."""

    now, passes = 0.0, False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or (timeout > 0 and not self.passes):
            return super().select()
        ready = super().select(0)
        if not ready:
            self.now += max(timeout, 0.0)
        return ready


async def _run(
    test: Callable[[EmulatedLink], Awaitable[T]], link: EmulatedLink, listener: socket.socket
) -> T:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _SimulatedLoop)
    serving = loop.create_task(_serve(listener))
    with loop.passing():
        try:
            return await test(link)
        finally:
            serving.cancel()


async def _serve(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as connections:
        while True:
            sock, _ = await loop.sock_accept(listener)
            connections.create_task(_answer(sock))


async def _answer(sock: socket.socket) -> None:
    with closing(sock), suppress(ConnectionError):
        while header := await _receive(sock, 8):
            sent, wanted = struct.unpack("!II", header)
            await _receive(sock, sent)
            await asyncio.get_running_loop().sock_sendall(sock, bytes(wanted))


async def _receive(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = await asyncio.get_running_loop().sock_recv(sock, min(PIECE, size - len(data)))
        if not piece:
            break
        data += piece
    return bytes(data)
