"""Clients that put a cloud under load, and note the outcome of every request.

Each client keeps a connection, and opens another one where that has ended meanwhile. In a closed
loop it asks again when it has its answer; an open loop asks at random times at a set rate, however
long answers take, as independent devices do. An edge asks as this project's own client does.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.protocol.codecs import Floats
from eenn.offload.protocol.decoding import decode_response
from eenn.offload.protocol.errors import OffloadError
from eenn.offload.protocol.wire import LOGITS, Cut

# Shorter than any pause that the cloud asks for.
EDGE_DEADLINE_S, EDGE_THREADS = 0.8, 16


@dataclass(frozen=True)
class Message:
    """A request as sent, and the logits that have to come back."""

    content: bytes
    logits: Floats


class Asked(NamedTuple):
    """One request: its start, its latency and its outcome.

    `status` is 0 if the connection failed, and -1 if the answer is wrong. `queue_ms` and `model_ms`
    are the server's own times, 0 if it reports none.
    """

    start_s: float
    latency_ms: float
    status: int
    queue_ms: float
    model_ms: float


def closed_loop(url: str, messages: Sequence[Message], clients: int, seconds: float) -> list[Asked]:
    """Load the server with `clients` clients; gives their requests in order of the answers."""

    async def client(first: int) -> None:
        connection = _Connection(url)
        number = first
        while (start := time.perf_counter()) < end:
            asked.append(await connection.ask(messages[number % len(messages)], start - begin))
            number += 1
        connection.close()

    async def run() -> None:
        await asyncio.gather(*(client(number) for number in range(clients)))

    asked: list[Asked] = []
    begin = time.perf_counter()
    end = begin + seconds
    asyncio.run(run())
    return asked


def open_loop(
    url: str, messages: Sequence[Message], per_s: float, seconds: float, seed: int
) -> list[Asked]:
    """Ask at random times; gives the requests in order of the answers."""

    async def request(message: Message, start_s: float) -> None:
        connection = idle.pop() if idle else _Connection(url)
        asked.append(await connection.ask(message, start_s))
        if connection.is_open:
            idle.append(connection)

    async def run() -> None:
        generator = np.random.default_rng(seed)
        due_s, number = 0.0, 0
        async with asyncio.TaskGroup() as tasks:
            while (due_s := due_s + generator.exponential(1 / per_s)) < seconds:
                wait_s = begin + due_s - time.perf_counter()
                if wait_s > 0.001:
                    await asyncio.sleep(wait_s)
                elif not number % 16:
                    await asyncio.sleep(0)  # Late, but answers have to be read.
                tasks.create_task(request(messages[number % len(messages)], due_s))
                number += 1
        for connection in idle:
            connection.close()

    asked: list[Asked] = []
    idle: list[_Connection] = []
    begin = time.perf_counter()
    asyncio.run(run())
    return asked


def edge_loop(
    url: str, artifact_id: str, features: Floats, cut: Cut, per_s: float, seconds: float
) -> dict[str, int]:
    """Ask about images as a device does, at random times.

    Args:
        features: of one image, asked about again and again.

    Returns:
        The number of answered images under "", and of others by the cause of failure.
    """
    generator = np.random.default_rng(1)
    outcomes: Counter[str] = Counter()

    def ask() -> str:
        try:
            cloud.infer(features, cut, time.monotonic() + EDGE_DEADLINE_S)
        except OffloadError as error:
            return error.cause
        return ""

    with HttpCloud(url, artifact_id) as cloud, ThreadPoolExecutor(EDGE_THREADS) as threads:
        asked, due = [], time.monotonic()
        end = due + seconds
        while (due := due + generator.exponential(1 / per_s)) < end:
            time.sleep(max(due - time.monotonic(), 0))
            asked.append(threads.submit(ask))
        outcomes.update(call.result() for call in asked)
    return dict(outcomes)


class _Connection:
    """A connection that is opened on demand, and kept."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname, parts.port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @property
    def is_open(self) -> bool:
        return self._streams is not None

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()
            self._streams = None

    async def ask(self, message: Message, start_s: float) -> Asked:
        start = time.perf_counter()
        is_kept = self.is_open
        status, head, body = await self._exchange(message)
        if is_kept and not status:
            # The connection had ended before the request came; any client would ask again.
            status, head, body = await self._exchange(message)
        latency_ms = 1e3 * (time.perf_counter() - start)
        if status == 200 and not _is_right(message, head, body):
            status = -1
        times = (_header(rb"%s;dur=([0-9.]+)" % name, head) for name in (b"queue", b"model"))
        return Asked(start_s, latency_ms, status, *map(float, times))

    async def _exchange(self, message: Message) -> tuple[int, bytes, bytes]:
        """Read status, head and body of the reply; 0 if the connection failed."""
        try:
            if not self._streams:
                self._streams = await asyncio.open_connection(*self._address)
            reader, writer = self._streams
            writer.write(message.content)
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(int(_header(rb"\ncontent-length: (\d+)", head)))
            if b"\nconnection: close" in head.lower():
                self.close()
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return 0, b"", b""
        return int(head[9:12]), head, body


def _header(pattern: bytes, head: bytes) -> bytes:
    found = re.search(pattern, head, re.IGNORECASE)
    return found[1] if found else b"0"


def _is_right(message: Message, head: bytes, body: bytes) -> bool:
    length = _header(rb"\ninference-header-content-length: (\d+)", head).decode()
    headers = {"Inference-Header-Content-Length": length}
    logits = decode_response(body, headers).outputs[LOGITS].astype(np.float32, copy=False)
    expected = message.logits
    return bool(np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max())
