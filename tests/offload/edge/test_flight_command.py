"""eenn-edge with several images in flight answers as with one, in order, guarded or not."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eenn.offload.adaptation.field_log import AGREES, DIFFERS, DROPPED, read_field_log
from eenn.offload.cloud.command import running
from eenn.offload.edge.argument_values import MOST_IN_FLIGHT
from tests.offload.edge.edge_command import parsed, polls
from tests.offload.edge.first_line import after_first_line
from tests.offload.edge.guarded import ALWAYS, deployment_of
from tests.offload.exported import Exported

Run = Callable[..., tuple[int, list[str], str]]


@pytest.fixture(scope="module")
def url(exported: Exported) -> Iterator[str]:
    with running([exported.path]) as cloud:
        yield cloud.url


def without_id(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "artifact_id"}


def settled(answer: dict[str, Any]) -> dict[str, Any]:
    """What an image has for certain: a cloud that answers several at once may round otherwise."""
    kept = ("file", "label", "exit", "answered_by", "exits", "place", "degraded", "heads")
    return {key: answer[key] for key in kept}


def test_answers_in_flight_are_those_one_by_one_in_the_order_of_the_files(
    exported: Exported, edge: Run, url: str, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    files = [*exported.files[:20], broken, exported.files[3], *exported.files[20:]]
    found = []
    for in_flight in (1, 4):
        output = tmp_path / f"{in_flight}.jsonl"
        given = ("--cloud", url, "--json", "--output", output, "--in-flight", in_flight)
        code, lines, errors = edge(*given, *files)
        told = after_first_line(errors)
        assert (code, told.count("\n")) == (1, 1)
        assert told.startswith(f"error: {broken} is not")
        found.append(parsed(lines))
        kept = parsed(output.read_text().splitlines())
        assert [without_id(answer) for answer in kept] == found[-1]
    answers, together = found
    assert [settled(answer) for answer in together] == [settled(answer) for answer in answers]
    assert [answer["file"] for answer in answers] == [str(file) for file in exported.files]
    assert {answer["place"] for answer in answers} == {"edge", "cloud"}


def test_a_watched_folder_is_answered_in_order(
    exported: Exported, edge: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [
        str(shutil.copy(file, tmp_path / f"{n}.jpg")) for n, file in enumerate(exported.files[:9])
    ]
    with polls(monkeypatch, 4):
        code, lines, _ = edge("--cloud", url, "--json", "--watch", tmp_path, "--in-flight", 4)
    assert code == 0
    assert [answer["file"] for answer in parsed(lines)] == there


def test_a_guard_loses_no_image_that_is_in_flight(
    exported: Exported, edge: Run, url: str, tmp_path: Path
) -> None:
    deployed, state, log, kept = (tmp_path / name for name in ("d.json", "guard.json", "f", "kept"))
    kept.mkdir()
    deployment_of(exported, ALWAYS, share=0.6).save(deployed)
    code, lines, _ = edge(
        "--deployment", deployed, "--cloud", url, "--guard-state", state, "--log", log,
        "--keep-audits", kept, "--json", "--in-flight", 4, *exported.files,
    )  # fmt: skip
    assert code == 0
    answers = parsed(lines)
    assert [answer["file"] for answer in answers] == [str(file) for file in exported.files]
    totals = json.loads(state.read_text())["totals"]
    entries = [entry for entry in read_field_log(log) if entry]
    assert totals["images"] == len(entries) == len(answers)
    assert totals["kept"] == sum(answer["place"] == "edge" for answer in answers)
    outcomes = Counter(entry.audit for entry in entries)
    assert totals["audits"] == outcomes[AGREES] + outcomes[DIFFERS]
    assert totals["disagreements"] == outcomes[DIFFERS]
    assert totals["dropped_audits"] == outcomes[DROPPED]
    assert totals["audits"] + totals["dropped_audits"] > 0
    for outcome in (AGREES, DIFFERS):
        assert len([*(kept / outcome).rglob("*.jpg")]) == outcomes[outcome]
    left = Counter((answer["exit"], answer["place"]) for answer in answers)
    assert left == Counter((entry.exit, entry.place) for entry in entries)


@pytest.mark.parametrize("number", ["0", str(MOST_IN_FLIGHT + 1), "-1", "two", "1.5"])
def test_a_number_that_cannot_be_in_flight_is_refused(
    number: str, exported: Exported, edge: Run
) -> None:
    code, lines, errors = edge("--in-flight", number, exported.files[0])
    assert (code, lines) == (2, [])
    assert "allowed is a whole number from 1 to 16" in errors


def test_the_clients_of_a_server_decide_what_is_in_flight(edge: Run) -> None:
    code, lines, errors = edge("--serve", "0", "--in-flight", "2")
    assert (code, lines) == (2, [])
    assert "--in-flight goes with images or --watch" in errors
