"""Files and directories are written whole or not at all; JSON is read as what it was."""

import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from eenn.errors import EennError
from eenn.files import from_json, new_directory, write_file


@pytest.mark.parametrize(("content", "written"), [("año", "año".encode()), (b"\0\xff", b"\0\xff")])
def test_text_and_bytes_arrive_as_given(
    tmp_path: Path, content: str | bytes, written: bytes
) -> None:
    write_file(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == written
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_full_disk_is_told_with_the_file_that_it_had_no_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left on device") as failed:
        write_file(tmp_path / "file", "new")
    assert failed.value.filename == str(tmp_path / "file")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_failed_write_leaves_the_old_content_and_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="disk full"):
        write_file(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_the_target_is_only_ever_replaced_by_complete_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced = []
    replace = os.replace

    def watch(source: str, target: Path) -> None:
        replaced.append((Path(source).read_text(), target.read_text()))
        replace(source, target)

    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(os, "replace", watch)
    write_file(tmp_path / "file", "new")
    assert replaced == [("new", "old")]
    assert (tmp_path / "file").read_text() == "new"


def test_what_is_written_has_the_permissions_that_the_umask_grants(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "file", "text")
        with new_directory(tmp_path / "directory"):
            pass
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "directory").stat().st_mode) == 0o750


def test_a_directory_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "parent" / "new"
    with new_directory(target) as directory:
        (directory / "first").write_text("1")
        assert not target.exists()
        (directory / "second").write_text("2")
    assert {file.name: file.read_text() for file in target.iterdir()} == {
        "first": "1",
        "second": "2",
    }
    assert os.listdir(target.parent) == ["new"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_inside_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def write_half() -> None:
        with new_directory(tmp_path / "new") as directory:
            (directory / "half").write_text("1")
            raise error

    with pytest.raises(error):
        write_half()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_an_existing_path_is_refused_and_kept(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "there"
    target.write_text("mine") if kind == "file" else target.mkdir()
    with pytest.raises(EennError, match="there exists already"), new_directory(target):
        pytest.fail("the block must not run")
    assert os.listdir(tmp_path) == ["there"]
    assert target.is_dir() or target.read_text() == "mine"


def test_a_parent_that_cannot_hold_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(EennError, match=f"cannot write to {tmp_path / 'file'}"),
        new_directory(tmp_path / "file" / "new"),
    ):
        pytest.fail("the block must not run")


@dataclass(frozen=True)
class Row:
    name: str
    size: int | None = None


@dataclass(frozen=True)
class Table:
    rows: tuple[Row, ...]
    place: tuple[float, float]
    shares: dict[str, float]
    whole: bool


TABLE = Table((Row("a", 3), Row("b")), (0.5, 2), {"x": 0.25}, True)


def test_a_dataclass_comes_back_from_its_json() -> None:
    read = from_json(Table, json.loads(json.dumps(asdict(TABLE))))
    assert read == TABLE
    assert type(read.place[1]) is int


def test_what_has_a_default_may_be_left_out_and_other_keys_are_left_alone() -> None:
    assert from_json(Row, {"name": "a", "colour": "red"}) == Row("a")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": [{"size": 3}]}, r"Table.rows\[0\] has no name"),
        ({"rows": [{"name": "a", "size": True}]}, r"Table.rows\[0\].size is True; allowed is int"),
        ({"rows": "ab"}, r"Table.rows is 'ab'; allowed is tuple"),
        ({"rows": ["ab"]}, r"Table.rows\[0\] is 'ab'; allowed is Row"),
        ({"place": [1.0]}, r"Table.place is \[1.0\]; allowed is tuple"),
        ({"place": [1.0, "2"]}, r"Table.place\[1\] is '2'; allowed is float"),
        ({"shares": {"x": None}}, r"Table.shares.x is None; allowed is float"),
        ({"whole": 1}, r"Table.whole is 1; allowed is bool"),
    ],
)
def test_json_of_another_kind_is_an_error_that_says_where(change: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_json(Table, {**json.loads(json.dumps(asdict(TABLE))), **change})
