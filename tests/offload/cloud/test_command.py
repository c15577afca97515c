"""The cloud as a process: what it answers, what it says of itself, how it starts and ends."""

import hashlib
import json
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.client import HTTPResponse
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
import onnx
import psutil
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from eenn.artifact.manifest import manifest_id
from eenn.errors import EennError
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.cloud.command import RunningCloud, main, running
from eenn.offload.cloud.settings import MAX_CONNECTIONS, MAX_REFUSED_CONNECTIONS
from eenn.offload.edge.clouds import LocalCloud
from eenn.offload.graphs.index import Graphs
from eenn.offload.protocol.codecs import pack, unpack
from eenn.offload.protocol.decoding import decode_response
from eenn.offload.protocol.encoding import encode_request
from eenn.offload.protocol.errors import CloudOverloaded, CloudRefused, CloudUnreachable
from eenn.offload.protocol.wire import IMAGE_CUT
from eenn.offload.protocol.wire import Request as InferRequest
from tests.offload.certificates import make_certificate
from tests.offload.cloud.over_http import counted, get
from tests.offload.exported import CLASSES, PREPROCESSING, Exported
from tests.offload.patience import PATIENT, wait_until

Floats = NDArray[np.float32]
SPLIT_POINTS = range(4)
PRECISIONS = ("fp32", "fp16", "uint8")


@pytest.fixture(scope="module")
def server(exported: Exported) -> Iterator[RunningCloud]:
    with running([exported.path]) as server:
        yield server


def edge_part(exported: Exported, split_point: int) -> Floats:
    """Features of all images after the segments before `split_point`, from PyTorch."""
    with torch.inference_mode():
        _, features = exported.network.edge(torch.from_numpy(exported.images), split_point)
    return np.ascontiguousarray(features.numpy())


def cloud_part(exported: Exported, features: Floats, split_point: int) -> Floats:
    """Logits of the last exit from such features, from PyTorch."""
    with torch.inference_mode():
        logits: Floats = exported.network.cloud(torch.from_numpy(features), split_point)[-1].numpy()
    return logits


def assert_equal(logits: Floats, expected: Floats) -> None:
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * float(np.abs(expected).max()))


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("split_point", SPLIT_POINTS)
def test_edge_and_cloud_are_the_whole_network(
    split_point: int, precision: str, compress: bool, exported: Exported, server: RunningCloud
) -> None:
    features = edge_part(exported, split_point)
    received = unpack(*pack(features, precision))
    with HttpCloud(
        server.url, exported.graphs.id, precision=precision, compress=compress, **PATIENT
    ) as cloud:
        logits = cloud.infer(features, exported.cut(split_point), None)
    assert_equal(logits, cloud_part(exported, received, split_point))
    if precision == "fp32":
        with torch.inference_mode():
            assert_equal(logits, exported.network(torch.from_numpy(exported.images))[-1].numpy())


def test_image_files_are_decoded_and_preprocessed_by_the_cloud(
    exported: Exported, server: RunningCloud
) -> None:
    files = [file.read_bytes() for file in exported.files]
    with HttpCloud(server.url, exported.graphs.id, **PATIENT) as cloud:
        assert_equal(cloud.infer_files(files, None), cloud_part(exported, exported.images, 0))


def test_files_that_are_cropped_already_are_only_normalised(
    exported: Exported, server: RunningCloud
) -> None:
    files = []
    for file in exported.files:
        png = BytesIO()
        Image.fromarray(PREPROCESSING.crop(PREPROCESSING.read(file))).save(png, "PNG")
        files.append(png.getvalue())
    with HttpCloud(server.url, exported.graphs.id, **PATIENT) as cloud:
        logits = cloud.infer_files(files, None, cropped=True)
    assert_equal(logits, cloud_part(exported, exported.images, 0))


def test_int8_is_what_the_int8_graphs_give(exported: Exported) -> None:
    local = LocalCloud(exported.path, "int8")
    with (
        running([exported.path], precision="int8") as server,
        HttpCloud(server.url, exported.graphs.id, **PATIENT) as cloud,
    ):
        assert get(f"{server.url}/v2")[1]["eenn_precision"] == "int8"
        for split_point in SPLIT_POINTS:
            features = edge_part(exported, split_point)
            assert_equal(
                cloud.infer(features, exported.cut(split_point), None),
                local.infer(features, exported.cut(split_point), None),
            )


