"""Folders with parts of their own: recognised, refused, and read as an artifact's images."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from eenn.data.datasets import FolderImages
from eenn.data.layout import PART_OF, Layout
from eenn.data.new_images import Folder
from eenn.errors import EennError

WriteImages = Callable[..., Path]


@pytest.fixture
def parted(tmp_path: Path, write_images: WriteImages) -> Path:
    root = tmp_path / "parted"
    for part, count in (("train", 4), ("valid", 2), ("Test", 3)):
        write_images(root / part, cat=count, dog=count)
    return root


def folders(root: Path, text: str) -> Path:
    """Make folders, and images where a name ends in .jpg."""
    for name in text.split():
        path = root / name
        (path.parent if path.suffix else path).mkdir(parents=True, exist_ok=True)
        if path.suffix:
            path.write_bytes(b"")
    return root


@pytest.mark.parametrize("spelling", PART_OF)
def test_every_spelling_names_a_part(spelling: str, tmp_path: Path) -> None:
    for name in (spelling, spelling.capitalize(), spelling.upper()):
        root = folders(tmp_path / name, f"{name}/cat")
        assert Layout.of(root).parts == {name: PART_OF[spelling]}


@pytest.mark.parametrize(
    "text",
    [
        "train/cat test/cat other/cat",  # another folder among them
        "train/0.jpg test/0.jpg",  # classes that are called so
        "train/cat train/0.jpg test/cat",
        "training_set/cat test_set/cat",
        "cat dog",
        "",
    ],
)
def test_other_folders_are_classes(text: str, tmp_path: Path) -> None:
    layout = Layout.of(folders(tmp_path, text))
    assert layout.parts == {}
    assert {folder.name for folder in layout.class_folders} == {
        name.split("/")[0] for name in text.split()
    }


@pytest.mark.parametrize(
    "text",
    [
        "train/cat test/cat .cache/cat README.txt train/labels.csv train/.thumbs/0.jpg",
        "train/cat test/cat 0.jpg",
        "train/cat test/cat val",
    ],
)
def test_hidden_folders_and_files_beside_parts_do_not_matter(text: str, tmp_path: Path) -> None:
    assert Layout.of(folders(tmp_path, text)).parts == {"train": "train", "test": "test"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train/cat val/cat", r"holds train, val and not test; add it, or .*=/.*/train to have"),
        ("test/cat", "and not train; add it"),
        ("train/cat test", "holds train and not test; add it"),
        ("validation/cat", "and not train and test; add it, or give"),
        ("train/cat test/cat val/cat valid/cat", "holds val and valid, which are one part"),
        ("train/cat Train/cat test/cat", "which are one part"),
    ],
)
def test_parts_without_training_or_test_are_one_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(EennError, match=said) as caught:
        FolderImages(folders(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_images_know_their_part(parted: Path) -> None:
    source = FolderImages(parted)
    assert source.classes == ("cat", "dog")
    assert source.parts is not None
    found = list(zip(source.parts, source.sample_ids, source.labels.tolist(), strict=True))
    assert found == [
        (part, f"{folder}/{name}/{number}.jpg", label)
        for part, folder, count in (("test", "Test", 3), ("train", "train", 4), ("val", "valid", 2))
        for label, name in enumerate(("cat", "dog"))
        for number in range(count)
    ]


def test_an_empty_class_of_a_part_is_named_with_its_part(parted: Path) -> None:
    (parted / "Test" / "emu").mkdir()
    with pytest.raises(EennError, match=r"1 class folders without images .*: Test/emu/;"):
        FolderImages(parted)
    assert FolderImages(parted, on_error="skip").classes == ("cat", "dog")


def test_a_class_may_lack_images_in_one_part_alone(parted: Path) -> None:
    shutil.rmtree(parted / "valid" / "dog")
    assert FolderImages(parted).classes == ("cat", "dog")


def test_the_images_of_all_parts_are_new_to_another_artifact(parted: Path) -> None:
    found = Folder(parted).images_for(("ant", "dog"))
    assert found.labelled
    assert found.labels.tolist() == [1] * 9
    assert {one.split("/")[0] for one in found.sample_ids} == {"train", "valid", "Test"}
    assert found.left_out.unknown == {"cat": 9}
    assert found.left_out.missing == ("ant",)
