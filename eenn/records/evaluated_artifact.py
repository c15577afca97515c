"""An artifact under evaluation: its records and its profile, measured only where they are missing.

Both are kept under outputs/records/ARTIFACT/, where later runs find them. torch is imported only
then.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import cached_property, partial
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock

from eenn.artifact.manifest import SPLIT, Manifest, fine_tuned_path, read_manifest
from eenn.data.datasets import ImageSource, Photo
from eenn.data.distortions import Distortion, seed_of
from eenn.data.new_images import Folder, NewImages
from eenn.data.sources import SOURCES
from eenn.data.splits import SPLIT_NAMES, Split
from eenn.errors import EennError
from eenn.exits.head_sets import CLASSIFIER, PLAIN
from eenn.files import from_json, write_json
from eenn.models.architecture import branches_text
from eenn.planning.costs import Profile
from eenn.provenance import processor
from eenn.records.records import FOLDER, ExitRecords, Origin, RecordCache
from eenn.run_directory import CONFIG, MANIFEST, OUTPUTS, find_artifact, read_config

if TYPE_CHECKING:
    from eenn.artifact.store import Artifact
    from eenn.data.datamodule import EvaluationImages, ImageDataModule

RECORDS = OUTPUTS / "records"
PRISTINE = "none"
# The folder that policies are fitted to, beside FOLDER, which is evaluated.
FIT_FOLDER = "fit_folder"


class ImagesNotFound(EennError):
    """An error raised when the images of an artifact's training are not found."""


