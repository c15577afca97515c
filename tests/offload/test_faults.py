"""Edge and cloud as processes, and everything that may go wrong between the two.

Whatever happens, every image has an answer by its deadline: the cloud's, or that of the edge alone.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray

from eenn.exits.policies.registry import make_policy
from eenn.offload.bench.link import EmulatedLink, State
from eenn.offload.client.breaker import CircuitBreaker
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.cloud.command import running
from eenn.offload.edge.batch import Result
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.protocol.encoding import encode_request
from eenn.offload.protocol.wire import Request
from eenn.planning.costs import Link
from tests.offload.certificates import make_certificate
from tests.offload.client.flaky import Connection, http, serving
from tests.offload.cloud.over_http import counted
from tests.offload.exported import Exported
from tests.offload.patience import PATIENCE_S, PATIENT, wait_until
from tests.offload.simulated_clock import SimulatedClock

Floats = NDArray[np.float32]
FAST = Link(1000, 1)
NEVER_SURE = make_policy("confidence", {"p_tar": 1.0})
# Deadlines that no answer misses, and that one misses which never comes.
FAR_MS, NEAR_MS = 1e3 * PATIENCE_S, 200.0
PAUSE_S = 0.5
# A cloud that takes questions, and never has enough of them to answer.
HOLDING = {"batch_wait_ms": 1e6, "timeout_ms": 1e6}


@pytest.fixture(scope="module")
def url(exported: Exported) -> Iterator[str]:
    """Of a cloud in good health."""
    with running([exported.path]) as cloud:
        yield cloud.url


class Device:
    """An edge that is never sure, and so asks the cloud for every image.

    `answers` collects its results, whose order and number are those of the images. The cloud is
    left alone, once it has failed too often, until `try_again`.
    """

    def __init__(self, exported: Exported, cloud: HttpCloud, breaker_clock: SimulatedClock) -> None:
        self.cloud, self._breaker_clock = cloud, breaker_clock
        self.images = exported.images
        self.runtime = EdgeRuntime(exported.path, NEVER_SURE, (0, 1), cloud, deadline_ms=FAR_MS)
        self.alone = EdgeRuntime(exported.path, NEVER_SURE, (0, 1)).classify(exported.images)
        self.answers: list[Result] = []

    def answer(self, images: int = 1) -> list[Result]:
        """Classify so many more images; those that the cloud did not answer as if alone."""
        start = len(self.answers)
        for number in range(start, start + images):
            row = number % len(self.images)
            (result,) = self.runtime.classify(self.images[row : row + 1])
            assert result.on_edge == result.degraded
            if result.degraded:
                alone = self.alone[row]
                assert (result.label, result.exit) == (alone.label, alone.exit)
            self.answers.append(result)
        assert len(self.answers) == start + images
        failed = sum(answer.degraded for answer in self.answers)
        assert sum(self.runtime.failures.values()) == failed
        return self.answers[start:]

    def answer_alone(self, deadline_ms: float = FAR_MS) -> set[str]:
        """Classify images until the cloud is left alone; returns why, before, it answered none."""
        self.runtime.deadline_ms = deadline_ms
        while "breaker" not in self.runtime.failures:
            assert self.answer()[0].degraded
        return self.causes() - {"breaker"}

    def try_again(self) -> None:
        """Classify images, all of which the cloud has to answer."""
        self.runtime.deadline_ms = FAR_MS
        self._breaker_clock.sleep(PAUSE_S)
        assert not any(answer.degraded for answer in self.answer(8))

    def causes(self) -> set[str]:
        """Why the cloud did not answer, since the last call of this."""
        causes = set(self.runtime.failures)
        self.runtime.failures.clear()
        self.answers.clear()
        return causes


@contextmanager
def device(exported: Exported, url: str, **options: Any) -> Iterator[Device]:
    clock = SimulatedClock()
    breaker = CircuitBreaker(pause_s=PAUSE_S, max_pause_s=PAUSE_S, clock=clock.monotonic)
    given = {"artifact_id": exported.graphs.id, "breaker": breaker, **PATIENT, **options}
    with HttpCloud(url, **given) as cloud:
        yield Device(exported, cloud, clock)


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


@pytest.mark.clock
@pytest.mark.parametrize(
    ("state", "cause", "deadline_ms"),
    [
        ("refuse", "refused", FAR_MS),
        ("drop", "deadline", NEAR_MS),
        ("stall", "deadline", NEAR_MS),
        ("reset", "reset", FAR_MS),
    ],
)
def test_a_link_that_fails_and_comes_back(
    state: State, cause: str, deadline_ms: float, exported: Exported, url: str
) -> None:
    with linked(url) as link, device(exported, f"http://{link.host}:{link.port}") as edge:
        for _ in range(2):
            link.set(state)
            if state == "refuse":
                edge.cloud.close()  # That meets new connections only.
            assert edge.answer_alone(deadline_ms) == {cause}
            link.set("up")
            edge.try_again()


@pytest.mark.clock
def test_a_day_with_every_kind_of_outage(exported: Exported, url: str) -> None:
    breaker = CircuitBreaker(pause_s=0.01, max_pause_s=0.01)
    with (
        linked(url, Link(94, 12.8)) as link,
        device(exported, f"http://{link.host}:{link.port}", breaker=breaker) as edge,
        ThreadPoolExecutor(1) as sky,
    ):
        edge.runtime.deadline_ms = 1000

        def wait_for_an_answer(degraded: bool) -> None:
            start = len(edge.answers)
            wait_until(lambda: any(own.degraded == degraded for own in edge.answers[start:]))

        def change_the_weather() -> None:
            # Only new connections are refused, and so who was reset before.
            for outage in (["stall"], ["drop"], ["reset", "refuse"]):
                wait_for_an_answer(degraded=False)
                for state in outage:
                    link.set(state)
                    wait_for_an_answer(degraded=True)
                link.set("up")
            wait_for_an_answer(degraded=False)

        day = sky.submit(change_the_weather)
        while not day.done():
            edge.answer()
        day.result()
        assert edge.causes() <= {"deadline", "refused", "reset", "breaker"}


def test_a_cloud_that_is_killed_while_it_answers_and_is_started_again(exported: Exported) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        cloud = stack.enter_context(running([exported.path], **HOLDING))
        edge = stack.enter_context(device(exported, cloud.url))
        answering = pool.submit(edge.answer)
        wait_until(lambda: counted(cloud.url, "eenn_queue_samples") == 1)
        cloud.process.kill()
        assert [answer.degraded for answer in answering.result()] == [True]
        cloud.process.wait()
        assert edge.answer_alone() <= {"reset", "refused"}
        stack.enter_context(running([exported.path], port=urlsplit(cloud.url).port))
        edge.try_again()


@pytest.mark.clock
def test_a_cloud_that_is_too_slow(exported: Exported) -> None:
    with running([exported.path], **HOLDING) as cloud, device(exported, cloud.url) as edge:
        assert edge.answer_alone(NEAR_MS) == {"deadline"}


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
        pytest.param(lambda reply: reply.replace(b"HTTP", b"QTTP"), "garbage", id="not HTTP"),
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
        assert edge.answer_alone() == {cause}
        damaging = False
        edge.try_again()


def test_a_cloud_with_another_artifact(exported: Exported, url: str) -> None:
    with device(exported, url, artifact_id="f" * 64) as edge:
        assert edge.answer_alone() == {"artifact"}


def test_a_wrong_token_and_tls_that_does_not_match(exported: Exported, tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    (tmp_path / "token").write_text("right\n")
    tls = {"tls_cert": cert, "tls_key": key}
    right = {"token": "right", "ca_file": str(cert)}
    with running([exported.path], token_file=tmp_path / "token", **tls) as cloud:
        assert cloud.url.startswith("https")
        with device(exported, cloud.url, **right) as edge:
            edge.try_again()
        for options, cause in (
            (right | {"token": "wrong"}, "token"),
            (right | {"token": None}, "token"),
            (right | {"ca_file": None}, "tls"),
        ):
            with device(exported, cloud.url, **options) as edge:
                assert edge.answer_alone() == {cause}
        with device(exported, cloud.url.replace("https", "http"), **right) as edge:
            assert edge.answer_alone() <= {"reset", "garbage"}


def test_a_full_queue(exported: Exported) -> None:
    body, headers = encode_request(Request({"features": exported.images[:1]}))
    with (
        running([exported.path], queue=1, **HOLDING) as cloud,
        device(exported, cloud.url, retries=0) as edge,
        closing(HTTPConnection(urlsplit(cloud.url).netloc)) as other,
    ):
        other.request("POST", "/v2/models/eenn-cloud-0/infer", body, headers)
        wait_until(lambda: counted(cloud.url, "eenn_queue_samples") == 1)
        assert all(answer.degraded for answer in edge.answer(20))
        # The cloud works, and is asked for every image.
        assert edge.causes() == {"overloaded"}
