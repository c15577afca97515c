"""The edge's HTTP connections: where requests end, who may wait, and refusals that arrive."""

import errno
import http.client
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from threading import Event

import pytest

from eenn.offload.edge import connections
from eenn.offload.edge import server as edge_server
from eenn.offload.edge.clouds import LocalCloud
from eenn.offload.edge.server import EdgeServer
from tests.offload.edge.edge_service import Held, runtime_of, serving
from tests.offload.exported import Exported
from tests.offload.patience import PATIENCE_S, wait_until


@pytest.fixture
def server(exported: Exported) -> Iterator[EdgeServer]:
    with serving(runtime_of(exported, None)) as server:
        yield server


def connected(server: EdgeServer) -> socket.socket:
    host, port = server.server_address[:2]
    return socket.create_connection((str(host), port), timeout=PATIENCE_S)


def everything(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(2**16), b""))


def posting(length: int, *headers: str) -> bytes:
    lines = ["POST /classify HTTP/1.1", "Host: localhost", f"Content-Length: {length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def asked(server: EdgeServer, *request: object) -> http.client.HTTPResponse:
    """The reply to a request, read to its end, on a connection of its own."""
    host, port = server.server_address[:2]
    with closing(http.client.HTTPConnection(str(host), port, timeout=PATIENCE_S)) as connection:
        connection.request(*request)  # type: ignore[arg-type]
        reply = connection.getresponse()
        reply.read()
        return reply


def test_many_clients_are_answered_or_sent_away_and_none_is_cut_off(
    server: EdgeServer, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "waiting", edge_server.threading.BoundedSemaphore(2))
    image = exported.files[0].read_bytes() + bytes(200_000)

    def client(_: int) -> list[tuple[int, str | None]]:
        replies = [asked(server, "POST", "/classify", image) for _ in range(3)]
        return [(reply.status, reply.headers["Retry-After"]) for reply in replies]

    with ThreadPoolExecutor(64) as pool:
        replies = [reply for own in pool.map(client, range(64)) for reply in own]
    assert len(replies) == 3 * 64
    assert set(replies) == {(200, None), (503, "1")}


def test_connections_that_come_at_once_wait_to_be_accepted(exported: Exported) -> None:
    runtime = runtime_of(exported, None)
    # Nobody accepts them.
    with EdgeServer("127.0.0.1", 0, runtime, {}) as server, ExitStack() as held:
        for _ in range(64):
            held.enter_context(connected(server)).sendall(b"GET /health HTTP/1.1\r\n")


@pytest.mark.parametrize("length", [32 * 2**20 + 1, 9 * 10**11])
def test_who_sends_before_reading_sees_the_refusal(length: int, server: EdgeServer) -> None:
    with connected(server) as sock:
        sock.sendall(posting(length) + bytes(16 * 2**20))
        sock.shutdown(socket.SHUT_WR)
        assert everything(sock).startswith(b"HTTP/1.1 413 ")


def test_who_sends_without_end_is_cut_off(
    server: EdgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LINGER_BYTES", 2**20)
    monkeypatch.setattr(connections, "LINGER_S", PATIENCE_S)

    def send_much(sock: socket.socket) -> None:
        sock.sendall(posting(10**9))
        # More than the buffers between the two take.
        for _ in range(100):
            sock.sendall(bytes(2**20))

    with connected(server) as sock, pytest.raises(ConnectionError):
        send_much(sock)


def test_who_sends_slowly_takes_nobodys_place(
    server: EdgeServer, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "waiting", edge_server.threading.BoundedSemaphore(1))
    image = exported.files[0].read_bytes()
    with ExitStack() as held:
        slow = [held.enter_context(connected(server)) for _ in range(5)]
        for sock in slow:
            sock.sendall(posting(len(image)) + image[:100])
        assert asked(server, "POST", "/classify", image).status == 200
        for sock in slow:
            sock.sendall(image[100:])
            assert sock.recv(12) == b"HTTP/1.1 200"


def test_images_on_their_way_have_bounded_memory(
    server: EdgeServer, monkeypatch: pytest.MonkeyPatch, exported: Exported
) -> None:
    monkeypatch.setattr(edge_server, "MAX_HELD_BYTES", 100_000)
    image = exported.files[0].read_bytes()
    with connected(server) as slow:
        slow.sendall(posting(100_001) + bytes(100_000))
        wait_until(lambda: server._held_bytes == 100_000)
        reply = asked(server, "POST", "/classify", image)
        assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
        slow.sendall(b"x")
        assert everything(slow).startswith(b"HTTP/1.1 503 ")
    wait_until(lambda: server._held_bytes == 0)
    assert asked(server, "POST", "/classify", image).status == 200


def test_a_client_that_waits_to_send_its_image_is_told_to(
    server: EdgeServer, exported: Exported
) -> None:
    image = exported.files[0].read_bytes()
    with connected(server) as sock:
        for _ in range(2):
            sock.sendall(posting(len(image), "Expect: 100-continue"))
            assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            sock.sendall(image)
            assert sock.recv(12) == b"HTTP/1.1 200"
            while b'"confidences": ' not in sock.recv(2**16):
                pass


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (posting(10**9, "Expect: 100-continue"), 413),
        (posting(10, "Expect: 100-continue", "Transfer-Encoding: chunked"), 411),
        (posting(10, "Expect: 100-continue", "Content-Type: multipart/form-data; boundary=x"), 415),
        (posting(10, "Expect: 100-Continue").replace(b"/classify", b"/"), 404),
        (posting(10, "Expect: 200-ok"), 417),
        (posting(10, "Expect: 100-continue").replace(b"localhost", b"page.example"), 421),
    ],
)
def test_a_client_that_waits_to_send_is_refused_before_it_does(
    request_: bytes, status: int, server: EdgeServer
) -> None:
    with connected(server) as sock:
        sock.sendall(request_)
        sock.shutdown(socket.SHUT_WR)
        assert everything(sock).startswith(f"HTTP/1.1 {status} ".encode())


