"""Edge and cloud as processes, and everything that may go wrong between the two.

Whatever happens, every image has an answer by its deadline: the cloud's, or that of the edge alone.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray

from eenn.exits.policies.registry import make_policy
from eenn.offload.bench.link import EmulatedLink, Outage, State
from eenn.offload.client.breaker import CircuitBreaker
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.client.sockets import LimitedSocket
from eenn.offload.cloud.command import running
from eenn.offload.edge.runtime import EdgeRuntime, Result
from eenn.offload.protocol.errors import OffloadError
from eenn.planning.costs import Link
from tests.offload.certificates import make_certificate
from tests.offload.client.flaky import SLACK_S, Connection, http, serving
from tests.offload.exported import Exported

Floats = NDArray[np.float32]
DEADLINE_MS = 300
FAST = Link(1000, 1)
NEVER_SURE = make_policy("confidence", {"p_tar": 1.0})


@pytest.fixture(scope="module")
def url(exported: Exported) -> Iterator[str]:
    """Of a cloud in good health."""
    with running([exported.path]) as cloud:
        yield cloud.url


class Device:
    """An edge that is never sure, and so asks the cloud for every image.

    `answers` collects its results, whose order and number are those of the images.
    """

    def __init__(self, exported: Exported, cloud: HttpCloud) -> None:
        self.cloud = cloud
        self.images = exported.images
        self.runtime = EdgeRuntime(
            exported.path, NEVER_SURE, (0, 1), cloud, deadline_ms=DEADLINE_MS
        )
        self.alone = EdgeRuntime(exported.path, NEVER_SURE, (0, 1)).classify(exported.images)
        self.answers: list[Result] = []

    def answer(self, images: int = 1) -> list[Result]:
        """Classify so many more images, each by its deadline; those that failed as if alone."""
        start = len(self.answers)
        for number in range(start, start + images):
            row = number % len(self.images)
            before = time.monotonic()
            (result,) = self.runtime.classify(self.images[row : row + 1])
            assert time.monotonic() - before < DEADLINE_MS / 1e3 + SLACK_S
            assert result.on_edge == result.degraded
            if result.degraded:
                alone = self.alone[row]
                assert (result.label, result.exit) == (alone.label, alone.exit)
            self.answers.append(result)
        assert len(self.answers) == start + images
        failed = sum(answer.degraded for answer in self.answers)
        assert sum(self.runtime.failures.values()) == failed
        return self.answers[start:]

    def answer_until_the_cloud_does(self, within_s: float = 30) -> None:
        """Classify images until the cloud answers one."""
        limit = time.monotonic() + within_s
        while self.answer()[0].degraded:
            assert time.monotonic() < limit
            time.sleep(0.02)

    def causes(self) -> set[str]:
        """Why the cloud did not answer, since the last call of this."""
        causes = set(self.runtime.failures)
        self.runtime.failures.clear()
        self.answers.clear()
        return causes


@contextmanager
def device(exported: Exported, url: str, **options: Any) -> Iterator[Device]:
    given = {"artifact_id": exported.graphs.manifest.id, **options}
    breaker = CircuitBreaker(pause_s=0.5, max_pause_s=0.5)
    with HttpCloud(url, **{"breaker": breaker, **given}) as cloud:
        yield Device(exported, cloud)


@contextmanager
def linked(url: str, link: Link = FAST, **options: Any) -> Iterator[EmulatedLink]:
    port = urlsplit(url).port
    assert port
    with EmulatedLink("127.0.0.1", port, link, **options) as emulated:
        yield emulated


def test_without_faults_the_cloud_answers_everything(exported: Exported, url: str) -> None:
    with device(exported, url) as edge:
        edge.cloud.check()
        assert not any(answer.degraded for answer in edge.answer(48))
        assert edge.cloud.last.tries == 1


@pytest.mark.parametrize(
    ("state", "causes"),
    [
        ("refuse", {"refused", "breaker"}),
        ("drop", {"deadline", "breaker"}),
        ("stall", {"deadline", "breaker"}),
        ("reset", {"reset", "breaker"}),
    ],
)
def test_a_link_that_fails_and_comes_back(
    state: State, causes: set[str], exported: Exported, url: str
) -> None:
    with linked(url) as link, device(exported, f"http://{link.host}:{link.port}") as edge:
        link.set(state)
        assert all(answer.degraded for answer in edge.answer(8))
        assert edge.causes() == causes
        link.set("up")
        edge.answer_until_the_cloud_does()
        assert not any(answer.degraded for answer in edge.answer(8))
        link.set(state)
        edge.answer(8)
        link.set("up")
        edge.answer_until_the_cloud_does()


def test_a_day_with_every_kind_of_outage(exported: Exported, url: str) -> None:
    states: tuple[State, ...] = ("stall", "drop", "refuse", "reset")
    outages = [Outage(0.5 + 1.2 * turn, 0.6, state) for turn, state in enumerate(states)]
    with (
        linked(url, Link(94, 12.8), outages=outages) as link,
        device(exported, f"http://{link.host}:{link.port}") as edge,
    ):
        end = time.monotonic() + 5.5
        while time.monotonic() < end:
            edge.answer()
        edge.answer_until_the_cloud_does()
        answered = [not answer.degraded for answer in edge.answers]
        assert 0 < sum(answered) < len(answered)
        assert edge.causes() <= {"deadline", "refused", "reset", "breaker"}


def test_a_cloud_that_is_killed_while_it_answers_and_is_started_again(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        cloud = stack.enter_context(running([exported.path], slowdown=1000.0))
        edge = stack.enter_context(device(exported, cloud.url))
        waiting = Event()
        receive = LimitedSocket.recv_into

        def receiving(self: LimitedSocket, *given: Any) -> int:
            waiting.set()
            return receive(self, *given)

        monkeypatch.setattr(LimitedSocket, "recv_into", receiving)
        answering = pool.submit(edge.answer)
        assert waiting.wait(10)
        cloud.process.kill()
        assert [answer.degraded for answer in answering.result()] == [True]
        cloud.process.wait()
        edge.answer(10)
        assert edge.causes() <= {"reset", "refused", "breaker"}
        stack.enter_context(running([exported.path], port=urlsplit(cloud.url).port))
        edge.answer_until_the_cloud_does()
        assert not any(answer.degraded for answer in edge.answer(8))


def test_a_cloud_that_is_too_slow(exported: Exported) -> None:
    with running([exported.path], slowdown=1000.0) as cloud, device(exported, cloud.url) as edge:
        assert all(answer.degraded for answer in edge.answer(8))
        assert edge.causes() == {"deadline", "breaker"}


@contextmanager
def tampered(url: str, change: Callable[[bytes], bytes]) -> Iterator[str]:
    """The URL of a server in between that changes what the cloud replies."""

    def behave(connection: Connection) -> None:
        while request := connection.request():
            method, path, _ = request.line.split()
            with closing(HTTPConnection(urlsplit(url).netloc)) as cloud:
                cloud.request(method, path, request.body, dict(request.headers))
                reply = cloud.getresponse()
                headers = dict(reply.getheaders())
                del headers["content-length"]
                whole = http(reply.read(), headers)
            changed = change(whole)
            connection.send(changed)
            if changed != whole:
                return

    with serving(behave) as between:
        yield between.url


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        pytest.param(lambda reply: reply[:-3], "truncated", id="body cut short"),
        pytest.param(lambda reply: reply[:40], "truncated", id="headers cut short"),
        pytest.param(lambda _: b"", "reset", id="nothing of it"),
        pytest.param(lambda reply: reply[:-4] + b"\xff" * 4, "garbage", id="not a number"),
        pytest.param(lambda reply: reply.replace(b"FP32", b"FP23"), "garbage", id="another type"),
        pytest.param(lambda reply: reply.replace(b"HTTP", b"QTTP"), "garbage", id="no HTTP"),
        pytest.param(
            lambda _: http(b"", status="502 Bad Gateway"), "server", id="the gateway's own"
        ),
    ],
)
def test_replies_that_are_damaged_on_the_way(
    change: Callable[[bytes], bytes], cause: str, exported: Exported, url: str
) -> None:
    damaging = True
    with (
        tampered(url, lambda reply: change(reply) if damaging else reply) as between,
        device(exported, between) as edge,
    ):
        assert all(answer.degraded for answer in edge.answer(8))
        assert edge.causes() == {cause, "breaker"}
        damaging = False
        edge.answer_until_the_cloud_does()


def test_a_cloud_with_another_artifact(exported: Exported, url: str) -> None:
    with device(exported, url, artifact_id="f" * 64) as edge:
        assert all(answer.degraded for answer in edge.answer(8))
        assert edge.causes() == {"artifact", "breaker"}


def test_a_wrong_token_and_tls_that_does_not_match(exported: Exported, tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    (tmp_path / "token").write_text("right\n")
    tls = {"tls_cert": cert, "tls_key": key}
    right = {"token": "right", "ca_file": str(cert)}
    with running([exported.path], token_file=tmp_path / "token", **tls) as cloud:
        assert cloud.url.startswith("https")
        for options, causes in (
            (right, set()),
            (right | {"token": "wrong"}, {"token", "breaker"}),
            (right | {"token": None}, {"token", "breaker"}),
            (right | {"ca_file": None}, {"tls", "breaker"}),
        ):
            with device(exported, cloud.url, **options) as edge:
                edge.answer(8)
                assert edge.causes() == causes
        with device(exported, cloud.url.replace("https", "http"), **right) as edge:
            assert all(answer.degraded for answer in edge.answer(8))
            assert edge.causes() <= {"reset", "garbage", "breaker"}


def test_a_full_queue(exported: Exported) -> None:
    enough = Event()

    def keep_asking(url: str) -> None:
        with HttpCloud(url, exported.graphs.manifest.id, retries=0) as cloud:
            while not enough.is_set():
                with suppress(OffloadError):
                    cloud.infer(exported.images[:1], 0, None)

    with (
        running([exported.path], slowdown=1000.0, queue=1, max_batch=1) as cloud,
        device(exported, cloud.url) as edge,
        ThreadPoolExecutor(4) as pool,
    ):
        try:
            others = [pool.submit(keep_asking, cloud.url) for _ in range(4)]
            limit = time.monotonic() + 30
            while "overloaded" not in edge.runtime.failures and time.monotonic() < limit:
                edge.answer()
        finally:
            enough.set()
        for other in others:
            other.result()
        assert "overloaded" in edge.causes()
