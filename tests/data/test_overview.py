"""The line and the warnings about a data folder before a training."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eenn.data.augmentation import Augmentation
from eenn.data.datamodule import ImageDataModule
from eenn.data.datasets import FolderImages
from eenn.data.overview import likely_mistakes, overview
from eenn.data.splits import Split, split_samples
from eenn.errors import EennError
from eenn.preprocess import Preprocessing


def source_of(sample_ids: Sequence[str]) -> Any:
    names = [sample_id.split("/")[0] for sample_id in sample_ids]
    classes = tuple(sorted(set(names)))
    labels = np.array([classes.index(name) for name in names])
    return SimpleNamespace(classes=classes, sample_ids=tuple(sample_ids), labels=labels)


def split_of(source: Any) -> Split:
    names = [source.classes[label] for label in source.labels]
    return split_samples(source.sample_ids, names, source.sample_ids, seed=0)


def many(*folders: str, images: int = 600) -> list[str]:
    return [f"{folder}/{n}.jpg" for folder in folders for n in range(images)]


def test_the_line_counts_images_classes_and_parts() -> None:
    source = source_of([*many("cat", images=1200), *many("dog", "emu", images=30)])
    assert overview(source, split_of(source)) == (
        "1,260 images in 3 classes, 30 (dog) to 1,200 (cat); 1,008 to train, 126 to validate, "
        "126 to test"
    )


@pytest.mark.parametrize(
    "folders",
    [
        ("cat", "dog"),
        ("cat/indoors", "dog/indoors"),  # one folder in each is only a longer way
        ("test bench", "valve"),
        ("train", "plane"),  # which are classes
    ],
)
def test_of_plain_class_folders_there_is_no_doubt(folders: tuple[str, ...]) -> None:
    source = source_of(many(*folders))
    assert likely_mistakes(source, split_of(source)) == []


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("train/cat", "train/dog", "val/cat", "val/dog"), r"such as train/cat: .*train, val$"),
        (("photo/cat", "photo/dog", "sketch/cat", "sketch/emu"), "one level too high"),
        (("train/cat/1", "train/dog/1", "test/cat/1", "test/dog/1"), "such as test/cat:"),
        (("train", "val", "test"), "the classes are test, train, val: if those are parts"),
        (("Training", "Validation"), "if those are parts"),
    ],
)
def test_a_root_one_level_too_high_is_doubted(folders: tuple[str, ...], said: str) -> None:
    source = source_of(many(*folders))
    (mistake,) = likely_mistakes(source, split_of(source))
    assert re.search(said, mistake)


def test_few_validation_images_are_doubted() -> None:
    source = source_of(many("cat", "dog", images=490))
    (mistake,) = likely_mistakes(source, split_of(source))
    assert mistake.startswith("only 98 validation images: ")


def test_one_class_is_one_line(write_images: Callable[..., Path], tmp_path: Path) -> None:
    source = FolderImages(write_images(tmp_path, cat=4))
    with pytest.raises(EennError, match="one class alone, cat; allowed are two or more") as caught:
        ImageDataModule(source, Preprocessing(32, 36), Augmentation(), seed=0)
    assert "\n" not in str(caught.value)
