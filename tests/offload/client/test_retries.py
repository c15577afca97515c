"""When the HTTP client asks again, and on which connection."""

import asyncio
import time
from itertools import count

import numpy as np
import pytest

from benchmarks.attackers import post
from benchmarks.load import Message, _Connection
from eenn.offload.protocol.encoding import encode_request
from eenn.offload.protocol.errors import CloudOverloaded, CloudRefused, CloudTimeout, OffloadError
from eenn.offload.protocol.wire import ARTIFACT, FEATURES, IMAGE_CUT, LOGITS, Request
from tests.offload.client.flaky import (
    ARTIFACT_ID,
    CLASSES,
    IMAGE,
    Connection,
    answer,
    asking,
    failure_of,
    http,
    replying,
    serving,
    v2,
)
from tests.offload.patience import PATIENCE_S
from tests.offload.simulated_clock import SimulatedClock


@pytest.mark.parametrize(
    ("status", "cause"),
    [("429 Too Many Requests", "overloaded"), ("503 Service Unavailable", "unavailable")],
)
def test_an_overloaded_cloud_is_asked_again(status: str, cause: str) -> None:
    error, tries = failure_of(replying(b"later", status=status), retries=2, deadline_s=PATIENCE_S)
    assert isinstance(error, CloudOverloaded)
    assert (error.cause, tries) == (cause, 3)


def test_a_cloud_that_waited_too_long_for_the_request_is_asked_again() -> None:
    error, tries = failure_of(replying(b"", status="408 Request Timeout"), retries=1)
    assert isinstance(error, CloudTimeout)
    assert (error.cause, tries) == ("read", 2)


@pytest.mark.parametrize("after", ["1000", "6", "Fri, 31 Dec 2060 23:59:59 GMT", "-1", "soon"])
@pytest.mark.parametrize("deadline_s", [5, None])
def test_a_pause_that_is_too_long_is_not_begun(
    after: str, deadline_s: float | None, clock: SimulatedClock
) -> None:
    busy = replying(b"", {"Retry-After": after}, "429 Too Many Requests")
    error, tries = failure_of(busy, retries=3, deadline_s=deadline_s)
    assert (error.cause, tries, clock.slept) == ("overloaded", 1, [])


def test_a_pause_that_fits_is_kept(clock: SimulatedClock) -> None:
    asked: list[float] = []

    def behave(connection: Connection) -> None:
        while request := connection.request():
            asked.append(clock.now)
            if len(asked) == 1:
                connection.send(http(b"", {"Retry-After": "1"}, "503 Service Unavailable"))
            else:
                connection.send(answer(request))

    with serving(behave) as server, asking(server.url) as cloud:
        cloud.infer(IMAGE, IMAGE_CUT, clock.now + 2)
        assert (cloud.last.tries, cloud.last.connections) == (2, 1)
    assert asked[1] - asked[0] >= 1


def test_who_was_refused_together_does_not_return_together(clock: SimulatedClock) -> None:
    busy = replying(b"", {"Retry-After": "1"}, "429 Too Many Requests")
    with serving(busy) as server:
        for _ in range(20):
            with asking(server.url) as cloud, pytest.raises(CloudOverloaded):
                cloud.infer(IMAGE, IMAGE_CUT, clock.now + 2)
    assert len(clock.slept) == 20
    assert min(clock.slept) >= 1
    # By chance it is less once in 10^12 times.
    assert max(clock.slept) - min(clock.slept) > 0.1
    assert max(clock.slept) < 1.6


def test_a_cloud_that_asks_for_patience_is_asked_for_every_image(clock: SimulatedClock) -> None:
    """Nothing of Retry-After fits before the deadline, so the edge answers; that image alone."""
    busy = replying(b"", {"Retry-After": "1"}, "429 Too Many Requests")
    with serving(busy) as server, asking(server.url) as cloud:
        for _ in range(20):
            with pytest.raises(CloudOverloaded) as refused:
                cloud.infer(IMAGE, IMAGE_CUT, clock.now + 0.5)
            assert refused.value.cause == "overloaded"
    assert clock.slept == []


