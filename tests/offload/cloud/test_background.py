"""Requests of lowest priority: when the cloud admits them, and what they leave to the others."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from eenn.offload.cloud import images
from eenn.offload.cloud.admission import asks_for_background
from eenn.offload.cloud.app import make_app
from eenn.offload.cloud.settings import Settings
from eenn.offload.cloud.sharing import PriorityThreads
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
    hold,
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
LAST = {"Priority": "u=7"}


@pytest.fixture
def cloud(exported: Exported) -> Iterator[InProcess]:
    with InProcess(make_app([exported.path], SMALL)) as cloud:
        yield cloud


def background(images: Any) -> dict[str, Any]:
    request = features_request(images)
    request["headers"] |= LAST
    return request


def test_an_idle_cloud_answers_them_as_any_other(cloud: InProcess) -> None:
    normal = cloud("POST", INFER, **features_request(ONE))
    last = cloud("POST", INFER, **background(ONE))
    assert (last.status, last.body) == (200, normal.body)
    counted = metrics(cloud)
    assert counted['eenn_requests_total{model="eenn-cloud-0",status="200"}'] == 2
    assert counted['eenn_background_total{status="200"}'] == 1


def test_they_are_refused_unread_while_others_are_computed(
    cloud: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crowd(gate: Gate) -> tuple[Reply, Reply]:
        first = await computing(cloud, gate)
        # Nothing of its body is awaited.
        refused = await cloud.call("POST", INFER, [b"{"], LAST, stalls=True)
        gate.set()
        return await first, refused

    first, refused = cloud.run(crowd(hold_models(cloud, monkeypatch)))
    assert first.status == 200
    assert_refused(cloud, refused, 429, "background", "other requests are being answered")
    assert refused.headers["retry-after"] == "1"
    assert metrics(cloud)['eenn_background_total{status="429"}'] == 1
    assert cloud("POST", INFER, **background(ONE)).status == 200


def test_they_are_refused_while_the_body_of_another_arrives(cloud: InProcess) -> None:
    async def crowd() -> tuple[Reply, Reply]:
        arriving = asyncio.create_task(cloud.call("POST", INFER, [b"{"], stalls=True))
        await until(lambda: cloud.awaited == 1)
        refused = await cloud.call("POST", INFER, **background(ONE))
        cloud.let_pass(LIMIT_S)
        return await arriving, refused

    arriving, refused = cloud.run(crowd())
    assert arriving.status == 408
    assert_refused(cloud, refused, 429, "background", "other requests are being answered")
    assert cloud("POST", INFER, **background(ONE)).status == 200


def test_those_that_wait_are_computed_after_others_that_came_later(
    cloud: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[str] = []

    async def crowd(gate: Gate) -> list[Reply]:
        calls = {
            "first": await computing(cloud, gate, **LAST),
            "waiting": await waiting(cloud, 4, **LAST),
            "normal": await waiting(cloud, 8),
        }
        for name, call in calls.items():
            call.add_done_callback(lambda _, name=name: answered.append(name))
        gate.set()
        return await asyncio.gather(*calls.values())

    replies = cloud.run(crowd(hold_models(cloud, monkeypatch)))
    assert [reply.status for reply in replies] == [200, 200, 200]
    assert answered == ["first", "normal", "waiting"]
    assert metrics(cloud)["eenn_batch_samples_count"] == 3


def test_they_take_no_place_in_the_queue_from_others(
    cloud: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crowd(gate: Gate) -> list[Reply]:
        first = await computing(cloud, gate, **LAST)
        queued = [await waiting(cloud, samples, **LAST) for samples in (4, 8)]
        assert batcher_of(cloud).waiting == 8
        too_many = await cloud.call("POST", INFER, **background(ONE))
        normal = await waiting(cloud, 8)
        await until(queued[1].done)
        gate.set()
        return [too_many, *await asyncio.gather(first, *queued, normal)]

    replies = cloud.run(crowd(hold_models(cloud, monkeypatch)))
    assert [reply.status for reply in replies] == [429, 200, 200, 429, 200]
    assert "the queue is full" in replies[0].error
    assert "gave way to a normal request" in replies[3].error
    counted = metrics(cloud)
    assert counted['eenn_refused_total{cause="background"}'] == 2
    assert 'eenn_refused_total{cause="full"}' not in counted
    assert counted['eenn_background_total{status="200"}'] == 2


def test_one_that_waits_too_long_leaves_a_cloud_that_works(
    cloud: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Devices count a 503 as a failure of the cloud."""

    async def crowd(gate: Gate) -> Reply:
        first = await computing(cloud, gate)
        gate.begun.clear()
        gate.set()
        await first
        gate.clear()
        computed = await computing(cloud, gate, **LAST)
        late = await waiting(cloud, 4, **LAST)
        cloud.let_pass(LIMIT_S)
        reply = await late
        gate.set()
        await computed
        return reply

    late = cloud.run(crowd(hold_models(cloud, monkeypatch)))
    assert_refused(cloud, late, 429, "background", "no time was left")


def test_their_bodies_give_way_to_those_of_others(cloud: InProcess) -> None:
    largest = {"chunks": [250_000 * b"x"], "stalls": True}
    length = {"Content-Length": "250001"}

    async def crowd() -> tuple[Reply, list[Reply]]:
        calls = [
            asyncio.create_task(cloud.call("POST", INFER, **largest, headers=length | LAST))
            for _ in range(8)
        ]
        await until(lambda: cloud.awaited == 8)
        normal = asyncio.create_task(cloud.call("POST", INFER, **largest, headers=length))
        await until(lambda: cloud.awaited == 9 and any(call.done() for call in calls))
        cloud.let_pass(LIMIT_S)
        return await normal, await asyncio.gather(*calls)

    normal, others = cloud.run(crowd())
    assert normal.status == 408
    assert sorted(reply.status for reply in others) == 7 * [408] + [429]
    assert metrics(cloud)['eenn_refused_total{cause="background"}'] == 1


