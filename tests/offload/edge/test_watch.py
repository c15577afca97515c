"""A watched folder: what appears there is answered, once each."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from eenn.offload.edge.watch import NewImages
from tests.offload.edge.edge_command import (
    parsed,
    polls,
    process,
)
from tests.offload.edge.first_line import after_first_line
from tests.offload.exported import Exported


@pytest.mark.clock
@pytest.mark.parametrize(("stop", "in_flight"), [(signal.SIGINT, 1), (signal.SIGTERM, 3)])
def test_a_watched_folder_is_answered_until_the_edge_is_stopped(
    stop: signal.Signals, in_flight: int, exported: Exported, tmp_path: Path
) -> None:
    folder, output = tmp_path / "photos", tmp_path / "answers.jsonl"
    folder.mkdir()
    there = [shutil.copy(file, folder / f"{n}.jpg") for n, file in enumerate(exported.files[:2])]
    given = ("--watch", folder, "--json", "--output", output, "--in-flight", in_flight)
    with process(exported, *given) as watching:
        assert watching.stdout
        first = parsed([watching.stdout.readline() for _ in range(2)])
        (folder / "broken.png").write_bytes(b"no image")
        assert watching.stderr
        assert after_first_line(watching.stderr.readline()) == ""
        assert "broken.png" in watching.stderr.readline()
        appeared = shutil.copy(exported.files[2], folder / "later.JPG")
        second = parsed([watching.stdout.readline()])
        watching.send_signal(stop)
        assert watching.wait() == 0
        assert (watching.stdout.read(), watching.stderr.read()) == ("", "")
    assert [row["file"] for row in first] == [str(file) for file in there]
    assert [row["file"] for row in second] == [str(appeared)]

    more = shutil.copy(exported.files[3], folder / "more.jpg")
    with process(exported, *given) as again:
        assert again.stdout
        assert json.loads(again.stdout.readline())["file"] == str(more)
        again.send_signal(stop)
        assert again.wait() == 0
    files = [row["file"] for row in parsed(output.read_text().splitlines())]
    assert files == [str(file) for file in (*there, appeared, more)]


def test_a_file_is_given_once_when_it_no_longer_grows(tmp_path: Path) -> None:
    answered: set[str] = set()
    images = NewImages(tmp_path, answered)
    file = tmp_path / "a.jpg"
    for n in range(3):
        file.write_bytes(b"x" * n)
        assert images.poll() == []
    assert images.poll() == [str(file)]
    answered.add(str(file))
    file.write_bytes(b"another")
    assert [images.poll() for _ in range(3)] == [[], [], []]


def test_a_file_that_could_not_be_read_is_given_again_once_it_has_changed(tmp_path: Path) -> None:
    images, file = NewImages(tmp_path, set()), tmp_path / "a.jpg"
    file.write_bytes(b"half")
    assert [images.poll() for _ in range(4)] == [[], [str(file)], [], []]
    file.write_bytes(b"whole")
    assert [images.poll() for _ in range(4)] == [[], [str(file)], [], []]


def test_only_images_are_given_in_order(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPEG", ".hidden.jpg", "notes.txt", "photo.jpg.part", "jpg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    images = NewImages(tmp_path, {str(tmp_path / "known.png")})
    (tmp_path / "known.png").write_bytes(b"x")
    images.poll()
    assert images.poll() == [str(tmp_path / "a.JPEG"), str(tmp_path / "b.png")]


def test_a_watched_file_is_an_image_by_how_it_begins(tmp_path: Path) -> None:
    images = NewImages(tmp_path, set())
    beginnings = {"scan": b"P5 1 1 255\n\0", "a.jfif": b"x", "b.tmp": b"\xff\xd8\xff\xe0"}
    others = {"list": b"text", "phone.heic": b"\0\0\0 ftypheic", "answers.jsonl": b"{}\n"}
    for name, content in (beginnings | others).items():
        (tmp_path / name).write_bytes(content)
    images.poll()
    assert images.poll() == [str(tmp_path / name) for name in ("a.jfif", "b.tmp", "scan")]
    assert images.others == sorted(str(tmp_path / name) for name in others)
    (tmp_path / "list").write_bytes(b"GIF89a")
    images.poll()
    assert images.poll() == [str(tmp_path / "list")]


def test_one_entry_that_cannot_be_looked_at_is_told_and_the_others_answered(
    exported: Exported, edge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = tmp_path / "a.jpg"
    loop.symlink_to(loop)
    photo = shutil.copy(exported.files[0], tmp_path / "b.jpg")
    with polls(monkeypatch, 4):
        code, lines, errors = edge("--json", "--watch", tmp_path)
    assert code == 0
    assert [answer["file"] for answer in parsed(lines)] == [str(photo)]
    said = after_first_line(errors)
    assert said.startswith(f"error: {loop} is not a readable image")
    assert said.count("\n") == 1
