"""What one request may cost the others: pixels, places, parsing, memory; called without sockets."""

import asyncio
import json
from collections.abc import Callable, Iterator
from threading import Event, current_thread
from typing import Any

import numpy as np
import pytest
import zstandard

from eenn.offload.cloud import app, images
from eenn.offload.cloud.app import make_app
from eenn.offload.cloud.settings import Settings
from eenn.offload.cloud.sharing import PriorityThreads, run_and_rest
from eenn.offload.protocol import decoding
from eenn.offload.protocol.encoding import encode_request
from eenn.offload.protocol.wire import JSON_LENGTH, Request
from tests.offload.cloud.asgi import InProcess, Reply
from tests.offload.cloud.holding import (
    FOUR,
    INFER,
    INFER_IMAGE,
    ONE,
    Gate,
    assert_refused,
    encoded,
    features_request,
    hold,
    image_request,
    metrics,
    until,
)
from tests.offload.exported import Exported
from tests.offload.patience import PATIENCE_S

LIMIT_S = PATIENCE_S
SMALL = Settings(queue=8, max_body_mb=0.25, read_timeout_ms=1e3 * LIMIT_S, timeout_ms=1e3 * LIMIT_S)
PNG = encoded("PNG")  # 1600 pixels


@pytest.fixture
def cloud(exported: Exported) -> Iterator[InProcess]:
    with InProcess(make_app([exported.path], SMALL)) as cloud:
        yield cloud


def asked(cloud: InProcess, *files: bytes, **how: Any) -> "asyncio.Task[Reply]":
    return asyncio.create_task(cloud.call("POST", INFER_IMAGE, **image_request(*files), **how))


async def begun(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.begun.wait, PATIENCE_S)


