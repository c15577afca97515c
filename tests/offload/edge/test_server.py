"""The edge over HTTP: right answers for many clients, and a clear no to everything else."""

import http.client
import json
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eenn.offload.edge import server as edge_server
from eenn.offload.edge.answers import as_json
from eenn.offload.edge.clouds import LocalCloud
from eenn.offload.edge.server import EdgeServer
from eenn.preprocess import Preprocessing
from tests.offload.edge.edge_service import P_TAR, Failing, Held, runtime_of, serving
from tests.offload.edge.first_line import after_first_line
from tests.offload.exported import Exported
from tests.offload.patience import PATIENCE_S, wait_until

TIMES = ("latency_ms", "preprocess_ms", "stages_ms", "cloud_ms")


@pytest.fixture
def server(exported: Exported) -> Iterator[EdgeServer]:
    with serving(runtime_of(exported, LocalCloud(exported.path))) as server:
        yield server


class Client:
    """One kept connection."""

    def __init__(self, server: EdgeServer) -> None:
        host, port = server.server_address[:2]
        self.connection = http.client.HTTPConnection(str(host), port, timeout=PATIENCE_S)

    def __call__(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any, Mapping[str, str]]:
        self.connection.request(method, path, body, dict(headers or {}))
        response = self.connection.getresponse()
        content = response.read()
        if response.headers["Content-Type"] == "application/json":
            content = json.loads(content)
        return response.status, content, response.headers

    def close(self) -> None:
        self.connection.close()


@pytest.fixture
def ask(server: EdgeServer) -> Iterator[Client]:
    with closing(Client(server)) as client:
        yield client


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in TIMES}


@pytest.mark.clock
def test_every_posted_image_has_the_runtimes_answer(exported: Exported, ask: Client) -> None:
    runtime = runtime_of(exported, LocalCloud(exported.path))
    places = []
    for file in exported.files:
        status, answer, _ = ask("POST", "/classify", file.read_bytes())
        assert status == 200
        expected = as_json(runtime.classify_file(file))
        assert without_times(answer) == without_times(expected)
        parts = answer["preprocess_ms"] + sum(answer["stages_ms"]) + answer["cloud_ms"]
        assert answer["latency_ms"] == pytest.approx(parts, abs=0.01)
        places.append(answer["place"])
    assert set(places) == {"edge", "cloud"}
    _, health, _ = ask("GET", "/health")
    assert health["answered"] == {place: places.count(place) for place in ("edge", "cloud")}


def test_health_says_what_runs_and_counts_what_failed(exported: Exported) -> None:
    runtime = runtime_of(exported, Failing())
    with serving(runtime) as server, closing(Client(server)) as ask:
        failed = 0
        for file in exported.files[:12]:
            _, answer, _ = ask("POST", "/classify", file.read_bytes())
            assert (answer["failure"], answer["place"]) == ("read" * answer["degraded"], "edge")
            failed += answer["degraded"]
        status, health, _ = ask("GET", "/health")
    assert status == 200
    assert failed > 0
    assert health == {
        "status": "ok",
        "least_confidence": P_TAR,
        "artifact_id": exported.graphs.manifest.id,
        "classes": 5,
        "exits": 4,
        "active": [1, 2, 3],
        "cloud": True,
        "policy": "confidence",
        "p_tar": P_TAR,
        "precision": "fp32",
        "deadline_ms": 500.0,
        "max_body_bytes": 32 * 2**20,
        "answered": {"edge": 12, "cloud": 0},
        "failures": {"read": failed},
        "guard": None,
    }


def test_where_nobody_answers_the_cause_is_told(exported: Exported) -> None:
    runtime = runtime_of(exported, Failing(), active=())
    with serving(runtime) as server, closing(Client(server)) as ask:
        status, content, headers = ask("POST", "/classify", exported.files[0].read_bytes())
    assert (status, headers["Retry-After"]) == (503, "1")
    assert content == {"error": "the cloud failed: the cloud took too long"}


