"""One connection over its life: who is let in, what is heard, and that every end can be read."""

import asyncio
import errno
import re
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from eenn.offload.cloud import arrival, connections
from eenn.offload.cloud import gate as gate_module
from eenn.offload.cloud.arrival import GatedServer
from eenn.offload.cloud.gate import Gate, Stage
from eenn.offload.cloud.settings import MAX_HEAD_BYTES, MAX_HEADERS
from tests.offload.certificates import make_certificate
from tests.offload.patience import PATIENCE_S, wait_until

Address = tuple[str, int]
GET = b"GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE_BYTES = 64 * 2**20  # more than sockets buffer
# Both have transports of their own.
LOOPS = ["asyncio", "uvloop"]


class Service:
    """An application that answers with what it was sent, and knows who waits and who left."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.waiting, self.left, self.go_on = Event(), Event(), Event()
        self.app = Starlette(
            routes=[
                Route("/echo", self.echo, methods=["GET", "POST"]),
                Route("/wait", self.wait, methods=["GET", "POST"]),
                Route("/halves", self.halves, methods=["GET"]),
                Route("/large", self.large, methods=["GET"]),
                Route("/refuse", self.refuse, methods=["POST"]),
            ]
        )

    async def echo(self, request: Request) -> Response:
        body = await request.body()
        self.asked.append(body)
        return JSONResponse({"body": body.decode()})

    async def wait(self, request: Request) -> Response:
        await request.body()
        self.waiting.set()
        leaving = asyncio.ensure_future(request.receive())
        going_on = asyncio.ensure_future(asyncio.to_thread(self.go_on.wait, PATIENCE_S))
        await asyncio.wait((leaving, going_on), return_when=asyncio.FIRST_COMPLETED)
        if not going_on.done():
            self.left.set()
            self.go_on.set()
        leaving.cancel()
        return PlainTextResponse("waited")

    async def halves(self, _: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first, "
            self.waiting.set()
            await asyncio.to_thread(self.go_on.wait, PATIENCE_S)
            yield b"last"

        return StreamingResponse(parts(), headers={"Content-Length": "11"})

    async def large(self, _: Request) -> Response:
        return Response(bytes(LARGE_BYTES))

    async def refuse(self, _: Request) -> Response:
        """A refusal that ends the connection, whatever is still to come."""
        return JSONResponse({"error": "no"}, 429, {"Connection": "close"})


class Served:
    """A server in a thread of this process."""

    def __init__(self, service: Service, server: uvicorn.Server, gate: Gate, thread: Thread):
        self.service, self.server, self.gate, self.thread = service, server, gate, thread
        self.noted: list[str] = []
        self.address: Address = ("", 0)

    def count(self, stage: Stage) -> int:
        return len(self.gate._stages[stage])

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(PATIENCE_S)
        has_ended = not self.thread.is_alive()
        self.server.force_exit = True
        self.thread.join()
        assert has_ended


@contextmanager
def serving(
    limit: int = 100, tls: ssl.SSLContext | None = None, loop: str = "asyncio"
) -> Iterator[Served]:
    noted: list[str] = []
    gate, service = Gate(limit, noted.append), Service()
    config = uvicorn.Config(
        service.app,
        loop=loop,
        ws="none",
        lifespan="off",
        log_level="error",
        timeout_keep_alive=int(10 * PATIENCE_S),
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(512)
        server = GatedServer(config, listener, gate, tls)
        thread = Thread(target=server.run, args=[[]])
        served = Served(service, server, gate, thread)
        served.noted, served.address = noted, listener.getsockname()
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield served
        finally:
            service.go_on.set()
            served.stop()


def connected(address: Address, stack: ExitStack) -> socket.socket:
    return stack.enter_context(socket.create_connection(address, PATIENCE_S))


def reply(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of the next reply, and nothing of the one behind it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        assert byte, head
        head += byte
    status = int(head[9:12])
    if status == 100:
        return reply(connection)
    found = re.search(rb"content-length: ([0-9]+)", head.lower())
    assert found, head
    body = b""
    while len(body) < int(found[1]):
        body += connection.recv(int(found[1]) - len(body))
    return status, body


def all_of(connection: socket.socket) -> bytes:
    """Whatever comes until the other side ends the connection in order."""
    received = b""
    while data := connection.recv(2**16):
        received += data
    return received


def is_over(connection: socket.socket) -> bool:
    """Wait until the other side ends the connection, in order or not."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def post(path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def impatient(patch: pytest.MonkeyPatch, stage: Stage) -> None:
    patch.setitem(gate_module._PATIENCE_S, stage, 0.0)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_head_is_waited_for_no_longer_than_allowed(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 10 * PATIENCE_S)
    with serving(loop=loop) as served, ExitStack() as stack:
        kept = connected(served.address, stack)
        kept.sendall(GET)
        assert reply(kept)[0] == 200
        monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 0.01)
        assert all_of(connected(served.address, stack)) == b""  # Nothing was asked.
        kept.sendall(GET[:-2])
        assert reply(kept)[0] == 408
        assert all_of(kept) == b""


