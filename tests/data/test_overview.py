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


def source_of(sample_ids: Sequence[str], has_parts: bool = False) -> Any:
    """A source in which every image has a content of its own."""
    folders = [sample_id.split("/") for sample_id in sample_ids]
    names = [folder[1 if has_parts else 0] for folder in folders]
    classes = tuple(sorted(set(names)))
    return SimpleNamespace(
        classes=classes,
        sample_ids=tuple(sample_ids),
        labels=np.array([classes.index(name) for name in names]),
        content_hashes=tuple(sample_ids),
        parts=tuple(folder[0] for folder in folders) if has_parts else None,
    )


def split_of(source: Any) -> Split:
    names = [source.classes[label] for label in source.labels]
    return split_samples(source.sample_ids, names, source.content_hashes, 0, source.parts)


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


def test_the_line_says_whose_split_it_is() -> None:
    given = many("train/cat", "train/dog", "test/cat", "test/dog", images=20)
    without_val, with_val = (
        source_of([*given, *more], has_parts=True) for more in ((), ["val/cat/0.jpg"])
    )
    assert overview(without_val, split_of(without_val)).endswith(
        "36 to train, 4 to validate, 40 to test; the test images are the data's own, validation "
        "images were drawn from its training"
    )
    assert overview(with_val, split_of(with_val)).endswith(
        "40 to train, 1 to validate, 40 to test, which are the data's own parts"
    )


def test_of_a_whole_split_there_is_no_doubt() -> None:
    source = source_of(
        many(*(f"{part}/{name}" for part in ("train", "val", "test") for name in ("cat", "dog"))),
        has_parts=True,
    )
    assert likely_mistakes(source, split_of(source)) == []


def test_images_that_parts_have_in_common_are_named() -> None:
    source = source_of(
        many(*(f"{part}/{name}" for part in ("train", "val", "test") for name in ("cat", "dog"))),
        has_parts=True,
    )
    same = dict.fromkeys(["train/cat/1.jpg", "val/dog/2.jpg", "test/cat/3.jpg"], "one")
    same |= dict.fromkeys(["train/cat/4.jpg", "train/cat/5.jpg", "test/dog/6.jpg"], "another")
    source.content_hashes = tuple(same.get(one, one) for one in source.sample_ids)
    mistakes = likely_mistakes(source, split_of(source))
    assert [line.split(":")[0] for line in mistakes] == [
        "2 of 1200 test images are also training images, byte for byte, such as test/cat/3.jpg "
        "and train/cat/1.jpg",
        "1 of 1200 test images are also validation images, byte for byte, such as test/cat/3.jpg "
        "and val/dog/2.jpg",
        "1 of 1200 validation images are also training images, byte for byte, such as "
        "val/dog/2.jpg and train/cat/1.jpg",
    ]


def test_classes_without_test_images_are_named() -> None:
    source = source_of(
        many("train/cat", "train/dog", "train/emu", "val/cat", "val/dog", "val/emu", "test/cat"),
        has_parts=True,
    )
    (mistake,) = likely_mistakes(source, split_of(source))
    assert mistake.startswith("classes without test images: dog, emu; ")


def test_class_folders_that_lie_too_deep_in_parts_are_doubted() -> None:
    source = source_of(
        many(*(f"{part}/pets/{name}" for part in ("train", "val", "test") for name in "abc")),
        has_parts=True,
    )
    (mistake,) = likely_mistakes(source, split_of(source))
    assert "such as pets/a: if those are the classes, they have to lie in the parts" in mistake


def test_few_validation_images_are_doubted() -> None:
    source = source_of(many("cat", "dog", images=490))
    (mistake,) = likely_mistakes(source, split_of(source))
    assert mistake.startswith("only 98 validation images: ")


def test_one_class_is_one_line(write_images: Callable[..., Path], tmp_path: Path) -> None:
    source = FolderImages(write_images(tmp_path, cat=4))
    with pytest.raises(EennError, match="one class alone, cat; allowed are two or more") as caught:
        ImageDataModule(source, Preprocessing(32, 36), Augmentation(), seed=0)
    assert "\n" not in str(caught.value)
