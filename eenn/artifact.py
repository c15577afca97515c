"""The trained network on disk: save, load, verify. No pickle anywhere.

An artifact is a directory of `weights.safetensors`, `split.json` (which sample is in which part)
and `manifest.json`, which describes the rest and holds size and SHA-256 of every file. Its `id` is
the SHA-256 of the manifest itself, so no byte can change unseen.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch

from eenn.errors import EennError
from eenn.files import new_directory, write_file
from eenn.models.early_exit import Architecture, EarlyExitNet, Exit
from eenn.preprocess import Preprocessing
from eenn.provenance import git_commit

SCHEMA_VERSION = 1


class ArtifactMissing(EennError):
    """There is no artifact, or one of its files is gone."""


class ArtifactTruncated(EennError):
    """A file is shorter or longer than when it was written."""


class ArtifactEdited(EennError):
    """A file has its size but not its content."""


class ArtifactVersion(EennError):
    """Written by a version of eenn with another schema."""


@dataclass(frozen=True)
class Artifact:
    """A loaded artifact: the network in evaluation mode and what its manifest says."""

    path: Path
    network: EarlyExitNet
    manifest: dict[str, Any]

    @property
    def id(self) -> str:
        """SHA-256 of the manifest, the identity of this artifact."""
        return str(self.manifest["id"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return tuple(self.manifest["classes"])

    @property
    def exits(self) -> tuple[Exit, ...]:
        """The table of exits."""
        return tuple(Exit(**row) for row in self.manifest["exits"])

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing that the network was trained with."""
        fields = self.manifest["preprocessing"]
        # JSON has no tuples.
        colours = {name: tuple(fields[name]) for name in ("mean", "std")}
        return Preprocessing(fields["input_size"], fields["resize_size"], **colours)

    @property
    def split_file(self) -> Path:
        """The JSON file of the split that the network was trained with."""
        return self.path / "split.json"


def save(
    path: Path,
    network: EarlyExitNet,
    *,
    architecture: Architecture,
    classes: tuple[str, ...],
    preprocessing: Preprocessing,
    temperatures: dict[str, Any],
    validation_accuracy: list[float],
    split: dict[str, Any],
    split_json: str,
) -> None:
    """Write an artifact to `path`, whole or not at all.

    Args:
        temperatures: `{per_exit: [...], shared: ...}`, and how they were fitted.
        validation_accuracy: of each exit, in [0, 1].
        split: `{hash, seed, sizes}` of `split_json`.

    Raises:
        EennError: `path` exists or cannot be written.
    """
    tensors = {name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}
    files = {
        "weights.safetensors": safetensors.torch.save(tensors),
        "split.json": split_json.encode(),
    }
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "architecture": asdict(architecture),
        "classes": list(classes),
        "preprocessing": asdict(preprocessing),
        "exits": [asdict(row) for row in architecture.exits()],
        "temperatures": temperatures,
        "validation_accuracy": validation_accuracy,
        "split": split,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("torch", "torchvision", "numpy", "pillow")},
        "git_commit": git_commit(),
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
    }
    manifest["id"] = _manifest_id(manifest)
    with new_directory(path) as directory:
        for name, content in files.items():
            write_file(directory / name, content)
        write_file(directory / "manifest.json", json.dumps(manifest, indent=1))


def load(path: str | Path) -> Artifact:
    """Read and verify an artifact; its logits equal those of the saved network bit for bit.

    Raises:
        ArtifactMissing, ArtifactTruncated, ArtifactEdited, ArtifactVersion: see there.
    """
    path = Path(path)
    manifest = _read_manifest(path / "manifest.json")
    contents = {name: _verified(path / name, **facts) for name, facts in manifest["files"].items()}
    fields = manifest["architecture"]
    architecture = Architecture(**{**fields, "positions": tuple(fields["positions"])})
    network = architecture.build()
    network.load_state_dict(safetensors.torch.load(contents["weights.safetensors"]))
    return Artifact(path, network.eval(), manifest)


def _read_manifest(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ArtifactMissing(
            f"{file.parent} holds no artifact (no manifest.json); train one with `python train.py`"
        )
    try:
        manifest: dict[str, Any] = json.loads(file.read_bytes())
        stated, schema = manifest.pop("id"), manifest["schema_version"]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ArtifactTruncated(f"{file} is not a whole manifest; {_RESTORE}") from error
    if schema != SCHEMA_VERSION:
        raise ArtifactVersion(
            f"{file} has schema version {schema}, this eenn reads {SCHEMA_VERSION}; "
            "train again, or use the eenn that wrote it"
        )
    if stated != _manifest_id(manifest):
        raise ArtifactEdited(f"{file} was changed after it was written; {_RESTORE}")
    return {**manifest, "id": stated}


def _verified(file: Path, bytes: int, sha256: str) -> bytes:
    if not file.is_file():
        raise ArtifactMissing(f"{file} is missing; {_RESTORE}")
    content = file.read_bytes()
    if len(content) != bytes:
        raise ArtifactTruncated(f"{file} has {len(content)} bytes instead of {bytes}; {_RESTORE}")
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ArtifactEdited(f"{file} was changed after it was written; {_RESTORE}")
    return content


_RESTORE = "copy the artifact again or train anew"


def _manifest_id(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
