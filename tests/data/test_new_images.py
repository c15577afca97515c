"""Any folder as an artifact sees it: which images it is to answer, and what is left out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eenn.data.new_images import UNKNOWN_LABEL, Folder
from eenn.errors import EennError

CLASSES = ("ant", "bee", "cat")


@pytest.fixture
def folder(tmp_path: Path, write_images: Callable[..., Path]) -> Path:
    """Two of three classes, an unknown one, a loose image, and what is not an image."""
    root = write_images(tmp_path / "photos", cat=2, ant=3, fog=4)
    (root / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xffnothing")
    (root / "cat" / "notes.txt").write_text("no image")
    (root / "ant" / "0.jpg").rename(root / "loose.jpg")
    (root / ".hidden").mkdir()
    return root


def test_folders_named_as_classes_label_their_images(folder: Path) -> None:
    found = Folder(folder).images_for(CLASSES)
    assert found.labelled
    assert found.sample_ids == ("ant/1.jpg", "ant/2.jpg", "cat/0.jpg", "cat/1.jpg")
    assert found.labels.tolist() == [0, 0, 2, 2]
    assert found.left_out.missing == ("bee",)
    assert found.left_out.unknown == {"fog": 4}
    assert found.left_out.outside == 1
    assert found.left_out.unreadable == ("cat/broken.jpg",)
    assert set(found.left_out.lines) == {
        "missing classes", "unknown class folders", "images outside class folders",
        "unreadable files",
    }  # fmt: skip
    with Image.open(folder / "cat" / "1.jpg") as image:
        np.testing.assert_array_equal(np.asarray(found.read(3, 40)), np.asarray(image))
    assert found.file(3) == (folder / "cat" / "1.jpg").read_bytes()


def test_labels_are_numbers_of_the_artifacts_classes(folder: Path) -> None:
    assert Folder(folder).images_for(("cat", "ant")).labels.tolist() == [1, 1, 0, 0]


def test_loose_images_have_no_labels(folder: Path) -> None:
    (folder / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    found = Folder(folder).images_for(("dog", "eel"))
    assert not found.labelled
    assert found.sample_ids == ("loose.jpg",)
    assert found.labels.tolist() == [UNKNOWN_LABEL]
    assert found.left_out.unreadable == ("torn.png",)
    assert found.left_out.missing == ()
    assert found.left_out.unknown == {"ant": 2, "cat": 3, "fog": 4}


def test_a_folder_is_known_by_its_contents(folder: Path, tmp_path: Path) -> None:
    before = Folder(folder).images_for(CLASSES).hash
    moved = folder.rename(tmp_path / "moved")
    assert Folder(moved).images_for(CLASSES).hash == before
    one, other = moved / "cat" / "0.jpg", moved / "cat" / "1.jpg"
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert Folder(moved).images_for(CLASSES).hash != before


def test_what_cannot_be_evaluated_is_one_clear_line(folder: Path, tmp_path: Path) -> None:
    (folder / "loose.jpg").unlink()
    with pytest.raises(EennError, match=r"found ant, cat, fog; allowed are dog, eel; rename"):
        Folder(folder).images_for(("dog", "eel"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(EennError, match=r"fit.images=.* holds no readable image"):
        Folder(tmp_path / "empty", "fit.images").images_for(CLASSES)
    with pytest.raises(EennError, match=r"images=.*nowhere is not a folder"):
        Folder(tmp_path / "nowhere")