def test_a_connection_that_was_idle_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch, Stage.IDLE)
    with serving(limit=20) as served, ExitStack() as stack:
        kept = [connected(served.address, stack) for _ in range(15)]
        for connection in kept:
            connection.sendall(GET)
            assert reply(connection)[0] == 200
        newest = connected(served.address, stack)
        newest.sendall(GET)
        assert reply(newest)[0] == 200
        assert is_over(kept[0])
        for connection in kept[1:]:
            connection.sendall(GET)
            assert reply(connection)[0] == 200


def test_an_idle_connection_stays_while_a_request_may_be_on_its_way() -> None:
    with serving(limit=20) as served, ExitStack() as stack:
        kept = [connected(served.address, stack) for _ in range(15)]
        for connection in kept:
            connection.sendall(GET)
            assert reply(connection)[0] == 200
        newest = connected(served.address, stack)
        assert reply(newest)[0] == 503
        for connection in kept:
            connection.sendall(GET)
            assert reply(connection)[0] == 200


def test_who_never_finished_a_head_goes_before_all_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    impatient(monkeypatch, Stage.IDLE)
    with serving(limit=20) as served, ExitStack() as stack:
        honest = connected(served.address, stack)
        honest.sendall(GET)
        assert reply(honest)[0] == 200
        for number in range(60):
            silent = connected(served.address, stack)
            if number % 2:
                silent.sendall(GET[:-2])
        wait_until(lambda: served.noted.count("room") >= 46)
        honest.sendall(GET)
        assert reply(honest)[0] == 200
        newest = connected(served.address, stack)
        newest.sendall(GET)
        assert reply(newest)[0] == 200


@pytest.mark.parametrize("loop", LOOPS)
def test_where_nobody_makes_room_the_newest_can_read_so(loop: str) -> None:
    with serving(limit=20, loop=loop) as served, ExitStack() as stack:
        kept = [connected(served.address, stack) for _ in range(15)]
        for connection in kept:
            connection.sendall(post("/echo", b"ab")[:-1])
        wait_until(lambda: served.count(Stage.SENDING) == 15)
        for _ in range(5):
            newest = connected(served.address, stack)
            newest.sendall(post("/echo", bytes(2**20)))
            status, _ = reply(newest)
            assert status == 503
            assert newest.recv(1) == b""
        for connection in kept:
            connection.sendall(b"b")
            assert reply(connection) == (200, b'{"body":"ab"}')
        assert served.noted.count("connections") == 5


