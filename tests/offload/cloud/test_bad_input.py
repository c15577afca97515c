"""The cloud under requests that no honest client sends: it refuses, and goes on as before."""

import json
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.cloud.app import make_app
from eenn.offload.cloud.command import RunningCloud, running
from eenn.offload.cloud.settings import Settings
from eenn.offload.edge.clouds import LocalCloud
from eenn.offload.protocol.decoding import decode_response
from eenn.offload.protocol.wire import IMAGE_CUT
from tests.offload.cloud.asgi import InProcess
from tests.offload.cloud.bad_requests import HONEST, Bytes, Sent, bad_requests
from tests.offload.exported import Exported
from tests.offload.patience import PATIENCE_S, PATIENT

# Drawing a request takes longer than answering it: each is sent some times.
DRAWN, TIMES, RAW = 1_200, 5, 1_000
REQUESTS = DRAWN * TIMES
ANSWERS = {200, 400, 401, 404, 405, 408, 409, 411, 413, 415, 421, 429, 499}
OPTIONS = {"max_body_mb": 0.25, "queue": 64}
# Some requests never come to their end. On a busy machine, that is soon for an honest one, too; who
# asks again is answered.
SHORT_MS = 300
PERSISTENT = {"retries": 6, **PATIENT}


@pytest.fixture(scope="module")
def cloud(exported: Exported) -> Iterator[InProcess]:
    settings = Settings(read_timeout_ms=1e3 * PATIENCE_S, **OPTIONS)
    with InProcess(make_app([exported.path], settings)) as cloud:
        yield cloud


@pytest.fixture
def server(exported: Exported) -> Iterator[RunningCloud]:
    with running([exported.path], read_timeout_ms=SHORT_MS, **OPTIONS) as server:
        yield server


def assert_refused_or_answered(status: int, headers: dict[str, str], body: bytes) -> None:
    assert status in ANSWERS, (status, body)
    if status == 200 and "inference-header-content-length" in headers:
        assert np.isfinite(decode_response(body, headers).outputs["logits"]).all()
    elif 400 <= status < 499 and body:
        assert set(json.loads(body)) == {"error"}
        assert len(body) < 1000


@given(bad_requests())
@settings(max_examples=400, suppress_health_check=list(HealthCheck))
def test_what_is_no_request_is_refused(cloud: InProcess, sent: Sent) -> None:
    reply = cloud(sent.method, sent.path, [sent.body], sent.headers)
    assert_refused_or_answered(reply.status, reply.headers, reply.body)
    good = HONEST[0]
    assert cloud("POST", good.path, [good.body], good.headers).status == 200


