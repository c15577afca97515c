"""Published data sets, downloaded on first use: Caltech-101 and -256, CIFAR-10 and -100."""

from pathlib import Path
from typing import ClassVar

import numpy as np

from eenn.data.datasets import FolderImages
from eenn.data.downloads import Archive
from eenn.data.in_memory import ImagesInMemory
from eenn.errors import EennError

CALTECH101 = Archive(
    "Caltech-101",
    "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
    "3138e1922a9193bfa496528edbbc45d0",
    "caltech101/101_ObjectCategories",
    inside="caltech-101/101_ObjectCategories.tar.gz",
)
CALTECH256 = Archive(
    "Caltech-256",
    "https://data.caltech.edu/records/nyy15-4j048/files/256_ObjectCategories.tar",
    "67b4f42ca05d46448c6bb8ecd2220f6d",
    "caltech256/256_ObjectCategories",
)
CIFAR10 = Archive(
    "CIFAR-10",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "c58f30108f718f92721af3b95e74349a",
    "cifar-10-batches-py",
)
CIFAR100 = Archive(
    "CIFAR-100",
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    "eb9058c3a382ffc7106e4002c42a8d85",
    "cifar-100-python",
)
CIFAR_PARTS = ("train", "test")
# Classes and images; clutter is a class in both.
CALTECH101_SIZE, CALTECH256_SIZE = (101, 8_709), (257, 30_607)


class _WithoutCrops(FolderImages):
    """Caltech-101 without the crops of `Faces`, which no content hash would keep in one part."""

    not_classes: ClassVar[frozenset[str]] = frozenset({"Faces_easy"})


def caltech101(root: str | Path, on_error: str = "raise") -> FolderImages:
    """Open Caltech-101 under `root` without `Faces_easy`, downloaded if absent (137 MB).

    Raises:
        EennError: the download failed, or the folder does not hold all of Caltech-101.
    """
    folder = CALTECH101.unpacked(root)
    return _whole(_WithoutCrops(folder, on_error), CALTECH101_SIZE)


def caltech256(root: str | Path, on_error: str = "raise") -> FolderImages:
    """Open Caltech-256 under `root`, downloaded if absent (1.2 GB).

    Raises:
        EennError: the download failed, or the folder does not hold all of Caltech-256.
    """
    return _whole(FolderImages(CALTECH256.unpacked(root), on_error), CALTECH256_SIZE)


def cifar10(root: str | Path) -> ImagesInMemory:
    """Open CIFAR-10 under `root`, downloaded if absent (170 MB); its test images stay such.

    Raises:
        EennError: the download failed, or a file is not as published.
    """
    return _cifar(CIFAR10, "CIFAR10", root)


def cifar100(root: str | Path) -> ImagesInMemory:
    """Open CIFAR-100 with its 100 fine classes; see `cifar10`."""
    return _cifar(CIFAR100, "CIFAR100", root)


def _whole(source: FolderImages, size: tuple[int, int]) -> FolderImages:
    """Return the source, which must have a number of classes, and of images or more."""
    found = len(source.classes), len(source.sample_ids) + len(source.skipped)
    if found[0] != size[0] or found[1] < size[1]:
        raise EennError(
            f"{source.root} holds {found[0]} classes and {found[1]} images instead of {size[0]} "
            f"and {size[1]}; something was removed or added: delete the folder and run again"
        )
    return source


def _cifar(archive: Archive, name: str, root: str | Path) -> ImagesInMemory:
    # Imported here because torchvision is slow to import and other sources do without it.
    import torchvision.datasets

    folder = archive.unpacked(root)
    # The files are pickles, which could run code: torchvision compares the MD5 of each with the
    # published one before it loads any.
    try:
        read = getattr(torchvision.datasets, name)
        by_part = {part: read(str(folder.parent), train=part == "train") for part in CIFAR_PARTS}
    except (OSError, RuntimeError) as error:
        raise EennError(
            f"{folder} does not hold {archive.title} as it was published ({error}); delete the "
            "folder and run again"
        ) from error
    classes = by_part["train"].classes
    rows = [
        (part, number, label)
        for part, images in by_part.items()
        for number, label in enumerate(images.targets)
    ]
    return ImagesInMemory(
        classes,
        [f"{part}/{classes[label]}/{number:05d}" for part, number, label in rows],
        np.array([label for *_, label in rows], np.int64),
        np.concatenate([images.data for images in by_part.values()]),
        [part for part, *_ in rows],
    )
