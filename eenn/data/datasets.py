"""Image sources, and the one that reads any folder of class folders.

An `ImageSource` lists its samples once and reads them one by one; splits, augmentation and
distortions are made elsewhere.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eenn.data.layout import Layout
from eenn.errors import EennError
from eenn.image_file import counted_suffixes, looks_like_image
from eenn.preprocess import UnreadableImage, read_image

log = logging.getLogger(__name__)


class Photo(NamedTuple):
    """One image as a device has it: the camera's file, and its true label.

    Args:
        noise_seed: of the photo's distortions.
    """

    sample_id: str
    label: int
    file: bytes
    noise_seed: int


class ImageSource(Protocol):
    """A labelled collection of images, in a fixed order.

    Attributes:
        parts: part of the split that each sample is in by its publisher's or owner's choice, of
            `train`, `val` and `test`; None where the split is drawn.
    """

    classes: tuple[str, ...]
    sample_ids: tuple[str, ...]
    labels: NDArray[np.int64]
    content_hashes: tuple[str, ...]
    parts: tuple[str, ...] | None

    def read(self, index: int, shorter_side: int) -> Image.Image:
        """Read the RGB image at `index`, its shorter side at least `shorter_side` if possible."""

    def file(self, index: int) -> bytes:
        """Read the image at `index` as the file that a camera would have stored."""


class FolderImages:
    """Images in `root/CLASS/**`; class folders in alphabetical order, hidden names left out.

    Class folders may also lie inside the parts of a split; see `Layout`. Links are followed. A file
    is an image by its suffix or by how it begins; the log counts others.

    Every file is hashed and decoded once at the start, so that a broken file is met before the
    training and not in the middle of it.

    Args:
        on_error: `raise` names all unreadable files and empty folders in one error; `skip` leaves
            them out, lists them in the log and in `skipped`.

    Attributes:
        not_classes: names of folders that are left out.

    Raises:
        EennError: no such folder, no class folders, parts that are not a split, or (with `raise`)
            unusable files and folders.
    """

    not_classes: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, root: str | Path, on_error: str = "raise") -> None:
        root = Path(root).expanduser()
        if on_error not in ("raise", "skip"):
            raise EennError(f"data.on_error={on_error}: allowed are raise, skip")
        if not root.is_dir():
            raise EennError(f"data.root={root} is not a folder; it must hold one folder per class")
        layout = Layout.of(root)
        layout.require_parts()
        folders = [d for d in layout.class_folders if d.name not in self.not_classes]
        if not folders:
            raise EennError(f"data.root={root} holds no class folders; it must hold one per class")

        found = [image_files(root, folder) for folder in folders]
        candidates = [file for files in found for file in files.images]
        others = [file for files in found for file in files.others]
        if others:
            log.warning("not images, and left out: %s", counted_suffixes(others))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            hashes = dict(zip(candidates, pool.map(checked_hash, candidates), strict=True))
        usable = [file for file in candidates if hashes[file] is not None]
        unused = set(folders) - {folder for file in usable for folder in file.parents}

        broken = [str(file.relative_to(root)) for file in candidates if hashes[file] is None]
        empty = [f"{folder.relative_to(root)}/" for folder in folders if folder in unused]
        self.skipped = tuple(broken + empty)
        if self.skipped and on_error == "raise":
            raise EennError(
                f"{len(broken)} unreadable images and {len(empty)} class folders without images "
                f"under {root}: {shortened(self.skipped)}; "
                "mend or remove them, or leave them out with data.on_error=skip"
            )
        if not usable:
            raise EennError(f"data.root={root} holds no readable image: {shortened(self.skipped)}")
        if self.skipped:
            log.warning("left out %d: %s", len(self.skipped), ", ".join(self.skipped))

        self.root = root
        self.sample_ids = tuple(file.relative_to(root).as_posix() for file in usable)
        names = [layout.class_of(sample_id) for sample_id in self.sample_ids]
        self.classes = tuple(sorted(set(names)))
        self.labels = np.array([self.classes.index(name) for name in names], np.int64)
        self.parts = tuple(map(layout.part_of, self.sample_ids)) if layout.parts else None
        self.content_hashes = tuple(str(hashes[file]) for file in usable)

    def read(self, index: int, shorter_side: int) -> Image.Image:
        """Read the RGB image at `index`, decoded at reduced scale where `shorter_side` allows."""
        return read_image(self.root / self.sample_ids[index], shorter_side)

    def file(self, index: int) -> bytes:
        """Read the image's own file."""
        return (self.root / self.sample_ids[index]).read_bytes()


class _Found(NamedTuple):
    """Files below a class folder, in the order of their paths."""

    images: list[Path]
    others: list[Path]


def image_files(root: Path, folder: Path) -> _Found:
    """Find the images of a class folder, in folders and links to folders, each entered once.

    Folders that cannot be listed are given as images, which then count as unreadable.
    """
    found = _Found([], [])
    entered = {_identity(root)}
    errors: list[OSError] = []
    for path, folders, names in os.walk(folder, onerror=errors.append, followlinks=True):
        here = _identity(Path(path))
        # Thumbnails and resource forks that other programs leave are hidden.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if here in entered:
            folders.clear()
            continue
        entered.add(here)
        for file in (Path(path, name) for name in names if not name.startswith(".")):
            (found.images if is_image(file) else found.others).append(file)
    found.images.extend(Path(error.filename) for error in errors)
    return _Found(sorted(found.images), sorted(found.others))


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def is_image(file: Path) -> bool:
    try:
        return looks_like_image(file)
    except OSError:
        return False


def checked_hash(file: Path) -> str | None:
    """Compute the SHA-256 of a file's bytes; None if it cannot be read as an image."""
    try:
        read_image(file, shorter_side=1)
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except (UnreadableImage, OSError):
        return None


def shortened(names: Sequence[str], shown: int = 10) -> str:
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")
