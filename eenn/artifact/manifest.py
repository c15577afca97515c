"""The artifact's manifest, read and verified without torch.

`manifest.json` describes the artifact and holds size and SHA-256 of every other file. Its `id` is
the SHA-256 of the manifest itself, so no byte can change unseen.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from eenn.errors import EennError
from eenn.exits.head_sets import FINE_TUNED, PLAIN, Classifier, Expert
from eenn.files import JsonObject, from_json
from eenn.models.architecture import Architecture, Block, Exit
from eenn.preprocess import Preprocessing
from eenn.programs import TRAIN, TRAIN_EXPERTS
from eenn.run_directory import MANIFEST
from eenn.statistics.calibration import Temperatures

T = TypeVar("T")

SCHEMA_VERSION = 1
SPLIT, WEIGHTS = "split.json", "weights.safetensors"
# Pixels; photographs are resized to `resize_size`, so a stranger's manifest could make that costly.
MAX_RESIZE_SIZE = 4096
# Graphs are joined from as many pieces.
MAX_BLOCKS = 10_000
_PLAIN_NAME = re.compile(r"\w+", re.ASCII)
# The remedy for a damaged artifact.
RESTORE = "copy the artifact again or train anew"
FROM_WHOLE = "this copy is for a device, with graphs alone; use the whole artifact"


class ArtifactMissing(EennError):
    """An artifact that does not exist or lacks one of its files."""


class ArtifactTruncated(EennError):
    """A file that is shorter or longer than when it was written."""


class ArtifactEdited(EennError):
    """A file that has its original size but other content."""


class ArtifactVersion(EennError):
    """A file written by a version of eenn with another schema."""


@dataclass(frozen=True)
class StoredFile:
    """Size and SHA-256 of a file as it was written."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class _Stated:
    """The identity and the schema version that a manifest states."""

    id: str
    schema_version: int


@dataclass(frozen=True)
class _Experts:
    """The section of a manifest about experts."""

    sets: tuple[Expert, ...]
    classifier: Classifier


@dataclass(frozen=True)
class Origin:
    """The origin of an artifact, as its training and its settings state it; None is not stated.

    Args:
        data: name of the images.
        data_licence, weights_licence: as given.
        weights: that the training began from.
        command: with the settings that were given.
        seed: of the training.
        hardware: that trained.
    """

    data: str | None = None
    data_licence: str | None = None
    weights: str | None = None
    weights_licence: str | None = None
    command: str | None = None
    seed: int | None = None
    hardware: str | None = None


@dataclass(frozen=True)
class _Split:
    """The manifest's section of the split."""

    sizes: dict[str, int]


