"""Kept audits: which photographs lie where, within the bound, whatever else lies there."""

import errno
import io
import os
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from eenn.data.datasets import FolderImages
from eenn.errors import EennError
from eenn.image_file import IMAGE_SUFFIXES
from eenn.offload.edge import kept_audits
from eenn.offload.edge.kept_audits import KeptAudits
from tests.offload.edge.guarded_edge import guarded_edge
from tests.offload.exported import CLASSES, Exported

AGREES, DIFFERS = "agrees", "differs"
JPEG = b"\xff\xd8\xff"


def picture(size: int, mark: str = "x") -> bytes:
    return JPEG + mark.encode() * (size - len(JPEG))


def kept_in(folder: Path, *, names: bool = False) -> list[str]:
    """Paths of the files, or only their folders, in the order in which they were kept."""
    files = sorted((file for file in folder.rglob("*") if file.is_file()), key=lambda f: f.name)
    return [str((f if names else f.parent).relative_to(folder)) for f in files]


def opened(folder: Path, most_bytes: int, said: list[str] | None = None) -> KeptAudits:
    return KeptAudits(folder, most_bytes, ([] if said is None else said).append)


def test_audits_are_kept_by_their_outcome_and_the_clouds_answer(
    exported: Exported, tmp_path: Path
) -> None:
    with torch.inference_mode():
        last = exported.network(torch.from_numpy(exported.images))[-1].argmax(1).tolist()
    folder = tmp_path / "kept"
    folder.mkdir()
    with (
        opened(folder, 10**9) as kept,
        guarded_edge(exported.path, tmp_path, kept=kept) as edge,
    ):
        answered = edge.classify(exported.files)
    expected = {
        (entry.audit, CLASSES[true], file.read_bytes())
        for file, true, (_, entry) in zip(exported.files, last, answered, strict=True)
        if entry.audit in (AGREES, DIFFERS)
    }
    for true, (result, entry) in zip(last, answered, strict=True):
        if entry.audit:
            assert (entry.audit == AGREES) == (result.label == true)
    assert {outcome for outcome, _, _ in expected} == {AGREES, DIFFERS}
    found = {
        (*file.relative_to(folder).parts[:2], file.read_bytes()) for file in folder.rglob("*.*")
    }
    assert found == expected
    originals = {file.name for file in exported.files}
    assert originals.isdisjoint(file.name for file in folder.rglob("*"))
    # They train without further ado.
    trained = FolderImages(folder / DIFFERS)
    assert set(trained.classes) == {name for outcome, name, _ in expected if outcome == DIFFERS}


def test_the_oldest_that_agree_go_first_then_the_oldest_that_differ(tmp_path: Path) -> None:
    with opened(tmp_path, 100) as kept:
        for outcome, name in ((DIFFERS, "a"), (AGREES, "b"), (AGREES, "c"), (DIFFERS, "d")):
            kept.keep(picture(25), outcome, name)
        assert kept_in(tmp_path) == ["differs/a", "agrees/b", "agrees/c", "differs/d"]
        kept.keep(picture(26), DIFFERS, "e")
        assert kept_in(tmp_path) == ["differs/a", "differs/d", "differs/e"]
        kept.keep(picture(50), DIFFERS, "f")
        assert kept_in(tmp_path) == ["differs/e", "differs/f"]
        kept.keep(picture(25), AGREES, "g")  # no room beside those that differ
        kept.keep(picture(101), DIFFERS, "h")
        kept.keep(b"not a picture", DIFFERS, "i")
        assert kept_in(tmp_path) == ["differs/e", "differs/f"]
        kept.keep(picture(24), AGREES, "j")
        assert kept_in(tmp_path) == ["differs/e", "differs/f", "agrees/j"]
    # A class folder that has become empty would stop a training.
    assert sorted(folder.name for folder in (tmp_path / DIFFERS).iterdir()) == ["e", "f"]


_Kept = tuple[str, int, bool]


