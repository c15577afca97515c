"""Artifacts opened with the images that an evaluation names: their own split, or any folder."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from eenn.artifact.manifest import Manifest, read_manifest
from eenn.data.datasets import ImageSource
from eenn.data.new_images import Folder, NewImages
from eenn.data.sources import ARCHIVES
from eenn.data.splits import SPLIT_NAMES, Split
from eenn.errors import EennError
from eenn.records.evaluated_artifact import (
    FIT_FOLDER,
    EvaluatedArtifact,
    ImagesNotFound,
    images_of,
    open_artifact,
)
from eenn.records.records import FOLDER
from eenn.run_directory import CONFIG, find_artifact

log = logging.getLogger(__name__)
# The title of images without a known training.
NEW = "new images"


def open_artifacts(
    paths: Sequence[str], images: str | None = None, fit_images: str | None = None
) -> list[EvaluatedArtifact]:
    """Open artifacts with their own images, or with any folders of images.

    A folder that holds all images of an artifact's split, by name and content, replaces the place
    where the training found them. Any other folder goes into the artifact's `folders`, whole. If a
    folder is such for one artifact it is for all, so that all are compared on the same images.

    Args:
        images: a folder to evaluate.
        fit_images: a folder to fit to.

    Raises:
        EennError: an artifact or its images cannot be found.
    """
    if images is None and fit_images is None:
        return [open_artifact(path) for path in paths]
    folders = {
        name: Folder(given, setting)
        for name, given, setting in (
            (FOLDER, images, "images"),
            (FIT_FOLDER, fit_images, "fit.images"),
        )
        if given is not None
    }
    opened = [_Opened.of(path, folders) for path in paths]
    new = {name for one in opened for name in folders.keys() - one.own}
    return [one.artifact(new) for one in opened]


@dataclass(frozen=True)
class _Opened:
    """An artifact and the folders that were named for it.

    Args:
        trained: the artifact with the images of its training, if their place is known.
        own: names of the folders that hold the images of the artifact's split.
    """

    manifest: Manifest
    trained: EvaluatedArtifact
    seen: Mapping[str, NewImages]
    own: frozenset[str]

    @classmethod
    def of(cls, path: str, folders: Mapping[str, Folder]) -> "_Opened":
        manifest = read_manifest(find_artifact(path))
        trained = EvaluatedArtifact(manifest, *_images_of(manifest))
        seen = {name: folder.images_for(manifest.classes) for name, folder in folders.items()}
        contents = _contents(trained)
        own = frozenset(n for n, found in seen.items() if _holds(found, trained.split, contents))
        return cls(manifest, trained, seen, own)

    def artifact(self, new: set[str]) -> EvaluatedArtifact:
        """Open the artifact with the folders in `new` as folders of other images."""
        folders = {name: self.seen[name] for name in new}
        if self.own:
            found = self.seen[min(self.own)]
            return EvaluatedArtifact(self.manifest, str(found.root), lambda: found, folders)
        title, opener = _images_of(self.manifest)
        return EvaluatedArtifact(self.manifest, title, opener, folders)


def overlap(artifact: EvaluatedArtifact, folder: NewImages) -> dict[str, int]:
    """Count the images of a folder that are also in each part of an artifact's split, by content.

    Raises:
        ImagesNotFound: the images of the split are not known.
    """
    contents = artifact.contents
    parts = {
        part: {contents[sample_id] for sample_id in getattr(artifact.split, part)}
        for part in SPLIT_NAMES
    }
    return {
        part: sum(content in known for content in folder.content_hashes)
        for part, known in parts.items()
    }


def _images_of(manifest: Manifest) -> tuple[str, Callable[[], ImageSource]]:
    """Find title and opener of the training's images; the opener raises if they are lost."""
    trained = manifest.path.parent / CONFIG

    if not trained.exists():
        lies = f"{manifest.path} is outside its training run"
        return NEW, partial(_refuse, f"{lies}, so the place of its images is not known")
    try:
        title, opener = images_of(trained)
    except EennError as error:
        return NEW, partial(_refuse, str(error))
    archive = ARCHIVES.get(opener.func)
    if archive is not None and not archive.place(opener.keywords["root"]).is_dir():
        # An evaluation of other images should not wait for this download.
        return title, partial(_refuse, f"{archive.title} was not downloaded here")
    return title, opener


def _refuse(said: str) -> ImageSource:
    raise ImagesNotFound(said)


def _contents(trained: EvaluatedArtifact) -> Mapping[str, str] | None:
    try:
        return trained.contents
    except ImagesNotFound as error:
        log.info("the training's images: %s", error)
        return None


def _holds(found: NewImages, split: Split, contents: Mapping[str, str] | None) -> bool:
    """Tell whether a folder holds all images of a split, by content if known, else by name."""
    there = dict(zip(found.sample_ids, found.content_hashes, strict=True))
    if contents is None:
        return all(one in there for part in SPLIT_NAMES for one in getattr(split, part))
    return all(there.get(one) == content for one, content in contents.items())