def test_clients_at_the_same_time_take_turns_and_get_their_own_answers(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = runtime_of(exported, LocalCloud(exported.path))
    expected = [without_times(as_json(runtime.classify_file(f))) for f in exported.files]
    found: dict[int, list[Any]] = {}
    read, reading, overlaps = Preprocessing.read, Lock(), list[int]()

    def alone(preprocessing: Preprocessing, file: Any) -> Any:
        if not reading.acquire(blocking=False):
            overlaps.append(1)
            return read(preprocessing, file)
        try:
            return read(preprocessing, file)
        finally:
            reading.release()

    monkeypatch.setattr(Preprocessing, "read", alone)

    def client(number: int) -> None:
        with closing(Client(server)) as ask:
            found[number] = [
                without_times(ask("POST", "/classify", file.read_bytes())[1])
                for file in exported.files
            ]

    with serving(runtime) as server:
        clients = [Thread(target=client, args=[number]) for number in range(8)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        answered = server.health()["answered"]
    assert found == dict.fromkeys(range(8), expected)
    assert not overlaps
    assert sum(answered.values()) == 8 * len(expected)


def test_the_next_image_is_computed_while_one_is_away(exported: Exported) -> None:
    cloud = Held(LocalCloud(exported.path))
    found = list[int]()

    def post(file: Path) -> None:
        with closing(Client(server)) as ask:
            found.append(ask("POST", "/classify", file.read_bytes())[0])

    with serving(runtime_of(exported, cloud, p_tar=1.0)) as server:
        clients = [Thread(target=post, args=[file]) for file in exported.files[:3]]
        for thread in clients:
            thread.start()
        wait_until(lambda: cloud.at_once == 3)
        cloud.released.set()
        for thread in clients:
            thread.join()
    assert found == [200] * 3


def test_more_than_may_wait_are_sent_away_at_once_and_health_answers_meanwhile(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_server, "MAX_WAITING", 1)
    cloud = Held(LocalCloud(exported.path))
    image, answers = exported.files[0].read_bytes(), []
    with (
        serving(runtime_of(exported, cloud, p_tar=1.0)) as server,
        closing(Client(server)) as first,
        closing(Client(server)) as second,
    ):
        waiting = Thread(target=lambda: answers.append(first("POST", "/classify", image)))
        waiting.start()
        assert cloud.asked.wait(PATIENCE_S)
        status, content, headers = second("POST", "/classify", image)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "waiting" in content["error"]
        assert second("GET", "/health")[0] == 200
        cloud.released.set()
        waiting.join()
        assert server.waiting.acquire(timeout=PATIENCE_S)
        server.waiting.release()
        assert second("POST", "/classify", image)[0] == 200
    assert answers[0][0] == 200


@pytest.mark.clock
def test_the_end_waits_for_images_that_are_under_way(exported: Exported) -> None:
    cloud = Held(LocalCloud(exported.path))
    image, answers = exported.files[0].read_bytes(), []
    with serving(runtime_of(exported, cloud, p_tar=1.0)) as server:
        client = Client(server)
        asking = Thread(target=lambda: answers.append(client("POST", "/classify", image)))
        asking.start()
        assert cloud.asked.wait(PATIENCE_S)
        server.shutdown()
        closed = Thread(target=server.server_close)
        closed.start()
        closed.join(0.2)
        assert closed.is_alive()
        cloud.released.set()
        asking.join()
        closed.join()
    client.close()
    assert answers[0][0] == 200


@settings(
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(body=st.binary(max_size=200) | st.integers(0, 500))
def test_a_body_that_is_no_whole_image_is_told_so(
    body: bytes | int, exported: Exported, server: EdgeServer
) -> None:
    good = exported.files[0].read_bytes()
    with closing(Client(server)) as ask:
        given = good[: body % len(good)] if isinstance(body, int) else body
        status, content, _ = ask("POST", "/classify", given)
        assert status == 400
        assert content["error"].startswith("this is not an image that can be read to its end")
        assert ask("POST", "/classify", good)[0] == 200


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({"Content-Length": str(32 * 2**20 + 1)}, 413, "allowed are 32 MiB"),
        ({"Content-Length": "9" * 5000}, 413, "allowed are 32 MiB"),
        ({"Content-Length": "-1"}, 400, "not a number"),
        ({"Content-Length": "1e3"}, 400, "not a number"),
        ({"Content-Length": "\u00b2"}, 400, "not a number"),
        ({}, 411, "Content-Length"),
        ({"Transfer-Encoding": "chunked"}, 411, "Content-Length"),
        ({"Content-Length": "5", "Content-Type": "multipart/form-data; boundary=x"}, 415, "form"),
    ],
)
def test_what_cannot_be_an_image_is_refused_before_it_is_read(
    headers: dict[str, str], status: int, said: str, ask: Client
) -> None:
    ask.connection.putrequest("POST", "/classify")
    for name, value in headers.items():
        ask.connection.putheader(name, value)
    ask.connection.endheaders()
    response = ask.connection.getresponse()
    assert response.status == status
    assert said in json.loads(response.read())["error"]
    assert response.headers["Connection"] == "close"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/../server.py", 404),
        ("POST", "/", 404),
        ("GET", "/classify", 405),
        ("PUT", "/classify", 501),
        ("BREW", "/", 501),
    ],
)
def test_other_paths_and_methods_are_told_in_json(
    method: str, path: str, status: int, ask: Client
) -> None:
    found, content, _ = ask(method, path)
    assert found == status
    assert set(content) == {"error"}
    assert ask("GET", "/health")[0] == 200


