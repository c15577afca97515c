"""The cloud's application on Ray Serve: its answers beside those of the same graphs here.

    python -m benchmarks.ray_serve --artifact DIR

A check by hand and not a test: Ray gives its own processes fixed times to start, which a busy
machine exceeds.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer

import numpy as np

from benchmarks.edge_load import photo
from eenn.artifact.manifest import read_manifest
from eenn.errors import EennError
from eenn.exits.policies.registry import make_policy
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.edge.clouds import LocalCloud
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.graphs.index import Graphs

IMAGES, TOLERANCE, PATIENCE_S = 8, 1e-4, 240
# A deployment builds the application where it runs: sessions cannot be sent there.
PROGRAM = """
import os, socket, sys
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray
from ray import serve
from eenn.offload.cloud.app import make_app

artifact, scratch = sys.argv[1:]
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
ray.init(
    num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=2**27,
    _temp_dir=scratch,
)
serve.start(http_options={"host": "127.0.0.1", "port": port})
deployment = serve.deployment(serve.ingress(lambda: make_app([artifact]))())
serve.run(deployment.bind(), route_prefix="/")
print(f"listening on http://127.0.0.1:{port}", flush=True)
sys.stdin.read()
serve.shutdown()
ray.shutdown()
"""


def main() -> None:
    """Compare the answers behind every number of active branches, and that to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifact", required=True, type=Path, help="an artifact with its graphs")
    artifact: Path = parser.parse_args().artifact
    manifest = read_manifest(artifact)
    size = manifest.preprocessing.input_size
    images = np.random.default_rng(0).normal(size=(IMAGES, 3, size, size)).astype(np.float32)
    never_sure, local = make_policy("confidence", {"p_tar": 1.0}), LocalCloud(artifact)
    with served(artifact) as url, HttpCloud(url, Graphs.read(artifact).id) as cloud:
        cloud.check()
        for branches in range(len(manifest.exits)):
            active = tuple(range(branches))
            results, expected = (
                EdgeRuntime(artifact, never_sure, active, rest).classify(images)
                for rest in (cloud, local)
            )
            for result, right in zip(results, expected, strict=True):
                same = (result.label, result.exit) == (right.label, right.exit)
                near = np.allclose(result.confidences, right.confidences, rtol=TOLERANCE)
                if not (same and near) or result.failure:
                    raise EennError(f"branches {active}: {result} instead of {right}")
            print(f"{branches} active branches: {IMAGES} answers as on this machine")
        file = photo()
        logits = cloud.infer_files([file, file], None)
        print(f"photographs: {len(logits)} answers, equal: {np.array_equal(*logits)}")


@contextmanager
def served(artifact: Path) -> Iterator[str]:
    """Start the application on Ray Serve, in a process of its own; yields its address."""
    with (
        # A socket's path has to be short.
        TemporaryDirectory(prefix="ray") as scratch,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(artifact), scratch],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as program,
    ):
        watchdog = Timer(PATIENCE_S, program.kill)
        watchdog.start()
        try:
            lines = iter(program.stdout.readline if program.stdout else str, "")
            url = next((line.split()[-1] for line in lines if "listening on" in line), None)
            if url is None:
                raise EennError("Ray Serve did not start; its messages stand above")
            yield url
        finally:
            program.communicate("")
            watchdog.cancel()


if __name__ == "__main__":
    main()
