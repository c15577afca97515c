"""Clients of the edge's HTTP server beyond its capacity: their statuses and latencies.

    python -m benchmarks.edge_load

Each of 64 clients posts 20 images of 20 kB, over a connection that it keeps for as long as the
server does; then the same beside 16 clients that send their images too slowly. No client asks again
after a refusal. Counted are statuses and resets, measured the times to an answer. The network is
that of benchmarks/edge.py.
"""

import argparse
import http.client
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.edge import make_artifact

CLIENTS, IMAGES, SLOW = 64, 20, 16
TIMEOUT_S = 60.0


def photo() -> bytes:
    """Draw a JPEG file of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (150, 150, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


@contextmanager
def served(artifact: Path) -> Iterator[tuple[str, int]]:
    """Start an edge that serves, in a process of its own; yields its address."""
    command = [sys.executable, "-m", "eenn.offload.edge.command"]
    given = ["--artifact", str(artifact), "--serve", "0", "--p-tar", "0"]
    with subprocess.Popen([*command, *given], stdout=subprocess.PIPE, text=True) as edge:
        try:
            assert edge.stdout
            host, _, port = edge.stdout.readline().strip().rpartition("//")[2].partition(":")
            yield host, int(port)
        finally:
            edge.kill()


def asked(address: tuple[str, int], image: bytes, seen: list[tuple[str, float]]) -> None:
    """Post images one after the other, and note status and seconds of each."""
    connection = http.client.HTTPConnection(*address, timeout=TIMEOUT_S)
    for _ in range(IMAGES):
        start = time.perf_counter()
        try:
            connection.request("POST", "/classify", image)
            reply = connection.getresponse()
            reply.read()
            what = str(reply.status) + (" with Retry-After" * ("Retry-After" in reply.headers))
        except OSError as error:
            what = type(error).__name__
            connection.close()
        seen.append((what, time.perf_counter() - start))
    connection.close()


def slow_client(address: tuple[str, int]) -> socket.socket:
    """Open a client that announces an image and sends the start of it."""
    client = socket.create_connection(address)
    client.sendall(b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\nx")
    return client


def load(address: tuple[str, int], image: bytes) -> str:
    """Run all clients, and describe their results together."""
    seen: list[tuple[str, float]] = []
    clients = [threading.Thread(target=asked, args=(address, image, seen)) for _ in range(CLIENTS)]
    start = time.perf_counter()
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    seconds = time.perf_counter() - start
    took = np.array([took for _, took in seen])
    counts = ", ".join(f"{what}: {n}" for what, n in sorted(Counter(w for w, _ in seen).items()))
    median_ms, high_ms = 1e3 * np.quantile(took, (0.5, 0.99))
    return (
        f"{len(seen)} requests in {seconds:.1f} s: {counts}; median {median_ms:.0f} ms, "
        f"99 % {high_ms:.0f} ms, over 0.9 s: {np.sum(took > 0.9)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--artifact", type=Path, help="instead of one made for this benchmark")
    given, image = parser.parse_args(), photo()
    with tempfile.TemporaryDirectory() as scratch:
        artifact = given.artifact or Path(scratch) / "artifact"
        if given.artifact is None:
            make_artifact(artifact)
        with served(artifact) as address:
            print(f"{CLIENTS} clients: {load(address, image)}")
        with served(artifact) as address, ExitStack() as held:
            for _ in range(SLOW):
                held.enter_context(slow_client(address))
            print(f"and {SLOW} slow ones: {load(address, image)}")


if __name__ == "__main__":
    main()