class EvaluatedArtifact:
    """An artifact with the images it was trained on, and folders of other images.

    `heads` are the names of its head sets: `plain`, and the kinds that have experts.

    Args:
        title: name of the data set.
        open_source: returns the images that the artifact's split was drawn from.
        folders: folders of other images, by FOLDER and FIT_FOLDER, which then name splits.
    """

    def __init__(
        self,
        manifest: Manifest,
        title: str,
        open_source: Callable[[], ImageSource],
        folders: Mapping[str, NewImages] = MappingProxyType({}),
    ) -> None:
        self.manifest, self.title, self._open_source = manifest, title, open_source
        self.folders = folders
        self.branches = len(manifest.exits) - 1
        manifest.all_verified()
        manifest.stored(SPLIT)
        self.split = Split.load(manifest.split_file)
        self.heads = manifest.head_sets
        self._kept = RECORDS / manifest.id[:12]
        self._passed: dict[Origin, ExitRecords] = {}

    @property
    def details(self) -> tuple[str, ...]:
        """List properties, important ones first, that tell networks of equal branches apart."""
        *made, after = self.manifest.architecture.details
        return (*made, self.title, after)

    @cached_property
    def fine_tuned(self) -> dict[str, "EvaluatedArtifact"]:
        """Open the fine-tuned networks beside the artifact, by kind of distortion."""
        paths = {kind: fine_tuned_path(self.manifest.path, kind) for kind in self.heads[1:]}
        return {
            kind: EvaluatedArtifact(
                read_manifest(path), self.title, lambda: self._data.source, self.folders
            )
            for kind, path in paths.items()
            if (path / MANIFEST).exists()
        }

    def image_count(self, split: str) -> int:
        """Count the images of a split, or of one of `folders`.

        Raises:
            EennError: `split` names neither a split nor a folder.
        """
        folder = self.folders.get(split)
        if folder is not None:
            return len(folder.content_hashes)
        if split not in SPLIT_NAMES:
            raise EennError(f"split={split}: allowed are {', '.join(SPLIT_NAMES)}")
        return self.split.sizes[split]

    def records(self, split: str, distortion: str, level: float, heads: str = PLAIN) -> ExitRecords:
        """Return the records of a split at a level of a distortion; 0 is alike for all.

        Args:
            split: name of a split or of one of `folders`.
            heads: one of `heads`, or `classifier`; see `eenn.records.records.Origin`.

        Raises:
            ImagesNotFound: the split was not recorded yet, and its images cannot be found.
        """
        folder = self.folders.get(split)
        self.image_count(split)  # checks it
        origin = Origin(
            artifact_id=self.manifest.id,
            split=FOLDER if folder else split,
            split_hash=folder.hash if folder else self.split.hash,
            distortion=distortion if level else PRISTINE,
            level=float(level),
            input_size=self.manifest.preprocessing.input_size,
            heads=heads,
        )
        return RecordCache(self._kept).fetch(origin, lambda: self._record(origin, folder))

    @cached_property
    def profile(self) -> Profile:
        """Return the measured milliseconds of every segment and head on this machine."""
        path = self._kept / "profile.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if path.exists():
                known = Profile.load(path)
                if (known.artifact_id, known.hardware) == (self.manifest.id, processor()):
                    return known
            from eenn.records.profiling import profile

            size = self.manifest.preprocessing.input_size
            loaded = self._artifact
            classifier = loaded.experts and loaded.experts.classifier
            measured = profile(loaded.network, self.manifest.id, size, processor(), classifier)
            measured.save(path)
            return measured

    def photos(self, split: str, count: int | None = None) -> Iterator[Photo]:
        """Yield the images of a split as files, in the order of the split.

        Args:
            count: images, spread evenly over the split, which is sorted by class; None for all.
        """
        source, samples = self._data.source, self._data.indices[split]
        count = len(samples) if count is None else min(count, len(samples))
        for sample in samples[np.arange(count) * len(samples) // count]:
            yield Photo(
                source.sample_ids[sample],
                int(source.labels[sample]),
                source.file(sample),
                seed_of(source.content_hashes[sample]),
            )

    @cached_property
    def photograph_bytes(self) -> float:
        """Compute the mean file size of the evaluated folder, else of the validation split."""
        folder = self.folders.get(FOLDER)
        if folder is not None:
            return float(np.mean([len(folder.file(at)) for at in range(len(folder.labels))]))
        return float(np.mean([len(photo.file) for photo in self.photos("val")]))

    def check_images(self) -> None:
        """Check that the images of the artifact's training can be opened.

        Raises:
            ImagesNotFound: the images cannot be found, or are not those of the training.
        """
        assert self._data

    @cached_property
    def contents(self) -> Mapping[str, str]:
        """Return the content hash of every image of the split, by sample id.

        The hashes are kept beside the records, so that later calls do not need the images.

        Raises:
            ImagesNotFound: the hashes are not kept yet, and the images cannot be found.
        """
        path = self._kept / "contents.json"
        if path.exists():
            known = _known_contents(path)
            if known.keys() == self._ids_of_split:
                return known
        source = self._data.source
        found = dict(zip(source.sample_ids, source.content_hashes, strict=True))
        found = {sample_id: found[sample_id] for sample_id in sorted(self._ids_of_split)}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, found)
        return found

    @property
    def _ids_of_split(self) -> set[str]:
        return {sample_id for part in SPLIT_NAMES for sample_id in getattr(self.split, part)}

    @cached_property
    def _artifact(self) -> "Artifact":
        from eenn.artifact import store

        return store.load(self.manifest.path)

    @cached_property
    def _data(self) -> "ImageDataModule":
        from eenn.data.augmentation import Augmentation
        from eenn.data.datamodule import ImageDataModule

        try:
            source = self._open_source()
        except EennError as error:
            raise ImagesNotFound(str(error)) from error
        if source.classes != self.manifest.classes:
            raise ImagesNotFound(
                f"the images have {len(source.classes)} classes and {self.manifest.path} has "
                f"{len(self.manifest.classes)}, or others; give images=PATH (or --images PATH) of "
                "the images it was trained on"
            )
        preprocessing = self.manifest.preprocessing
        try:
            return ImageDataModule(
                source, preprocessing, Augmentation(), self.split.seed, split=self.split
            )
        except EennError as error:
            raise ImagesNotFound(str(error)) from error

    def _record(self, origin: Origin, folder: NewImages | None) -> ExitRecords:
        if origin not in self._passed:
            # One pass gives the records of all head sets; the other sets are requested next.
            self._passed = self._pass(origin, folder)
        return self._passed.pop(origin)

    def _images(
        self, part: str, folder: NewImages | None, distortion: Distortion | None
    ) -> "EvaluationImages":
        """Collect the images of a folder, or of a part of the split, for a pass of the network."""
        from eenn.data.datamodule import EvaluationImages

        preprocessing = self.manifest.preprocessing
        if folder is None:
            data = self._data
            return EvaluationImages(data.source, data.indices[part], preprocessing, distortion)
        return EvaluationImages(folder, np.arange(len(folder.labels)), preprocessing, distortion)

    def _pass(self, origin: Origin, folder: NewImages | None) -> dict[Origin, ExitRecords]:
        import torch

        from eenn.data.datamodule import evaluation_batches
        from eenn.hardware import prepare
        from eenn.records.recording import record, record_experts

        machine = prepare("auto")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        distortion = Distortion(origin.distortion, origin.level) if origin.level else None
        batches = evaluation_batches(self._images(origin.split, folder, distortion))
        title = (
            f"{branches_text(self.branches)}, {origin.split}, {origin.distortion} {origin.level:g}"
        )
        made = {"device": machine.hardware, "date": datetime.now().isoformat(timespec="seconds")}
        ids = folder.sample_ids if folder else getattr(self.split, origin.split)
        labelled = folder is None or folder.labelled
        if self._artifact.experts is None:
            logits, labels = record(self._artifact.network, batches, device, title)
            own_labels = labels if labelled else None
            return {origin: ExitRecords(logits, own_labels, ids, origin, made)}
        sets, kinds, labels = record_experts(self._artifact.experts, batches, device, title)
        # Kinds without an expert count as kind 0, the plain heads.
        kind = self.heads.index(origin.distortion) if origin.distortion in self.heads else 0
        true_kinds = np.full(len(labels), kind)
        known = labels if labelled else None
        given = [(heads, logits, known) for heads, logits in zip(self.heads, sets, strict=True)]
        found = {}
        for heads, logits, truth in (*given, (CLASSIFIER, kinds[None], true_kinds)):
            own = replace(origin, heads=heads)
            found[own] = ExitRecords(logits, truth, ids, own, made)
        return found