def test_more_than_can_be_told_so_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "MAX_REFUSED_CONNECTIONS", 2)
    with serving(limit=20) as served, ExitStack() as stack:
        for _ in range(15):
            connected(served.address, stack).sendall(post("/echo", b"ab")[:-1])
        wait_until(lambda: served.count(Stage.SENDING) == 15)
        told = [connected(served.address, stack) for _ in range(2)]
        assert [reply(connection)[0] for connection in told] == [503, 503]
        assert is_over(connected(served.address, stack))


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("secured", [False, True])
def test_a_refusal_is_read_by_who_is_still_sending(
    secured: bool, loop: str, tmp_path: Path
) -> None:
    cert, key = make_certificate(tmp_path)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(cert, key)
    client_side = ssl.create_default_context(cafile=cert)
    with serving(tls=server_side if secured else None, loop=loop) as served, ExitStack() as stack:
        for sent, expected in (
            (post("/refuse", bytes(2**23)), 429),
            (b"GET / HTTP/1.1\r\n" + (MAX_HEAD_BYTES + 2**20) // 6 * b"X: y\r\n", 431),
            (b"nonsense\r\n\r\n" + bytes(2**20), 400),
        ):
            connection = connected(served.address, stack)
            if secured:
                connection = stack.enter_context(
                    client_side.wrap_socket(connection, server_hostname="127.0.0.1")
                )
            sending = Thread(target=connection.sendall, args=[sent])
            sending.start()
            sending.join()
            assert reply(connection)[0] == expected


def test_nobody_reads_a_refusal_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LINGER_S", 0.01)
    with serving() as served, ExitStack() as stack:
        connection = connected(served.address, stack)
        connection.sendall(post("/refuse", b"ab")[:-1])
        assert reply(connection)[0] == 429
        wait_until(lambda: not served.server.server_state.connections)


def test_what_is_refused_early_is_let_in_and_the_connection_kept() -> None:
    with serving() as served, ExitStack() as stack:
        connection = connected(served.address, stack)
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert reply(connection)[0] == 404
        connection.sendall(bytes(10**6) + GET)
        assert reply(connection)[0] == 200


def test_the_rest_of_a_refused_body_is_not_awaited_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "DISCARD_TIMEOUT_S", 0.01)
    with serving() as served, ExitStack() as stack:
        connection = connected(served.address, stack)
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert reply(connection)[0] == 404
        connection.sendall(b"x")  # It is not idle.
        assert all_of(connection) == b""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_reply_that_is_not_read_ends_its_connection(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "WRITE_TIMEOUT_S", 0.01)
    with serving(loop=loop) as served, ExitStack() as stack:
        connection = connected(served.address, stack)
        connection.sendall(GET.replace(b"echo", b"large"))
        wait_until(lambda: "unread" in served.noted)
        wait_until(lambda: not served.server.server_state.connections)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_last_reply_that_is_not_read_is_dropped(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "UNREAD_BYTES", 2 * LARGE_BYTES)  # so that nobody waits
    monkeypatch.setattr(connections, "WRITE_TIMEOUT_S", 0.01)
    with serving(loop=loop) as served, ExitStack() as stack:
        connection = connected(served.address, stack)
        connection.sendall(
            GET.replace(b"echo", b"large").replace(b"Host", b"Connection: close\r\nHost")
        )
        wait_until(lambda: served.server.server_state.total_requests == 1)
        wait_until(lambda: not served.server.server_state.connections)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_server_that_ends_waits_for_no_reader(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WRITE_TIMEOUT_S", 10 * PATIENCE_S)
    monkeypatch.setattr(connections, "LINGER_S", 0.01)
    with serving(loop=loop) as served, ExitStack() as stack:
        connection = connected(served.address, stack)
        connection.sendall(GET.replace(b"echo", b"large"))
        wait_until(lambda: served.count(Stage.IDLE) == 1)
        silent = connected(served.address, stack)
        wait_until(lambda: served.count(Stage.ARRIVING) == 1)
        served.stop()
        assert silent.recv(1) == b""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_who_has_ended_its_side_is_answered(loop: str, version: str) -> None:
    with serving(loop=loop) as served, ExitStack() as stack:
        connection = connected(served.address, stack)
        request = post("/wait", b"all of it").replace(b"HTTP/1.1", f"HTTP/{version}".encode())
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        served.service.waiting.wait(PATIENCE_S)
        time.sleep(3 * connections.PROBE_S)
        served.service.go_on.set()
        assert reply(connection) == (200, b"waited")
        assert connection.recv(1) == b""
        assert not served.service.left.is_set()


@pytest.mark.parametrize("loop", LOOPS)
def test_who_has_left_is_noticed(loop: str) -> None:
    with serving(loop=loop) as served:
        with socket.create_connection(served.address, PATIENCE_S) as connection:
            connection.sendall(post("/wait", b"all of it"))
            assert served.service.waiting.wait(PATIENCE_S)
        assert served.service.left.wait(PATIENCE_S)


def test_who_ends_its_side_before_its_request_is_whole_has_left() -> None:
    with serving() as served, ExitStack() as stack:
        for sent in (GET[:-2], post("/wait", b"all of it")[:-1]):
            connection = connected(served.address, stack)
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            assert all_of(connection) == b""
        wait_until(lambda: not served.server.server_state.connections)


UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ")


@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_a_wish_for_another_protocol_is_passed_over(size: int) -> None:
    """As of curl --http2, Java's HttpClient, and those who hide a request in a body."""
    hidden = post("/echo", b"hidden")
    sent = (
        post("/echo", hidden, *UPGRADE)
        + GET.replace(b"\r\n\r\n", "\r\n".join(["", *UPGRADE, "", ""]).encode())
        + post("/echo", b"plain")
        + post("/echo", b"", "Connection: upgrade", "Upgrade: websocket").replace(
            b"Content-Length: 0", b"Transfer-Encoding: chunked"
        )
        + b"6\r\npieces\r\n0\r\n\r\n"
    )
    with serving() as served, ExitStack() as stack:
        connection = connected(served.address, stack)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(sent), size):
            connection.sendall(sent[start : start + size])
        replies = [reply(connection) for _ in range(4)]
        assert [status for status, _ in replies] == 4 * [200]
        assert served.service.asked == [hidden, b"", b"plain", b"pieces"]


