"""The guard live: latency with it against without it, a cloud that is killed, a restarted edge.

    python -m benchmarks.guarded --artifact DIR --deployment FILE [--images DIR]

Real processes: two edges, one with the guard and one without, and one cloud behind the emulated
link of Pacheco et al. (2021a). The same test photographs go to both edges in blocks, in random
order of the edges, so that an audit meets the next photograph of its own edge; once at the usual
rate of audits and once as under suspicion. Then photographs go to the edge with the guard at a
steady pace while the cloud is killed and started again, and the edge is killed and started again.
Writes results/guarded.json.
"""

import argparse
import http.client
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from eenn.artifact.guard_settings import GuardSettings
from eenn.files import Json, JsonObject, write_json
from eenn.offload.adaptation.guard import SUSPICIOUS
from eenn.offload.bench.link import EmulatedLink
from eenn.offload.cloud.command import running
from eenn.planning.costs import Link
from eenn.provenance import processor, provenance
from eenn.records.evaluated_artifact import open_artifact

LINK = Link(94, 12.8)
ANSWERS, BLOCK, WARM_UP = 2000, 20, 40  # of each edge
SETTLED_S = 0.15  # after a block, so that its audits end with it
PACE_S = 0.05  # between two photographs while the cloud is killed
BEFORE_S, OUTAGE_S, AFTER_S = 20, 60, 60
RESULT = Path("results/guarded.json")


@dataclass
class Edge:
    """A running edge, and a connection to it."""

    process: subprocess.Popen[str]
    connection: http.client.HTTPConnection

    def classify(self, photograph: bytes) -> tuple[dict[str, Any], float]:
        """Post a photograph; return the answer, and the milliseconds until it was there."""
        start = time.perf_counter()
        self.connection.request("POST", "/classify", photograph)
        reply = self.connection.getresponse()
        content = reply.read()
        took_ms = 1e3 * (time.perf_counter() - start)
        if reply.status != 200:
            raise SystemExit(f"error: the edge answered {reply.status}: {content.decode()}")
        return json.loads(content), took_ms

    def guard(self) -> dict[str, Any]:
        """Read the guard's part of /health."""
        self.connection.request("GET", "/health")
        found: dict[str, Any] = json.loads(self.connection.getresponse().read())["guard"]
        return found