def test_every_reply_forbids_the_browser_all_but_the_page_itself(
    exported: Exported, ask: Client
) -> None:
    replies = [
        *(ask("GET", path) for path in ("/", "/page.css", "/page.js?x=1", "/health", "/no")),
        ask("POST", "/classify", exported.files[0].read_bytes()),
    ]
    for _, _, headers in replies:
        rules = (rule.split() for rule in headers["Content-Security-Policy"].split(";"))
        allowed = {name: set(sources) for name, *sources in rules}
        for name in ("script-src", "style-src", "connect-src"):
            assert allowed.pop(name) == {"'self'"}
        assert allowed.pop("img-src") == {"blob:", "data:"}
        assert "default-src" in allowed
        assert all(sources == {"'none'"} for sources in allowed.values())
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in headers
    types = [headers["Content-Type"].partition(";")[0] for _, _, headers in replies]
    assert types == ["text/html", "text/css", "text/javascript", *["application/json"] * 3]


def connected(server: EdgeServer) -> socket.socket:
    host, port = server.server_address[:2]
    return socket.create_connection((str(host), port), timeout=PATIENCE_S)


def everything(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(2**16), b""))


def test_a_body_that_ends_early_is_told(server: EdgeServer) -> None:
    with connected(server) as sock:
        sock.sendall(b"POST /classify HTTP/1.1\r\nContent-Length: 100\r\n\r\nshort")
        sock.shutdown(socket.SHUT_WR)
        reply = everything(sock)
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert b"shorter than its Content-Length" in reply


@pytest.mark.clock
def test_who_sends_too_slowly_is_told(
    server: EdgeServer, monkeypatch: pytest.MonkeyPatch, ask: Client
) -> None:
    monkeypatch.setattr(edge_server, "BODY_S", 0.05)
    with connected(server) as sock:
        sock.sendall(b"POST /classify HTTP/1.1\r\nContent-Length: 100\r\n\r\nslow")
        reply = everything(sock)
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert ask("GET", "/health")[0] == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\xff\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"POST /classify HTTP/1.1\r\nContent-Length: 100\r\n\r\nreset",
    ],
)
def test_broken_clients_leave_no_trace(
    sent: bytes, server: EdgeServer, ask: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    with connected(server) as sock:
        sock.sendall(sent)
        if sent.endswith(b"reset"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            sock.shutdown(socket.SHUT_WR)
            assert b'{"error": ' in everything(sock)
    assert ask("GET", "/health")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_a_bug_is_told_the_client_and_printed_and_is_not_the_end(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    runtime, image = runtime_of(exported, None), exported.files[0].read_bytes()
    with serving(runtime) as server, closing(Client(server)) as ask:
        with monkeypatch.context() as patch:
            patch.setattr(runtime, "policy", None)
            status, content, _ = ask("POST", "/classify", image)
            assert (status, set(content)) == (500, {"error"})
        assert ask("POST", "/classify", image)[0] == 200
    assert "AttributeError" in capfd.readouterr().err


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_stopped(stop: signal.Signals, exported: Exported) -> None:
    command = [sys.executable, "-m", "eenn.offload.edge.command"]
    given = ["--artifact", str(exported.path), "--serve", "0", "--precision", "int8"]
    with subprocess.Popen(
        [*command, *given], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as edge:
        try:
            assert edge.stdout
            line = edge.stdout.readline()
            url = line.removeprefix("listening on http://").strip()
            with closing(http.client.HTTPConnection(url, timeout=PATIENCE_S)) as connection:
                connection.request("POST", "/classify", exported.files[0].read_bytes())
                answer = json.loads(connection.getresponse().read())
                connection.request("GET", "/health")
                health = json.loads(connection.getresponse().read())
                assert (answer["place"], health["cloud"]) == ("edge", False)
                assert (health["precision"], health["p_tar"]) == ("int8", 0.8)
                edge.send_signal(stop)
                assert edge.wait(PATIENCE_S) == 0
            assert edge.stderr
            assert (edge.stdout.read(), after_first_line(edge.stderr.read())) == ("", "")
        finally:
            edge.kill()
