"""The HTTP client against a small server that answers: what is sent, what comes back."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from eenn.offload.client import HttpCloud
from eenn.offload.wire import quantise
from tests.flaky import ARTIFACT_ID, CLASSES, Connection, Flaky, HttpRequest, answer, serving, v2

Floats = NDArray[np.float32]


def features(samples: int = 2) -> Floats:
    return np.random.default_rng(0).normal(size=(samples, 4, 3, 3)).astype(np.float32)


def expected(given: Floats) -> Floats:
    return given.reshape(len(given), -1)[:, :CLASSES]


@pytest.fixture
def server() -> Iterator[Flaky]:
    with serving(v2) as server:
        yield server


def client(server: Flaky, **given: Any) -> HttpCloud:
    return HttpCloud(server.url, ARTIFACT_ID, **given)


class Noting:
    """Answers, and keeps what was asked."""

    def __init__(self) -> None:
        self.requests: list[HttpRequest] = []

    def __call__(self, connection: Connection) -> None:
        while request := connection.request():
            self.requests.append(request)
            answer(connection, request)


def test_features_go_up_and_logits_come_back(server: Flaky) -> None:
    with client(server) as cloud:
        for samples in (1, 3):
            logits = cloud.infer(features(samples), 2, None)
            assert_array_equal(logits, expected(features(samples)))
            assert logits.dtype == np.float32


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "uint8"])
def test_every_precision_is_sent_as_it_says(precision: Any, compress: bool) -> None:
    noting = Noting()
    with serving(noting) as server, client(server, precision=precision, compress=compress) as cloud:
        logits = cloud.infer(features(), 1, time.monotonic() + 60)
    _, step, _ = quantise(features())
    off = {"fp32": 0, "fp16": 4 * 2**-11, "uint8": step / 2 * 1.001}[precision]
    assert_allclose(logits, expected(features()), rtol=0, atol=off)
    (request,) = noting.requests
    sent = request.decoded()
    assert sent.inputs["features"].dtype == {"fp32": "f4", "fp16": "f2", "uint8": "u1"}[precision]
    assert sent.parameters["eenn_artifact"] == ARTIFACT_ID
    assert sent.outputs == {"logits": True}
    assert request.line == "POST /v2/models/eenn-cloud-1/infer HTTP/1.1"
    assert request.headers.get("Content-Encoding") == ("zstd" if compress else None)
    assert request.headers.get("Accept-Encoding") == "identity"
    assert "Authorization" not in request.headers


def test_files_go_to_the_model_of_images() -> None:
    noting = Noting()
    with serving(noting) as server, client(server, token="s3cret") as cloud:
        logits = cloud.infer_files([b"\x01\x02\x03\x04\x05\x06", b"abcdef"], None)
    assert_array_equal(logits, [[1, 2, 3, 4, 5], list(b"abcde")])
    (request,) = noting.requests
    assert request.line == "POST /v2/models/eenn-cloud-image/infer HTTP/1.1"
    assert request.headers["Authorization"] == "Bearer s3cret"


def test_one_connection_is_kept_and_every_byte_counted() -> None:
    sizes: list[tuple[int, int]] = []
    counted: list[tuple[int, int]] = []

    def measured(connection: Connection) -> None:
        while request := connection.request():
            before = connection.sent_bytes
            answer(connection, request)
            sizes.append((request.size, connection.sent_bytes - before))

    with serving(measured) as server, client(server) as cloud:
        for first in (True, False):
            cloud.infer(features(1 + first), 1, None)
            last = cloud.last
            assert (last.connections, last.tries) == (int(first), 1)
            assert min(last.wait_ms, last.encode_ms, last.decode_ms) > 0
            assert (last.server_queue_ms, last.server_model_ms) == (1.25, 3.5)
            counted.append((last.sent_bytes, last.received_bytes))
    assert server.connections == 1
    assert counted == sizes
