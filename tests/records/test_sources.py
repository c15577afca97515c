"""Artifacts find the images of their training again, whatever source and split those have."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from eenn.data import published
from eenn.data.splits import SPLIT_NAMES
from eenn.errors import EennError
from eenn.records.evaluated_artifact import open_artifact
from eenn.records.opening import open_artifacts
from tests.artifact.trained_run import make_run
from tests.data.small_cifar import SmallCifar

WriteImages = Callable[..., Path]

CALTECH101 = {"BACKGROUND_Google": 9, "Faces": 9, "Faces_easy": 3, "ant": 9}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are kept below the current folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def parted(tmp_path: Path, write_images: WriteImages) -> Path:
    for part, count in (("train", 12), ("val", 4), ("test", 5)):
        write_images(tmp_path / "parted" / part, ant=count, bee=count)
    return tmp_path / "parted"


@pytest.mark.parametrize("has_val", [True, False])
def test_the_test_images_of_a_given_split_are_evaluated(
    has_val: bool, parted: Path, tmp_path: Path
) -> None:
    if not has_val:
        shutil.rmtree(parted / "val")
    run = make_run(tmp_path / "run", parted, branches=1)
    artifact = open_artifact(str(run))
    test = sorted(path.relative_to(parted).as_posix() for path in parted.glob("test/*/*.jpg"))
    assert list(artifact.split.test) == test
    val = "val" if has_val else "train"
    assert {one.split("/")[0] for one in artifact.split.val} == {val}
    records = artifact.records("test", "none", 0)
    assert records.sample_ids == tuple(test)
    assert records.labels is not None
    assert records.labels.tolist() == [["ant", "bee"].index(one.split("/")[1]) for one in test]
    for photo in artifact.photos("val"):
        assert photo.file == (parted / photo.sample_id).read_bytes()


def test_a_given_split_is_known_wherever_its_folder_lies(parted: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", parted, branches=1)
    moved = parted.rename(tmp_path / "moved")
    with pytest.raises(EennError, match="parted is not a folder"):
        open_artifact(str(run)).check_images()
    alone = shutil.copytree(run / "artifact", tmp_path / "alone")
    for path in (run, alone):
        for opened in (
            open_artifact(str(path), str(moved)),
            *open_artifacts([str(path)], str(moved)),
        ):
            assert not opened.folders
            assert [len(list(opened.photos(part))) for part in SPLIT_NAMES] == [24, 8, 10]


def test_one_part_alone_is_a_folder_of_new_images(parted: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", parted, branches=1)
    (opened,) = open_artifacts([str(run)], str(parted / "test"))
    (folder,) = opened.folders.values()
    assert folder.labelled
    assert len(folder.sample_ids) == 10


def test_caltech101_is_found_under_its_root_or_as_a_folder(
    tmp_path: Path, write_images: WriteImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "CALTECH101_SIZE", (3, 27))
    folder = write_images(tmp_path / "root" / published.CALTECH101.folder, **CALTECH101)
    run = make_run(
        tmp_path / "run", {"name": "caltech101", "root": str(tmp_path / "root")}, branches=1
    )
    opened = open_artifact(str(run))
    opened.check_images()
    assert opened.manifest.classes == ("BACKGROUND_Google", "Faces", "ant")
    # The folder is known with the crops that the training left out, too.
    moved = folder.rename(tmp_path / "moved")
    for again in (
        open_artifact(str(run), str(moved)),
        *open_artifacts([str(run)], str(moved)),
    ):
        assert not again.folders
        assert len(list(again.photos("test"))) == opened.split.sizes["test"]
    # New images are evaluated without a download.
    new = write_images(tmp_path / "new", ant=2)
    (other,) = open_artifacts([str(run)], str(new))
    assert len(other.folders) == 1
    with pytest.raises(EennError, match="Caltech-101 was not downloaded here"):
        other.check_images()


def test_cifar_is_found_under_its_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = torchvision.datasets.CIFAR10
    made = SmallCifar(tmp_path, reader, "labels", "label_names", monkeypatch)
    named = {"name": "cifar10", "root": str(made.folder.parent)}
    opened = open_artifact(str(make_run(tmp_path / "run", named, branches=1)))
    assert opened.split.sizes == {"train": 135, "val": 15, "test": 30}
    photos = list(opened.photos("test"))
    assert [photo.sample_id for photo in photos] == list(opened.split.test)
    for photo in photos:
        _, name, number = photo.sample_id.split("/")
        assert photo.label == made.labels["test_batch"][int(number)]
        assert ("ant", "bee", "cat")[photo.label] == name
        with Image.open(io.BytesIO(photo.file)) as image:
            row = np.asarray(image).transpose(2, 0, 1).ravel()
        np.testing.assert_array_equal(row, made.rows["test_batch"][int(number)])
    assert opened.records("test", "none", 0).sample_ids == opened.split.test
