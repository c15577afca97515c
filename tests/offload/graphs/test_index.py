"""Damaged and odd exported graphs: each is one line that says how to mend it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eenn.artifact.manifest import ArtifactEdited, ArtifactMissing, ArtifactVersion
from eenn.errors import EennError
from eenn.offload.graphs.index import Graphs
from tests.offload.exported import Exported

FIRST = ("input_0", "block_0", "output_1")


def copied(exported: Exported, place: Path) -> Path:
    return Path(shutil.copytree(exported.path, place / "artifact"))


def edit_index(directory: Path, **changes: Any) -> None:
    file = directory / "onnx" / "index.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda d: shutil.rmtree(d / "onnx"), ArtifactMissing),
        (lambda d: (d / "onnx" / "fp32" / "block_0.onnx").unlink(), ArtifactMissing),
        (lambda d: (d / "onnx" / "fp32" / "block_0.onnx").write_bytes(b"onnx"), ArtifactEdited),
        (lambda d: (d / "onnx" / "index.json").write_text("{"), ArtifactEdited),
        (lambda d: (d / "onnx" / "index.json").write_text("[]"), ArtifactEdited),
        (lambda d: edit_index(d, pieces=[{"name": "block_0"}]), ArtifactEdited),
        (lambda d: edit_index(d, artifact_id="0" * 64), ArtifactEdited),
        (lambda d: edit_index(d, schema_version=99, pieces=None), ArtifactVersion),
    ],
)
def test_damage_has_its_own_error(
    damage: Callable[[Path], None], error: type[EennError], exported: Exported, tmp_path: Path
) -> None:
    directory = copied(exported, tmp_path)
    damage(directory)
    with pytest.raises(error, match="eenn-export") as caught:
        Graphs.read(directory).session(FIRST, "fp32", 1)
    assert str(directory) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "precision"), [("../../x", "fp32"), ("block_0", "../fp32"), ("a/b", "int8"), ("", "")]
)
def test_an_index_cannot_name_files_elsewhere(
    name: str, precision: str, exported: Exported, tmp_path: Path
) -> None:
    directory = copied(exported, tmp_path)
    rows = json.loads((directory / "onnx" / "index.json").read_text())["pieces"]
    edit_index(directory, pieces=[{**rows[0], "name": name, "precision": precision}, *rows[1:]])
    with pytest.raises(ArtifactEdited, match="not a piece") as caught:
        Graphs.read(directory)
    assert "\n" not in str(caught.value)


def truncated(piece: bytes) -> bytes:
    return piece[: len(piece) // 2]


def of_unknown_operators(piece: bytes) -> bytes:
    return piece.replace(b"Conv", b"Kong")


@pytest.mark.parametrize(
    "damage", [lambda _: b"", lambda _: b"garbage", truncated, of_unknown_operators]
)
def test_a_piece_that_fits_its_hash_but_does_not_run_is_one_line(
    damage: Callable[[bytes], bytes], exported: Exported, tmp_path: Path
) -> None:
    directory = copied(exported, tmp_path)
    file = directory / "onnx" / "fp32" / "block_0.onnx"
    content = damage(file.read_bytes())
    file.write_bytes(content)
    rows = json.loads((directory / "onnx" / "index.json").read_text())["pieces"]
    (row,) = (row for row in rows if (row["name"], row["precision"]) == ("block_0", "fp32"))
    row |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit_index(directory, pieces=rows)
    with pytest.raises(
        ArtifactEdited, match=r"input_0 to output_1 are not a graph for ONNX Runtime"
    ) as caught:
        Graphs.read(directory).session(FIRST, "fp32", 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("index", ["[" * 100_000, '{"schema_version": [[[', "null", "5"])
def test_an_odd_index_is_one_line(index: str, exported: Exported, tmp_path: Path) -> None:
    directory = copied(exported, tmp_path)
    (directory / "onnx" / "index.json").write_text(index)
    with pytest.raises(ArtifactEdited, match="not a whole index"):
        Graphs.read(directory)


@pytest.mark.parametrize(("name", "precision"), [("block_99", "fp32"), ("block_0", "fp16")])
def test_a_piece_that_is_not_there_is_named_with_those_that_are(
    name: str, precision: str, exported: Exported
) -> None:
    with pytest.raises(
        EennError, match=f"{name} in {precision} does not exist.*int8.*head_3_plain"
    ):
        exported.graphs.session((name,), precision, 1)
