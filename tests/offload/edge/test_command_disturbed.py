"""Interruptions, odd names, full disks and bugs end no more than they have to."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from eenn.offload.edge.runtime import EdgeRuntime
from tests.offload.edge.edge_command import (
    MODULE,
    parsed,
    polls,
    process,
)
from tests.offload.edge.first_line import after_first_line
from tests.offload.exported import Exported


@pytest.mark.parametrize("in_flight", [1, 2])
def test_images_that_are_interrupted_are_not_a_success(
    in_flight: int, exported: Exported, tmp_path: Path
) -> None:
    pipe = tmp_path / "endless.jpg"
    os.mkfifo(pipe)
    given = (exported.files[0], pipe, exported.files[1])
    with process(exported, "--in-flight", in_flight, *given) as stopped:
        assert stopped.stdout
        assert str(exported.files[0]) in stopped.stdout.readline()
        stopped.send_signal(signal.SIGINT)
        assert stopped.wait() == 130
        assert stopped.stderr
        assert after_first_line(stopped.stderr.read()) == ""


def test_a_reader_that_has_left_ends_it_without_a_word(exported: Exported) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with process(exported, *exported.files, stdout=writer) as read:
        os.close(writer)
        assert read.stderr
        assert read.wait() == 1
        assert after_first_line(read.stderr.read()) == ""


ODD_NAMES = (b"\xff.jpg", b"\x1b[2J.jpg", b"a\nb.jpg: forged.jpg", b"\xe2\x80\xaegpj.jpg")
ESCAPED = ("\\udcff.jpg", "\\x1b[2J.jpg", "a\\nb.jpg: forged.jpg", "\\u202egpj.jpg")


@pytest.mark.parametrize("watching", [False, True])
def test_names_that_are_no_text_end_nothing_and_forge_no_line(
    watching: bool, exported: Exported, edge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [os.fsdecode(os.path.join(os.fsencode(tmp_path), name)) for name in ODD_NAMES]
    for file, photo in zip(files, exported.files, strict=False):
        shutil.copy(photo, file)
    Path(files[2]).write_bytes(b"no image")
    given = ("--watch", tmp_path) if watching else files
    with polls(monkeypatch, 3):
        code, lines, errors = edge(*given)
    with polls(monkeypatch, 3):
        _, answers, _ = edge("--json", *given)
    escaped = [f"{tmp_path}/{name}" for name in ESCAPED]
    assert code == (0 if watching else 1)
    assert {line.split("  ")[0] for line in lines} == {f"{escaped[n]}:" for n in (0, 1, 3)}
    assert {answer["file"] for answer in parsed(answers)} == {files[n] for n in (0, 1, 3)}
    said = after_first_line(errors)
    assert said.startswith(f"error: {escaped[2]} is not")
    assert said.count("\n") == 1
    assert said.rstrip("\n").isprintable()


def test_what_the_terminal_has_no_sign_for_is_escaped(exported: Exported, tmp_path: Path) -> None:
    file = shutil.copy(exported.files[0], tmp_path / "gr\u00fc\u00df\u4e16.jpg")
    given = [*MODULE, "--artifact", exported.path, file]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1:strict"}
    done = subprocess.run(given, capture_output=True, env=environment)
    assert (done.returncode, after_first_line(done.stderr.decode())) == (0, "")
    assert "gr\u00fc\u00df\\u4e16.jpg:".encode("latin-1") in done.stdout


def test_a_full_disk_below_the_output_is_one_clear_line(exported: Exported) -> None:
    with (
        open("/dev/full", "w") as full,
        process(exported, *exported.files, stdout=full.fileno()) as stopped,
    ):
        assert stopped.stderr
        assert stopped.wait() == 1
        said = stopped.stderr.read()
    assert after_first_line(said) == "error: cannot print the answers: No space left on device\n"


@pytest.mark.parametrize("in_flight", [1, 2])
def test_a_bug_at_one_image_is_told_and_the_others_answered(
    in_flight: int, exported: Exported, edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = EdgeRuntime.begin

    def failing(self: EdgeRuntime, file: str) -> Any:
        if file == str(exported.files[0]):
            raise MemoryError("no\nmore")
        return begin(self, file)

    monkeypatch.setattr(EdgeRuntime, "begin", failing)
    code, lines, errors = edge("--json", "--in-flight", in_flight, *exported.files[:2])
    assert code == 1
    assert [answer["file"] for answer in parsed(lines)] == [str(exported.files[1])]
    said = after_first_line(errors)
    assert said.startswith(f"error: {exported.files[0]}: MemoryError: no\\nmore; a bug, in ")
    assert said.count("\n") == 1