def test_what_the_server_says_of_itself(exported: Exported, server: RunningCloud) -> None:
    version = exported.graphs.id[:12]
    status, metadata = get(f"{server.url}/v2")
    assert status == 200
    assert metadata["name"] == "eenn"
    assert "binary_tensor_data" in metadata["extensions"]
    assert metadata["eenn_artifacts"] == [exported.graphs.id]
    assert metadata["eenn_slowdown"] == 1.0
    names = [*exported.models, "eenn-cloud-image"]
    assert {"eenn-cloud-0", "eenn-cloud-3", "eenn-cloud-b15"} <= set(names)
    _, index = get(f"{server.url}/v2/repository/index", "POST")
    # Photographs may be meant for the artifact, whatever its graphs.
    own = exported.graphs.manifest.id[:12]
    expected = [*((name, version) for name in names), ("eenn-cloud-image", own)]
    assert sorted((row["name"], row["version"]) for row in index) == sorted(expected)
    assert {row["state"] for row in index} == {"READY"}
    for name in names:
        for path in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{version}"):
            assert get(f"{server.url}{path}/ready")[0] == 200
            _, model = get(f"{server.url}{path}")
            whole = name == "eenn-cloud-image" and "versions/" not in path
            assert model["name"] == name
            assert model["versions"] == ([version, own] if whole else [version])
            assert model["outputs"] == [
                {"name": "logits", "datatype": "FP32", "shape": [-1, len(CLASSES)]}
            ]
            (given,) = model["inputs"]
            if name == "eenn-cloud-image":
                assert given == {"name": "image", "datatype": "BYTES", "shape": [-1]}
            else:
                at = name.removeprefix("eenn-cloud-")
                blocks = int(at[1:]) if at[0] == "b" else exported.cut(int(at)).blocks
                shape = exported.shapes[blocks]
                assert given == {"name": "features", "datatype": "FP32", "shape": [-1, *shape]}


def test_without_a_token_only_this_machine_is_a_name_of_it(
    exported: Exported, server: RunningCloud, tmp_path: Path
) -> None:
    assert get(f"{server.url}/v2", Host="elsewhere.example")[0] == 421
    (tmp_path / "token").write_text("s3cret")
    own = {"Host": "elsewhere.example", "Authorization": "Bearer s3cret"}
    with running([exported.path], token_file=tmp_path / "token") as guarded:
        assert get(f"{guarded.url}/v2", **own)[0] == 200


def test_requests_at_the_same_time_share_batches(exported: Exported) -> None:
    images, expected = exported.images, cloud_part(exported, exported.images, 0)
    assert len(images) % 4 == 0
    # No batch goes before it is full.
    options = {"max_batch": 4, "batch_wait_ms": 1e6, "timeout_ms": 1e6, "slowdown": 1.5}
    with running([exported.path], **options) as server:
        assert get(f"{server.url}/v2")[1]["eenn_slowdown"] == 1.5

        def ask(row: int) -> Floats:
            with HttpCloud(server.url, exported.graphs.id, **PATIENT) as cloud:
                return cloud.infer(images[row : row + 1], IMAGE_CUT, None)

        with ThreadPoolExecutor(16) as clients:
            logits = np.concatenate([*clients.map(ask, range(len(images)))])
        assert_equal(logits, expected)
        assert counted(server.url, "eenn_batch_samples_sum") == len(images)
        assert counted(server.url, "eenn_batch_samples_count") == len(images) / 4
        name = 'eenn_requests_total{model="eenn-cloud-0",status="200"}'
        assert counted(server.url, name) == len(images)


