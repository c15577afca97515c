"""SIGHUP: a running edge takes a new deployment file, or goes on with the old one."""

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from threading import Event, Thread, Timer
from typing import Any

import pytest

from eenn.artifact.deployment import Deployment
from eenn.exits.policies.base import Policy
from eenn.exits.policies.registry import make_policy
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.cloud.command import running
from eenn.offload.edge.answers import as_json
from eenn.offload.edge.clouds import Cloud, LocalCloud
from eenn.offload.edge.runtime import EdgeRuntime
from tests.offload.edge.edge_service import Held, runtime_of, serving
from tests.offload.edge.first_line import DEFAULTS, after_first_line
from tests.offload.exported import Exported
from tests.offload.patience import PATIENCE_S, PATIENT, wait_until

PHOTOS, CLIENTS = 6, 3
# The command, which says when a runtime and a cloud are gone.
PROGRAM = """
import sys, weakref
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.edge import command
from eenn.offload.edge.runtime import EdgeRuntime

def told(kind, event, said):
    def method(self, *given, **named):
        result = real(self, *given, **named)
        event(self, lambda: print(said, file=sys.stderr, flush=True))
        return result
    name = "__init__" if event is weakref.finalize else "close"
    real = getattr(kind, name)
    setattr(kind, name, method)

told(EdgeRuntime, weakref.finalize, "freed")
told(HttpCloud, lambda self, say: say(), "closed")
command.main(sys.argv[1:])
"""


def policy(**settings: object) -> Policy:
    return make_policy("confidence", {"p_tar": 0.65, **settings})


