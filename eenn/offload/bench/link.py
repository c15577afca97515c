"""An emulated network link: a TCP proxy on loopback with a rate, a delay, jitter and outages.

Bytes wait for their turn on the link (a token bucket without credit for each direction, shared by
all connections), then for half the round-trip time. A new connection first waits one round trip,
like a handshake. The rate counts payload. TCP's slow start and retransmissions are not emulated;
`tc netem` does that where the kernel has it. The proxy is a thread of this process: it runs late
while other threads hold the interpreter's lock.
"""

import asyncio
import random
import select
import selectors
import socket
import struct
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from threading import Thread
from typing import Any, Literal, Self

from eenn.errors import EennError
from eenn.planning.costs import Link

State = Literal["up", "stall", "drop", "refuse", "reset"]
Flight = asyncio.Queue[tuple[float, bytes]]

# Reading ahead keeps the link busy although the thread wakes late.
READ_AHEAD_S = 0.01
# A read takes the bytes that the link carries in this time, within these bounds.
CHUNK_S, MIN_CHUNK_BYTES, MAX_CHUNK_BYTES = 0.001, 1500, 65_536
# Chunks in flight beyond those that a busy link holds, so that small messages have room.
SMALL_CHUNKS = 64
FD_SETSIZE = 1024


@dataclass(frozen=True)
class Outage:
    """A time during which the link is in a state other than "up".

    Args:
        start_s: seconds after the link was opened.
        state: "stall": no bytes pass until the state ends. "drop": old and new connections accept
            bytes and never answer again. "refuse": new connections are refused. "reset": all
            connections are reset.
    """

    start_s: float
    duration_s: float
    state: State


