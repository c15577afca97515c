"""Any folder of images, with class folders or without, for an artifact of given classes."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eenn.data.datasets import checked_hash, image_files, is_image, shortened
from eenn.data.layout import Layout
from eenn.errors import EennError
from eenn.files import Json
from eenn.preprocess import read_image

# The label of images without a known label, where an array needs a number.
UNKNOWN_LABEL = -1


class LeftOut(NamedTuple):
    """The files of a folder that are not evaluated.

    Args:
        missing: classes without a folder, or without a readable image in it.
        unknown: images by folder, of folders that are not classes.
        outside: images beside the class folders.
        unreadable: files that cannot be read as images.
    """

    missing: tuple[str, ...]
    unknown: dict[str, int]
    outside: int
    unreadable: tuple[str, ...]

    @property
    def lines(self) -> dict[str, str]:
        """Describe the files left out, a line for each reason."""
        unknown = [f"{name} ({count})" for name, count in self.unknown.items()]
        found = {
            "missing classes": ", ".join(self.missing),
            "unknown class folders": ", ".join(unknown),
            "images outside class folders": str(self.outside or ""),
            "unreadable files": ", ".join(self.unreadable),
        }
        return {what: which for what, which in found.items() if which}


class NewImages:
    """The images of a folder, for a network of given classes; an `ImageSource`.

    Images are labelled where their folders are named as classes. Otherwise the images are those
    that lie in the folder itself, and have no labels: `labels` are UNKNOWN_LABEL.

    Args:
        hashes: contents by file; None for files that cannot be read.
    """

    def __init__(
        self,
        layout: Layout,
        classes: Sequence[str],
        files: Sequence[Path],
        hashes: dict[Path, str | None],
        labelled: bool,
        left_out: LeftOut,
    ) -> None:
        self.root, self.classes, self.labelled = layout.root, tuple(classes), labelled
        self.left_out = left_out
        self.parts: tuple[str, ...] | None = None
        self.sample_ids = tuple(file.relative_to(self.root).as_posix() for file in files)
        number = {name: label for label, name in enumerate(self.classes)}
        self.labels: NDArray[np.int64] = np.array(
            [number[layout.class_of(one)] if labelled else UNKNOWN_LABEL for one in self.sample_ids]
        )
        self.content_hashes = tuple(str(hashes[file]) for file in files)

    @cached_property
    def hash(self) -> str:
        """Compute the folder's identity, the SHA-256 over names and contents of all images."""
        lines = zip(self.sample_ids, self.content_hashes, strict=True)
        text = "".join(f"{name}\0{content}\n" for name, content in lines)
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()

    @property
    def described(self) -> dict[str, Json]:
        """Describe the folder and the files left out, for a summary."""
        return {
            "path": str(self.root),
            "n": len(self.sample_ids),
            "labelled": self.labelled,
            "hash": self.hash,
            **self.left_out._asdict(),
        }

    def __str__(self) -> str:
        labels = "labelled" if self.labelled else "without labels"
        return f"{self.root}, {len(self.sample_ids)} images, {labels}"

    def read(self, index: int, shorter_side: int) -> Image.Image:
        """Read the RGB image at `index`, decoded at reduced scale where `shorter_side` allows."""
        return read_image(self.root / self.sample_ids[index], shorter_side)

    def file(self, index: int) -> bytes:
        """Read the image's own file."""
        return (self.root / self.sample_ids[index]).read_bytes()


class Folder:
    """A folder whose files are found once and hashed once, for any number of class lists.

    Args:
        setting: the setting that names the folder, for errors.

    Raises:
        EennError: `root` is not a folder.
    """

    def __init__(self, root: str | Path, setting: str = "images") -> None:
        self.root, self._setting = Path(root).expanduser(), setting
        if not self.root.is_dir():
            raise EennError(
                f"{setting}={root} is not a folder; it must hold one folder per class, or image "
                "files"
            )
        own = [path for path in sorted(self.root.iterdir()) if not path.name.startswith(".")]
        self._loose = [path for path in own if path.is_file() and is_image(path)]
        self._layout = Layout.of(self.root)
        self._by_folder: dict[str, list[Path]] = {}
        for folder in self._layout.class_folders:
            images = image_files(self.root, folder).images
            self._by_folder[folder.name] = self._by_folder.get(folder.name, []) + images
        self._hashes: dict[Path, str | None] = {}

    def images_for(self, classes: Sequence[str]) -> NewImages:
        """Select the images that a network of these classes is to answer.

        Raises:
            EennError: the folder holds no readable image, or no class folder is a class of the
                network.
        """
        known = {name: files for name, files in self._by_folder.items() if name in classes}
        inside = [file for files in known.values() for file in files]
        readable = self._readable(inside)
        labelled = bool(readable)
        if not labelled:
            readable = self._readable(self._loose)
        unknown = {
            name: len(files)
            for name, files in self._by_folder.items()
            if files and name not in classes
        }
        if not readable:
            raise EennError(self._nothing(classes, unknown))
        candidates = inside if labelled else [*inside, *self._loose]
        seen = set(readable)
        missing = [name for name in classes if seen.isdisjoint(known.get(name, []))]
        left_out = LeftOut(
            missing=tuple(missing) if labelled else (),
            unknown=unknown,
            outside=len(self._loose) if labelled else 0,
            unreadable=tuple(
                str(file.relative_to(self.root))
                for file in candidates
                if self._hashes[file] is None
            ),
        )
        return NewImages(self._layout, classes, readable, self._hashes, labelled, left_out)

    def _readable(self, files: Sequence[Path]) -> list[Path]:
        new = [file for file in files if file not in self._hashes]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            self._hashes.update(zip(new, pool.map(checked_hash, new), strict=True))
        return [file for file in files if self._hashes[file] is not None]

    def _nothing(self, classes: Sequence[str], unknown: dict[str, int]) -> str:
        given = f"{self._setting}={self.root}"
        if not unknown:
            return (
                f"{given} holds no readable image; it must hold one folder per class, or image "
                "files"
            )
        return (
            f"{given}: none of its class folders is a class of the artifact: found "
            f"{shortened(list(unknown))}; allowed are {shortened(list(classes))}; rename the "
            "folders, or put the image files themselves into one folder to do without labels"
        )