def model(kept: list[_Kept], most: int) -> list[int]:
    """Positions of the photographs that are left, by the rule in the simplest words."""
    left: dict[str, deque[tuple[int, int]]] = {AGREES: deque(), DIFFERS: deque()}
    bytes_of = lambda name: sum(size for _, size in left[name])  # noqa: E731
    for number, (outcome, size, _) in enumerate(kept):
        if size + (bytes_of(DIFFERS) if outcome == AGREES else 0) > most:
            continue
        while bytes_of(AGREES) + bytes_of(DIFFERS) + size > most:
            (left[AGREES] or left[DIFFERS]).popleft()
        left[outcome].append((number, size))
    return sorted(number for own in left.values() for number, _ in own)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([AGREES, DIFFERS]), st.integers(7, 60), st.booleans()),
        max_size=25,
    ),
    st.integers(10, 150),
)
def test_the_bound_holds_always_and_restarts_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, kept: list[_Kept], most: int
) -> None:
    folder = tmp_path_factory.mktemp("kept")
    audits = opened(folder, most)
    for number, (outcome, size, restarts) in enumerate(kept):
        if restarts:
            audits.close()
            audits = opened(folder, most)
        audits.keep(JPEG + f"{number:04}".encode() + b"x" * (size - 7), outcome, "ant")
        assert sum(file.stat().st_size for file in folder.rglob("*.jpg")) <= most
    audits.close()
    left = sorted(int(file.read_bytes()[3:7]) for file in folder.rglob("*.jpg"))
    assert left == model(kept, most)


def test_a_smaller_bound_holds_from_the_start(tmp_path: Path) -> None:
    with opened(tmp_path, 100) as kept:
        for outcome in (AGREES, DIFFERS, DIFFERS):
            kept.keep(picture(30), outcome, "ant")
    with opened(tmp_path, 40):
        assert kept_in(tmp_path) == ["differs/ant"]


def test_files_of_others_are_neither_counted_nor_removed(tmp_path: Path) -> None:
    others = [
        tmp_path / "notes.txt",
        tmp_path / DIFFERS / "ant" / "holiday.jpg",
        tmp_path / DIFFERS / "ant" / "00000001-20261128T035312.jpg" / "inside",
        tmp_path / AGREES / "readme",
    ]
    for other in others:
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(bytes(1000))
    target = tmp_path / "elsewhere.jpg"
    target.write_bytes(bytes(1000))
    link = tmp_path / DIFFERS / "ant" / "00000002-20261128T035312.jpg"
    link.symlink_to(target)
    with opened(tmp_path, 100) as kept:
        for _ in range(5):
            kept.keep(picture(60), DIFFERS, "ant")
    assert all(other.exists() for other in [*others, target, link])
    own = [file for file in (tmp_path / DIFFERS / "ant").iterdir() if file.is_file()]
    assert len(own) == 3  # the holiday, the link, and one photograph


def test_a_photograph_that_was_sorted_into_another_class_goes_in_its_turn(tmp_path: Path) -> None:
    with opened(tmp_path, 100) as kept:
        kept.keep(picture(40), DIFFERS, "ant")
        kept.keep(picture(40), DIFFERS, "ant")
        oldest = min((tmp_path / DIFFERS / "ant").iterdir())
        (tmp_path / DIFFERS / "bee").mkdir()
        oldest.rename(tmp_path / DIFFERS / "bee" / oldest.name)
        kept.keep(picture(40), DIFFERS, "cat")
        assert kept_in(tmp_path) == ["differs/ant", "differs/cat"]


