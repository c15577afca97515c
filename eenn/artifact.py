"""The trained network on disk: save and load. No pickle anywhere.

An artifact is a directory of `weights.safetensors`, `split.json` (which sample is in which part)
and `manifest.json`, which describes the rest.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch

from eenn.files import new_directory, write_file
from eenn.manifest import SCHEMA_VERSION, Manifest, manifest_id, read_manifest
from eenn.models.early_exit import Architecture, EarlyExitNet
from eenn.preprocess import Preprocessing
from eenn.provenance import git_commit


@dataclass(frozen=True)
class Artifact:
    """A loaded artifact: the network in evaluation mode and the manifest."""

    network: EarlyExitNet
    manifest: Manifest


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
    manifest["id"] = manifest_id(manifest)
    with new_directory(path) as directory:
        for name, content in files.items():
            write_file(directory / name, content)
        write_file(directory / "manifest.json", json.dumps(manifest, indent=1))


def load(path: str | Path) -> Artifact:
    """Read and verify an artifact; its logits equal those of the saved network bit for bit.

    Raises:
        ArtifactMissing, ArtifactTruncated, ArtifactEdited, ArtifactVersion: see there.
    """
    manifest = read_manifest(path)
    contents = {name: manifest.verified(name) for name in manifest.content["files"]}
    fields = manifest.content["architecture"]
    architecture = Architecture(**{**fields, "positions": tuple(fields["positions"])})
    network = architecture.build()
    network.load_state_dict(safetensors.torch.load(contents["weights.safetensors"]))
    return Artifact(network.eval(), manifest)
