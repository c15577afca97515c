"""The HTTP client over TLS."""

import os
import socket
import time
from pathlib import Path

import pytest

from eenn.offload.client.transport import Timeouts
from eenn.offload.protocol.errors import CloudUnreachable
from eenn.offload.protocol.wire import IMAGE_CUT
from tests.offload.certificates import make_certificate, server_context
from tests.offload.client.flaky import (
    IMAGE,
    OK,
    Connection,
    asking,
    deaf,
    failure,
    once_asked,
    serving,
    trickle,
    v2,
)
from tests.offload.patience import PATIENCE_S


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


def test_tls_is_spoken_and_counted_as_http(certificate: tuple[Path, Path]) -> None:
    counted = []
    for context in (None, server_context(*certificate)):
        with (
            serving(v2, context) as server,
            asking(server.url, ca_file=str(certificate[0])) as cloud,
        ):
            for _ in range(3):
                assert cloud.infer(IMAGE, IMAGE_CUT, time.monotonic() + PATIENCE_S).shape == (1, 5)
            assert server.connections == 1
            counted.append((cloud.last.sent_bytes, cloud.last.received_bytes))
    assert counted[0] == counted[1]


def test_a_certificate_that_is_not_trusted(certificate: tuple[Path, Path]) -> None:
    with serving(v2, server_context(*certificate)) as server:
        error, tries = failure(server.url, retries=3)
    assert isinstance(error, CloudUnreachable)
    assert (error.cause, tries) == ("tls", 0)
    assert "self-signed certificate" in str(error)


def test_a_certificate_of_another_name(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path, "DNS:cloud.example")
    with serving(v2, server_context(cert, key)) as server:
        error, _ = failure(server.url, ca_file=str(cert))
    assert error.cause == "tls"
    assert "127.0.0.1" in str(error)


def test_https_to_a_server_of_http() -> None:
    def plain(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with serving(plain) as server:
        error, _ = failure(server.url.replace("http", "https"))
    assert error.cause in ("tls", "reset")


def test_http_to_a_server_of_https(certificate: tuple[Path, Path]) -> None:
    with serving(v2, server_context(*certificate)) as server:
        error, _ = failure(server.url.replace("https", "http"))
    assert error.cause in ("reset", "garbage")


@pytest.mark.clock
def test_a_handshake_is_waited_for_no_longer_than_allowed() -> None:
    with serving(deaf) as server:
        error, _ = failure(server.url.replace("http", "https"), timeouts=Timeouts(connect_ms=100))
    assert error.cause == "connect"


@pytest.mark.clock
def test_tls_that_trickles_ends_by_the_deadline(certificate: tuple[Path, Path]) -> None:
    with serving(trickle(OK + b"X: ", b"x"), server_context(*certificate)) as server:
        error, _ = failure(server.url, deadline_s=0.4, ca_file=str(certificate[0]))
    assert error.cause == "deadline"


def test_a_reply_that_breaks_off_encryption(certificate: tuple[Path, Path]) -> None:
    def send(connection: Connection) -> None:
        connection.send(OK + b"Content-Length: 1000\r\n\r\n")
        with socket.socket(fileno=os.dup(connection.sock.fileno())) as plain:
            plain.sendall(b"plain text" * 100)

    with serving(once_asked(send), server_context(*certificate)) as server:
        error, _ = failure(server.url, ca_file=str(certificate[0]))
    assert isinstance(error, CloudUnreachable)
    assert error.cause == "tls"
