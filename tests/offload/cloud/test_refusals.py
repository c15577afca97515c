"""Whom the cloud refuses, with what, and what that costs; called without sockets."""

import asyncio
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.datastructures import Headers

from eenn.offload.cloud.admission import Refused, reply_to
from eenn.offload.cloud.app import make_app
from eenn.offload.cloud.settings import Settings
from eenn.offload.protocol.encoding import encode_request
from eenn.offload.protocol.wire import JSON_LENGTH, Request
from tests.offload.cloud.asgi import InProcess, Reply
from tests.offload.cloud.holding import (
    INFER,
    INFER_IMAGE,
    ONE,
    Gate,
    assert_refused,
    batcher_of,
    computing,
    encoded,
    features_request,
    hold_models,
    image_request,
    metrics,
    until,
    waiting,
)
from tests.offload.exported import Exported
from tests.offload.patience import PATIENCE_S

LIMIT_S = PATIENCE_S
SMALL = Settings(queue=8, max_body_mb=0.25, read_timeout_ms=1e3 * LIMIT_S, timeout_ms=1e3 * LIMIT_S)


@pytest.fixture
def cloud(exported: Exported) -> Iterator[InProcess]:
    with InProcess(make_app([exported.path], SMALL)) as cloud:
        yield cloud


@pytest.mark.parametrize(
    ("path", "given", "status", "cause", "said"),
    [
        ("/v2/models/nobody/infer", {}, 404, "model", "eenn-cloud-0"),
        ("/v2/models/eenn-cloud-0/versions/1/infer", {}, 404, "model", "version 1 of"),
        (INFER, {"chunks": [b"hello"]}, 400, "request", "not JSON"),
        (INFER, {"headers": {"Content-Type": "text/plain"}}, 415, "type", "octet-stream"),
        (INFER, {"headers": {"Content-Encoding": "gzip"}}, 415, "type", "zstd"),
        (INFER, {"headers": {"Content-Encoding": "zstd;x"}}, 415, "type", "zstd"),
        (INFER, {"headers": {"Content-Encoding": "zstd, zstd"}}, 415, "type", "zstd"),
        (
            INFER,
            {"chunks": [b"raw"], "headers": {JSON_LENGTH: "0"}},
            400,
            "request",
            "raw binary request; allowed is a JSON header",
        ),
        (INFER, {"headers": {"Content-Length": "262145"}}, 413, "length", "allowed are 262144"),
        (INFER, {"headers": {"Content-Length": "9" * 19}}, 413, "length", "allowed are 262144"),
        (INFER, {"headers": {"Content-Length": ""}}, 411, "length", "Content-Length"),
        ("/v2/nothing", {}, 404, "path", "Not Found"),
    ],
)
def test_a_request_that_is_none_is_refused(
    path: str, given: dict[str, Any], status: int, cause: str, said: str, cloud: InProcess
) -> None:
    assert_refused(cloud, cloud("POST", path, **given), status, cause, said)


@pytest.mark.parametrize(
    ("images", "parameters", "said"),
    [
        (np.zeros((1, 3, 32, 31), np.float32), {}, "takes FP32 [-1, 3, 32, 32]"),
        (np.zeros((1, 3 * 32 * 32), np.float32), {}, "takes FP32 [-1, 3, 32, 32]"),
        (np.zeros((9, 3, 32, 32), np.float16), {}, "at most 8 are taken"),
        (np.zeros((1, 3, 32, 32), np.uint8), {}, "scale"),
        (np.zeros((1, 3, 32, 32), np.uint8), {"scale": 1e300, "zero_point": 0}, "scale 1e+300"),
        (np.array([b"file"], object), {}, "features of BYTES [1]; eenn-cloud-0 takes FP32"),
    ],
)
def test_features_that_do_not_fit_are_refused(
    images: Any, parameters: dict[str, Any], said: str, cloud: InProcess
) -> None:
    reply = cloud("POST", INFER, **features_request(images, parameters))
    assert_refused(cloud, reply, 400, "request", said)


def test_values_that_overflow_in_the_network_are_the_clients_fault(cloud: InProcess) -> None:
    huge = np.full((1, 3, 32, 32), 3e38, np.float32)
    reply = cloud("POST", INFER, **features_request(huge))
    assert_refused(cloud, reply, 400, "request", "NaN or infinity")