def test_the_pixels_of_a_request_are_counted_before_any_is_decoded(
    cloud: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_REQUEST_PIXELS", 3 * 1600)
    gate, decoded = hold(monkeypatch, images, "_decoded")
    reply = cloud("POST", INFER_IMAGE, **image_request(*4 * [PNG]))
    assert_refused(cloud, reply, 400, "request", "image 4 of 4: 6400 pixels to decode")
    assert decoded == []
    gate.set()
    assert cloud("POST", INFER_IMAGE, **image_request(*3 * [PNG])).status == 200


def test_photographs_count_as_they_are_decoded(
    cloud: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    # At an eighth of their sides, so that the shorter one keeps the 36 that are wanted.
    monkeypatch.setattr(images, "MAX_REQUEST_PIXELS", 8 * 50 * 50)
    photographs = 8 * [encoded("JPEG", (400, 400))]
    assert cloud("POST", INFER_IMAGE, **image_request(*photographs)).status == 200
    monkeypatch.setattr(images, "MAX_REQUEST_PIXELS", 8 * 50 * 50 - 1)
    assert cloud("POST", INFER_IMAGE, **image_request(*photographs)).status == 400


def test_images_that_are_decoded_keep_no_features_out(
    cloud: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crowd() -> tuple[Reply, list[Reply]]:
        gate, _ = hold(monkeypatch, images, "_decoded")
        decoding = [asked(cloud, *4 * [PNG]) for _ in range(2)]
        await begun(gate)
        features = await cloud.call("POST", INFER, **features_request(ONE))
        gate.set()
        return features, await asyncio.gather(*decoding)

    features, decoded = cloud.run(crowd())
    assert [reply.status for reply in (features, *decoded)] == [200, 200, 200]


def test_who_leaves_is_decoded_no_further(
    cloud: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def leave() -> tuple[Reply, int, list[Any]]:
        gate, decoded = hold(monkeypatch, images, "_decoded")
        request = image_request(*8 * [PNG])
        leaving = asyncio.create_task(
            cloud.call("POST", INFER_IMAGE, **request, hangs_up_after=gate.begun)
        )
        await begun(gate)
        gone = await leaving
        gate.set()
        answered = await cloud.call("POST", INFER_IMAGE, **image_request(PNG))
        return gone, answered.status, decoded

    gone, status, decoded = cloud.run(leave())
    assert (gone.status, status) == (499, 200)
    assert [file.name for file in decoded] == ["image 1 of 8", "image 1 of 1"]


def test_who_is_late_is_decoded_no_further(
    cloud: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait() -> tuple[Reply, int]:
        gate, decoded = hold(monkeypatch, images, "_decoded")
        call = asked(cloud, *8 * [PNG])
        await begun(gate)
        cloud.let_pass(LIMIT_S)
        late = await call
        gate.set()
        await cloud.call("POST", INFER_IMAGE, **image_request(PNG))
        return late, len(decoded)

    late, decoded = cloud.run(wait())
    assert_refused(cloud, late, 503, "late", "no time was left to decode it")
    assert late.headers["retry-after"] == "1"
    assert decoded == 2


def test_large_images_give_way_to_small_ones_and_small_ones_stay(
    cloud: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As many places as the queue has: 8.
    monkeypatch.setattr(images, "MAX_LIGHT_PIXELS", 2000)
    large = encoded("PNG", (90, 90))

    async def crowd() -> tuple[list[Reply], Reply, Reply]:
        gate, decoded = hold(monkeypatch, images, "_decoded")
        bombs = [asked(cloud, *4 * [large]) for _ in range(2)]
        await begun(gate)
        small = asked(cloud, *4 * [PNG])
        await until(lambda: any(bomb.done() for bomb in bombs))
        also = asked(cloud, *4 * [PNG])
        await until(lambda: all(bomb.done() for bomb in bombs))
        refused = await asked(cloud, PNG, PNG)
        gate.set()
        replies = await asyncio.gather(small, also)
        assert len(decoded) == 9
        assert [reply.status for reply in replies] == [200, 200]
        return [await bomb for bomb in bombs], replies[0], refused

    bombs, _, refused = cloud.run(crowd())
    assert [reply.status for reply in bombs] == [429, 429]
    assert refused.status == 429
    assert "8 images are being decoded" in refused.error


def test_small_images_never_wait_for_large_ones(
    cloud: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_LIGHT_PIXELS", 2000)
    large, real = encoded("PNG", (90, 90)), images._decoded
    gate = Gate()

    def held(file: Any, *given: Any, **options: Any) -> Any:
        if len(file.getvalue()) == len(large):
            gate.begun.set()
            assert gate.wait(PATIENCE_S)
        return real(file, *given, **options)

    async def crowd() -> tuple[int, list[Reply]]:
        bombs = [asked(cloud, large) for _ in range(4)]
        await begun(gate)
        small = await asked(cloud, PNG)
        gate.set()
        return small.status, await asyncio.gather(*bombs)

    monkeypatch.setattr(images, "_decoded", held)
    status, bombs = cloud.run(crowd())
    assert [status, *(reply.status for reply in bombs)] == 5 * [200]


def json_request(text: bytes) -> dict[str, Any]:
    return {"chunks": [text], "headers": {"Content-Type": "application/json"}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[" + 20_000 * b"[]," + b"[]]", "JSON of 20000 elements"),
        (b"[" + 20_000 * b"{}," + b"{}]", "JSON of 20000 elements"),
        (b'{"inputs":[' + 30_000 * b"0," + b"0]}", "JSON of 30000 elements"),
        (60_000 * b"[", "JSON of 60000 lists"),
        (10_000 * b"[{", "JSON of 10000 lists"),
        (10_000 * b'{"a":', "JSON of 10000 objects"),
        (1000 * b'{"a":"::"}', "JSON of 3000 members"),
        (250_000 * b" " + b"{}", "250000 bytes of JSON"),
    ],
    ids=lambda value: str(value)[:16],
)
@pytest.mark.parametrize("way", ["plain", "zstd", "binary"])
def test_json_of_more_than_the_model_takes_is_not_parsed(
    text: bytes, said: str, way: str, cloud: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(_: object) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(decoding._JSON, "decode", parse)
    request = json_request(text[:250_000])
    if way == "zstd":
        request["chunks"] = [zstandard.compress(text[:250_000])]
        request["headers"]["Content-Encoding"] = "zstd"
    elif way == "binary":
        request["headers"] = {JSON_LENGTH: str(len(request["chunks"][0]))}
        request["chunks"].append(b"1234")
    # No image stands in JSON, so that the bounds are those of a header alone.
    reply = cloud("POST", INFER_IMAGE, **request)
    assert_refused(cloud, reply, 400, "request", said)


def test_as_many_numbers_stand_in_json_as_the_model_takes(
    exported: Exported, cloud: InProcess
) -> None:
    def entry(samples: int) -> dict[str, Any]:
        data = exported.images[:samples].tolist()
        return {"name": "features", "datatype": "FP32", "shape": [samples, 3, 32, 32], "data": data}

    settings = Settings(queue=8, timeout_ms=1e3 * LIMIT_S)
    with InProcess(make_app([exported.path], settings)) as cloud:
        text = json.dumps({"inputs": [entry(8)]}).encode()
        assert cloud("POST", INFER, **json_request(text)).status == 200
        text = json.dumps({"inputs": [entry(10)]}).encode()
        reply = cloud("POST", INFER, **json_request(text))
        assert_refused(cloud, reply, 400, "request", "at most 25600 are taken")


@pytest.mark.parametrize(
    ("form", "beside"),
    [
        ("binary", []),
        ("large binary", ["decode_request", "unpack"]),
        ("JSON", ["decode_request"]),
        ("JSON with its length", ["decode_request"]),
        ("JSON with a wrong length", ["decode_request"]),
        ("zstd", ["decode_request"]),
    ],
)
def test_what_takes_long_is_parsed_beside_the_event_loop(
    form: str, beside: list[str], cloud: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = {}

    def note_thread(name: str) -> None:
        function = getattr(app, name)

        def noting(*given: Any) -> Any:
            threads[name] = current_thread()
            return function(*given)

        monkeypatch.setattr(app, name, noting)

    note_thread("decode_request")
    note_thread("unpack")
    body, headers = encode_request(Request({"features": ONE}), compress=form == "zstd")
    if form == "large binary":
        monkeypatch.setattr(app, "INLINE_BYTES", 1000)
    elif form.startswith("JSON"):
        entry = {"name": "features", "datatype": "FP32", "shape": FOUR.shape, "data": FOUR.tolist()}
        body, headers = json.dumps({"inputs": [entry]}).encode(), {}
        if form.endswith("its length"):
            headers[JSON_LENGTH] = str(len(body))
        elif form.endswith("wrong length"):
            headers[JSON_LENGTH] = f"+{len(body)}"
    status = cloud("POST", INFER, [body], headers).status
    assert status == (400 if form.endswith("wrong length") else 200)
    assert [name for name, own in threads.items() if own is not current_thread()] == beside


def test_who_leaves_is_not_parsed(cloud: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    body, headers = encode_request(Request({"features": ONE}), compress=True)

    async def leave() -> tuple[int, int, int]:
        gate, parsed = hold(monkeypatch, app, "decode_request")
        first = asyncio.create_task(cloud.call("POST", INFER, [body], headers))
        await begun(gate)
        gone = await cloud.call("POST", INFER, [body], headers, hangs_up=True)
        gate.set()
        return gone.status, (await first).status, len(parsed)

    assert cloud.run(leave()) == (499, 200, 1)


def test_turns_forget_who_waits_no_more() -> None:
    async def leave() -> int:
        turns, gate = PriorityThreads(1, "turns"), Event()
        first = asyncio.create_task(turns.run(1, gate.wait))
        others = [asyncio.create_task(turns.run(size, gate.wait)) for size in (3, 2, 4)]
        await asyncio.sleep(0)
        for other in others[:2]:
            other.cancel()
        await asyncio.wait(others[:2])
        waiting = len(turns._waiting)
        gate.set()
        assert await asyncio.gather(first, others[2]) == [True, True]
        turns.close()
        return waiting

    assert asyncio.run(leave()) == 1


@pytest.mark.parametrize("count", [9, 200, 10_000])
def test_more_files_than_the_model_takes_are_not_taken_apart(count: int, cloud: InProcess) -> None:
    reply = cloud("POST", INFER_IMAGE, **image_request(*count * [b""]))
    assert_refused(cloud, reply, 400, "request", "at most 8 elements are taken")


@pytest.mark.parametrize(("length", "status"), [(256, 200), (257, 400), (200_000, 400)])
def test_an_id_is_short(length: int, status: int, cloud: InProcess) -> None:
    body, headers = encode_request(Request({"features": ONE}, id=length * "i"))
    reply = cloud("POST", INFER, [body], headers)
    assert reply.status == status
    assert (length * "i" in reply.body.decode()) == (status == 200)


def test_bodies_count_with_all_that_they_take_decompressed(
    cloud: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.zeros((60, 3, 32, 32), np.uint8)
    body, headers = encode_request(Request({"features": pixels}), compress=True)
    assert len(body) < 1000

    async def crowd() -> list[Reply]:
        gate, _ = hold(monkeypatch, app, "decode_request")
        # 8 of the largest are held, of 256 KiB each: 11 of 180 kB.
        calls = [asyncio.create_task(cloud.call("POST", INFER, [body], headers)) for _ in range(14)]
        await until(lambda: sum(call.done() for call in calls) == 3)
        gate.set()
        return await asyncio.gather(*calls)

    statuses = sorted(reply.status for reply in cloud.run(crowd()))
    assert statuses == 11 * [400] + 3 * [429]  # 60 samples are too many, which shows when parsed
    assert metrics(cloud)['eenn_refused_total{cause="full"}'] == 3


def test_bodies_that_grow_give_way_to_small_ones(
    cloud: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.zeros((85, 3, 32, 32), np.uint8)
    body, headers = encode_request(Request({"features": pixels}), compress=True)
    gate, real = Gate(), app.decode_request

    def held(content: bytes, given: Any, bounds: Any) -> Any:
        if "content-encoding" in given:
            assert gate.wait(PATIENCE_S)
        return real(content, given, bounds)

    async def crowd() -> tuple[int, list[int]]:
        monkeypatch.setattr(app, "decode_request", held)
        calls = [asyncio.create_task(cloud.call("POST", INFER, [body], headers)) for _ in range(9)]
        await until(lambda: sum(call.done() for call in calls) == 1)  # 8 of them are held.
        features = np.zeros((8, 3, 32, 32), np.float16)
        small = await cloud.call("POST", INFER, **features_request(features))
        gate.set()
        return small.status, [reply.status for reply in await asyncio.gather(*calls)]

    status, others = cloud.run(crowd())
    assert status == 200
    assert sorted(others) == 7 * [400] + 2 * [429]


def test_large_bodies_give_way_to_small_ones(cloud: InProcess) -> None:
    def upload(size: int) -> Callable[[], "asyncio.Task[Reply]"]:
        given = {"chunks": [size * b"x"], "headers": {"Content-Length": "262144"}}
        return lambda: asyncio.create_task(cloud.call("POST", INFER, **given, stalls=True))

    async def crowd() -> tuple[Reply, list[Reply]]:
        slow = [upload(262_000)() for _ in range(8)]
        await until(lambda: cloud.awaited == 8)
        answered = await cloud.call("POST", INFER, **features_request(ONE))
        gone = [call for call in slow if call.done()]
        cloud.let_pass(LIMIT_S)
        await asyncio.gather(*slow)
        return answered, [await call for call in gone]

    answered, gone = cloud.run(crowd())
    assert answered.status == 200
    assert [reply.status for reply in gone] == [429]


@pytest.mark.parametrize("fails", [False, True])
def test_who_keeps_the_interpreter_rests_as_long(
    fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [10.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("time.sleep", lambda seconds: clock.append(seconds))

    def work() -> int:
        clock[0] += 0.25
        return 1 // (not fails)

    if fails:
        with pytest.raises(ZeroDivisionError):
            run_and_rest(work)
    else:
        assert run_and_rest(work) == 1
    assert clock[1:] == [0.25]


def test_many_metrics_are_written_beside_the_event_loop(
    cloud: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    monkeypatch.setattr(
        "eenn.offload.cloud.metrics.generate_latest",
        lambda _: threads.append(current_thread()) or b"",
    )
    assert cloud("GET", "/metrics", [], {}).status == 200
    assert threads != [current_thread()]
    assert len(threads) == 1