def test_their_images_give_way_to_those_of_others(
    cloud: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs = image_request(*8 * [encoded("PNG")])

    async def crowd() -> tuple[Reply, Reply]:
        gate, _ = hold(monkeypatch, images, "_decoded")
        last = {**photographs, "headers": photographs["headers"] | LAST}
        giving_way = asyncio.create_task(cloud.call("POST", INFER_IMAGE, **last))
        assert await asyncio.to_thread(gate.begun.wait, PATIENCE_S)
        normal = asyncio.create_task(cloud.call("POST", INFER_IMAGE, **photographs))
        await until(giving_way.done)
        gate.set()
        return await normal, await giving_way

    normal, gave_way = cloud.run(crowd())
    assert normal.status == 200
    assert_refused(cloud, gave_way, 429, "background", "8 images are being decoded")


def test_threads_serve_them_last() -> None:
    async def run() -> list[str]:
        turns, gate, done = PriorityThreads(1, "turns"), Gate(), list[str]()

        def work(name: str) -> None:
            gate.begun.set()
            assert gate.wait(PATIENCE_S)
            done.append(name)

        async with asyncio.TaskGroup() as group:
            group.create_task(turns.run(9, lambda: work("first")))
            await asyncio.to_thread(gate.begun.wait, PATIENCE_S)
            group.create_task(turns.run(1, lambda: work("last"), is_background=True))
            group.create_task(turns.run(5, lambda: work("large")))
            group.create_task(turns.run(2, lambda: work("small")))
            await asyncio.sleep(0)
            gate.set()
        turns.close()
        return done

    assert asyncio.run(run()) == ["first", "small", "large", "last"]


def test_others_get_the_same_answers_to_the_bit_beside_them(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = np.random.default_rng(0).normal(size=(3, 2, 3, 32, 32)).astype(np.float32)

    def answers(priority: dict[str, str], others: int) -> list[bytes]:
        async def crowd(gate: Gate) -> list[Reply]:
            beside = [await computing(cloud, gate, **priority)]
            beside += [await waiting(cloud, 4 * (n + 1), **priority) for n in range(others)]
            normal = [
                asyncio.create_task(cloud.call("POST", INFER, **features_request(images)))
                for images in drawn
            ]
            await until(lambda: batcher_of(cloud).waiting == 4 * others + 6)
            gate.set()
            await asyncio.gather(*beside)
            return await asyncio.gather(*normal)

        roomy = make_app([exported.path], replace(SMALL, queue=32))
        with InProcess(roomy) as cloud, monkeypatch.context() as patch:
            replies = cloud.run(crowd(hold_models(cloud, patch)))
            assert [reply.status for reply in replies] == 3 * [200]
            return [reply.body for reply in replies]

    assert answers(LAST, 2) == answers({}, 0)


NAMES = st.from_regex(r"[a-z*][a-z0-9_.*-]{0,5}", fullmatch=True).filter(lambda name: name != "u")
ITEMS = st.one_of(
    st.integers(-999, 999).map(str),
    st.sampled_from(["?0", "?1", "7.0", "token", "a/b:c", ":cGF5bG9hZA==:"]),
)
PARAMETERS = st.sampled_from(["", ";a", "; a=1", ";u=3;b=?0"])
OTHERS = st.tuples(NAMES, st.one_of(st.just(""), ITEMS.map(lambda item: f"={item}")), PARAMETERS)
URGENCIES = st.tuples(st.just("u"), ITEMS.map(lambda item: f"={item}"), PARAMETERS)
SEPARATORS = st.sampled_from([",", ", ", " ,\t"])


@given(st.lists(st.one_of(OTHERS, URGENCIES), min_size=1, max_size=5), SEPARATORS)
def test_the_last_urgency_of_a_dictionary_counts(
    members: list[tuple[str, str, str]], separator: str
) -> None:
    said = separator.join(map("".join, members))
    urgencies = [value for name, value, _ in members if name == "u"]
    assert asks_for_background(Headers({"Priority": said})) is (urgencies[-1:] == ["=7"])


@given(st.text(st.characters(max_codepoint=255), max_size=300))
def test_any_header_can_be_read(said: str) -> None:
    if asks_for_background(Headers({"Priority": said})):
        assert "u=7" in said


@pytest.mark.parametrize(
    "said",
    [
        "", "u", "u=", "u=8", "u=-7", "u=77", "u=7.0", 'u="7"', "U=7", "u =7", "u= 7", "u=7,",
        ",u=7", "u=7,,i", "u=7, I", "u=7;", "u=7, u=3", 'a="x, u=7, y"', "u=7, a=\xe9",
        "u=7, " + "a" * 256,
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_normal(said: str) -> None:
    assert not asks_for_background(Headers({"Priority": said}))


def test_lines_of_a_header_are_one_dictionary() -> None:
    for lines, expected in (((b"i", b"u=7"), True), ((b"u=7", b"u=1"), False)):
        raw = [(b"priority", line) for line in lines]
        assert asks_for_background(Headers(raw=raw)) is expected
    assert not asks_for_background(Headers())