def open_artifact(path: str, images: str | None = None) -> EvaluatedArtifact:
    """Open the artifact at `path` with the images of its training run, or with those in `images`.

    Args:
        path: a path or `latest`; see `find_artifact`.
        images: a folder with the training's images, whose other class folders are left out.

    Raises:
        EennError: the artifact or its images cannot be found; see `EvaluatedArtifact.check_images`.
    """
    manifest = read_manifest(find_artifact(path))
    trained = manifest.path.parent / CONFIG
    if images is not None:
        folder = Folder(images).images_for(manifest.classes)
        artifact = EvaluatedArtifact(manifest, images, lambda: folder)
        artifact.check_images()
        return artifact
    if not trained.exists():
        raise EennError(
            f"{manifest.path} is outside its training run, so the place of its images is not "
            f"known; {_IMAGES}"
        )
    title, open_source = images_of(trained)
    return EvaluatedArtifact(manifest, title, open_source)


def _known_contents(path: Path) -> dict[str, str]:
    """Read the hashes that `contents` keeps; return an empty dictionary if the file is damaged."""
    try:
        return from_json(dict[str, str], json.loads(path.read_bytes()))
    except (ValueError, RecursionError):
        return {}


def images_of(config: Path) -> tuple[str, "partial[ImageSource]"]:
    """Read title and source of a training's images from a configuration, maybe a stranger's.

    Raises:
        EennError: the file does not name a known source, or its arguments are of wrong types.
    """
    data = read_config(config).get("data")
    title = data.get("title") if isinstance(data, Mapping) else None
    source = data.get("source") if isinstance(data, Mapping) else None
    if not isinstance(title, str) or not isinstance(source, Mapping):
        raise EennError(f"{config} does not name the images of its training; {_IMAGES}")
    try:
        opener = SOURCES.opener("data.source", source)
        taken = signature(opener.func).bind(**opener.keywords)
        for name, value in taken.arguments.items():
            if not isinstance(value, taken.signature.parameters[name].annotation):
                raise TypeError(f"{name}={value!s:.60}")
    except (EennError, TypeError) as error:
        raise EennError(f"{config}, data.source: {error}; {_IMAGES}") from error
    return title, opener


_IMAGES = "give images=PATH (or --images PATH), the folder of class folders it was trained on"