def test_an_unknown_output_is_refused(cloud: InProcess) -> None:
    reply = cloud("POST", INFER, **features_request(ONE, probabilities=True))
    assert_refused(cloud, reply, 400, "request", "one output, logits")


def test_another_artifact_is_refused(exported: Exported, cloud: InProcess) -> None:
    reply = cloud("POST", INFER, **features_request(ONE, {"eenn_artifact": "0" * 64}))
    assert_refused(
        cloud,
        reply,
        409,
        "artifact",
        f"000000000000 is not served here, but {exported.graphs.id[:12]}",
    )


def test_a_body_without_a_length_is_counted_as_it_comes(cloud: InProcess) -> None:
    headers = {"Transfer-Encoding": "chunked"}
    reply = cloud("POST", INFER, 3 * [100_000 * b"x"], headers, stalls=True)
    assert_refused(cloud, reply, 413, "length", "allowed are 262144")
    assert reply.headers["connection"] == "close"


def test_a_body_is_waited_for_no_longer_than_allowed(cloud: InProcess) -> None:
    async def stalling() -> Reply:
        call = asyncio.create_task(cloud.call("POST", INFER, [b"{"], stalls=True))
        await until(lambda: cloud.awaited == 1)
        assert not call.done()
        cloud.let_pass(LIMIT_S)
        return await call

    late = cloud.run(stalling())
    assert_refused(cloud, late, 408, "slow", "in time")
    assert late.headers["connection"] == "close"  # It may come yet.


def test_all_bodies_together_are_held_to_a_limit(cloud: InProcess) -> None:
    async def crowd() -> list[Reply]:
        largest = {"chunks": [250_000 * b"x"], "headers": {"Content-Length": "250001"}}
        calls = [
            asyncio.create_task(cloud.call("POST", INFER, **largest, stalls=True)) for _ in range(9)
        ]
        await until(lambda: cloud.awaited == 8 and any(call.done() for call in calls))
        cloud.let_pass(LIMIT_S)
        return await asyncio.gather(*calls)

    assert sorted(reply.status for reply in cloud.run(crowd())) == 8 * [408] + [429]
    assert cloud("POST", INFER, **features_request(ONE)).status == 200


def test_a_compressed_body_is_held_to_the_same_limit(cloud: InProcess) -> None:
    images = np.zeros((1, 3, 1000, 1000), np.uint8)
    body, headers = encode_request(Request({"features": images}), compress=True)
    assert len(body) < 10_000
    reply = cloud("POST", INFER, [body], headers)
    assert_refused(cloud, reply, 400, "request", "at most 262144 bytes")


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is that large; its pixels are not there."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (b"", "allowed are JPEG, PNG"),
        (b"no image", "allowed are JPEG, PNG"),
        (encoded("JPEG")[:-40], "truncated"),
        (encoded("TGA"), "allowed are JPEG, PNG"),
        (encoded("PNG", (1, 70_000)), "at most 65535 a side"),
        (png_of(10_000, 5_001), "50010000 pixels to decode; at most 50000000 are"),
        (png_of(12_000, 12_000), "144000000 pixels to decode"),
        (png_of(2**31 - 1, 2**31 - 1), "not a readable image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "allowed are JPEG, PNG"),
    ],
)
def test_files_that_are_no_usable_images_are_refused(
    file: bytes, said: str, cloud: InProcess
) -> None:
    reply = cloud("POST", INFER_IMAGE, **image_request(encoded("PNG"), file))
    assert_refused(cloud, reply, 400, "request", said)
    assert reply.error.startswith("image 2 of 2 is not a readable image")
    assert "0x" not in reply.error


def test_a_crop_of_another_size_is_refused(cloud: InProcess) -> None:
    tensor = np.array([encoded("PNG", (32, 31))], object)
    body, headers = encode_request(Request({"image": tensor}, {"cropped": True}))
    reply = cloud("POST", INFER_IMAGE, [body], headers)
    assert_refused(cloud, reply, 400, "request", "32x31 pixels; allowed for a crop are 32x32")


