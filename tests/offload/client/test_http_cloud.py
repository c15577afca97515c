"""The HTTP client against a small server that answers: what is sent, what comes back."""

import json
import math
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from eenn.errors import EennError
from eenn.offload.client.breaker import CircuitBreaker
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.client.transport import Timeouts
from eenn.offload.protocol.codecs import quantise
from eenn.offload.protocol.errors import (
    BadReply,
    CloudOverloaded,
    CloudRefused,
    CloudTimeout,
    OffloadError,
)
from eenn.offload.protocol.wire import IMAGE_CUT, Cut
from tests.offload.client.flaky import (
    ARTIFACT_ID,
    CLASSES,
    Connection,
    Flaky,
    HttpRequest,
    answer,
    asking,
    http,
    raw,
    replying,
    serving,
    v2,
)
from tests.offload.patience import PATIENCE_S

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
    return asking(server.url, **given)


class Noting:
    """Answers, and keeps what was asked."""

    def __init__(self) -> None:
        self.requests: list[HttpRequest] = []

    def __call__(self, connection: Connection) -> None:
        while request := connection.request():
            self.requests.append(request)
            connection.send(answer(request))


def test_features_go_up_and_logits_come_back(server: Flaky) -> None:
    with client(server) as cloud:
        for samples in (1, 3):
            logits = cloud.infer(features(samples), Cut(2, "2"), None)
            assert_array_equal(logits, expected(features(samples)))
            assert logits.dtype == np.float32


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "uint8"])
def test_every_precision_is_sent_as_it_says(precision: Any, compress: bool) -> None:
    noting = Noting()
    with serving(noting) as server, client(server, precision=precision, compress=compress) as cloud:
        logits = cloud.infer(features(), Cut(1, "1"), time.monotonic() + PATIENCE_S)
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


@pytest.mark.clock
def test_one_connection_is_kept_and_every_byte_counted() -> None:
    sizes: list[tuple[int, int]] = []
    counted: list[tuple[int, int]] = []

    def measured(connection: Connection) -> None:
        while request := connection.request():
            reply = answer(request)
            sizes.append((request.size, len(reply)))
            connection.send(reply)

    with serving(measured) as server, client(server) as cloud:
        for first in (True, False):
            cloud.infer(features(1 + first), Cut(1, "1"), None)
            last = cloud.last
            assert (last.connections, last.tries) == (int(first), 1)
            assert min(last.wait_ms, last.encode_ms, last.decode_ms) > 0
            assert last.server_parts_ms == {"queue": 1.25, "model": 3.5}
            assert last.server_ms == 4.75
            counted.append((last.sent_bytes, last.received_bytes))
    assert server.connections == 1
    assert counted == sizes


def test_threads_share_a_client_and_not_their_answers(server: Flaky) -> None:
    def ask(cloud: HttpCloud, number: int) -> None:
        for samples in range(1, 30):
            given = features(samples) + number
            assert_array_equal(cloud.infer(given, IMAGE_CUT, None), expected(given))
            assert cloud.last.sent_bytes > given.nbytes
            assert cloud.last.sent_bytes < given.nbytes + 1000

    with client(server) as cloud, ThreadPoolExecutor(6) as pool:
        list(pool.map(partial(ask, cloud), range(6)))
        assert server.connections <= 6


@pytest.mark.parametrize("background", [False, True])
def test_background_requests_for_inference_say_so(background: bool) -> None:
    noting = Noting()
    with serving(noting) as server, client(server, background=background) as cloud:
        cloud.check()
        assert_array_equal(cloud.infer(features(), Cut(1, "1"), None), expected(features()))
        cloud.infer_files([b"abcdef"], None)
    priorities = [request.headers.get("Priority") for request in noting.requests]
    assert priorities == [None, *2 * ["u=7" if background else None]]


def test_a_background_request_that_is_refused_is_not_sent_again() -> None:
    breaker = CircuitBreaker(threshold=1)
    busy = replying(b"", status="429 Too Many Requests")
    with (
        serving(busy) as server,
        client(server, background=True, retries=3, breaker=breaker) as cloud,
    ):
        for _ in range(2):
            with pytest.raises(CloudOverloaded):
                cloud.infer(features(), IMAGE_CUT, None)
            # The second is a kept connection that the server has closed.
            assert cloud.last.tries <= 2
    assert breaker.state == "closed"


@pytest.mark.parametrize(
    ("said", "times"),
    [
        (None, {}),
        ("queue;dur=1.5", {"queue": 1.5}),
        ('cache;desc="a, b";dur=2, Model ; dur="7", queue;desc=q;dur=3', {"queue": 3, "model": 7}),
        ("model;dur=-1, queue;dur=, ;;;dur", {}),
        ("model, queue", {}),
        # No further than would be searched in no time.
        ("a;" * 30_000 + ", queue;dur=1.5", {}),
    ],
)
def test_the_clouds_times_are_read_where_it_says_them(said: str | None, times: Any) -> None:
    def telling(connection: Connection) -> None:
        while request := connection.request():
            header = f"Server-Timing: {said}" if said else "X: y"
            old = b"Server-Timing: queue;dur=1.25, model;dur=3.5"
            connection.send(answer(request).replace(old, header.encode()))

    with serving(telling) as server, client(server) as cloud:
        cloud.infer(features(), Cut(1, "1"), None)
        assert cloud.last.server_parts_ms == times
        assert math.isnan(cloud.last.server_ms) is not bool(times)


def test_a_path_before_the_protocols_own_is_kept() -> None:
    noting = Noting()
    with serving(noting) as server, asking(f"{server.url}/cloud/") as cloud:
        cloud.check()
    assert noting.requests[0].line == "GET /cloud/v2/models/eenn-cloud-0 HTTP/1.1"
    assert noting.requests[0].headers["Host"] == f"127.0.0.1:{server.port}"