SECOND = b"GET /page.css HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        f"GET /health HTTP/1.1\r\nContent-Length: {len(SECOND)}",
        f"HEAD /health HTTP/1.1\r\nContent-Length: {len(SECOND)}",
        f"GET /health HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: {len(SECOND)}",
        f"GET /health HTTP/1.1\r\nContent-Length : {len(SECOND)}",
        f"GET /health HTTP/1.1\r\n Content-Length: {len(SECOND)}",
        "GET /health HTTP/1.1\r\nTransfer-Encoding: chunked",
        "GET /no HTTP/1.1\r\nTransfer-Encoding: xchunked",
        f"PUT /health HTTP/1.1\r\nContent-Length: {len(SECOND)}",
        f"POST /health HTTP/1.1\r\nContent-Length: {len(SECOND)}",
        f"POST /classify HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: {len(SECOND)}",
        "POST /classify HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked",
        f"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: a\r\nContent-Length: {len(SECOND)}",
    ],
)
def test_a_body_is_not_run_as_the_next_request(head: str, server: EdgeServer) -> None:
    with connected(server) as sock:
        sock.sendall(head.encode() + b"\r\n\r\n" + SECOND)
        sock.shutdown(socket.SHUT_WR)
        replies = everything(sock)
    assert replies.count(b"HTTP/1.1 ") == 1
    assert replies[9:10] in b"45"
    assert b"Connection: close" in replies