def test_a_tiny_file_for_each_of_many_samples_is_not_decoded(cloud: InProcess) -> None:
    reply = cloud("POST", INFER_IMAGE, **image_request(*(9 * [encoded("PNG")])))
    assert_refused(cloud, reply, 400, "request", "at most 8 elements are taken")


def test_a_server_that_is_full_says_when_to_come_back(
    cloud: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crowd(gate: Gate) -> list[Reply]:
        first = await computing(cloud, gate)
        queued = [await waiting(cloud, 4 * (number + 1)) for number in range(2)]
        # Nothing of its body is awaited.
        refused = await cloud.call("POST", INFER, [b"{"], stalls=True)
        gate.set()
        return [refused, *await asyncio.gather(first, *queued)]

    refused, *answered = cloud.run(crowd(hold_models(cloud, monkeypatch)))
    assert [reply.status for reply in answered] == [200, 200, 200]
    assert_refused(cloud, refused, 429, "full", "queue is full")
    assert refused.headers["retry-after"] == "1"
    assert "connection" not in refused.headers


def test_who_leaves_while_waiting_is_not_computed(
    cloud: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crowd(gate: Gate) -> Reply:
        first = await computing(cloud, gate)
        request = features_request(ONE)
        request["headers"]["Content-Length"] = str(len(request["chunks"][0]))
        gone = await cloud.call("POST", INFER, **request, hangs_up=True)
        gate.set()
        assert (await first).status == 200
        return gone

    assert cloud.run(crowd(hold_models(cloud, monkeypatch))).status == 499
    counted = metrics(cloud)
    assert counted['eenn_refused_total{cause="left"}'] == 1
    assert counted["eenn_batch_samples_sum"] == 4


def test_who_leaves_while_sending_is_only_counted(cloud: InProcess) -> None:
    reply = cloud("POST", INFER, [b"{"], {"Content-Length": "99"}, leaves=True)
    assert reply.status == 499
    assert metrics(cloud)['eenn_refused_total{cause="left"}'] == 1


def test_who_waits_too_long_is_told_so(cloud: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    async def crowd(gate: Gate) -> Reply:
        first = await computing(cloud, gate)
        late = await waiting(cloud, 4)
        cloud.let_pass(LIMIT_S)
        reply = await late
        gate.set()
        assert (await first).status == 200
        return reply

    late = cloud.run(crowd(hold_models(cloud, monkeypatch)))
    assert_refused(cloud, late, 503, "late", "no time was left")
    assert late.headers["retry-after"] == "1"


def test_a_server_that_closes_answers_whom_it_admitted_and_nobody_else(
    cloud: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cloud("GET", "/v2/health/ready").status == 200

    async def close(gate: Gate) -> list[Reply]:
        first = await computing(cloud, gate)
        queued = await waiting(cloud, 4)
        draining = asyncio.create_task(cloud.app.state.service.drain())  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        replies = [
            await cloud.call("GET", "/v2/health/live"),
            await cloud.call("GET", "/v2/health/ready"),
            await cloud.call("GET", "/v2/models/eenn-cloud-0/ready"),
            await cloud.call("POST", INFER, **features_request(ONE)),
        ]
        assert not draining.done()
        gate.set()
        await draining
        return [*replies, *await asyncio.gather(first, queued)]

    replies = cloud.run(close(hold_models(cloud, monkeypatch)))
    assert [reply.status for reply in replies] == [200, 503, 503, 503, 200, 200]
    assert "shutting down" in replies[3].error
    assert replies[3].headers["retry-after"] == "1"


def test_a_bug_is_a_500_that_tells_nothing(
    cloud: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(batch: Any) -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr(batcher_of(cloud), "_compute", broken)
    with pytest.raises(RuntimeError, match="secret"):
        cloud("POST", INFER, **features_request(ONE))
    monkeypatch.undo()
    counted = metrics(cloud)
    assert counted['eenn_requests_total{model="eenn-cloud-0",status="500"}'] == 1
    assert counted['eenn_refused_total{cause="bug"}'] == 1
    assert cloud("POST", INFER, **features_request(ONE)).status == 200


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer s3cre"}, 401),
        ({"Authorization": "Basic s3cret"}, 401),
        ({"Authorization": "Bearer \xe9\xff"}, 401),
        ({"Authorization": "s3cret"}, 401),
        ({"Authorization": "bearer"}, 401),
        ({"Authorization": "Bearer s3cret"}, 200),
        ({"Authorization": "bearer s3cret"}, 200),
        ({"Authorization": "BEARER  s3cret"}, 200),
    ],
)
def test_a_token_opens_everything_but_health_is_open(
    authorization: dict[str, str], status: int, exported: Exported
) -> None:
    with InProcess(make_app([exported.path], token="s3cret")) as cloud:
        request = features_request(ONE)
        request["headers"] |= authorization
        replies = [
            cloud("POST", INFER, **request),
            cloud("GET", "/v2", headers=authorization),
            cloud("GET", "/metrics", headers=authorization),
            cloud("POST", "/v2/repository/index", headers=authorization),
        ]
        assert {reply.status for reply in replies} == {status}
        if status == 401:
            counted = metrics(cloud, {"Authorization": "Bearer s3cret"})
            assert counted['eenn_refused_total{cause="token"}'] == len(replies)
            assert {reply.headers["www-authenticate"] for reply in replies} == {"Bearer"}
            assert "token" in replies[0].error
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert cloud("GET", path).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1", 200),
        ("127.9.9.9:80", 200),
        ("[::1]:8000", 200),
        ("evil.example", 421),
        ("evil.example:8000", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("evil.example:127.0.0.1", 421),
        ("10.0.0.1", 421),
        ("[::2]", 421),
        ("", 421),
        (None, 421),
    ],
)
def test_a_server_of_this_machine_is_asked_by_its_name(
    host: str | None, status: int, exported: Exported
) -> None:
    """Or else a page whose name is made to lead here asks in its visitor's browser."""
    own = {} if host is None else {"Host": host}
    with InProcess(make_app([exported.path], is_local=True)) as cloud:
        request = features_request(ONE)
        request["headers"] |= own
        replies = [
            cloud("POST", INFER, **request),
            cloud("GET", "/v2/health/live", headers=own),
            cloud("GET", "/metrics", headers=own),
        ]
    assert {reply.status for reply in replies} == {status}
    if status == 421:
        assert "--token-file" in replies[0].error


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (1, 1, 2)])
def test_files_stand_in_one_row(shape: tuple[int, ...], cloud: InProcess) -> None:
    tensor = np.empty(2, object)
    tensor[:] = [encoded("PNG"), encoded("PNG")]
    body, headers = encode_request(Request({"image": tensor.reshape(shape)}))
    reply = cloud("POST", INFER_IMAGE, [body], headers)
    said = f"image of BYTES {list(shape)}; eenn-cloud-image takes BYTES [-1]"
    assert_refused(cloud, reply, 400, "request", said)


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (1, 1), (2, 333)])
def test_thin_images_are_images(size: tuple[int, int], cloud: InProcess) -> None:
    assert cloud("POST", INFER_IMAGE, **image_request(encoded("PNG", size))).status == 200


def test_a_byte_order_mark_is_passed_over(cloud: InProcess) -> None:
    text = json.dumps(
        {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 3, 32, 32],
                     "data": ONE.ravel().tolist()}]}
    ).encode()  # fmt: skip
    for start in (b"", b"\xef\xbb\xbf"):
        assert cloud("POST", INFER, [start + text]).status == 200
    reply = cloud("POST", INFER, [b"\xff\xfe" + text.decode().encode("utf-16-le")])
    assert_refused(cloud, reply, 400, "request", "not JSON")


def test_other_methods_learn_which_are_allowed(cloud: InProcess) -> None:
    for path, allowed in ((INFER, {"POST"}), ("/v2", {"GET", "HEAD"})):
        reply = cloud("DELETE", path)
        assert reply.status == 405
        assert set(reply.headers["allow"].split(", ")) == allowed
    assert cloud("HEAD", INFER).status == 405
    assert cloud("HEAD", "/v2").status == 200


def test_no_refusal_says_where_objects_lie() -> None:
    reply = reply_to(Refused(400, "request", f"{object()} and {bytearray().pop}"), Headers())
    assert b"<object object> and <built-in method pop" in bytes(reply.body)
    assert b"0x" not in bytes(reply.body)