@pytest.fixture(scope="module")
def other(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another artifact, whose graphs are the first one's int8 graphs."""
    path = tmp_path_factory.mktemp("other") / "artifact"
    shutil.copytree(exported.path, path)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["id"]
    manifest["created"] = "some other time"
    manifest["id"] = manifest_id(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
    index = json.loads((path / "onnx" / "index.json").read_text())
    index["artifact_id"] = manifest["id"]
    for row in index["pieces"]:
        if row["precision"] == "fp32":
            name = f"{row['name']}.onnx"
            quantised = (path / "onnx" / "int8" / name).read_bytes()
            (path / "onnx" / "fp32" / name).write_bytes(quantised)
            row["sha256"] = hashlib.sha256(quantised).hexdigest()
    (path / "onnx" / "index.json").write_text(json.dumps(index))
    return path


def test_a_graph_that_was_swapped_is_another_network(exported: Exported, tmp_path: Path) -> None:
    """With an index that says the same as its file, and the manifest as it was."""
    path = tmp_path / "artifact"
    shutil.copytree(exported.path, path)
    file = path / "onnx" / "fp32" / "head_4_plain.onnx"
    model = onnx.load(file)
    for weights in model.graph.initializer:
        if weights.data_type == onnx.TensorProto.FLOAT:
            weights.raw_data = bytes(len(weights.raw_data))
    swapped = model.SerializeToString()
    file.write_bytes(swapped)
    index = json.loads((path / "onnx" / "index.json").read_text())
    for row in index["pieces"]:
        if (row["name"], row["precision"]) == ("head_4_plain", "fp32"):
            row["sha256"] = hashlib.sha256(swapped).hexdigest()
    (path / "onnx" / "index.json").write_text(json.dumps(index))
    with (
        running([path]) as server,
        HttpCloud(server.url, exported.graphs.id, **PATIENT) as cloud,
    ):
        for ask in (cloud.check, lambda: cloud.infer(exported.images[:1], IMAGE_CUT, None)):
            with pytest.raises(CloudRefused, match="graphs") as refused:
                ask()
            assert refused.value.cause == "artifact"


def test_one_server_answers_for_several_artifacts(exported: Exported, other: Path) -> None:
    ids = [exported.graphs.id, Graphs.read(other).id]
    expected = [
        LocalCloud(path).infer(exported.images, IMAGE_CUT, None) for path in (exported.path, other)
    ]
    assert np.abs(expected[0] - expected[1]).max() > 0.01

    def ask(path: str, artifact_id: str | None = None) -> Floats:
        given = {} if artifact_id is None else {"eenn_artifact": artifact_id}
        body, headers = encode_request(InferRequest({"features": exported.images}, given))
        request = Request(f"{server.url}/v2/models/eenn-cloud-0{path}/infer", body, headers)
        with urlopen(request, timeout=60) as reply:
            return decode_response(reply.read(), dict(reply.headers)).outputs["logits"]

    with running([exported.path, other]) as server:
        _, metadata = get(f"{server.url}/v2/models/eenn-cloud-0")
        assert metadata["versions"] == [own[:12] for own in ids]
        for own, logits in zip(ids, expected, strict=True):
            assert_equal(ask("", own), logits)
            assert_equal(ask(f"/versions/{own[:12]}"), logits)
            assert_equal(ask(f"/versions/{own[:12]}", own), logits)
        assert_equal(ask(""), expected[0])
        for path, artifact_id in (("", "0" * 64), (f"/versions/{ids[0][:12]}", ids[1])):
            with pytest.raises(HTTPError) as refused:
                ask(path, artifact_id)
            with refused.value as error:
                assert error.code == 409
                assert ids[0][:12] in json.loads(error.read())["error"]


def test_a_token_and_a_certificate_guard_the_server(exported: Exported, tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    (tmp_path / "token").write_text("s3cret\n")
    options = {"token_file": tmp_path / "token", "tls_cert": cert, "tls_key": key}
    with running([exported.path], **options) as server:
        assert server.url.startswith("https://127.0.0.1:")
        for token, ca_file, error, cause in (
            ("wrong", str(cert), CloudRefused, "token"),
            ("s3cret", None, CloudUnreachable, "tls"),
        ):
            with (
                HttpCloud(
                    server.url, exported.graphs.id, token=token, ca_file=ca_file, **PATIENT
                ) as cloud,
                pytest.raises(error) as failed,
            ):
                cloud.infer(exported.images, IMAGE_CUT, None)
            assert failed.value.cause == cause
        with HttpCloud(
            server.url, exported.graphs.id, token="s3cret", ca_file=str(cert), **PATIENT
        ) as cloud:
            logits = cloud.infer(exported.images, IMAGE_CUT, None)
    assert_equal(logits, cloud_part(exported, exported.images, 0))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"host": "0.0.0.0", "token_file": "TOKEN"}, "unencrypted; give --tls-cert"),
        ({"token_file": "EMPTY"}, "has no token"),
        ({"token_file": "nowhere"}, "nowhere: No such file"),
        ({"tls_cert": "TOKEN"}, "--tls-cert and --tls-key"),
        ({"tls_cert": "TOKEN", "tls_key": "nowhere"}, "nowhere: No such file"),
        ({"tls_cert": "TOKEN", "tls_key": "TOKEN"}, "are not a certificate and its key"),
        ({"host": "no.such.host.invalid"}, "not an address"),
        ({"port": "TAKEN"}, "cannot listen on 127.0.0.1"),
        ({"port": 70000}, "to 65535"),
        ({"precision": "fp64"}, "allowed are fp32, int8"),
        ({"device": "cuda"}, "onnxruntime-gpu"),
        ({"queue": 0}, "queue=0: allowed is 1 or more"),
        ({"slowdown": 0.5}, "slowdown=0.5: allowed is 1 or more"),
        ({"timeout_ms": float("nan")}, "timeout_ms=nan"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(
    given: dict[str, Any],
    said: str,
    exported: Exported,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "token").write_text("s3cret")
    (tmp_path / "empty").write_text("\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = {
            "TOKEN": tmp_path / "token", "EMPTY": tmp_path / "empty",
            "TAKEN": taken.getsockname()[1],
        }  # fmt: skip
        arguments = ["--artifact", str(exported.path)]
        for name, value in given.items():
            arguments += [f"--{name.replace('_', '-')}", str(words.get(value, value))]
        with pytest.raises(SystemExit) as ended:
            main(arguments)
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_what_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(EennError, match=r"did not start: error: .* holds no artifact"),
        running([tmp_path]),
    ):
        pass


def test_who_serves_everybody_is_warned(
    exported: Exported, capsys: pytest.CaptureFixture[str]
) -> None:
    with running([exported.path], host="0.0.0.0"):
        pass
    assert capsys.readouterr().err == "warning: without --token-file 0.0.0.0 serves everybody\n"


def test_more_files_may_be_open_than_a_shell_allows(
    exported: Exported, capsys: pytest.CaptureFixture[str]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2000:
        pytest.skip("this machine allows no more")
    resource.setrlimit(resource.RLIMIT_NOFILE, (700, hard))
    try:
        with running([exported.path]) as server:
            allowed, _ = psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert allowed >= MAX_CONNECTIONS + MAX_REFUSED_CONNECTIONS + 100
    assert f"raised the limit of open files from 700 to {allowed}" in capsys.readouterr().err


def test_the_same_artifact_twice_is_a_mistake(exported: Exported) -> None:
    with (
        pytest.raises(EennError, match="give each artifact once"),
        running([exported.path, exported.path]),
    ):
        pass


def test_a_signal_ends_it_after_its_last_answer(exported: Exported) -> None:
    images = exported.images[:2]
    body, headers = encode_request(InferRequest({"features": images}))
    lines = ["POST /v2/models/eenn-cloud-0/infer HTTP/1.1", "Expect: 100-continue"]
    headers |= {"Content-Length": str(len(body)), "Host": "localhost"}
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with (
        running([exported.path], read_timeout_ms=60_000) as server,
        HttpCloud(server.url, exported.graphs.id, retries=0, **PATIENT) as late,
        socket.create_connection(("127.0.0.1", urlsplit(server.url).port), 60) as admitted,
    ):
        late.infer(images, IMAGE_CUT, None)  # Its connection is kept.
        admitted.sendall("\r\n".join([*lines, "", ""]).encode())
        assert admitted.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: get(f"{server.url}/v2/health/ready")[0] == 503)
        assert get(f"{server.url}/v2/health/live")[0] == 200
        with pytest.raises(CloudOverloaded, match="shutting down"):
            late.infer(images, IMAGE_CUT, None)
        admitted.sendall(body)
        with closing(HTTPResponse(admitted)) as reply:
            reply.begin()
            logits = decode_response(reply.read(), dict(reply.headers)).outputs["logits"]
        assert_equal(logits, cloud_part(exported, images, 0))
        assert server.process.wait(60) == 0


def test_a_server_does_not_outlive_the_program_that_runs_it(exported: Exported) -> None:
    program = f"""
import time
from eenn.offload.cloud.command import running
with running([{str(exported.path)!r}]) as server:
    print(server.process.pid, flush=True)
    time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        server = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    with suppress(psutil.NoSuchProcess):
        server.wait(60)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE


def test_a_server_ends_when_the_block_raises(exported: Exported) -> None:
    with pytest.raises(RuntimeError, match="halfway"), running([exported.path]) as server:
        raise RuntimeError("halfway")
    assert server.process.returncode == 0


def test_the_cloud_needs_no_training_software() -> None:
    program = """
import sys
import eenn.offload.cloud.command
from eenn.offload.protocol.wire import IMAGE_CUT
heavy = "torch torchvision pytorch_lightning lightning hydra wandb matplotlib scipy onnx pandas"
print([name for name in heavy.split() if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "[]\n", "")