def test_more_requests_at_once_than_are_kept_are_not_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "LINGER_S", 10 * PATIENCE_S)
    sent = 1000 * post("/echo", b"one of many")
    with serving() as served, ExitStack() as stack:
        connection = connected(served.address, stack)
        Thread(target=connection.sendall, args=[sent]).start()
        received = all_of(connection)
        replies = received.count(b"HTTP/1.1 200 OK")
        assert connections.MAX_PIPELINED <= replies == received.count(b"one of many") < 100
        assert received.count(b"connection: close") == 1
        assert served.service.asked == replies * [b"one of many"]
        for _ in range(10):
            connection.sendall(sent)  # It is let in, as else what was sent might be lost.


def with_headers(count: int) -> bytes:
    return GET[:-2] + (count - 1) * b"X: y\r\n" + b"\r\n"


def test_more_headers_than_anybody_sends_are_refused() -> None:
    """They take many times the bytes that they come in."""
    with serving() as served, ExitStack() as stack:
        connection = connected(served.address, stack)
        connection.sendall(with_headers(MAX_HEADERS))
        assert reply(connection)[0] == 200
        connection.sendall(with_headers(MAX_HEADERS + 1))
        assert reply(connection)[0] == 431
        assert all_of(connection) == b""
        trailing = connected(served.address, stack)
        chunks = post("/echo").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        trailing.sendall(chunks + b"1\r\nx\r\n0\r\n" + MAX_HEADERS * b"X: y\r\n" + b"\r\n")
        assert reply(trailing)[0] == 431


@pytest.mark.parametrize(
    "behind", [b"nonsense\r\n\r\n", with_headers(MAX_HEADERS + 1), (MAX_HEAD_BYTES + 1) * b"x"]
)
def test_no_refusal_overtakes_the_replies_before_it(behind: bytes) -> None:
    with serving() as served, ExitStack() as stack:
        connection = connected(served.address, stack)
        connection.sendall(post("/wait") + post("/echo", b"second"))
        assert served.service.waiting.wait(PATIENCE_S)
        connection.sendall(behind)
        wait_until(lambda: any(own._is_deaf for own in served.server.server_state.connections))
        served.service.go_on.set()
        assert [reply(connection) for _ in range(2)] == [
            (200, b"waited"), (200, b'{"body":"second"}'),
        ]  # fmt: skip
        assert all_of(connection) == b""


CHUNKED = post("/nowhere").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")


def test_a_request_has_one_reply_whatever_follows() -> None:
    with serving() as served, ExitStack() as stack:
        connection = connected(served.address, stack)
        connection.sendall(CHUNKED)
        assert reply(connection)[0] == 404
        connection.sendall(b"no chunk\r\n")
        assert all_of(connection) == b""


def test_no_refusal_stands_between_the_bytes_of_a_reply() -> None:
    with serving() as served, ExitStack() as stack:
        connection = connected(served.address, stack)
        connection.sendall(GET.replace(b"echo", b"halves") + CHUNKED)
        assert served.service.waiting.wait(PATIENCE_S)
        connection.sendall(b"no chunk\r\n")
        received = b""
        with suppress(ConnectionError):
            while data := connection.recv(2**16):
                received += data
        assert received.partition(b"\r\n\r\n")[2] in (b"", b"first, ")


def test_who_leaves_with_several_requests_is_missed_by_the_first() -> None:
    with serving() as served:
        with socket.create_connection(served.address, PATIENCE_S) as connection:
            connection.sendall(post("/wait") + GET)
            assert served.service.waiting.wait(PATIENCE_S)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert served.service.left.wait(PATIENCE_S)


