"""Photographs of audited images, kept in a folder as hard cases for the next training.

    FOLDER/differs/CLASS/00000042-20261128T035312.jpg    the edge's answer was another
    FOLDER/agrees/CLASS/00000043-20261128T035314.jpg     the edge's answer was the same

CLASS is the cloud's answer. A file has the bytes of the photograph, its metadata included.
"""

import os
import re
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Self

from eenn.errors import EennError
from eenn.files import write_file
from eenn.image_file import suffix_for
from eenn.offload.adaptation.field_log import AGREES, DIFFERS
from eenn.offload.adaptation.line_file import lock

MOST_BYTES = 500 * 10**6
MAX_NAME_BYTES = 255  # of a folder, on most file systems


class _File(NamedTuple):
    """An own file; numbers grow with every file that is kept."""

    number: int
    path: str
    size: int


class KeptAudits:
    """Photographs of audits in a folder, the newest within a bound. Thread-safe.

    To make room, the oldest of those that agree go first, then the oldest of those that differ; one
    that agrees never displaces one that differs. Files of other names are neither counted nor
    removed. A photograph that cannot be written, for example on a full disk, is lost: the user is
    warned once, and later ones are tried.

    Close it after use, or use it in a `with` block.

    Args:
        most_bytes: bound of all own files together.
        say: called with a line for the user.

    Raises:
        EennError: the folder does not exist, cannot be written, or is used by another process.
    """

    def __init__(self, folder: Path, most_bytes: int, say: Callable[[str], None]) -> None:
        self._folder, self._most_bytes, self._say = folder, most_bytes, say
        self._lock, self._said = Lock(), False
        try:
            self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise _unusable(folder, error) from error
        try:
            lock(self._fd, folder, "audits")
            # By the outcomes in the order in which they go, with the oldest file first.
            self._files = {outcome: _found(folder / outcome) for outcome in (AGREES, DIFFERS)}
            self._number = max((own[-1].number for own in self._files.values() if own), default=0)
            self._bytes = {name: sum(one.size for one in own) for name, own in self._files.items()}
            self._make_room(0)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise _unusable(folder, error) from error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the folder for other processes."""
        os.close(self._fd)

    def check_classes(self, classes: Sequence[str]) -> None:
        """Check that every class name is the name of a folder, and leads nowhere else.

        Raises:
            EennError: a class name is not.
        """
        for name in classes:
            is_plain = name.isprintable() and "/" not in name and not name.startswith(".")
            if not (name and is_plain and len(name.encode()) <= MAX_NAME_BYTES):
                raise EennError(
                    f"class {name!r:.80} cannot name a folder of {self._folder}; allowed are "
                    f"printable names of up to {MAX_NAME_BYTES} bytes, without / and not beginning "
                    "with a dot; leave --keep-audits out"
                )

    def keep(self, photograph: bytes, outcome: str, class_name: str) -> None:
        """Keep the photograph of an audit, if it is a picture file for which there can be room.

        Args:
            outcome: AGREES or DIFFERS.
            class_name: the cloud's answer, one of the classes that were checked.
        """
        with self._lock:
            try:
                self._keep(photograph, outcome, class_name)
            except OSError as error:
                if not self._said:
                    self._say(
                        f"warning: {error.filename or self._folder} cannot be written "
                        f"({error.strerror}); photographs of audits are lost meanwhile"
                    )
                self._said = True

    def _keep(self, photograph: bytes, outcome: str, class_name: str) -> None:
        for name in self._files:
            if _is_new(self._folder / name):  # somebody took the old one away, to look through it
                self._files[name].clear()
                self._bytes[name] = 0
        size, suffix = len(photograph), suffix_for(photograph)
        reserved = self._bytes[DIFFERS] if outcome == AGREES else 0
        if not suffix or reserved + size > self._most_bytes:
            return
        self._make_room(size)
        folder, number = self._folder / outcome / class_name, self._number + 1
        _is_new(folder)
        taken = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        path = folder / f"{number:08}-{taken}{suffix}"
        write_file(path, photograph)
        self._number, self._said = number, False
        self._files[outcome].append(_File(number, str(path), size))
        self._bytes[outcome] += size

    def _make_room(self, size: int) -> None:
        """Remove the oldest files until a file of `size` bytes fits.

        Raises:
            OSError: a file cannot be removed.
        """
        while sum(self._bytes.values()) + size > self._most_bytes:
            outcome, files = next((name, own) for name, own in self._files.items() if own)
            try:
                os.unlink(files[0].path)
            except FileNotFoundError:
                # Its photograph may have been moved to the folder of its true class.
                for moved in self._folder.glob(f"*/*/{Path(files[0].path).name}"):
                    moved.unlink(missing_ok=True)
            # A training takes a class folder without images for a mistake.
            with suppress(OSError):
                Path(files[0].path).parent.rmdir()
            self._bytes[outcome] -= files.popleft().size


def _found(folder: Path) -> deque[_File]:
    """Find the own files in the folder of an outcome, and remove halves of a killed process.

    Raises:
        OSError: the folder cannot be read or written.
    """
    _is_new(folder)
    with tempfile.TemporaryFile(dir=folder):
        pass  # nobody could be told later, when no audit differs for days
    found = []
    for inside in [inside for inside in os.scandir(folder) if inside.is_dir()]:
        for entry in os.scandir(inside):
            own = _OWN.fullmatch(entry.name)
            if own is None or not entry.is_file(follow_symlinks=False):
                continue
            if own["temporary"]:
                os.unlink(entry)
            else:
                found.append(_File(int(own["number"]), entry.path, entry.stat().st_size))
    return deque(sorted(found))


def _is_new(folder: Path) -> bool:
    """Make a folder; tell whether it did not exist."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def _unusable(folder: Path, error: OSError) -> EennError:
    return EennError(
        f"--keep-audits {folder}: {error.strerror}; give a folder that exists and can be written"
    )


# Names of own files, and the temporary ones of `write_file`.
_OWN = re.compile(
    r"(?P<temporary>\.)?(?P<number>\d{8,18})-\d{8}T\d{6}\.[a-z]+(?(temporary)\.\w+)", re.ASCII
)
