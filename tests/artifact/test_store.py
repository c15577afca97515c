"""The artifact: what is saved comes back bit for bit, and nothing damaged is ever loaded."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from eenn.artifact import manifest, store
from eenn.errors import EennError
from eenn.models.architecture import Architecture
from eenn.models.early_exit import EarlyExitNet
from eenn.preprocess import Preprocessing
from eenn.statistics.calibration import Temperatures

ARCHITECTURE = Architecture(
    classes=3, positions=(3, 10), head="conv", width_mult=0.35, input_size=64
)
PREPROCESSING = Preprocessing(64, 72)


def save(path: Path) -> EarlyExitNet:
    torch.manual_seed(0)
    network = ARCHITECTURE.build()
    # Statistics and weights away from their start, as after training.
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * 0.1)
    store.save(
        path,
        network,
        architecture=ARCHITECTURE,
        classes=("ant", "bee", "cat"),
        preprocessing=PREPROCESSING,
        temperatures={"per_exit": [1.5, 1.2, 0.9], "shared": 1.1, "fitted": "in a test"},
        validation_accuracy=[0.5, 0.7, 0.9],
        split={"hash": "0" * 64, "seed": 0, "sizes": {"train": 1, "val": 1, "test": 1}},
        split_json="{}",
    )
    return network.eval()


def test_what_is_loaded_answers_bit_for_bit_like_what_was_saved(tmp_path: Path) -> None:
    network = save(tmp_path / "artifact")
    loaded = store.load(tmp_path / "artifact")
    x = torch.randn(5, 3, 64, 64)
    assert torch.equal(loaded.network(x), network(x))
    assert not loaded.network.training


def test_the_manifest_holds_what_others_rely_on(tmp_path: Path) -> None:
    save(tmp_path / "artifact")
    loaded = store.load(tmp_path / "artifact").manifest
    assert loaded.preprocessing == PREPROCESSING
    assert loaded.classes == ("ant", "bee", "cat")
    assert [row["after"] for row in loaded.exits] == [3, 10, 18]
    assert set(loaded.exits[0]) == {
        "after", "channels", "height", "width", "macs", "head_macs", "payload_bytes",
    }  # fmt: skip
    assert loaded.temperatures == Temperatures((1.5, 1.2, 0.9), 1.1)
    assert loaded.validation_accuracy == (0.5, 0.7, 0.9)
    assert set(loaded.content["split"]) == {"hash", "seed", "sizes"}
    assert len(loaded.id) == 64


def test_an_artifact_is_never_overwritten(tmp_path: Path) -> None:
    save(tmp_path / "artifact")
    before = store.load(tmp_path / "artifact").manifest.id
    with pytest.raises(EennError, match="never overwritten"):
        save(tmp_path / "artifact")
    assert store.load(tmp_path / "artifact").manifest.id == before


def truncate(directory: Path) -> None:
    file = directory / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def flip_a_byte(directory: Path) -> None:
    file = directory / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def edit_manifest(directory: Path, **changes: Any) -> None:
    file = directory / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda d: (d / "manifest.json").unlink(), manifest.ArtifactMissing),
        (lambda d: (d / "weights.safetensors").unlink(), manifest.ArtifactMissing),
        (lambda d: (d / "split.json").unlink(), manifest.ArtifactMissing),
        (truncate, manifest.ArtifactTruncated),
        (lambda d: (d / "manifest.json").write_text("{"), manifest.ArtifactTruncated),
        (lambda d: (d / "manifest.json").write_text("[]"), manifest.ArtifactTruncated),
        (flip_a_byte, manifest.ArtifactEdited),
        (lambda d: edit_manifest(d, classes=["ant", "bee", "dog"]), manifest.ArtifactEdited),
        (lambda d: edit_manifest(d, schema_version=99), manifest.ArtifactVersion),
    ],
)
def test_damage_has_its_own_error(damage: Any, error: type[EennError], tmp_path: Path) -> None:
    save(tmp_path / "artifact")
    damage(tmp_path / "artifact")
    with pytest.raises(error) as caught:
        store.load(tmp_path / "artifact")
    assert type(caught.value) is error
    assert str(tmp_path) in str(caught.value)


def test_a_folder_that_is_no_artifact_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(manifest.ArtifactMissing, match=r"python train\.py"):
        store.load(tmp_path)