def test_no_proxy_of_the_environment_is_asked(
    server: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:1")
    with client(server) as cloud:
        cloud.check()


@pytest.mark.parametrize(
    "metadata",
    [
        {"versions": ["ffffffffffff", ARTIFACT_ID[:12]]},
        {"versions": ["1"], "platform": "onnxruntime_onnx"},
        {"versions": []},
    ],
)
def test_a_cloud_with_the_artifact_passes_the_check(metadata: Any) -> None:
    with serving(replying(json.dumps(metadata).encode())) as server, client(server) as cloud:
        cloud.check()


@pytest.mark.parametrize(
    ("reply", "kind", "said"),
    [
        (http(b'{"versions": ["ffffffffffff"]}'), CloudRefused, "artifacts ffffffffffff, not 0123"),
        (http(b"", status="409 Conflict"), CloudRefused, "409"),
        (http(b'{"error": "token"}', status="401 Unauthorized"), CloudRefused, "401: token"),
        (http(b"", status="404 Not Found"), CloudRefused, "404"),
        (http(b"<html>"), BadReply, "check the URL"),
        (http(b'{"versions": 1}'), BadReply, "check the URL"),
        (http(b"[" * 100_000), BadReply, "check the URL"),
        (b"SSH-2.0", BadReply, "not HTTP"),
    ],
)
def test_a_cloud_that_will_not_answer_fails_the_check(
    reply: bytes, kind: type[OffloadError], said: str
) -> None:
    with serving(raw(reply)) as server, client(server) as cloud, pytest.raises(kind, match=said):
        cloud.check()


def test_a_cloud_that_keeps_failing_is_left_alone() -> None:
    broken = True

    def behave(connection: Connection) -> None:
        while request := connection.request():
            connection.send(
                http(b"", status="500 Internal Server Error") if broken else answer(request)
            )

    now = 0.0
    breaker = CircuitBreaker(threshold=2, pause_s=1.0, clock=lambda: now)
    with serving(behave) as server, client(server, breaker=breaker) as cloud:
        causes = []
        for _ in range(4):
            with pytest.raises(OffloadError) as caught:
                cloud.infer(features(), IMAGE_CUT, None)
            causes.append((caught.value.cause, cloud.last.tries))
        assert causes == [("server", 1), ("server", 1), ("breaker", 0), ("breaker", 0)]
        now, broken = 1.0, False
        for _ in range(2):
            cloud.infer(features(), IMAGE_CUT, None)
        assert breaker.state == "closed"


@pytest.mark.parametrize("status", ["400 Bad Request", "413 Content Too Large"])
def test_a_cloud_that_refuses_questions_is_not_left_alone(status: str) -> None:
    breaker = CircuitBreaker(threshold=1)
    refusing = replying(b"", status=status)
    with serving(refusing) as server, client(server, breaker=breaker) as cloud:
        for _ in range(2):
            with pytest.raises(CloudRefused):
                cloud.infer(features(), IMAGE_CUT, None)
    assert breaker.state == "closed"


def test_garbage_counts_against_the_cloud() -> None:
    breaker = CircuitBreaker(threshold=1, clock=lambda: 0.0)
    with (
        serving(replying(b"?")) as server,
        client(server, breaker=breaker) as cloud,
        pytest.raises(BadReply),
    ):
        cloud.infer(features(), IMAGE_CUT, None)
    assert breaker.state == "open"


def test_a_question_that_came_too_late_does_not_count_against_the_cloud(server: Flaky) -> None:
    breaker = CircuitBreaker(threshold=1)
    with client(server, breaker=breaker) as cloud, pytest.raises(CloudTimeout):
        cloud.infer(features(), IMAGE_CUT, time.monotonic())
    assert breaker.state == "closed"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "127.0.0.1:8000"}, "allowed is http://HOST:PORT"),
        ({"url": "cloud.example"}, "is not the URL of a cloud"),
        ({"url": "ftp://cloud.example"}, "ftp://cloud.example is not the URL"),
        ({"url": "http://"}, "allowed is http://"),
        ({"url": "http://user:secret@cloud.example"}, "is not the URL"),
        ({"url": "http://user:secret@cloud.example:99999"}, "is not a URL"),
        ({"url": "http://cloud.example?model=1"}, "is not the URL"),
        ({"url": "http://cloud.example:port"}, "is not a URL"),
        ({"url": "http://cloud.example:99999"}, "is not a URL"),
        ({"url": "http://a b"}, "is not a URL"),
        ({"precision": "int8"}, "allowed are fp32, fp16, uint8"),
        ({"retries": -1}, "0 or more"),
        ({"token": ""}, "token"),
        ({"token": "two\nlines"}, "token"),
        ({"url": "https://cloud.example", "ca_file": "/none"}, "/none cannot be read as cert"),
        ({"url": "https://cloud.example", "ca_file": __file__}, "cannot be read as cert"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(EennError, match=said) as caught:
        HttpCloud(**{"url": "http://cloud.example", "artifact_id": ARTIFACT_ID, **given})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("given", [{"connect_ms": 0}, {"read_ms": float("nan")}])
def test_timeouts_that_are_not_positive_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(EennError, match="allowed is more than 0"):
        Timeouts(**given)


def test_compression_that_is_missing_is_known_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    HttpCloud("http://cloud.example", ARTIFACT_ID)
    with pytest.raises(EennError, match="pip install zstandard"):
        HttpCloud("http://cloud.example", ARTIFACT_ID, compress=True)
