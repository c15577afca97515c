"""Published data sets: their downloads from a server of this test, and what is read from them."""

import inspect
import io
import pickle
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from eenn.data import downloads, published
from eenn.data.augmentation import Augmentation
from eenn.data.datamodule import ImageDataModule
from eenn.data.datasets import FolderImages, ImageSource
from eenn.data.in_memory import ImagesInMemory
from eenn.data.overview import overview
from eenn.data.sources import ARCHIVES, SOURCES
from eenn.data.splits import Split
from eenn.errors import EennError
from eenn.preprocess import Preprocessing
from tests.data.small_cifar import SmallCifar, md5

WriteImages = Callable[..., Path]

CLASSES = {"Faces": 4, "Faces_easy": 3, "BACKGROUND_Google": 5, "ant": 4}
CALTECH256 = {f"{number:03d}.class": 1 for number in range(1, 258)}


@dataclass
class Server:
    """Files by path, and the paths that were asked for; other paths are not found."""

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    served = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            content = served.files.get(self.path)
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        served.url = f"http://127.0.0.1:{http.server_port}"
        yield served
        http.shutdown()
        thread.join()


def packed(folder: Path, **more: bytes) -> bytes:
    """A .tar.gz of a folder, and more files by name."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        tar.add(folder, folder.name)
        for name, content in more.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def zipped(tar: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("caltech-101/show_annotation.m", "% not needed")
        archive.writestr("caltech-101/101_ObjectCategories.tar.gz", tar)
        archive.writestr("__MACOSX/caltech-101/._101_ObjectCategories.tar.gz", "not needed")
    return file.getvalue()


@pytest.fixture
def categories(tmp_path: Path, write_images: WriteImages) -> Path:
    """A small Caltech-101 as its archive has it, with the stray file in its clutter."""
    folder = write_images(tmp_path / "made" / "101_ObjectCategories", (8, 8), **CLASSES)
    (folder / "BACKGROUND_Google" / "tmp").write_text("left by somebody")
    return folder


@pytest.fixture
def serve_caltech101(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> Callable[[bytes], downloads.Archive]:
    """A function that serves an archive as that of Caltech-101, with a checksum that fits."""

    def serve(content: bytes) -> downloads.Archive:
        server.files["/caltech-101.zip"] = content
        archive = replace(
            published.CALTECH101, url=f"{server.url}/caltech-101.zip", md5=md5(content)
        )
        monkeypatch.setattr(published, "CALTECH101", archive)
        monkeypatch.setattr(published, "CALTECH101_SIZE", (3, 13))
        return archive

    return serve


def left_in(root: Path) -> set[str]:
    """All that lies under a root, but for empty lock files."""
    files = (path for path in root.rglob("*") if path.suffix != ".lock")
    return {path.relative_to(root).as_posix() for path in files}


def split_of(source: ImageSource) -> Split:
    return ImageDataModule(source, Preprocessing(32, 32), Augmentation(), seed=0).split


# The archives


def test_addresses_and_checksums_are_those_of_torchvision() -> None:
    for archive, reader in (
        (published.CIFAR10, torchvision.datasets.CIFAR10),
        (published.CIFAR100, torchvision.datasets.CIFAR100),
    ):
        known = (reader.url, reader.tgz_md5, reader.base_folder)
        assert (archive.url, archive.md5, archive.folder) == known
    for archive, reader in (
        (published.CALTECH101, torchvision.datasets.Caltech101),
        (published.CALTECH256, torchvision.datasets.Caltech256),
    ):
        source = inspect.getsource(reader)
        folder = archive.folder.split("/")
        assert all(f'"{one}"' in source for one in (archive.url, archive.md5, *folder))


def test_every_archive_belongs_to_a_source() -> None:
    assert set(ARCHIVES) < set(SOURCES.entries.values())
    assert len({archive.folder for archive in ARCHIVES.values()}) == 4


def test_caltech101_is_what_its_folder_without_the_crops_is(
    categories: Path, serve_caltech101: Callable[[bytes], downloads.Archive], tmp_path: Path
) -> None:
    serve_caltech101(zipped(packed(categories, README=b"not an image")))
    source = published.caltech101(tmp_path / "root")
    shutil.rmtree(categories / "Faces_easy")
    folder = FolderImages(categories)
    assert source.classes == folder.classes == ("BACKGROUND_Google", "Faces", "ant")
    assert source.sample_ids == folder.sample_ids
    assert source.content_hashes == folder.content_hashes
    assert split_of(source) == split_of(folder)


def test_several_processes_download_once(
    categories: Path,
    serve_caltech101: Callable[[bytes], downloads.Archive],
    server: Server,
    tmp_path: Path,
) -> None:
    archive = serve_caltech101(zipped(packed(categories)))
    archive.unpacked(tmp_path / "alone")
    once = len(server.asked)
    with ThreadPoolExecutor(3) as pool:
        places = list(pool.map(archive.unpacked, 3 * [tmp_path / "shared"]))
    assert set(places) == {tmp_path / "shared" / "caltech101" / "101_ObjectCategories"}
    assert len(server.asked) == 2 * once


@pytest.mark.parametrize("below", ["caltech101", "."])
def test_images_that_are_there_are_not_downloaded(
    below: str,
    categories: Path,
    serve_caltech101: Callable[[bytes], downloads.Archive],
    server: Server,
    tmp_path: Path,
) -> None:
    serve_caltech101(b"")
    shutil.copytree(categories, tmp_path / below / "101_ObjectCategories")
    assert len(published.caltech101(tmp_path).classes) == 3
    assert not server.asked


def damages(whole: bytes, categories: Path) -> dict[str, tuple[bytes, str, str]]:
    """By kind of damage: the file that is served, the checksum that is known, and what is said."""
    out = packed(categories, **{"101_ObjectCategories/../../x": b"out"})
    root = packed(categories, **{"/etc/x": b"out"})
    broken = zipped(packed(categories)[:-200])
    return {
        "another checksum": (whole + b".", md5(whole), "could not be downloaded"),
        "cut short on the way": (whole[:-500], md5(whole), "could not be downloaded"),
        "cut short": (whole[:-500], md5(whole[:-500]), "could not be unpacked"),
        "cut short inside": (broken, md5(broken), "could not be unpacked"),
        "not a zip file": (b"<html>", md5(b"<html>"), "could not be unpacked"),
        "out of the folder": (zipped(out), md5(zipped(out)), "leads out of its folder"),
        "an absolute path": (zipped(root), md5(zipped(root)), "leads out of its folder"),
    }


@pytest.mark.parametrize("damage", damages(b"", Path(__file__).parent / "__init__.py"))
def test_a_damaged_archive_is_one_line_and_leaves_nothing_that_looks_whole(
    damage: str,
    categories: Path,
    serve_caltech101: Callable[[bytes], downloads.Archive],
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    root, whole = tmp_path / "root", zipped(packed(categories))
    archive = serve_caltech101(whole)
    served, known, said = damages(whole, categories)[damage]
    server.files["/caltech-101.zip"] = served
    monkeypatch.setattr(published, "CALTECH101", replace(archive, md5=known))
    with pytest.raises(EennError, match=said) as caught:
        published.caltech101(root)
    assert "\n" not in str(caught.value)
    fetched = {"caltech101/caltech-101.zip"} if known == md5(served) else set()
    assert left_in(root) == {"caltech101"} | fetched
    assert not list(tmp_path.glob("**/x"))

    if not fetched:
        server.files["/caltech-101.zip"] = whole
        assert len(published.caltech101(root).classes) == 3


def test_a_failed_download_says_what_to_fetch_and_where_to_put_it(
    categories: Path,
    serve_caltech101: Callable[[bytes], downloads.Archive],
    server: Server,
    tmp_path: Path,
) -> None:
    archive = serve_caltech101(zipped(packed(categories)))
    content = server.files.pop("/caltech-101.zip")
    with pytest.raises(EennError, match=r"could not be downloaded .*404") as caught:
        published.caltech101(tmp_path)
    assert isinstance(caught.value.__cause__, HTTPError)
    caught.value.__cause__.close()
    place = tmp_path / "caltech101" / "caltech-101.zip"
    assert all(part in str(caught.value) for part in (archive.url, str(place)))
    place.write_bytes(content + b"more")
    with pytest.raises(EennError, match="has another checksum than Caltech-101"):
        published.caltech101(tmp_path)
    place.write_bytes(content)
    assert len(published.caltech101(tmp_path).classes) == 3


def test_an_archive_is_not_downloaded_again_after_a_full_disk(
    categories: Path,
    serve_caltech101: Callable[[bytes], downloads.Archive],
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serve_caltech101(zipped(packed(categories)))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(downloads, "copyfileobj", fail)
        with pytest.raises(EennError, match="No space left on device"):
            published.caltech101(tmp_path / "root")
    assert left_in(tmp_path / "root") == {"caltech101", "caltech101/caltech-101.zip"}
    server.files.clear()
    assert len(published.caltech101(tmp_path / "root").classes) == 3


def test_caltech256_is_a_tar_file(
    server: Server, tmp_path: Path, write_images: WriteImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_images(tmp_path / "256_ObjectCategories", (8, 8), **CALTECH256)
    content = server.files["/256.tar"] = packed(folder)
    archive = replace(published.CALTECH256, url=f"{server.url}/256.tar", md5=md5(content))
    monkeypatch.setattr(published, "CALTECH256", archive)
    monkeypatch.setattr(published, "CALTECH256_SIZE", (257, 257))
    source = published.caltech256(tmp_path / "new")
    assert source.classes == tuple(CALTECH256)
    assert source.root == tmp_path / "new" / "caltech256" / "256_ObjectCategories"


@pytest.mark.parametrize("classes", [["001.ak47"], [*CALTECH256], [*CALTECH256, "258.stray"]])
def test_a_folder_that_is_not_all_of_it_is_refused(
    tmp_path: Path, write_images: WriteImages, classes: list[str]
) -> None:
    folder = tmp_path / "caltech256" / "256_ObjectCategories"
    write_images(folder, (8, 8), **dict.fromkeys(classes, 1))
    with pytest.raises(EennError, match=rf"{folder} holds {len(classes)} classes and"):
        published.caltech256(tmp_path)


# CIFAR


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallCifar:
    return SmallCifar(tmp_path, torchvision.datasets.CIFAR10, "labels", "label_names", monkeypatch)


def test_cifar10_is_downloaded_and_keeps_its_test_images(
    cifar10: SmallCifar, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = server.files["/cifar.tar.gz"] = packed(cifar10.folder)
    archive = replace(published.CIFAR10, url=f"{server.url}/cifar.tar.gz", md5=md5(content))
    monkeypatch.setattr(published, "CIFAR10", archive)
    source = published.cifar10(tmp_path / "root")
    assert source.classes == ("ant", "bee", "cat")
    train = [f"data_batch_{number}" for number in range(1, 6)]
    expected = [
        (f"{part}/{source.classes[label]}/{number:05d}", label, row)
        for part, files in (("train", train), ("test", ["test_batch"]))
        for number, (label, row) in enumerate(
            (label, row)
            for name in files
            for label, row in zip(cifar10.labels[name], cifar10.rows[name], strict=True)
        )
    ]
    assert source.sample_ids == tuple(sample_id for sample_id, _, _ in expected)
    assert source.labels.tolist() == [label for _, label, _ in expected]
    for index in (0, 31, 149, 150, 179):
        # A row is all of red, then of green, then of blue.
        pixels = np.stack([np.split(expected[index][2], 3)[c].reshape(32, 32) for c in range(3)], 2)
        np.testing.assert_array_equal(np.asarray(source.read(index, 64)), pixels)
        with Image.open(io.BytesIO(source.file(index))) as image:
            np.testing.assert_array_equal(np.asarray(image), pixels)
    split = split_of(source)
    assert split.test == tuple(sorted(one for one in source.sample_ids if one[:5] == "test/"))
    assert all(one.startswith("train/") for one in (*split.train, *split.val))
    assert [len(part) for part in (split.train, split.val)] == [135, 15]
    assert {one.split("/")[1] for one in split.val} == {"ant", "bee", "cat"}
    assert overview(source, split).endswith("validation images were drawn from its training")


def test_cifar100_has_its_fine_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = torchvision.datasets.CIFAR100
    made = SmallCifar(tmp_path, reader, "fine_labels", "fine_label_names", monkeypatch)
    source = published.cifar100(made.folder.parent)
    assert isinstance(source, ImagesInMemory)
    assert source.labels.tolist() == made.labels["train"] + made.labels["test"]


class Touch:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("name", ["data_batch_1", "data_batch_5", "test_batch", "batches.meta"])
def test_a_file_with_another_checksum_is_never_unpickled(
    name: str, cifar10: SmallCifar, tmp_path: Path
) -> None:
    marker, file = tmp_path / "marker", cifar10.folder / name
    file.write_bytes(pickle.dumps(Touch(marker)))
    with pytest.raises(EennError, match="as it was published") as caught:
        published.cifar10(cifar10.folder.parent)
    assert "\n" not in str(caught.value)
    assert not marker.exists()
    pickle.loads(file.read_bytes())
    assert marker.exists()  # it would have been


def test_a_missing_file_is_one_line(cifar10: SmallCifar) -> None:
    (cifar10.folder / "test_batch").unlink()
    with pytest.raises(EennError, match="delete the folder and run again"):
        published.cifar10(cifar10.folder.parent)
