"""What the HTTP client makes of replies that are none, and of no reply."""

import gzip
import time
from contextlib import suppress
from email.message import Message

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from eenn.offload.client.http_cloud import SAMPLE_BYTES
from eenn.offload.protocol.encoding import encode_request
from eenn.offload.protocol.errors import (
    BadReply,
    BadRequest,
    CloudBroken,
    CloudRefused,
    CloudUnreachable,
    OffloadError,
)
from eenn.offload.protocol.wire import ARTIFACT, IMAGE_CUT, Request
from tests.offload.client.flaky import (
    ARTIFACT_ID,
    IMAGE,
    OK,
    Behaviour,
    Connection,
    HttpRequest,
    answer,
    asking,
    failure,
    failure_of,
    flood,
    free_port,
    once_asked,
    raw,
    replying,
    serving,
    trickle,
    v2,
)
from tests.offload.patience import PATIENCE_S

BOMB = zstandard.ZstdCompressor().compress(bytes(100 * SAMPLE_BYTES))


def answering(logits: str, header: str = "") -> Behaviour:
    """A V2 reply with these logits in JSON."""
    return replying(f'{{{header}"outputs": [{{"name": "logits", {logits}}}]}}'.encode())


def test_nobody_there() -> None:
    error, tries = failure(f"http://127.0.0.1:{free_port()}")
    assert isinstance(error, CloudUnreachable)
    assert (error.cause, tries) == ("refused", 0)


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(once_asked(Connection.reset), id="resets"),
        pytest.param(once_asked(Connection.close), id="closes"),
    ],
)
def test_a_broken_connection(behave: Behaviour) -> None:
    error, tries = failure_of(behave, retries=1)
    assert isinstance(error, CloudUnreachable)
    assert (error.cause, tries) == ("reset", 2)


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(raw(OK + b"Content-Length: 1000\r\n\r\nhalf"), id="body"),
        pytest.param(raw(OK + b"Transfer-Encoding: chunked\r\n\r\n40\r\nhalf"), id="chunk"),
    ],
)
def test_a_reply_that_is_cut_short(behave: Behaviour) -> None:
    error, tries = failure_of(behave, retries=1)
    assert type(error) is CloudBroken
    assert (error.cause, tries) == ("truncated", 2)


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(raw(b"SSH-2.0-OpenSSH_9.2\r\n"), id="another protocol"),
        pytest.param(raw(b"HTTP/1.1 two hundred\r\n\r\n"), id="status in words"),
        pytest.param(raw(OK + b"A: " + b"a" * 70_000), id="header without end"),
        pytest.param(flood(OK, b"A: b\r\n"), id="headers without end"),
        pytest.param(flood(OK + b"\r\n", b"x" * 65_536), id="body without end"),
        pytest.param(
            flood(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"4\r\nabcd\r\n"),
            id="chunks without end",
        ),
        pytest.param(
            trickle(OK + b"Content-Length: 9999999999\r\n\r\n", b"x"), id="promises gigabytes"
        ),
        pytest.param(
            trickle(OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", b"x"), id="and more"
        ),
        pytest.param(trickle(OK + b"Content-Length: -1\r\n\r\n", b"x"), id="less than nothing"),
        pytest.param(trickle(OK + b"Content-Length: ten\r\n\r\n", b"x"), id="length in words"),
        pytest.param(
            trickle(OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", b"x"), id="two lengths"
        ),
        pytest.param(replying(b"<html>log in", {"Content-Type": "text/html"}), id="log-in page"),
        pytest.param(replying(b""), id="nothing"),
        pytest.param(replying(b"[]"), id="a list"),
        pytest.param(
            replying(gzip.compress(bytes(10**8)), {"Content-Encoding": "gzip"}), id="gzip bomb"
        ),
        pytest.param(replying(BOMB, {"Content-Encoding": "zstd"}), id="zstd bomb"),
        pytest.param(answering('"shape": [2, 1], "datatype": "FP32", "data": [1, 2]'), id="rows"),
        pytest.param(answering('"shape": [1], "datatype": "FP32", "data": [1]'), id="rank"),
        pytest.param(answering('"shape": [1, 1], "datatype": "UINT8", "data": [1]'), id="type"),
        pytest.param(answering('"shape": [1, 1], "datatype": "FP32", "data": [NaN]'), id="NaN"),
        pytest.param(answering('"shape": [1, 1], "datatype": "FP32", "data": [1e99]'), id="inf"),
        pytest.param(
            replying(
                b'{"outputs": [{"name": "l", "shape": [1], "datatype": "FP32", "data": [1]}]}'
            ),
            id="another output",
        ),
        pytest.param(
            replying(b"", {"Location": "http://127.0.0.1:1/"}, "302 Found"), id="redirect"
        ),
        pytest.param(raw(b"HTTP/1.1 204 No Content\r\n\r\n"), id="no content"),
        pytest.param(raw(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), id="another protocol next"),
    ],
)
def test_a_reply_that_is_none(behave: Behaviour) -> None:
    error, tries = failure_of(behave, deadline_s=PATIENCE_S, retries=3)
    assert isinstance(error, BadReply), repr(error)
    assert (error.cause, tries) == ("garbage", 1)
    assert str(error).isprintable()