class Edge:
    """`eenn-edge --serve` as a process, and what it is asked and told."""

    def __init__(self, process: subprocess.Popen[str], file: Path) -> None:
        self.process, self.file = process, file
        assert process.stdout
        self.address = process.stdout.readline().removeprefix("listening on http://").strip()

    def said(self) -> str:
        """The next line on stderr."""
        assert self.process.stderr
        return self.process.stderr.readline()

    def hang_up(self) -> str:
        """What is said of it."""
        self.process.send_signal(signal.SIGHUP)
        return self.said()

    def take(self, deployment: Deployment, gone: Sequence[str] = ("freed",)) -> str:
        """What is said of a deployment that is put in place of the file.

        Args:
            gone: what else is said on stderr, in whatever order.
        """
        deployment.save(self.file)
        said = sorted([self.hang_up(), *(self.said() for _ in gone)])
        assert said[1:] == [f"{event}\n" for event in gone]
        return said[0]

    def ask(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        with closing(http.client.HTTPConnection(self.address, timeout=PATIENCE_S)) as connection:
            connection.request(method, path, body)
            response = connection.getresponse()
            content: dict[str, Any] = json.loads(response.read())
        assert response.status == 200, content
        return content


@pytest.fixture
def first(exported: Exported) -> Deployment:
    return Deployment(
        artifact_id=exported.graphs.manifest.id,
        policy=policy(),
        active=(0, 1, 2),
        deadline_ms=1e3 * PATIENCE_S,
    )


@pytest.fixture
def second(first: Deployment) -> Deployment:
    """One that changes what every exit says."""
    strict = policy(p_tar=0.5, strict=4)
    return replace(first, policy=strict, active=(0, 2), temperature="none", precision="int8")


@pytest.fixture
def start(exported: Exported, first: Deployment, tmp_path: Path) -> Callable[..., Any]:
    """Starts an edge with a deployment file; with `--serve` alone it has none."""
    file = tmp_path / "deployment.json"
    first.save(file)

    @contextmanager
    def started(*arguments: object, origin: str = str(file)) -> Iterator[Edge]:
        given = ["--artifact", exported.path, "--serve", "0", *arguments]
        if origin == str(file):
            given += ["--deployment", file]
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *map(str, given)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            overdue = Timer(PATIENCE_S, process.kill)
            overdue.start()
            try:
                edge = Edge(process, file)
                assert after_first_line(edge.said(), origin) == ""
                yield edge
                process.send_signal(signal.SIGTERM)
                assert process.wait() == 0
            finally:
                overdue.cancel()
                process.kill()

    return started


def expected(
    exported: Exported, deployment: Deployment, cloud: Cloud | None = None
) -> list[dict[str, Any]]:
    """What a deployment answers, without what depends on the clock."""
    runtime = EdgeRuntime(
        exported.path, deployment.policy, deployment.active, cloud, deployment.precision,
        temperature=deployment.temperature,
    )  # fmt: skip
    files = exported.files[:PHOTOS]
    return [decided(as_json(runtime.classify_file(file))) for file in files]


def decided(answer: dict[str, Any]) -> dict[str, Any]:
    kept = ("label", "exit", "exits", "place", "answered_by", "degraded", "confidences")
    return {key: answer[key] for key in kept}


def test_every_answer_under_load_is_of_one_deployment_and_of_the_new_one_once_that_is_said(
    exported: Exported, first: Deployment, second: Deployment, start: Any
) -> None:
    bodies = [file.read_bytes() for file in exported.files[:PHOTOS]]
    by_first, by_second = (expected(exported, own) for own in (first, second))
    assert all(one != other for one, other in zip(by_first, by_second, strict=True))
    answers: list[list[tuple[int, dict[str, Any]]]] = [[] for _ in range(CLIENTS)]
    asked, stopped = [0] * CLIENTS, Event()

    def load(client: int) -> None:
        while not stopped.is_set():
            photo = asked[client] % PHOTOS
            asked[client] += 1
            answers[client].append((photo, decided(edge.ask("POST", "/classify", bodies[photo]))))

    def more_answers() -> None:
        before = [len(own) for own in answers]
        wait_until(lambda: all(len(own) > n for own, n in zip(answers, before, strict=True)))

    with start() as edge:
        clients = [Thread(target=load, args=[client]) for client in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            for deployment, own in ((second, by_second), (first, by_first), (second, by_second)):
                more_answers()
                assert edge.take(deployment).startswith(f"SIGHUP: took {edge.file}: confidence, ")
                now = [decided(edge.ask("POST", "/classify", body)) for body in bodies]
                assert now == own
        finally:
            stopped.set()
            for client in clients:
                client.join()
        health = edge.ask("GET", "/health")

    given = [answer for own in answers for answer in own]
    assert [len(own) for own in answers] == asked
    for photo, answer in given:
        assert answer in (by_first[photo], by_second[photo])
    assert {answer == by_first[photo] for photo, answer in given} == {False, True}
    assert health["answered"] == {"edge": len(given) + 3 * PHOTOS, "cloud": 0}
    shown = {key: health[key] for key in ("policy", "p_tar", "temperature", "precision", "active")}
    assert shown == {
        "policy": "confidence, strict 4",
        "p_tar": 0.5,
        "temperature": "none",
        "precision": "int8",
        "active": [1, 3],
    }


def test_what_is_refused_changes_nothing_and_flags_still_come_first(
    exported: Exported, first: Deployment, second: Deployment, start: Any
) -> None:
    by_flag = replace(first, temperature="shared")
    bodies = [file.read_bytes() for file in exported.files[:PHOTOS]]
    with start("--temperature", "shared") as edge:
        content = json.loads(edge.file.read_text())
        refused = {
            "{": "Expecting property name",
            "[" * 100_000: "nested too deep",
            json.dumps({**content, "artifact_id": "b" * 64}): "for artifact bbbbbbbbbbbb",
            json.dumps({**content, "policy": {"name": "confidence", "p_tar": 7}}): "p_tar=7",
            json.dumps({**content, "active": [1, 9]}): "ascending choice of 1, 2, 3",
            json.dumps({**content, "precision": "fp99"}): "fp99",
            json.dumps({**content, "experts": "motion_blur"}): "experts=motion_blur",
        }
        for text, reason in refused.items():
            edge.file.write_text(text)
            said = edge.hang_up()
            assert said.startswith("SIGHUP: refused: ")
            assert reason in said
            assert said.endswith("; goes on with confidence, p_tar 0.65, branches 1 2 3\n")
        edge.file.unlink()
        assert "No such file" in edge.hang_up()
        now = [decided(edge.ask("POST", "/classify", body)) for body in bodies]
        assert now == expected(exported, by_flag)

        assert edge.take(second).endswith("; flags in place of the file's temperature none\n")
        now = [decided(edge.ask("POST", "/classify", body)) for body in bodies]
        assert now == expected(exported, replace(second, temperature="shared"))
        edge.file.write_text("{")
        assert edge.hang_up().endswith(
            "; goes on with confidence, strict 4, p_tar 0.5, branches 1 3\n"
        )


def test_without_a_deployment_file_it_is_said_that_there_is_nothing_to_take(start: Any) -> None:
    with start(origin=DEFAULTS) as edge:
        assert edge.hang_up() == (
            "SIGHUP: refused: eenn-edge was started without a deployment file; goes on with "
            "confidence, p_tar 0.8, branches 1 2 3\n"
        )
        assert edge.ask("GET", "/health")["p_tar"] == 0.8


def test_the_cloud_is_asked_as_the_new_deployment_says(
    exported: Exported, first: Deployment, start: Any
) -> None:
    coarse = replace(first, payload="uint8")
    bodies = [file.read_bytes() for file in exported.files[:PHOTOS]]
    with running([exported.path]) as cloud, start("--cloud", cloud.url) as edge:
        said = edge.take(coarse, ("closed", "freed"))
        now = [decided(edge.ask("POST", "/classify", body)) for body in bodies]
        with HttpCloud(cloud.url, exported.graphs.id, precision="uint8", **PATIENT) as own:
            assert now == expected(exported, coarse, own)
    assert "payload uint8" in said
    exact = expected(exported, first, LocalCloud(exported.path))
    assert {answer["place"] for answer in exact} == {"edge", "cloud"}
    assert [one != other for one, other in zip(now, exact, strict=True)] == [
        answer["place"] == "cloud" for answer in exact
    ]


def test_the_image_under_way_is_answered_by_the_runtime_that_it_began_with(
    exported: Exported,
) -> None:
    held, answers = Held(LocalCloud(exported.path)), []
    before, after = (runtime_of(exported, cloud, 1.0) for cloud in (held, None))
    before.failures["read"] = 2
    with serving(before) as server:

        def ask() -> None:
            answers.append(server.classify(BytesIO(exported.files[0].read_bytes())))

        asking, using = Thread(target=ask), Thread(target=server.use, args=[after, {"new": 1}])
        asking.start()
        assert held.asked.wait(PATIENCE_S)
        using.start()
        using.join(0.05)
        assert using.is_alive()
        assert "new" not in server.health()
        held.released.set()
        for thread in (asking, using):
            thread.join(PATIENCE_S)
        ask()
        health = server.health()
    assert [answer["place"] for answer in answers] == ["cloud", "edge"]
    assert (health["new"], health["cloud"]) == (1, False)
    assert (health["failures"], health["answered"]) == ({"read": 2}, {"edge": 1, "cloud": 1})
