"""The cloud's application deployed on Ray Serve, and asked by the edge."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer

import numpy as np
import pytest

from eenn.exits.policies.registry import make_policy
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.edge.clouds import LocalCloud
from eenn.offload.edge.runtime import EdgeRuntime
from tests.offload.exported import export_once
from tests.offload.patience import PATIENT

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


@pytest.mark.slow
def test_the_edge_gets_its_answers_from_ray_serve(
    tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]
) -> None:
    exported = export_once(tmp_path_factory.getbasetemp(), write_images)
    images, files = exported.images[:8], [file.read_bytes() for file in exported.files[:8]]
    never_sure, local = make_policy("confidence", {"p_tar": 1.0}), LocalCloud(exported.path)
    with (
        # A socket's path has to be short.
        TemporaryDirectory(prefix="ray") as scratch,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(exported.path), scratch],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as program,
    ):
        assert program.stdout
        assert program.stderr
        watchdog = Timer(240, program.kill)
        watchdog.start()
        try:
            lines = iter(program.stdout.readline, "")
            url = next((line.split()[-1] for line in lines if "listening on" in line), None)
            assert url, program.stderr.read()
            with HttpCloud(url, exported.graphs.id, **PATIENT) as cloud:
                cloud.check()
                for active in ((), (0,), (0, 1), (0, 1, 2)):
                    results, expected = (
                        EdgeRuntime(exported.path, never_sure, active, asked).classify(images)
                        for asked in (cloud, local)
                    )
                    for result, right in zip(results, expected, strict=True):
                        assert (result.label, result.exit) == (right.label, right.exit)
                        assert result.confidences == pytest.approx(right.confidences, rel=1e-4)
                        assert not result.failure
                logits = local.infer(images, 0, None)
                np.testing.assert_allclose(
                    cloud.infer_files(files, None), logits, atol=1e-4 * np.abs(logits).max()
                )
        finally:
            program.communicate("")
            watchdog.cancel()
