"""The artifact: what is saved comes back bit for bit, and nothing damaged is ever loaded."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from eenn.artifact import manifest, store
from eenn.data.splits import Split
from eenn.errors import EennError
from eenn.models.architecture import Architecture
from eenn.models.building import build, measure_network
from eenn.models.early_exit import EarlyExitNet
from eenn.preprocess import Preprocessing
from eenn.statistics.calibration import Temperatures

ARCHITECTURE = Architecture(
    classes=3, positions=(3, 10), head="conv", width_mult=0.35, input_size=64
)
PREPROCESSING = Preprocessing(64, 72)


def save(path: Path) -> EarlyExitNet:
    torch.manual_seed(0)
    network = build(ARCHITECTURE)
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
        temperatures=Temperatures((1.5, 1.2, 0.9), 1.1),
        fitted="in a test",
        validation_accuracy=(0.5, 0.7, 0.9),
        split=Split(0, ("a",), ("b",), ("c",)),
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
    assert loaded.architecture == ARCHITECTURE
    assert loaded.exits == measure_network(ARCHITECTURE)[1]
    assert [row.after for row in loaded.exits] == [3, 10, 18]
    assert loaded.temperatures == Temperatures((1.5, 1.2, 0.9), 1.1)
    assert loaded.validation_accuracy == (0.5, 0.7, 0.9)
    assert set(loaded.files) == {"weights.safetensors", "split.json"}
    assert len(loaded.id) == 64


def test_the_file_has_the_format_of_schema_version_1(tmp_path: Path) -> None:
    save(tmp_path / "artifact")
    written = json.loads((tmp_path / "artifact" / "manifest.json").read_text())
    names = ["channels", "height", "width", "macs", "payload_bytes"]
    assert [list(row) for row in written.pop("blocks")] == 19 * [names]
    names = ["after", *names[:4], "head_macs", "payload_bytes"]
    assert [list(row) for row in written.pop("exits")] == 3 * [names]
    split = (tmp_path / "artifact" / "split.json").read_bytes()
    for file in ("weights.safetensors", "split.json"):
        content = (tmp_path / "artifact" / file).read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        assert written["files"].pop(file) == {"bytes": len(content), "sha256": sha256}
    for key in ("id", "created", "versions", "git_commit"):
        assert written.pop(key)
    assert written == {
        "schema_version": 1,
        "architecture": {
            "classes": 3, "positions": [3, 10], "head": "conv", "width_mult": 0.35,
            "input_size": 64, "backbone": "mobilenet_v2",
        },
        "classes": ["ant", "bee", "cat"],
        "preprocessing": {
            "input_size": 64, "resize_size": 72, "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225], "interpolation": "bilinear",
        },
        "temperatures": {"per_exit": [1.5, 1.2, 0.9], "shared": 1.1, "fitted": "in a test"},
        "validation_accuracy": [0.5, 0.7, 0.9],
        "split": {
            "hash": hashlib.sha256(split).hexdigest(), "seed": 0,
            "sizes": {"train": 1, "val": 1, "test": 1},
        },
        "files": {},
    }  # fmt: skip


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
        (lambda d: (d / "manifest.json").write_text(10_000 * "["), manifest.ArtifactTruncated),
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


def exits_after(*blocks: int) -> list[dict[str, int]]:
    names = ("channels", "height", "width", "macs", "head_macs", "payload_bytes")
    return [{"after": block, **dict.fromkeys(names, 1)} for block in blocks]


@pytest.mark.parametrize(
    ("key", "part", "said"),
    [
        ("exits", [{"after": 3}], r"exits: .*\[0\] has no channels, head_macs, height"),
        ("exits", exits_after(), r"exits: after is \[\]; allowed are ascending numbers from 0"),
        ("exits", exits_after(10**9), r"exits: after is \[1000000000\]; allowed are ascending"),
        ("exits", exits_after(-2, 3), r"exits: after is \[-2, 3\]; allowed are ascending"),
        ("exits", exits_after(5, 5), r"exits: after is \[5, 5\]; allowed are ascending"),
        ("classes", ["ant"], "3 classes and 1 are named"),
        ("architecture", {"classes": "3", "positions": []}, r"classes is '3'; allowed is int"),
        ("temperatures", {"per_exit": [1.0, None], "shared": 1.0}, r"per_exit\[1\] is None"),
    ],
)
def test_a_part_of_another_kind_is_an_error_that_names_it(
    key: str, part: Any, said: str, tmp_path: Path
) -> None:
    save(tmp_path / "artifact")
    file = tmp_path / "artifact" / "manifest.json"
    content = {**json.loads(file.read_text()), key: part}
    content["id"] = manifest.manifest_id({k: v for k, v in content.items() if k != "id"})
    file.write_text(json.dumps(content))
    with pytest.raises(manifest.ArtifactTruncated, match=said):
        getattr(manifest.read_manifest(tmp_path / "artifact"), key)


def rewrite(directory: Path, file: str, content: bytes) -> None:
    """Change a file, and make the manifest fit it."""
    (directory / file).write_bytes(content)
    written = json.loads((directory / "manifest.json").read_text())
    sha256 = hashlib.sha256(content).hexdigest()
    resign(directory, files={**written["files"], file: {"bytes": len(content), "sha256": sha256}})


def resign(directory: Path, **changes: Any) -> None:
    """Change a manifest, and make its id fit."""
    edit_manifest(directory, **changes)
    content = json.loads((directory / "manifest.json").read_text())
    edit_manifest(
        directory, id=manifest.manifest_id({k: v for k, v in content.items() if k != "id"})
    )


def architecture(**changes: Any) -> dict[str, Any]:
    return {"architecture": {**asdict(ARCHITECTURE), **changes}}


def test_an_artifact_that_states_no_backbone_has_mobilenet_v2(tmp_path: Path) -> None:
    save(tmp_path / "artifact")
    own = asdict(ARCHITECTURE)
    del own["backbone"]
    resign(tmp_path / "artifact", architecture=own)
    assert store.load(tmp_path / "artifact").manifest.architecture == ARCHITECTURE


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda d: rewrite(d, "weights.safetensors", b""), "not a whole|has less than"),
        (lambda d: rewrite(d, "weights.safetensors", 10**7 * b"x"), "not a whole file of tensors"),
        (lambda d: resign(d, files={}), "weights.safetensors among them"),
        (lambda d: resign(d, files=None), "files"),
        (lambda d: resign(d, files={"../x": {"bytes": 0, "sha256": ""}}), "beside it, "),
        (lambda d: resign(d, **architecture(classes=4)), "4 classes and 3 are named"),
        (lambda d: resign(d, **architecture(head="pool2")), "to another network"),
        (lambda d: resign(d, **architecture(head="wide")), "head"),
        (lambda d: resign(d, **architecture(backbone="other")), "model.name=other: allowed are"),
        (lambda d: resign(d, **architecture(backbone="resnet18")), "one width"),
        (lambda d: resign(d, **architecture(positions=[5, 3])), "no network can be built"),
        # What would take terabytes is met before it takes any.
        (lambda d: resign(d, **architecture(classes=10**10)), "are named"),
        (
            lambda d: resign(
                d, **architecture(backbone="regnet_y_400mf", width_mult=1, classes=10**10)
            ),
            "are named",
        ),
        (lambda d: resign(d, **architecture(width_mult=1e5)), "has less than"),
        (lambda d: resign(d, **architecture(input_size=10**7)), "input_size of arch"),
        (lambda d: resign(d, **architecture(classes=-1)), "are named"),
        (
            lambda d: resign(d, preprocessing={"input_size": 64, "resize_size": 10**6}),
            "4096 or less",
        ),
    ],
)
def test_what_fits_its_hash_is_still_checked(damage: Any, said: str, tmp_path: Path) -> None:
    save(tmp_path / "artifact")
    damage(tmp_path / "artifact")
    with pytest.raises(EennError, match=said) as caught:
        store.load(tmp_path / "artifact").manifest.all_verified()
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_artifact_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(manifest.ArtifactMissing, match=r"python train\.py"):
        store.load(tmp_path)
