"""Records come back bit for bit, and nothing else ever does."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import eenn.records.records
from eenn.errors import EennError
from eenn.records.records import ExitRecords, Origin, RecordsDamaged, RecordsForeign

ORIGIN = Origin("a1b2", "test", "c3d4", "blur", 1.5, 96)
OTHERS: dict[str, Any] = {
    "artifact_id": "a1b3",
    "split": "val",
    "split_hash": "",
    "distortion": "noise",
    "level": np.nextafter(1.5, 2),
    "input_size": 97,
    "heads": "gaussian_blur",
}

quick = settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
texts = st.text(st.characters(), max_size=6)  # lone surrogates, as in undecodable file names, too


@st.composite
def records(draw: st.DrawFn) -> ExitRecords:
    """Small records with every finite float32 and any text."""
    shape = draw(st.tuples(*(st.integers(0, 3) for _ in range(3))))
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    origin = Origin(
        *(draw(texts) for _ in range(4)),
        draw(st.floats(allow_nan=False, allow_infinity=False)),
        draw(st.integers(1, 1000)),
    )
    labels = draw(arrays(np.int64, shape[1]))
    return ExitRecords(
        draw(arrays(np.float32, shape, elements=finite)),
        labels if draw(st.booleans()) else None,
        tuple(draw(texts) for _ in range(shape[1])),
        origin,
        draw(st.dictionaries(texts, texts, max_size=2)),
    )


def small(origin: Origin = ORIGIN, shift: float = 0) -> ExitRecords:
    logits = np.arange(12, dtype=np.float32).reshape(2, 3, 2) / 7 + np.float32(shift)
    return ExitRecords(logits, np.array([1, 0, 0]), ("a/0.jpg", "b/1.jpg", "b/2.jpg"), origin)


def same(first: ExitRecords, second: ExitRecords) -> bool:
    # An array of no labels is something else than none.
    arrays_of = [
        (r.logits, np.array("none") if r.labels is None else r.labels) for r in (first, second)
    ]
    facts = [(r.sample_ids, r.origin, r.made) for r in (first, second)]
    return facts[0] == facts[1] and all(
        (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        for a, b in zip(*arrays_of, strict=True)
    )


@quick
@given(records())
def test_records_come_back_bit_for_bit(tmp_path: Path, saved: ExitRecords) -> None:
    path = tmp_path / "new" / "records.safetensors"
    saved.save(path)
    assert same(ExitRecords.load(path, saved.origin), saved)
    assert os.listdir(path.parent) == [path.name]


def test_records_without_labels_say_so(tmp_path: Path) -> None:
    saved = replace(small(), labels=None)
    saved.save(tmp_path / "file")
    loaded = ExitRecords.load(tmp_path / "file", ORIGIN)
    assert loaded.labels is None
    with pytest.raises(EennError, match="these images have no labels"):
        assert loaded.truth.size
    np.testing.assert_array_equal(small().truth, [1, 0, 0])


def test_arrays_in_another_order_come_back_too(tmp_path: Path) -> None:
    logits = np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4))[:, ::-1]
    saved = replace(small(), logits=logits, labels=np.arange(6)[::2])
    saved.save(tmp_path / "file")
    assert same(ExitRecords.load(tmp_path / "file", ORIGIN), saved)


def test_the_file_is_plain_safetensors(tmp_path: Path) -> None:
    saved = small()
    saved.save(tmp_path / "file")
    tensors = load_file(tmp_path / "file")
    assert set(tensors) == {"logits", "labels"}
    np.testing.assert_array_equal(tensors["logits"], saved.logits)
    np.testing.assert_array_equal(tensors["labels"], saved.labels)
    with safe_open(tmp_path / "file", framework="numpy") as file:
        header = json.loads(file.metadata()["eenn"])
    assert header == {
        "schema_version": 1,
        "origin": {name: value for name, value in asdict(ORIGIN).items() if name != "heads"},
        "sample_ids": list(saved.sample_ids),
        "made": {},
    }


@pytest.mark.parametrize("field", OTHERS)
def test_records_of_another_origin_are_foreign(tmp_path: Path, field: str) -> None:
    assert set(OTHERS) == set(asdict(ORIGIN))
    small().save(tmp_path / "file")
    with pytest.raises(RecordsForeign, match=f"holds records of .*, not of .*{field}"):
        ExitRecords.load(tmp_path / "file", replace(ORIGIN, **{field: OTHERS[field]}))


def test_records_of_another_schema_are_foreign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(eenn.records.records, "SCHEMA_VERSION", 2)
        small().save(tmp_path / "file")
    with pytest.raises(RecordsForeign, match="has schema version 2, this eenn reads 1"):
        ExitRecords.load(tmp_path / "file", ORIGIN)


def test_a_file_cut_anywhere_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "file"
    small().save(path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(RecordsDamaged, match=f"{path} is not a whole records file"):
            ExitRecords.load(path, ORIGIN)
    path.write_bytes(content + b"\0")
    with pytest.raises(RecordsDamaged):
        ExitRecords.load(path, ORIGIN)


# 0x29 turns a space into a tab.
@pytest.mark.parametrize("flip", [0x01, 0x29, 0xFF])
def test_a_changed_byte_never_gives_other_records(tmp_path: Path, flip: int) -> None:
    path = tmp_path / "file"
    saved = small()
    saved.save(path)
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= flip
        path.write_bytes(changed)
        try:
            loaded = ExitRecords.load(path, ORIGIN)
        except RecordsDamaged:
            continue
        # Padding behind the JSON says nothing: it may change, the records may not.
        assert content[position:header].isspace()
        assert same(loaded, saved)


@quick
@given(st.data())
def test_scrambled_files_are_damaged(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "file"
    small().save(path)
    content = path.read_bytes()
    start = data.draw(st.integers(0, len(content)))
    stop = data.draw(st.integers(start, len(content)))
    content = content[:start] + data.draw(st.binary(max_size=40)) + content[stop:]
    path.write_bytes(content)
    try:
        loaded = ExitRecords.load(path, ORIGIN)
    except RecordsDamaged:
        return
    assert same(loaded, small())


@pytest.mark.parametrize("change", ["logits", "labels", "dtype", "shape", "header"])
def test_a_sound_file_with_other_content_is_damaged(tmp_path: Path, change: str) -> None:
    path = tmp_path / "file"
    small().save(path)
    tensors = load_file(path)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    if change == "dtype":
        tensors["logits"] = tensors["logits"].view(np.int32)
    elif change == "shape":
        tensors["logits"] = tensors["logits"].reshape(1, 3, 4)
    elif change == "header":
        metadata["eenn"] = metadata["eenn"].replace("a/0.jpg", "a/1.jpg")
    else:
        tensors[change] = tensors[change][..., ::-1].copy()
    save_file(tensors, path, metadata)
    with pytest.raises(RecordsDamaged, match="was changed after it was written"):
        ExitRecords.load(path, ORIGIN)


def test_other_safetensors_files_are_damaged_records(tmp_path: Path) -> None:
    for metadata in (None, {"eenn": "{}"}):
        save_file({"logits": np.zeros(1), "labels": np.zeros(1)}, tmp_path / "file", metadata)
        with pytest.raises(RecordsDamaged, match="is not a whole records file"):
            ExitRecords.load(tmp_path / "file", ORIGIN)
    with pytest.raises(FileNotFoundError):
        ExitRecords.load(tmp_path / "none", ORIGIN)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_save_leaves_the_old_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    small().save(tmp_path / "file")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(type(error)):
            small(shift=1).save(tmp_path / "file")
    assert same(ExitRecords.load(tmp_path / "file", ORIGIN), small())
    assert os.listdir(tmp_path) == ["file"]
    small(shift=1).save(tmp_path / "file")
    assert same(ExitRecords.load(tmp_path / "file", ORIGIN), small(shift=1))


@pytest.mark.parametrize(
    ("logits", "labels", "ids"),
    [
        ((3, 2), (3,), 3),
        ((2, 3, 2), (2,), 3),
        ((2, 3, 2), (3, 1), 3),
        ((2, 3, 2), (3,), 2),
        ((3, 2, 2), (3,), 3),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    logits: tuple[int, ...], labels: tuple[int, ...], ids: int
) -> None:
    with pytest.raises(EennError, match=r"allowed are \(exits, samples, classes\), \(samples,\)"):
        ExitRecords(np.zeros(logits, np.float32), np.zeros(labels, int), ("id",) * ids, ORIGIN)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(value: float) -> None:
    logits = small().logits.copy()
    logits[1, 2, 0] = value
    with pytest.raises(EennError, match="not finite numbers; check the network"):
        replace(small(), logits=logits)


def test_what_the_edge_shares_imports_no_torch() -> None:
    code = """
import sys
import eenn.planning.costs, eenn.exits.decide, eenn.exits.policies
import eenn.records.records, eenn.statistics.metrics
heavy = {"torch", "torchvision", "pytorch_lightning", "hydra", "wandb", "matplotlib"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