@dataclass(frozen=True)
class Manifest:
    """A verified manifest: the directory of the artifact, and the content of `manifest.json`.

    Reading a part of the manifest raises ArtifactTruncated where the part is missing or of a wrong
    type.
    """

    path: Path
    content: JsonObject

    @property
    def id(self) -> str:
        """Return the SHA-256 of the manifest, which identifies the artifact."""
        return self._read(str, "id")

    @cached_property
    def architecture(self) -> Architecture:
        """Read the description that the network is built from."""
        return self._named[0]

    @cached_property
    def _named(self) -> tuple[Architecture, tuple[str, ...]]:
        built = self._read(Architecture, "architecture")
        names = self._read(tuple[str, ...], "classes")
        if built.classes != len(names):
            raise ArtifactTruncated(
                f"{self.path / MANIFEST}: architecture has {built.classes} classes and "
                f"{len(names)} are named; {RESTORE}"
            )
        return built, names

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Read the class names, in the order of the logits."""
        return self._named[1]

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Read the table of blocks; empty in artifacts of earlier versions, which lack it."""
        return self._read(tuple[Block, ...], "blocks") if "blocks" in self.content else ()

    @cached_property
    def exits(self) -> tuple[Exit, ...]:
        """Read the table of exits, a row for each exit, which gives the numbers of blocks."""
        exits = self._read(tuple[Exit, ...], "exits")
        ends = [-1, *(row.after for row in exits)]
        if not exits or ends != sorted(set(ends)) or ends[-1] >= MAX_BLOCKS:
            raise ArtifactTruncated(
                f"{self.path / MANIFEST}, exits: after is {ends[1:]!s:.80}; allowed are "
                f"ascending numbers from 0 to {MAX_BLOCKS - 1}; {RESTORE}"
            )
        return exits

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """Read the preprocessing that the network was trained with."""
        preprocessing = self._read(Preprocessing, "preprocessing")
        if preprocessing.resize_size > MAX_RESIZE_SIZE:
            raise ArtifactTruncated(
                f"{self.path / MANIFEST}, preprocessing: resize_size={preprocessing.resize_size}; "
                f"allowed is {MAX_RESIZE_SIZE} or less; {RESTORE}"
            )
        return preprocessing

    @cached_property
    def temperatures(self) -> Temperatures:
        """Read the fitted temperatures of the plain heads."""
        return self._read(Temperatures, "temperatures")

    @cached_property
    def validation_accuracy(self) -> tuple[float, ...]:
        """Read the accuracy of every exit on the validation split, in [0, 1]."""
        return self._read(tuple[float, ...], "validation_accuracy")

    @cached_property
    def experts(self) -> tuple[Expert, ...]:
        """Read the descriptions of the experts, in their order; most artifacts have none."""
        found = self._read(_Experts, "experts").sets if "experts" in self.content else ()
        # Files are named by kinds.
        if odd := [one.kind for one in found if not _PLAIN_NAME.fullmatch(one.kind)]:
            raise ArtifactTruncated(
                f"{self.path / MANIFEST}, experts: kind {odd[0]!r:.80}; allowed are names of "
                f"letters, digits and _; {RESTORE}"
            )
        return found

    @property
    def head_sets(self) -> tuple[str, ...]:
        """List the names of the head sets: `plain`, and the kinds that have experts."""
        return (PLAIN, *(expert.kind for expert in self.experts))

    def temperatures_of(self, heads: str) -> Temperatures:
        """Return the temperatures of one of `head_sets`."""
        fitted = {expert.kind: expert.temperatures for expert in self.experts}
        return {PLAIN: self.temperatures, **fitted}[heads]

    @property
    def classifier(self) -> Classifier:
        """Read the description of the distortion classifier of an artifact with experts.

        Raises:
            ArtifactMissing: the artifact has no experts.
        """
        if "experts" not in self.content:
            raise ArtifactMissing(f"{self.path} has no experts; train some with {TRAIN_EXPERTS}")
        return self._read(_Experts, "experts").classifier

    @cached_property
    def origin(self) -> Origin:
        """Read where the artifact comes from, which earlier versions did not state."""
        return self._read(Origin, "origin") if "origin" in self.content else Origin()

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Count the images of each part of the split: `train`, `val` and `test`."""
        return self._read(_Split, "split").sizes

    @property
    def split_file(self) -> Path:
        """Return the path of the JSON file of the training's split."""
        return self.path / SPLIT

    @cached_property
    def files(self) -> dict[str, StoredFile]:
        """Read size and hash of the artifact's other files by name, without the exported graphs."""
        return self._read(dict[str, StoredFile], "files")

    @property
    def is_for_device(self) -> bool:
        """Tell whether this is a copy without any of `files`, as `eenn-export --to` writes one."""
        return not any((self.path / name).exists() for name in self.files)

    def stored(self, name: str) -> StoredFile:
        """Look up size and SHA-256 of one of the artifact's files.

        Raises:
            ArtifactTruncated: the manifest does not have the file, or `name` leads to another
                directory.
        """
        if name not in self.files or Path(name).name != name:
            raise ArtifactTruncated(
                f"{self.path / MANIFEST}, files: allowed are names of files beside it, {name} "
                f"among them; {RESTORE}"
            )
        return self.files[name]

    def verified(self, name: str) -> bytes:
        """Read one of the artifact's files and verify it by size and hash.

        Raises:
            ArtifactMissing, ArtifactTruncated, ArtifactEdited: see there.
        """
        file, stored = self.path / name, self.stored(name)
        if not file.is_file():
            mend = FROM_WHOLE if self.is_for_device else RESTORE
            raise ArtifactMissing(f"{file} is missing; {mend}")
        size = file.stat().st_size
        if size != stored.bytes:
            raise ArtifactTruncated(f"{file} has {size} bytes instead of {stored.bytes}; {RESTORE}")
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != stored.sha256:
            raise ArtifactEdited(f"{file} was changed after it was written; {RESTORE}")
        return content

    def all_verified(self) -> dict[str, bytes]:
        """Read and verify all of the artifact's files; return contents by name.

        Raises:
            ArtifactMissing, ArtifactTruncated, ArtifactEdited: see there.
        """
        return {name: self.verified(name) for name in self.files}

    def _read(self, kind: type[T], key: str) -> T:
        try:
            return from_json(kind, self.content.get(key))
        except ValueError as error:
            raise ArtifactTruncated(f"{self.path / MANIFEST}, {key}: {error}; {RESTORE}") from error


def read_manifest(path: str | Path) -> Manifest:
    """Read and verify the manifest of the artifact in directory `path`.

    Raises:
        ArtifactMissing, ArtifactTruncated, ArtifactEdited, ArtifactVersion: see there.
    """
    path = Path(path)
    file = path / MANIFEST
    if not file.is_file():
        raise ArtifactMissing(
            f"{file.parent} holds no artifact (no manifest.json); train one with `{TRAIN.command}`"
        )
    try:
        content: JsonObject = json.loads(file.read_bytes())
        stated = from_json(_Stated, content)
    except (ValueError, RecursionError) as error:
        raise ArtifactTruncated(f"{file} is not a whole manifest; {RESTORE}") from error
    if stated.schema_version != SCHEMA_VERSION:
        raise ArtifactVersion(
            f"{file} has schema version {stated.schema_version}, this eenn reads {SCHEMA_VERSION}; "
            "train again, or use the eenn that wrote it"
        )
    if stated.id != manifest_id({key: content[key] for key in content if key != "id"}):
        raise ArtifactEdited(f"{file} was changed after it was written; {RESTORE}")
    return Manifest(path, content)


def fine_tuned_path(artifact: Path, kind: str) -> Path:
    """Name the directory of the network fine-tuned for a kind, beside the artifact with experts.

    The name differs from that of a run's artifact, so `latest` does not find it.
    """
    return artifact.parent / f"{FINE_TUNED}_{kind}"


def manifest_id(manifest: JsonObject) -> str:
    """Compute the SHA-256 of a manifest that has no `id` yet."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def check_classes(manifest: Manifest, upstream: Manifest) -> None:
    """Check that an upstream network has the same classes as the artifact.

    Raises:
        EennError: the upstream network has other classes, or another order of classes.
    """
    if upstream.classes != manifest.classes:
        own, others = set(manifest.classes), set(upstream.classes)
        differing = sorted(own ^ others) or ["the order"]
        raise EennError(
            f"{upstream.path} has {len(others)} classes and {manifest.path} has {len(own)}; they "
            f"differ in {', '.join(differing[:5])}; give networks of the same classes"
        )