def test_a_folder_that_was_taken_away_counts_no_longer(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    with opened(folder, 100) as kept:
        kept.keep(picture(40), AGREES, "ant")
        kept.keep(picture(60), DIFFERS, "ant")
        (folder / DIFFERS).rename(tmp_path / "to_sort")
        kept.keep(picture(20), DIFFERS, "ant")
        kept.keep(picture(40), DIFFERS, "bee")
        assert kept_in(folder) == ["agrees/ant", "differs/ant", "differs/bee"]
        assert len(kept_in(tmp_path / "to_sort")) == 1


def test_a_full_disk_is_told_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with opened(tmp_path, 1000, said) as kept:
        with monkeypatch.context() as patch:
            patch.setattr(kept_audits, "write_file", full)
            for _ in range(3):
                kept.keep(picture(10), DIFFERS, "ant")
        assert len(said) == 1
        assert "No space left on device" in said[0]
        kept.keep(picture(10), DIFFERS, "ant")
        assert kept_in(tmp_path) == ["differs/ant"]
        with monkeypatch.context() as patch:
            patch.setattr(kept_audits, "write_file", full)
            kept.keep(picture(10), DIFFERS, "ant")
        assert len(said) == 2


def test_what_a_killed_process_left_half_written_goes(tmp_path: Path) -> None:
    with opened(tmp_path, 1000) as kept:
        kept.keep(picture(10), DIFFERS, "ant")
    (own,) = (tmp_path / DIFFERS / "ant").iterdir()
    half = own.with_name(f".{own.name}.a1b2c3d4")
    half.write_bytes(b"half")
    with opened(tmp_path, 1000):
        assert (own.exists(), half.exists()) == (True, False)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../ant", "a/b", "/etc", ".hidden", "a\0b", "a\nb", "\ud800", "é" * 128],
)
def test_a_class_that_could_leave_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with opened(tmp_path, 1000) as kept:
        kept.check_classes(["ant", "BACKGROUND_Google", "Straße", "a b", "é" * 127])
        with pytest.raises(EennError, match="cannot name a folder") as refused:
            kept.check_classes(["ant", name])
    assert str(refused.value).isprintable()


def test_a_folder_serves_one_process_at_a_time(tmp_path: Path) -> None:
    with opened(tmp_path, 1000):
        code = (
            "import sys; from pathlib import Path\n"
            "from eenn.offload.edge.kept_audits import KeptAudits\n"
            f"KeptAudits(Path({str(tmp_path)!r}), 1000, print)"
        )
        other = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
    assert "another eenn-edge writes its audits" in other.stderr
    with opened(tmp_path, 1000):
        pass


def test_a_folder_that_cannot_be_used_is_an_error_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EennError, match=r"missing: .*give a folder that exists"):
        opened(tmp_path / "missing", 1000)
    (tmp_path / "file").touch()
    with pytest.raises(EennError, match="give a folder"):
        opened(tmp_path / "file", 1000)

    def read_only(**_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(kept_audits.tempfile, "TemporaryFile", read_only)
    with pytest.raises(EennError, match=r"Read-only file system; give a folder"):
        opened(tmp_path, 1000)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_every_format_that_is_read_has_its_suffix(format_: str, tmp_path: Path) -> None:
    content = io.BytesIO()
    image = Image.fromarray(np.zeros((4, 4, 3), np.uint8))
    image.save(content, format_)
    with opened(tmp_path, 10**6) as kept:
        kept.keep(content.getvalue(), DIFFERS, "ant")
    (file,) = (file for file in tmp_path.rglob("*") if file.is_file())
    assert file.suffix in IMAGE_SUFFIXES
    assert Image.registered_extensions()[file.suffix] == format_
    assert file.read_bytes() == content.getvalue()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("500MB", 500_000_000),
        ("2GB", 2_000_000_000),
        ("1.5 kB", 1500),
        ("64MiB", 64 * 2**20),
        ("0.5GiB", 2**29),
        ("1TB", 10**12),
    ],
)
def test_sizes_have_units(
    size: str, expected: int, edge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []

    def stop(_: Path, most_bytes: int, __: object) -> None:
        found.append(most_bytes)
        raise EennError("far enough")

    monkeypatch.setattr(kept_audits, "KeptAudits", stop)
    code, _, _ = edge("a.jpg", "--keep-audits", tmp_path, "--keep-at-most", size)
    assert (code, found) == (1, [expected])


@pytest.mark.parametrize("size", ["500", "0MB", "-1MB", "1XB", "nanMB", "9" * 400 + "MB", "MB"])
def test_other_sizes_are_refused(size: str, edge: Any) -> None:
    code, _, errors = edge("a.jpg", "--keep-audits", ".", f"--keep-at-most={size}")
    assert code == 2
    assert "allowed are sizes such as 500MB" in errors


def test_there_have_to_be_audits_to_keep(edge: Any, tmp_path: Path) -> None:
    assert edge("a.jpg", "--keep-at-most", "1MB")[0] == 2
    near = ("--cloud", "http://127.0.0.1:9")
    for more in ((), near, (*near, "--guard", "audit=0")):
        code, _, errors = edge("a.jpg", "--keep-audits", tmp_path, *more)
        assert code == 1
        assert "--keep-audits keeps photographs of audits, and there are none" in errors
