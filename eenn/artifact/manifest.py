"""The artifact's manifest: reading and verifying it, without torch.

`manifest.json` describes the artifact and holds size and SHA-256 of every other file. Its `id` is
the SHA-256 of the manifest itself, so no byte can change unseen.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eenn.errors import TRAIN_EXPERTS, EennError
from eenn.exits.head_sets import FINE_TUNED, PLAIN, Classifier, Expert
from eenn.preprocess import Preprocessing
from eenn.statistics.calibration import Temperatures

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
class Manifest:
    """A verified manifest: the directory of the artifact, and what `manifest.json` says."""

    path: Path
    content: dict[str, Any]

    @property
    def id(self) -> str:
        """SHA-256 of the manifest, the identity of this artifact."""
        return str(self.content["id"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return tuple(self.content["classes"])

    @property
    def exits(self) -> list[dict[str, int]]:
        """The table of exits, a row each; see `eenn.models.architecture.Exit`."""
        return list(self.content["exits"])

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing that the network was trained with."""
        fields = self.content["preprocessing"]
        # JSON has no tuples.
        colours = {name: tuple(fields[name]) for name in ("mean", "std")}
        return Preprocessing(fields["input_size"], fields["resize_size"], **colours)

    @property
    def temperatures(self) -> Temperatures:
        """The fitted temperatures."""
        fields = self.content["temperatures"]
        return Temperatures(tuple(fields["per_exit"]), fields["shared"])

    @property
    def validation_accuracy(self) -> tuple[float, ...]:
        """Accuracy of every exit on the validation split, in [0, 1]."""
        return tuple(self.content["validation_accuracy"])

    @property
    def experts(self) -> tuple[Expert, ...]:
        """The sets of heads besides the plain ones, in their order; none in most artifacts."""
        return tuple(map(Expert.from_json, self.content.get("experts", {}).get("sets", ())))

    @property
    def head_sets(self) -> tuple[str, ...]:
        """The names of the head sets: `plain`, and the kinds that there are experts for."""
        return (PLAIN, *(expert.kind for expert in self.experts))

    def temperatures_of(self, heads: str) -> Temperatures:
        """Those of one of `head_sets`."""
        fitted = {expert.kind: expert.temperatures for expert in self.experts}
        return {PLAIN: self.temperatures, **fitted}[heads]

    @property
    def classifier(self) -> Classifier:
        """The distortion classifier of an artifact with experts.

        Raises:
            ArtifactMissing: it has none.
        """
        if "experts" not in self.content:
            raise ArtifactMissing(f"{self.path} has no experts; train some with {TRAIN_EXPERTS}")
        fields = self.content["experts"]["classifier"]
        accuracy = tuple(fields["validation_accuracy"])
        return Classifier(**{**fields, "validation_accuracy": accuracy})

    @property
    def split_file(self) -> Path:
        """The JSON file of the split that the network was trained with."""
        return self.path / "split.json"

    def verified(self, name: str) -> bytes:
        """The content of one of the artifact's files.

        Raises:
            ArtifactMissing, ArtifactTruncated, ArtifactEdited: see there.
        """
        file, facts = self.path / name, self.content["files"][name]
        if not file.is_file():
            raise ArtifactMissing(f"{file} is missing; {_RESTORE}")
        content = file.read_bytes()
        if len(content) != facts["bytes"]:
            raise ArtifactTruncated(
                f"{file} has {len(content)} bytes instead of {facts['bytes']}; {_RESTORE}"
            )
        if hashlib.sha256(content).hexdigest() != facts["sha256"]:
            raise ArtifactEdited(f"{file} was changed after it was written; {_RESTORE}")
        return content


def read_manifest(path: str | Path) -> Manifest:
    """Read and verify the manifest of the artifact in directory `path`.

    Raises:
        ArtifactMissing, ArtifactTruncated, ArtifactEdited, ArtifactVersion: see there.
    """
    path = Path(path)
    file = path / "manifest.json"
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
    if stated != manifest_id(manifest):
        raise ArtifactEdited(f"{file} was changed after it was written; {_RESTORE}")
    return Manifest(path, {**manifest, "id": stated})


def fine_tuned_path(artifact: Path, kind: str) -> Path:
    """Where the network fine-tuned for a kind of distortion is, beside the artifact with experts.

    Its name keeps it from being the run's artifact.
    """
    return artifact.parent / f"{FINE_TUNED}_{kind}"


def manifest_id(manifest: dict[str, Any]) -> str:
    """SHA-256 of a manifest that has no `id` yet."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


_RESTORE = "copy the artifact again or train anew"
