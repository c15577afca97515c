"""The guard as users of eenn-edge turn it on, and what they are told when that is not allowed."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eenn.exits.policies.threshold import Confidence
from eenn.files import write_json
from eenn.offload.adaptation import state_file
from eenn.offload.cloud.command import running
from tests.offload.edge.edge_command import free_port, parsed
from tests.offload.edge.guarded import WITHOUT_AUDITS, deployment_of
from tests.offload.exported import Exported

GUARD = "risk=0.3,delta=0.5,audit=0"
BURST = 6  # images of a burst by that guard
Run = Callable[..., tuple[int, list[str], str]]


@pytest.fixture(scope="module")
def url(exported: Exported) -> Iterator[str]:
    with running([exported.path]) as cloud:
        yield cloud.url


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "guard.json"


@pytest.fixture
def deployed(exported: Exported, tmp_path: Path) -> Path:
    """A deployment with a guard, whose promise says which share leaves."""
    file = tmp_path / "deployment.json"
    deployment_of(exported, WITHOUT_AUDITS, policy=Confidence(p_tar=0.65), share=0.6).save(file)
    return file


def places(lines: list[str]) -> list[str]:
    return [answer["place"] for answer in parsed(lines)]


def test_the_first_line_names_the_guard_and_a_restarted_edge_goes_on(
    exported: Exported, edge: Run, url: str, state: Path
) -> None:
    given = ("--json", "--cloud", url, "--guard", GUARD, "--guard-state", state)
    code, lines, errors = edge(*given, *exported.files[:4])
    first, *more = errors.splitlines()
    assert (code, places(lines)) == (0, ["cloud"] * 4)
    assert first.endswith(f"guard {GUARD}.0")
    (begun,) = more
    assert f"offloads {BURST} images" in begun
    code, lines, errors = edge(*given, *exported.files[4:])
    assert places(lines)[:2] == ["cloud"] * 2
    assert "edge" in places(lines)
    went_on, fitted = errors.splitlines()[1:]
    assert went_on == f"guard: goes on from {state}, after 4 images"
    assert "threshold" in fitted
    assert json.loads(state.read_text())["totals"]["images"] == len(exported.files)


def test_a_deployments_guard_may_be_turned_off(
    exported: Exported, edge: Run, deployed: Path, url: str, state: Path
) -> None:
    given = ("--json", "--deployment", deployed, "--guard-state", state, exported.files[0])
    code, _, errors = edge(*given)
    assert code == 1
    assert "give --cloud URL, or --guard off" in errors
    for cloud in ((), ("--cloud", url), ("--rest", "nobody"), ("--rest", "device")):
        code, lines, errors = edge("--guard", "off", *cloud, *given)
        assert (code, len(lines)) == (0, 1)
        now, _, before = errors.splitlines()[0].partition("in place of the file's")
        assert (", guard " in now, "guard" in before) == (False, True)
    assert not state.exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--guard", "risk=2"], "allowed is 0.001 to 0.5"),
        (["--guard", "risk=nan"], "risk"),
        (["--guard", "loss=0.1"], "loss=0.1: allowed is risk="),
        (["--guard", "risk=0.1,risk=0.1"], "each of them once at most"),
        (["--guard", "on"], "on: allowed is risk="),
        (["--guard", GUARD, "--rest", "device"], "guard with rest=device"),
        (["--guard", GUARD, "--rest", "nobody"], "guard with rest=nobody"),
        (["--guard", GUARD, "--thresholds", "0.9,0.8,0.7,0"], "a list as p_tar"),
        (["--guard", GUARD, "--active", "none"], "activate a branch"),
    ],
)
def test_a_guard_that_cannot_be_is_refused_in_a_line(
    flags: list[str], said: str, exported: Exported, edge: Run, state: Path
) -> None:
    cloud = f"http://127.0.0.1:{free_port()}"
    code, lines, errors = edge(*flags, "--cloud", cloud, "--guard-state", state, exported.files[0])
    assert (code > 0, lines) == (True, [])
    assert said in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert not state.exists()


def test_a_guard_needs_a_cloud(exported: Exported, edge: Run) -> None:
    code, _, errors = edge("--guard", GUARD, exported.files[0])
    assert code == 2
    assert "--guard needs --cloud URL" in errors.splitlines()[-1]


def test_a_promise_holds_until_flags_change_the_decision(
    exported: Exported, edge: Run, deployed: Path, url: str, tmp_path: Path
) -> None:
    given = ("--json", "--deployment", deployed, "--cloud", url, exported.files[0])
    for number, flags in enumerate(([], ["--deadline-ms", "50000"], ["--temperature", "none"])):
        _, _, errors = edge(
            "--p-tar", 0.65, *flags, "--guard-state", tmp_path / f"{number}", *given
        )
        begins_with_a_burst = "not known yet" in errors
        assert begins_with_a_burst == (flags[:1] == ["--temperature"])


def test_where_the_state_cannot_be_kept_the_edge_does_not_start(
    exported: Exported, edge: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("--cloud", url, "--guard", GUARD, exported.files[0])
    code, lines, errors = edge("--guard-state", tmp_path / "none" / "guard.json", *given)
    assert (code, lines) == (1, [])
    assert "give --guard-state FILE" in errors.splitlines()[-1]

    def read_only(*_: object) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(state_file, "write_json", read_only)
    code, lines, errors = edge(*given)
    assert (code, lines) == (1, [])
    assert "Read-only file system; give --guard-state FILE" in errors.splitlines()[-1]


def test_a_damaged_state_is_told_in_a_line(
    exported: Exported, edge: Run, url: str, state: Path
) -> None:
    state.write_text("{")
    given = ("--cloud", url, "--guard", GUARD, "--guard-state", state, exported.files[0])
    code, lines, errors = edge(*given)
    assert (code, lines) == (1, [])
    assert "is not the state of a guard" in errors.splitlines()[-1]
    assert "Traceback" not in errors


def test_a_full_disk_is_told_once_and_the_answers_go_on(
    exported: Exported, edge: Run, url: str, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def filling_up(path: Path, content: Any) -> None:
        tries.append(path)
        if len(tries) > 1:
            raise OSError(28, os.strerror(28))
        write_json(path, content)

    monkeypatch.setattr(state_file, "write_json", filling_up)
    monkeypatch.setattr("eenn.offload.edge.audits.EVERY_S", 0.0)
    given = ("--json", "--cloud", url, "--guard", GUARD, "--guard-state", state)
    code, lines, errors = edge(*given, *exported.files)
    assert (code, len(lines)) == (0, len(exported.files))
    assert errors.count("warning:") == errors.count("No space left on device") == 1
    assert len(tries) >= 2
    assert json.loads(state.read_text())["totals"]["images"] == 0


def test_numbers_of_a_flag_are_those_of_the_file(
    exported: Exported, edge: Run, deployed: Path, url: str, state: Path
) -> None:
    for number, flags in enumerate([[], ["--guard", GUARD]], start=1):
        edge(
            "--deployment", deployed, *flags, "--cloud", url, "--guard-state", state,
            exported.files[0],
        )  # fmt: skip
        assert json.loads(state.read_text())["totals"]["images"] == number