def test_a_cloud_that_is_not_there_for_anyone_is_left_alone(clock: SimulatedClock) -> None:
    away = replying(b"", {"Retry-After": "1"}, "503 Service Unavailable")
    causes = []
    with serving(away) as server, asking(server.url) as cloud:
        for _ in range(6):
            with pytest.raises(OffloadError) as refused:
                cloud.infer(IMAGE, IMAGE_CUT, clock.now + 0.5)
            causes.append(refused.value.cause)
    assert causes == [*5 * ["unavailable"], "breaker"]


def test_what_may_pass_is_tried_again() -> None:
    numbers = count()

    def second_time_lucky(connection: Connection) -> None:
        if next(numbers):
            v2(connection)
        else:
            connection.request()
            connection.reset()

    with serving(second_time_lucky) as server, asking(server.url) as cloud:
        assert cloud.infer(IMAGE, IMAGE_CUT, time.monotonic() + PATIENCE_S).shape == (1, 5)
        assert (cloud.last.tries, cloud.last.connections) == (2, 2)


def test_a_kept_connection_that_was_closed_is_replaced() -> None:
    def once(connection: Connection) -> None:
        request = connection.request()
        assert request
        connection.send(answer(request))

    with (
        serving(once) as server,
        asking(server.url, retries=0) as cloud,
    ):
        for _ in range(5):
            cloud.infer(IMAGE, IMAGE_CUT, None)
            assert cloud.last.connections == 1


def test_clients_of_the_benchmark_replace_it_too() -> None:
    """Or else it would count failures that no client has."""

    def once(connection: Connection) -> None:
        request = connection.request()
        assert request
        connection.send(answer(request))

    async def ask(url: str) -> list[int]:
        connection = _Connection(url)
        statuses = [(await connection.ask(message, 0.0)).status for _ in range(3)]
        connection.close()
        return statuses

    request = Request({FEATURES: IMAGE}, {ARTIFACT: ARTIFACT_ID}, {LOGITS: True})
    content = post("/v2/models/eenn-cloud-0/infer", *encode_request(request))
    message = Message(content, IMAGE.reshape(1, -1)[:, :CLASSES])
    with serving(once) as server:
        assert asyncio.run(ask(server.url)) == [200, 200, 200]


def test_a_kept_connection_that_turns_out_dead_is_replaced_at_once() -> None:
    def dies_at_the_second_request(connection: Connection) -> None:
        request = connection.request()
        assert request
        connection.send(answer(request))
        connection.request()
        connection.reset()

    with (
        serving(dies_at_the_second_request) as server,
        asking(server.url, retries=0) as cloud,
    ):
        for tries in (1, 2, 2):
            cloud.infer(IMAGE, IMAGE_CUT, None)
            assert (cloud.last.connections, cloud.last.tries) == (1, tries)


def test_a_connection_is_not_kept_that_the_server_will_close() -> None:
    def polite(connection: Connection) -> None:
        request = connection.request()
        assert request
        connection.send(answer(request, Connection="close"))
        assert connection.request() is None

    with serving(polite) as server, asking(server.url) as cloud:
        for _ in range(2):
            cloud.infer(IMAGE, IMAGE_CUT, None)
            assert (cloud.last.connections, cloud.last.tries) == (1, 1)


def test_a_refusal_that_comes_before_everything_was_sent_is_read() -> None:
    def impatient(connection: Connection) -> None:
        connection.send(http(b'{"error": "too long"}', status="413 Content Too Large"))
        connection.close()

    with (
        serving(impatient) as server,
        asking(server.url, retries=0) as cloud,
        pytest.raises(CloudRefused, match="too long"),
    ):
        cloud.infer(np.zeros((4, 3, 1024, 1024), np.float32), IMAGE_CUT, None)