def test_nothing_is_said_between_the_bytes_of_a_reply() -> None:
    with serving() as served, ExitStack() as stack:
        connection = connected(served.address, stack)
        connection.sendall(GET.replace(b"echo", b"halves") + GET)
        connection.shutdown(socket.SHUT_WR)
        assert served.service.waiting.wait(PATIENCE_S)
        time.sleep(3 * connections.PROBE_S)
        served.service.go_on.set()
        assert reply(connection) == (200, b"first, last")
        assert reply(connection) == (200, b'{"body":""}')


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        ([post("/refuse", b"ab")[:-1]], [429]),
        ([GET, with_headers(MAX_HEADERS + 1)], [200, 431]),
    ],
)
def test_who_was_refused_and_lingers_makes_room(
    sent: list[bytes], statuses: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch, Stage.SENDING)
    monkeypatch.setattr(connections, "LINGER_S", 10 * PATIENCE_S)
    with serving(limit=20) as served, ExitStack() as stack:
        for _ in range(15):
            lingering = connected(served.address, stack)
            for status, part in zip(statuses, sent, strict=True):
                lingering.sendall(part)
                assert reply(lingering)[0] == status
        newest = connected(served.address, stack)
        newest.sendall(GET)
        assert reply(newest)[0] == 200


def test_this_is_no_proxy() -> None:
    with serving() as served, ExitStack() as stack:
        connection = connected(served.address, stack)
        connection.sendall(b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n" + GET)
        assert all_of(connection).startswith(b"HTTP/1.1 400 ")
        assert served.service.asked == []


class NoFileLeft:
    """A listening socket that accepts nobody for a while."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener, self.tries, self.is_over = listener, 0, Event()
        self.fileno, self.close = listener.fileno, listener.close

    def accept(self) -> object:
        if self.is_over.is_set():
            return self.listener.accept()
        self.tries += 1
        raise OSError(errno.EMFILE, "Too many open files")


def test_while_no_file_is_left_connections_wait(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as served, ExitStack() as stack:
        start = time.monotonic()
        served.server._listener = listener = NoFileLeft(served.server._listener)  # type: ignore[attr-defined]
        connection = connected(served.address, stack)
        wait_until(lambda: listener.tries == 2)
        assert time.monotonic() - start >= arrival.ACCEPT_PAUSE_S
        listener.is_over.set()
        connection.sendall(GET)
        assert reply(connection)[0] == 200
        assert set(served.noted) == {"files"}
    assert caplog.messages == ["1 x no connection could be accepted: Too many open files"]


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's."""
    cert, key = make_certificate(tmp_path)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(cert, key)
    return server_side, ssl.create_default_context(cafile=cert)


@pytest.mark.parametrize("loop", LOOPS)
def test_who_does_not_agree_on_tls_counts_and_is_let_go(
    loop: str, contexts: tuple[ssl.SSLContext, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    server_side, client_side = contexts
    with serving(limit=20, tls=server_side, loop=loop) as served, ExitStack() as stack:
        for _ in range(60):
            connected(served.address, stack)
        wait_until(lambda: served.noted.count("room") == 45)
        assert served.count(Stage.ARRIVING) == 15
        with client_side.wrap_socket(
            connected(served.address, stack), server_hostname="127.0.0.1"
        ) as honest:
            honest.sendall(GET)
            assert reply(honest)[0] == 200
        monkeypatch.setattr(arrival, "HANDSHAKE_TIMEOUT_S", 0.01)
        late = connected(served.address, stack)
        assert is_over(late)
        wait_until(lambda: "handshake" in served.noted)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_no_tls_changes_nothing(
    loop: str, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server_side, client_side = contexts
    with serving(tls=server_side, loop=loop) as served, ExitStack() as stack:
        for sent in (GET, b"\x16\x03\x01\x02\x00" + bytes(600), b"\x16"):
            connection = connected(served.address, stack)
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        with client_side.wrap_socket(
            connected(served.address, stack), server_hostname="127.0.0.1"
        ) as honest:
            for _ in range(3):
                honest.sendall(post("/echo", b"hello"))
                assert reply(honest) == (200, b'{"body":"hello"}')
        wait_until(lambda: served.count(Stage.ARRIVING) == 0)
        wait_until(lambda: not served.server.server_state.connections)
