"""Honest clients of a cloud under attack: their latencies and failures, attack by attack.

    python -m benchmarks.attacks [--artifact DIR] [--seconds 10] [--only NAME]

Each attack runs in a process of its own against a server of its own, while two clients ask every
50 ms or so, each with a time limit of 5 s: one about features, one about a photograph. Without an
artifact, one of full size with random weights. Writes results/attacks.json.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks import attackers
from benchmarks.edge import make_artifact
from eenn.files import JsonObject, write_json
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.cloud.command import RunningCloud, running
from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.pieces import cut_behind
from eenn.offload.protocol.codecs import Floats
from eenn.offload.protocol.errors import OffloadError
from eenn.provenance import processor, provenance

PAUSE_S, DEADLINE_S = 0.05, 5.0
RESULT = Path("results/attacks.json")


@dataclass(frozen=True)
class Outcome:
    """The answers of honest clients beside an attack.

    Args:
        failures: questions without an answer, by cause.
        attacked: the attacker's counts of its own actions.
        stop_s: seconds from SIGTERM to the server's end, the attack going on.
    """

    answered: int
    failures: dict[str, int]
    features_ms: dict[str, float]
    photograph_ms: dict[str, float]
    memory_mib: float
    stop_s: float
    attacked: dict[str, int]


class Asking:
    """Two honest clients, until they are stopped."""

    def __init__(self, url: str, graphs: Graphs, ca_file: str | None) -> None:
        cut = cut_behind(graphs.manifest, len(graphs.manifest.exits) - 2)
        shape = graphs.features_shape(cut.blocks)
        features: Floats = np.random.default_rng(0).standard_normal((1, *shape), np.float32)
        file = BytesIO()
        pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).resize((1600, 1200)).save(file, "JPEG")
        self._cloud = HttpCloud(url, graphs.id, ca_file=ca_file)
        self.ms: dict[str, list[float]] = {"features": [], "photograph": []}
        self.failures: dict[str, int] = {}
        self._until = 0.0
        self._asks: dict[str, Callable[[float], object]] = {
            "features": lambda deadline: self._cloud.infer(features, cut, deadline),
            "photograph": lambda deadline: self._cloud.infer_files([file.getvalue()], deadline),
        }

    def run(self, seconds: float) -> None:
        """Ask for some seconds."""
        self._until = time.monotonic() + seconds
        with self._cloud, ThreadPoolExecutor(len(self._asks)) as threads:
            for done in [threads.submit(self._ask_on, kind) for kind in self._asks]:
                done.result()

    def _ask_on(self, kind: str) -> None:
        while time.monotonic() < self._until:
            start = time.perf_counter()
            try:
                self._asks[kind](time.monotonic() + DEADLINE_S)
            except OffloadError as error:
                self.failures[error.cause] = self.failures.get(error.cause, 0) + 1
            else:
                self.ms[kind].append(1e3 * (time.perf_counter() - start))
            time.sleep(PAUSE_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--artifact", type=Path, help="with exported graphs")
    parser.add_argument("--seconds", type=float, default=10, help="of each attack (%(default)s)")
    parser.add_argument("--only", choices=sorted(attackers.ATTACKS), help="one alone")
    given = parser.parse_args()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = given.artifact
        if path is None:
            path = scratch / "artifact"
            make_artifact(path)
        cert, key = attackers.make_certificate(scratch)
        workers = stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
        outcomes = {}
        for name in [given.only] if given.only else attackers.ATTACKS:
            tls = {"tls_cert": cert, "tls_key": key} if name in attackers.WITH_TLS else {}
            with running([path], **tls) as server:
                outcomes[name] = beside(server, name, path, workers, given.seconds, cert)
            print(f"{name:28} {asdict(outcomes[name])}", flush=True)
    result: JsonObject = {
        "seconds": given.seconds,
        "attacks": {name: asdict(outcome) for name, outcome in outcomes.items()},
        **provenance(0, "drawn features, one photograph", processor()),
    }
    if not given.only:
        write_json(RESULT, result)
        print(f"wrote {RESULT}")


def beside(
    server: RunningCloud,
    name: str,
    path: Path,
    workers: ProcessPoolExecutor,
    seconds: float,
    cert: Path,
) -> Outcome:
    """Measure honest clients during an attack, which outlasts the server."""
    graphs = Graphs.read(path)
    ca_file = str(cert) if server.url.startswith("https") else None
    process = psutil.Process(server.process.pid)
    workers.submit(time.sleep, 0).result()  # The process has started when the attack begins.
    attack: Future[dict[str, int]] = workers.submit(attackers.attack, name, server.url, seconds + 4)
    time.sleep(1.0)
    asking = Asking(server.url, graphs, ca_file)
    asking.run(seconds)
    memory_mib = process.memory_info().rss / 2**20
    start = time.perf_counter()
    server.process.terminate()
    server.process.wait()
    stop_s = time.perf_counter() - start
    return Outcome(
        answered=sum(map(len, asking.ms.values())),
        failures=asking.failures,
        features_ms=quantiles(asking.ms["features"]),
        photograph_ms=quantiles(asking.ms["photograph"]),
        memory_mib=round(memory_mib, 1),
        stop_s=round(stop_s, 2),
        attacked=attack.result(),
    )


def quantiles(ms: list[float]) -> dict[str, float]:
    """Compute the median, the 99th percentile and the largest."""
    if not ms:
        return {}
    median, p99 = np.quantile(ms, [0.5, 0.99])
    named = {"median": float(median), "p99": float(p99), "largest": max(ms)}
    return {name: round(value, 1) for name, value in named.items()}


if __name__ == "__main__":
    main()