class Caller:
    """Sends requests as bytes, over one connection as long as the server keeps it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.address = (parts.hostname, parts.port)
        self.sock = socket.create_connection(self.address, PATIENCE_S)

    def close(self) -> None:
        self.sock.close()

    def __call__(self, sent: Sent) -> int:
        """The status; 0 where the server only closed the connection."""
        headers = {"Content-Length": str(len(sent.body)), **sent.headers}
        lines = [f"{sent.method} {sent.path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        message = "\r\n".join([*lines, "", ""]).encode() + sent.body
        honest = headers["Content-Length"] == str(len(sent.body))
        reply = HTTPResponse(self.sock, method=sent.method)
        try:
            self.sock.sendall(message)
            if not honest:
                self.sock.shutdown(socket.SHUT_WR)
            reply.begin()
            body = reply.read()
            own = {name.lower(): value for name, value in reply.headers.items()}
            if own.get("content-type", "").startswith("text/plain") and reply.status == 400:
                body = b""  # What is no HTTP does not come to the application.
            assert_refused_or_answered(reply.status, own, body)
            return reply.status
        except OSError:
            honest = False
            return 0
        finally:
            kept = honest and not reply.will_close
            reply.close()
            if not kept:
                self.sock.close()
                self.sock = socket.create_connection(self.address, PATIENCE_S)


@pytest.mark.slow
def test_thousands_of_bad_requests_change_nothing(exported: Exported, server: RunningCloud) -> None:
    process = psutil.Process(server.process.pid)
    expected = LocalCloud(exported.path).infer(exported.images[:2], IMAGE_CUT, None)
    caller, statuses = Caller(server.url), Counter[int]()

    @given(bad_requests())
    @settings(
        max_examples=DRAWN, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def send(sent: Sent) -> None:
        for _ in range(TIMES):
            statuses[caller(sent)] += 1
        number = statuses.total()
        if number % 1000 == 0:
            with HttpCloud(server.url, exported.graphs.id, **PERSISTENT) as cloud:
                logits = cloud.infer(exported.images[:2], IMAGE_CUT, None)
            np.testing.assert_allclose(logits, expected, rtol=1e-4)
        if number in (REQUESTS // 4, REQUESTS):
            resident.append(process.memory_info().rss)

    resident: list[int] = []
    send()
    caller.close()
    assert statuses.total() >= REQUESTS
    # All kinds came, and not only at the door.
    assert {200, 400, 404, 405, 415} <= set(statuses), statuses
    assert statuses[0] < REQUESTS / 20, statuses
    assert resident[-1] - resident[0] < 8 * 2**20, resident
    assert_no_bug(server)
    print(dict(statuses), [size / 2**20 for size in resident])


def assert_no_bug(server: RunningCloud) -> None:
    with urlopen(f"{server.url}/metrics", timeout=PATIENCE_S) as reply:
        text = reply.read().decode()
    assert 'cause="bug"' not in text
    assert not re.search(r'status="5\d\d"', text)
    assert "eenn_queue_samples 0.0" in text


HEAD = b"POST /v2/models/eenn-cloud-0/infer HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
RAW_MESSAGES = [
    b"", b"\0", b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\0\x01\0",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"CONNECT test:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET http://test/v2 HTTP/1.1\r\n\r\n", b"GET /" + 10**5 * b"a" + b" HTTP/1.1\r\n\r\n",
    b"GET /v2 HTTP/1.0\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    HEAD + b"Content-Length: -5\r\n\r\nhello", HEAD + b"Content-Length: 99\r\n\r\nhello",
    HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    HEAD + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\r\n",
    HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"X: " + 10**6 * b"y", HEAD + 10**5 * b"X: y\r\n", HEAD + b"X\r\n y: z\r\n\r\n",
    CHUNKED + b"zz\r\n", CHUNKED + b"5\r\nhel", CHUNKED + b"ffffffffffffffffff\r\n",
    CHUNKED + b"1;" + 10**5 * b"x", CHUNKED + 10**5 * b"1\r\nx\r\n",
    CHUNKED + b"1\r\nx\r\n0\r\n" + 10**5 * b"X: y\r\n",
    2 * (HEAD + b"Content-Length: 2\r\n\r\n{}"),
    b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50,
]  # fmt: skip


@st.composite
def raw_messages(draw: Callable[..., object]) -> bytes:
    """What is hardly HTTP, damaged at one place."""
    message = bytearray(draw(st.sampled_from(RAW_MESSAGES)) or b"")  # type: ignore[call-overload]
    place = draw(st.integers(0, min(len(message), 200)))
    message[place:place] = draw(st.binary(max_size=3))  # type: ignore[misc, assignment]
    return Bytes(message)


def statuses_of(url: str, message: bytes) -> list[int]:
    """Of all replies to bytes on a connection of their own, which the client then ends."""
    parts = urlsplit(url)
    received = b""
    with socket.create_connection((parts.hostname, parts.port), PATIENCE_S) as sock:
        try:
            sock.sendall(message)
            sock.shutdown(socket.SHUT_WR)
            while data := sock.recv(2**16):
                received += data
        except OSError:
            pass  # It was closed by the server, with bytes not read.
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", received)]


def assert_raw(server: RunningCloud, exported: Exported, examples: int) -> None:
    @given(raw_messages())
    @settings(max_examples=examples, database=None, suppress_health_check=list(HealthCheck))
    def send(message: bytes) -> None:
        assert set(statuses_of(server.url, message)) <= ANSWERS | {100, 431}

    send()
    assert_no_bug(server)
    with HttpCloud(server.url, exported.graphs.id, **PERSISTENT) as cloud:
        assert len(cloud.infer(exported.images[:4], IMAGE_CUT, None)) == 4


def test_bytes_that_are_no_http_are_refused(exported: Exported, server: RunningCloud) -> None:
    assert_raw(server, exported, 100)


@pytest.mark.slow
def test_a_thousand_times_bytes_that_are_no_http(exported: Exported, server: RunningCloud) -> None:
    process = psutil.Process(server.process.pid)
    assert_raw(server, exported, 200)
    before = process.memory_info().rss
    assert_raw(server, exported, RAW)
    assert process.memory_info().rss - before < 8 * 2**20


def test_an_endless_head_or_body_takes_no_memory(server: RunningCloud) -> None:
    process = psutil.Process(server.process.pid)
    parts = urlsplit(server.url)
    before = process.memory_info().rss
    for start, piece in (
        (HEAD + b"X: ", 2**16 * b"y"),
        (HEAD, 2**13 * b"X: y\r\n"),
        (b"GET /", 2**16 * b"a"),
        (CHUNKED + b"1;", 2**16 * b"x"),
        (CHUNKED + b"1\r\nx\r\n0\r\n", 2**13 * b"X: y\r\n"),
        (CHUNKED, b"10000\r\n" + 2**16 * b"x" + b"\r\n"),
    ):
        with (
            socket.create_connection((parts.hostname, parts.port), PATIENCE_S) as sock,
            pytest.raises(ConnectionError),
        ):
            sock.sendall(start + 1000 * piece)
    assert process.memory_info().rss - before < 16 * 2**20


@pytest.mark.clock
def test_slow_senders_are_let_go_while_others_are_served(
    exported: Exported, server: RunningCloud
) -> None:
    parts = urlsplit(server.url)

    def send_slowly(number: int) -> bytes:
        with socket.create_connection((parts.hostname, parts.port), PATIENCE_S) as sock:
            sock.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
            try:
                for _ in range(1000):
                    sock.sendall(b"x")
                    time.sleep(0.02)
            except ConnectionError:
                pass
            return sock.recv(2**16)

    with (
        ThreadPoolExecutor(32) as slow,
        HttpCloud(server.url, exported.graphs.id, **PERSISTENT) as cloud,
    ):
        sending = [slow.submit(send_slowly, number) for number in range(32)]
        while not all(call.done() for call in sending):
            assert len(cloud.infer(exported.images[:4], IMAGE_CUT, None)) == 4
        assert all(call.result().startswith(b"HTTP/1.1 408") for call in sending)
