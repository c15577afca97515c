"""Answers on disk: none is lost, and nothing else is touched."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from eenn.offload.edge.answers import AnswerFile
from tests.offload.edge.edge_command import (
    full_disk,
    parsed,
    polls,
    process,
)
from tests.offload.edge.first_line import after_first_line
from tests.offload.exported import Exported


def test_answers_on_disk_are_left_out_the_next_time(
    exported: Exported, edge: Any, tmp_path: Path
) -> None:
    output = tmp_path / "answers.jsonl"
    _, first, _ = edge("--json", "--output", output, *exported.files[:3])
    code, second, _ = edge("--json", "--output", output, *exported.files[:5])
    assert code == 0
    assert [row["file"] for row in parsed(second)] == [str(f) for f in exported.files[3:5]]
    rows = parsed(output.read_text().splitlines())
    for row in rows:
        assert row.pop("artifact_id") == exported.graphs.manifest.id
    assert rows == parsed(first + second)


def test_a_line_torn_anywhere_is_done_again_and_whole_ones_are_kept(
    exported: Exported, edge: Any, tmp_path: Path
) -> None:
    output, files = tmp_path / "answers.jsonl", [str(file) for file in exported.files[:3]]
    edge("--output", output, *files)
    content = output.read_bytes()
    for cut in range(len(content) + 1):
        output.write_bytes(content[:cut])
        whole = content[:cut].count(b"\n")
        with AnswerFile(output, exported.graphs.manifest.id) as answers:
            assert answers.answered == set(files[:whole])
        assert output.read_bytes() == b"".join(content.splitlines(keepends=True)[:whole])
    output.write_bytes(content[:-7])
    _, lines, _ = edge("--json", "--output", output, *files)
    assert [row["file"] for row in parsed(lines)] == files[2:]
    assert [row["file"] for row in parsed(output.read_text().splitlines())] == files


@pytest.mark.parametrize(
    "content",
    [
        b"no answers",
        b"\xff\xd8\xff\xe0",
        b'{"a": 1}\n',
        b'{"artifact_id": 5}\n',
        b'{"file": "x.jpg", "artifact_id": 5}\n',
        b'{"file": "x.jpg", "label": 1}\n',
        b"[]\n",
        b"[" * 100_000 + b"\n",
        b"\n",
        b'{"file": 1\nx',
        b"7\n",
    ],
)
def test_a_file_of_something_else_is_never_touched(
    content: bytes, exported: Exported, edge: Any, tmp_path: Path
) -> None:
    output = tmp_path / "precious"
    output.write_bytes(content)
    code, lines, errors = edge("--output", output, exported.files[0])
    assert (code, lines) == (1, [])
    assert "line 1 is not an answer of eenn-edge; choose another file" in errors
    assert output.read_bytes() == content


def test_answers_of_another_network_are_not_mixed_with_its_own(
    exported: Exported, edge: Any, tmp_path: Path
) -> None:
    output = tmp_path / "answers.jsonl"
    with AnswerFile(output, "f" * 64) as answers:
        answers.append("a.jpg", {"label": 1})
    before = output.read_bytes()
    code, _, errors = edge("--output", output, exported.files[0])
    assert code == 1
    assert "holds answers of artifact ffffffffffff, not of" in errors
    assert output.read_bytes() == before


@pytest.mark.parametrize("kind", ["folder", "pipe", "/dev/full"])
def test_what_cannot_hold_answers_is_one_clear_line(
    kind: str, exported: Exported, edge: Any, tmp_path: Path
) -> None:
    path = Path(kind) if kind == "/dev/full" else tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    code, lines, errors = edge("--output", path, exported.files[0])
    said = after_first_line(errors)
    assert (code, lines, said.count("\n")) == (1, [], 1)
    assert said.startswith(f"error: {path}")


def test_bad_lines_are_said_and_their_images_answered_again(
    exported: Exported, edge: Any, tmp_path: Path
) -> None:
    output, files = tmp_path / "answers.jsonl", [str(file) for file in exported.files[:3]]
    edge("--output", output, *files)
    lines = output.read_text().splitlines(keepends=True)
    output.write_text(lines[0] + lines[1][:50] + lines[1] + '{"artifact_id": 5}\n' + lines[2])
    code, answers, errors = edge("--json", "--output", output, *files)
    assert code == 0
    assert [answer["file"] for answer in parsed(answers)] == files[1:2]
    said = after_first_line(errors)
    assert said.startswith(f"warning: {output}: lines without an answer of this network: 2, ")
    assert "the first is line 2" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_full_disk_costs_a_batch_the_images_that_it_had_no_room_for(
    in_flight: int, exported: Exported, edge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, files = tmp_path / "answers.jsonl", [str(file) for file in exported.files[:4]]
    with full_disk(monkeypatch, until=2):
        code, lines, errors = edge("--json", "--in-flight", in_flight, "--output", output, *files)
    assert code == 1
    assert [answer["file"] for answer in parsed(lines)] == files[2:]
    said = after_first_line(errors).splitlines()
    told = [line.partition(" has no answer yet, because ")[0] for line in said]
    assert told == [f"error: {file}" for file in files[:2]]
    code, lines, _ = edge("--json", "--output", output, *files)
    assert code == 0
    assert [answer["file"] for answer in parsed(lines)] == files[:2]
    assert sorted(row["file"] for row in parsed(output.read_text().splitlines())) == files


@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_watch_waits_for_room_on_a_full_disk(
    in_flight: int, exported: Exported, edge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, output = tmp_path / "photos", tmp_path / "answers.jsonl"
    folder.mkdir()
    there = [str(shutil.copy(file, folder)) for file in exported.files[:2]]
    with full_disk(monkeypatch, until=3), polls(monkeypatch, 6):
        code, lines, errors = edge(
            "--json", "--in-flight", in_flight, "--watch", folder, "--output", output
        )
    assert code == 0
    assert [answer["file"] for answer in parsed(lines)] == there
    assert [row["file"] for row in parsed(output.read_text().splitlines())] == there
    said = after_first_line(errors)
    assert said.count("\n") == 1
    assert "No space left on device; trying again until there is room" in said


def test_an_edge_killed_in_the_middle_keeps_what_it_wrote_and_goes_on(
    exported: Exported, edge: Any, tmp_path: Path
) -> None:
    output, files = tmp_path / "answers.jsonl", [str(file) for file in exported.files[:6]]
    # Opening a pipe that nobody writes to takes for ever: the edge is in the middle of this image.
    files[3] = str(tmp_path / "endless.jpg")
    os.mkfifo(files[3])
    with process(exported, "--json", "--output", output, *files) as killed:
        assert killed.stdout
        printed = [killed.stdout.readline() for _ in range(3)]
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
    assert [row["file"] for row in parsed(printed)] == files[:3]
    kept = output.read_bytes()
    assert [row["file"] for row in parsed(kept.splitlines())] == files[:3]

    Path(files[3]).unlink()
    shutil.copy(exported.files[3], files[3])
    output.write_bytes(kept + kept[:40])
    code, lines, _ = edge("--json", "--output", output, *files)
    assert code == 0
    assert [row["file"] for row in parsed(lines)] == files[3:]
    assert output.read_bytes().startswith(kept)
    assert [row["file"] for row in parsed(output.read_text().splitlines())] == files
