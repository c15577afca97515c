"""Archives of published data sets: downloaded once, checked, and unpacked whole or not at all."""

import logging
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from shutil import copyfileobj
from typing import IO

from filelock import FileLock

from eenn.errors import EennError
from eenn.files import new_directory

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Archive:
    """A tar file of one folder, or a zip file with such a tar file inside.

    Args:
        title: of the data set.
        md5: of the file at `url`, in hexadecimal.
        folder: below a root where the images are unpacked to; its last name is that of the folder
            in the tar file.
        inside: name of the tar file in the zip file; None without a zip file.
    """

    title: str
    url: str
    md5: str
    folder: str
    inside: str | None = None

    def place(self, root: str | Path) -> Path:
        """Name the folder of the unpacked images; directly under `root` if it is there."""
        root = Path(root).expanduser()
        direct = root / Path(self.folder).name
        return direct if direct.is_dir() else root / self.folder

    def unpacked(self, root: str | Path) -> Path:
        """Return the folder of the unpacked images, downloaded if absent.

        The archive stays beside the folder, and is not downloaded again if unpacking it failed.

        Raises:
            EennError: the archive could not be downloaded or unpacked, or has another checksum.
        """
        folder = self.place(root)
        if folder.is_dir():
            return folder
        file = folder.parent / self.url.rpartition("/")[2]
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            # Several processes of one training begin at the same time.
            with FileLock(file.with_name(f".{file.name}.lock")):
                if not folder.is_dir():
                    self._download(file)
                    self._unpack(file, folder)
        except (OSError, HTTPException, RuntimeError) as error:
            raise EennError(
                f"{self.title} could not be downloaded ({error}); get {self.url} by other means, "
                f"put it at {file}, and run again"
            ) from error
        return folder

    def _download(self, file: Path) -> None:
        # Imported here because torchvision is slow to import and images that are there need none.
        from torchvision.datasets.utils import check_integrity, download_url

        if file.exists():
            if not check_integrity(file, self.md5):
                raise EennError(
                    f"{file} has another checksum than {self.title} (MD5 {self.md5}); remove it, "
                    "and run again to download it"
                )
            return
        part = file.with_name(f"{file.name}.part")
        try:
            download_url(self.url, str(part.parent), part.name, self.md5)
            part.rename(file)
        finally:
            part.unlink(missing_ok=True)

    def _unpack(self, file: Path, folder: Path) -> None:
        log.info("unpacking %s", file)
        try:
            with (
                new_directory(folder) as directory,
                self._tar(file) as stream,
                tarfile.open(fileobj=stream, mode="r|*") as tar,
            ):
                for member in tar:
                    # Regular files alone, so that no link can lead out of the folder.
                    content = tar.extractfile(member) if member.isfile() else None
                    target = _target(directory, member.name, folder.name)
                    if content is not None and target is not None:
                        target.parent.mkdir(parents=True, exist_ok=True)
                        with content, target.open("wb") as written:
                            copyfileobj(content, written)
        except (
            *(OSError, EOFError, KeyError, zlib.error),
            *(tarfile.TarError, zipfile.BadZipFile),
        ) as error:
            raise EennError(
                f"{file} could not be unpacked ({error}); mend what is wrong, or remove the file "
                "to have it downloaded again, and run again"
            ) from error

    @contextmanager
    def _tar(self, file: Path) -> Iterator[IO[bytes]]:
        if self.inside is None:
            with file.open("rb") as stream:
                yield stream
        else:
            with zipfile.ZipFile(file) as archive, archive.open(self.inside) as stream:
                yield stream


def _target(directory: Path, name: str, top: str) -> Path | None:
    """Find the place in `directory` of a member of a tar file; None outside its folder `top`.

    Raises:
        EennError: the name leads out of the folder.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise EennError(
            f"the archive has a file {name!r}, which leads out of its folder; nothing was unpacked"
        )
    return directory.joinpath(*path.parts[1:]) if path.parts[:1] == (top,) else None