@contextmanager
def serving(given: Sequence[str], *options: str) -> Iterator[Edge]:
    """Start an edge with these options; it is killed when the block ends."""
    command = [sys.executable, "-m", "eenn.offload.edge.command", *given, "--serve", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            host, _, port = process.stdout.readline().strip().rpartition("//")[2].partition(":")
            yield Edge(process, http.client.HTTPConnection(host, int(port), timeout=60))
        finally:
            process.kill()


def compared(edges: dict[str, Edge], photographs: Sequence[bytes]) -> JsonObject:
    """Measure the latency of answers with and without the guard, block by block in turns."""
    order, took = random.Random(0), {name: list[float]() for name in edges}
    for edge in edges.values():
        for photograph in photographs[:WARM_UP]:
            edge.classify(photograph)
    for start in range(0, ANSWERS, BLOCK):
        block = [photographs[at % len(photographs)] for at in range(start, start + BLOCK)]
        for name in order.sample(sorted(edges), len(edges)):
            took[name] += [edges[name].classify(photograph)[1] for photograph in block]
            time.sleep(SETTLED_S)
    guard = edges["on"].guard()
    mean = {name: float(np.mean(own)) for name, own in took.items()}
    p99 = {name: float(np.quantile(own, 0.99)) for name, own in took.items()}
    return {
        "answers": ANSWERS,
        "mean_ms": mean,
        "p99_ms": p99,
        "mean_ratio": mean["on"] / mean["off"],
        "p99_ratio": p99["on"] / p99["off"],
        "audits": guard["totals"]["audits"],
        "dropped_audits": guard["totals"]["dropped_audits"],
        "alarms": guard["totals"]["risk_alarms"] + guard["totals"]["share_alarms"],
    }


def posted(edge: Edge, photographs: Sequence[bytes], seconds: float) -> JsonObject:
    """Post photographs at a steady pace; count the answers, and describe the guard afterwards."""
    until, asked, degraded = time.monotonic() + seconds, 0, 0
    while time.monotonic() < until:
        answer, _ = edge.classify(photographs[asked % len(photographs)])
        asked += 1
        degraded += answer["degraded"]
        time.sleep(PACE_S)
    guard = edge.guard()
    totals = guard["totals"]
    return {
        "answers": asked,
        "degraded": degraded,
        "state": guard["state"],
        "images": totals["images"],
        "audits": totals["audits"],
        "dropped_audits": totals["dropped_audits"],
        "alarms": totals["risk_alarms"] + totals["share_alarms"],
    }


def disturbed(artifact: Path, given: Sequence[str], photographs: Sequence[bytes]) -> JsonObject:
    """Stop and start the cloud, then the edge, under a stream of photographs."""
    parts: dict[str, Json] = {}
    with running([artifact]) as cloud:
        port = urlsplit(cloud.url).port
        assert port
    with ExitStack() as stack:
        link = stack.enter_context(EmulatedLink("127.0.0.1", port, LINK))
        options = ["--cloud", f"http://{link.host}:{link.port}"]
        with serving(given, *options) as edge:
            with running([artifact], port=port) as cloud:
                parts["before"] = posted(edge, photographs, BEFORE_S)
                cloud.process.kill()
                cloud.process.wait()
                parts["without a cloud"] = posted(edge, photographs, OUTAGE_S)
            with running([artifact], port=port):
                parts["with the cloud again"] = posted(edge, photographs, AFTER_S)
                edge.process.terminate()
                edge.process.wait()
                with serving(given, *options) as again:
                    parts["restarted edge"] = posted(again, photographs, BEFORE_S)
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description="the guard live")
    parser.add_argument("--artifact", required=True, help="directory of an exported artifact")
    parser.add_argument("--deployment", required=True, help="a deployment file that a fit wrote")
    parser.add_argument("--images", help="directory of its images, if they were moved")
    given = parser.parse_args()
    artifact = open_artifact(given.artifact, given.images)
    photographs = [photo.file for photo in artifact.photos("test", None)]
    random.Random(0).shuffle(photographs)  # in the order of classes they would drift
    result: dict[str, Json] = {}
    edge = ["--artifact", str(artifact.manifest.path), "--deployment", given.deployment]
    for name, rate in (("usual", GuardSettings().audit), ("suspicious", SUSPICIOUS)):
        guard = str(GuardSettings(audit=rate))
        with ExitStack() as stack:
            state = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "guard.json"
            cloud = urlsplit(stack.enter_context(running([artifact.manifest.path])).url)
            assert cloud.port
            link = stack.enter_context(EmulatedLink("127.0.0.1", cloud.port, LINK))
            there = [*edge, "--cloud", f"http://{link.host}:{link.port}"]
            on = serving(there, "--guard", guard, "--guard-state", str(state))
            edges = {
                "on": stack.enter_context(on),
                "off": stack.enter_context(serving(there, "--guard", "off")),
            }
            result[name] = compared(edges, photographs)
        print(json.dumps(result[name], indent=1), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        guarded = ["--guard", str(GuardSettings()), "--guard-state", f"{scratch}/guard.json"]
        result["disturbed"] = disturbed(artifact.manifest.path, [*edge, *guarded], photographs)
    result |= {
        "link": f"{LINK.bandwidth_mbps:g} Mbps, round trip {LINK.rtt_ms:g} ms",
        **provenance(artifact.split.seed, artifact.title, f"{processor()}, 1 thread"),
    }
    write_json(RESULT, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