def test_requests_without_a_body_may_follow_each_other_at_once(server: EdgeServer) -> None:
    with connected(server) as sock:
        sock.sendall(SECOND * 2 + SECOND.replace(b"Host", b"Connection: close\r\nHost"))
        assert everything(sock).count(b"HTTP/1.1 200 ") == 3


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/health", 200), ("/no", 404)])
def test_a_head_is_a_get_without_what_it_asks_for(
    path: str, status: int, server: EdgeServer
) -> None:
    head, get = (asked(server, method, path) for method in ("HEAD", "GET"))
    assert head.status == get.status == status
    assert dict(head.headers) == {**dict(get.headers), "Date": head.headers["Date"]}
    with connected(server) as sock:
        sock.sendall(f"HEAD {path} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
        assert everything(sock).endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8080", 200),
        ("127.0.0.1:80", 200),
        ("127.3.2.1", 200),
        ("[::1]:8080", 200),
        ("page.example", 421),
        ("localhost.page.example:8080", 421),
        ("127.0.0.1.page.example", 421),
        ("192.168.1.1", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
def test_a_page_whose_name_leads_here_reads_nothing(
    host: str, status: int, server: EdgeServer
) -> None:
    for path in ("/health", "/"):
        assert asked(server, "GET", path, None, {"Host": host}).status == status


def test_what_everybody_may_reach_is_reached_by_any_name(exported: Exported) -> None:
    with EdgeServer("0.0.0.0", 0, runtime_of(exported, None), {}) as server:
        assert server.is_own("device.example:8080")
    with EdgeServer("localhost", 0, runtime_of(exported, None), {}) as server:
        assert server.is_own("localhost:1")
        assert not server.is_own("device.example:8080")


def test_silent_connections_make_room_and_those_that_have_asked_go_last(
    server: EdgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    with ExitStack() as held:
        kept = held.enter_context(connected(server))
        kept.sendall(SECOND)
        assert kept.recv(12) == b"HTTP/1.1 200"
        silent = [held.enter_context(connected(server)) for _ in range(6)]
        silent[-1].sendall(b"GET /hea")
        assert asked(server, "GET", "/health").status == 200
        assert everything(silent[0]) == b""
        kept.sendall(SECOND)
        assert b"HTTP/1.1 200" in kept.recv(2**16) + kept.recv(2**16)


def test_where_all_connections_are_busy_the_next_waits(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 1)
    cloud, image = Held(LocalCloud(exported.path)), exported.files[0].read_bytes()
    with (
        serving(runtime_of(exported, cloud, p_tar=1.0)) as server,
        connected(server) as first,
    ):
        first.sendall(posting(len(image), "Connection: close") + image)
        assert cloud.asked.wait(PATIENCE_S)
        with connected(server) as second:
            second.sendall(SECOND.replace(b"Host", b"Connection: close\r\nHost"))
            cloud.released.set()
            assert everything(first).startswith(b"HTTP/1.1 200 ")
            first.close()
            assert everything(second).startswith(b"HTTP/1.1 200 ")


def test_without_file_descriptors_an_idle_connection_makes_room(
    server: EdgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept, ended = server.socket.accept, Event()

    class Listening:
        def accept(self) -> tuple[socket.socket, object]:
            if not ended.is_set():
                raise OSError(errno.EMFILE, "Too many open files")
            return accept()

    with connected(server) as idle:
        idle.sendall(SECOND)
        assert idle.recv(12) == b"HTTP/1.1 200"
        listening = server.socket
        monkeypatch.setattr(server, "socket", Listening())
        with connected(server) as sock:
            everything(idle)
            ended.set()
            sock.sendall(SECOND)
            assert sock.recv(12) == b"HTTP/1.1 200"
        monkeypatch.setattr(server, "socket", listening)


@pytest.mark.clock
@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\nHos", b"GET / HTTP/1.1\r\nA: b\r\n"])
def test_a_head_that_does_not_get_on_ends_its_connection(
    sent: bytes, server: EdgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.05)
    monkeypatch.setattr(connections, "IDLE_S", 10 * PATIENCE_S)
    with connected(server) as sock:
        sock.sendall(sent)
        assert everything(sock) == b""


def test_a_refusal_after_the_image_keeps_the_connection(
    server: EdgeServer, exported: Exported
) -> None:
    host, port = server.server_address[:2]
    with closing(http.client.HTTPConnection(str(host), port, timeout=PATIENCE_S)) as connection:
        connection.request("POST", "/classify", b"no image")
        reply = connection.getresponse()
        assert "error" in json.loads(reply.read())
        assert (reply.status, reply.headers["Connection"]) == (400, None)
        sock = connection.sock
        connection.request("POST", "/classify", exported.files[0].read_bytes())
        assert connection.getresponse().status == 200
        assert connection.sock is sock