class EmulatedLink:
    """A link to `target_host:target_port`, reached at `host:port` inside a `with` block.

    Args:
        jitter_ms: largest extra delay in each direction, uniformly drawn; the order of bytes is
            kept.
        outages: outages in order of time.
        seed: seed of the jitter.

    Raises:
        EennError: jitter is negative, outages are out of order, or the target has no address.
    """

    host = "127.0.0.1"
    port: int

    def __init__(
        self,
        target_host: str,
        target_port: int,
        link: Link,
        jitter_ms: float = 0.0,
        outages: Sequence[Outage] = (),
        seed: int = 0,
    ) -> None:
        if not jitter_ms >= 0:
            raise EennError(f"jitter of {jitter_ms} ms: allowed is 0 or more")
        times = [time for o in outages for time in (o.start_s, o.start_s + o.duration_s)]
        if not all(earlier <= later for earlier, later in pairwise([0.0, *times])):
            raise EennError(
                "outages are out of order or overlap; allowed are outages in order of time"
            )
        try:
            found = socket.getaddrinfo(target_host, target_port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise EennError(f"{target_host}:{target_port} has no address: {error}") from error
        self._family: int = found[0][0]
        self._target: tuple[Any, ...] = found[0][4]
        self._outages = outages
        self._bytes_per_s = link.bandwidth_mbps * 1e6 / 8
        self._rtt_s, self._jitter_s = link.rtt_ms / 1e3, jitter_ms / 1e3
        self._chunk = int(min(max(self._bytes_per_s * CHUNK_S, MIN_CHUNK_BYTES), MAX_CHUNK_BYTES))
        held_s = READ_AHEAD_S + self._rtt_s / 2 + self._jitter_s
        self._room = SMALL_CHUNKS + int(held_s * self._bytes_per_s / self._chunk)
        self._random = random.Random(seed)

    def __enter__(self) -> Self:
        self.port = 0
        self._loop = _PreciseLoop()
        self._thread = Thread(target=self._loop.run_forever, name="emulated link", daemon=True)
        self._thread.start()
        self._run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def set(self, state: State) -> None:
        """Put the link into a state (see `Outage`), and wait until it is."""
        self._run(self._switch(state))

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _open(self) -> None:
        self._up, self._down = _Turns(self._bytes_per_s), _Turns(self._bytes_per_s)
        self._connections: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._flowing, self._drops = asyncio.Event(), 0
        await self._switch("up")
        self._following = self._loop.create_task(self._follow())

    async def _close(self) -> None:
        self._stop_listening()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self) -> None:
        start = self._loop.time()
        for outage in self._outages:
            await _until(start + outage.start_s)
            await self._switch(outage.state)
            await _until(start + outage.start_s + outage.duration_s)
            await self._switch("up")

    async def _switch(self, state: State) -> None:
        self._state = state
        self._drops += state == "drop"
        if state == "stall":
            self._flowing.clear()
        else:
            self._flowing.set()
        if state == "refuse":
            self._stop_listening()
        elif not self._listener:
            self._listen()
        if state == "reset":
            for connection in self._connections:
                connection.cancel()

    def _listen(self) -> None:
        self._listener = socket.create_server((self.host, self.port), backlog=FD_SETSIZE)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        # sock_accept is avoided: when cancelled, it may lose an accepted connection.
        self._loop.add_reader(self._listener, self._accept, self._listener)

    def _stop_listening(self) -> None:
        if self._listener:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):
            client, _ = listener.accept()
            self._admit(client)

    def _admit(self, client: socket.socket) -> None:
        # The present state is passed: once the task runs, the link may be in another state.
        connection = self._loop.create_task(self._connect(client, self._state == "reset"))

        def end(_: asyncio.Task[None]) -> None:
            self._connections.discard(connection)
            client.close()  # A task cancelled before it began cannot do so itself.

        self._connections.add(connection)
        connection.add_done_callback(end)

    async def _connect(self, client: socket.socket, is_reset: bool) -> None:
        """Carry one connection until both ends have closed it or one breaks it."""
        server, drops, intact = socket.socket(self._family), self._drops, False
        try:
            for end in (client, server):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if is_reset:
                return
            await asyncio.sleep(self._rtt_s)
            await self._flowing.wait()
            if self._state == "drop":
                while await self._loop.sock_recv(client, self._chunk):
                    pass
                return
            await self._loop.sock_connect(server, self._target)
            async with asyncio.TaskGroup() as tasks:
                for turns, source, sink in (
                    (self._up, client, server),
                    (self._down, server, client),
                ):
                    flight: Flight = asyncio.Queue(self._room)
                    tasks.create_task(self._take(source, turns, flight))
                    tasks.create_task(self._give(flight, sink, drops))
            intact = True
        except* OSError:
            pass  # If one end breaks, the other is broken as well.
        finally:
            for end in (client, server):
                if not intact:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.close()

    async def _take(self, source: socket.socket, turns: "_Turns", flight: Flight) -> None:
        """Read a little ahead of the link, until the end of the stream."""
        data = b"?"
        while data:
            data = await self._loop.sock_recv(source, self._chunk)
            await self._flowing.wait()
            leaves = turns.book(len(data), self._loop.time())
            jitter_s = self._random.uniform(0, self._jitter_s)
            await flight.put((leaves + self._rtt_s / 2 + jitter_s, data))
            await _until(leaves - READ_AHEAD_S)

    async def _give(self, flight: Flight, sink: socket.socket, drops: int) -> None:
        """Write bytes at their time of arrival, and last the end of the stream."""
        data = b"?"
        while data:
            arrives, data = await flight.get()
            await _until(arrives)
            await self._flowing.wait()
            if drops == self._drops:
                await self._loop.sock_sendall(sink, data)
            elif not data:
                raise ConnectionError(
                    "closed by one end, which a dropped link hides from the other"
                )
        sink.shutdown(socket.SHUT_WR)


class _Turns:
    """The schedule of one direction of the link: bytes leave at its rate, one after the other."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._free = 0.0

    def book(self, size: int, now: float) -> float:
        """Reserve the link for `size` bytes; return the time at which they have left."""
        self._free = max(self._free, now) + size / self._bytes_per_s
        return self._free


async def _until(time: float) -> None:
    wait_s = time - asyncio.get_running_loop().time()
    if wait_s > 0:
        await asyncio.sleep(wait_s)


class _PreciseLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__(_PreciseSelector())


class _PreciseSelector(selectors.DefaultSelector):
    """A selector with precise timeouts: epoll rounds up to milliseconds; select on it does not."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0 and self.fileno() < FD_SETSIZE:
            select.select([self.fileno()], [], [], timeout)
            timeout = 0
        return super().select(timeout)