@pytest.mark.parametrize(
    ("status", "kind", "cause"),
    [
        ("400 Bad Request", CloudRefused, "request"),
        ("401 Unauthorized", CloudRefused, "token"),
        ("403 Forbidden", CloudRefused, "token"),
        ("404 Not Found", CloudRefused, "request"),
        ("409 Conflict", CloudRefused, "artifact"),
        ("413 Content Too Large", CloudRefused, "request"),
        ("500 Internal Server Error", CloudBroken, "server"),
        ("502 Bad Gateway", CloudBroken, "server"),
    ],
)
def test_what_the_cloud_refuses_is_not_asked_again(
    status: str, kind: type[OffloadError], cause: str
) -> None:
    error, tries = failure_of(replying(b'{"error": "no\\nmore"}', status=status), retries=3)
    assert type(error) is kind
    assert (error.cause, tries) == (cause, 1)
    assert str(error) == f"the cloud answers {status[:3]}: no more"


def test_damaged_headers_make_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    error, _ = failure_of(raw(OK + b"Content-Type: text\r\nno header\r\n\r\n"))
    assert error.cause == "garbage"
    assert not caplog.records


def test_a_question_that_cannot_be_sent_is_not_sent() -> None:
    with serving(v2) as server, asking(server.url) as cloud:
        with pytest.raises(BadRequest, match="finite"):
            cloud.infer(np.full((1, 3, 8, 8), np.nan, np.float32), IMAGE_CUT, None)
        assert (cloud.last.tries, server.connections) == (0, 0)


def good_reply() -> bytes:
    body, headers = encode_request(
        Request({"features": IMAGE}, {ARTIFACT: ARTIFACT_ID}, {"logits": True})
    )
    message = Message()
    for name, value in headers.items():
        message[name] = value
    return answer(HttpRequest("POST /v2/models/eenn-cloud-0/infer HTTP/1.1", message, body))


@st.composite
def damaged_replies(draw: st.DrawFn) -> bytes:
    """A good reply with some bytes exchanged for others."""
    reply = good_reply()
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(reply)))
        stop = start + draw(st.integers(0, 20))
        reply = reply[:start] + draw(st.binary(max_size=20)) + reply[stop:]
    return reply


@given(damaged_replies() | st.binary() | st.binary().map(lambda data: OK + data))
@settings(max_examples=300)
def test_whatever_comes_is_logits_or_an_offload_error(reply: bytes) -> None:
    with (
        serving(raw(reply)) as server,
        asking(server.url, retries=0) as cloud,
        suppress(OffloadError),
    ):
        logits = cloud.infer(IMAGE, IMAGE_CUT, time.monotonic() + PATIENCE_S)
        assert logits.shape[0] == 1
        assert np.isfinite(logits).all()
