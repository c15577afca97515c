"""Files of lines that outlive their process: whole lines, one writer, and no line half written."""

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Self

from eenn.errors import EennError

SYNC_S = 5.0  # seconds of lines that a power loss may cost
SEARCHED_BYTES = 2**16  # read at once in search of the last whole line


class LineFile:
    """Lines on disk, which a restarted process continues.

    The operating system has a line when `append` returns, and the disk has it `SYNC_S` seconds
    later if `sync` is called. Bytes behind the last whole line, left by a full disk or a power
    loss, stay until `cut`. Only one process at a time may use the file. Not thread-safe.

    Use the file in a `with` block.

    Args:
        content: a name of the lines in the plural, for messages.

    Raises:
        EennError: the file is a pipe or device, or is used by another process.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, content: str) -> None:
        self._path = path
        self._unsynced_since: float | None = None
        self._fd = _opened(path, content)
        self._torn_at: int | None = _end_of_lines(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Flush to disk, and close the file.

        Raises:
            EennError: the disk reports an error.
        """
        try:
            if self._unsynced_since is not None:
                self._sync()
        finally:
            os.close(self._fd)

    def lines(self, max_bytes: int) -> Iterator[bytes]:
        """Yield the whole lines from the first on, of too long ones the start; see `lines_of`."""
        with open(self._fd, "rb", closefd=False) as file:
            file.seek(0)
            for line in lines_of(file, max_bytes):
                if line.endswith(b"\n"):
                    yield line

    def torn(self, max_bytes: int) -> bytes:
        """Read what stands behind the last whole line until `cut`; a power loss leaves zeros."""
        if self._torn_at is None:
            return b""
        return os.pread(self._fd, max_bytes, self._torn_at).strip(b"\0")

    def cut(self) -> None:
        """Cut off a line that was not written completely.

        Raises:
            OSError: the file cannot be cut.
        """
        if self._torn_at is not None:
            os.ftruncate(self._fd, self._torn_at)
            self._torn_at = None

    def append(self, line: str) -> None:
        """Write a line, given without its end.

        Raises:
            OSError: the file cannot be written, for example on a full disk; it keeps its old
                content.
        """
        try:
            self.cut()
            self._torn_at = os.fstat(self._fd).st_size
            rest = memoryview(f"{line}\n".encode())
            while rest:
                # A disk that fills up writes a part, and reports the error only at the next write.
                rest = rest[os.write(self._fd, rest) :]
            self._torn_at = None
        finally:
            with suppress(OSError):
                self.cut()
        if self._unsynced_since is None:
            self._unsynced_since = time.monotonic()

    def sync(self) -> None:
        """Flush to disk if the oldest unflushed line was written `SYNC_S` seconds ago or earlier.

        Raises:
            EennError: the disk reports an error.
        """
        since = self._unsynced_since
        if since is not None and time.monotonic() - since >= SYNC_S:
            self._sync()

    def _sync(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise EennError(f"cannot write to {self._path}: {error.strerror}") from error
        self._unsynced_since = None


def lines_of(file: BinaryIO, max_bytes: int) -> Iterator[bytes]:
    """Yield the lines of a file with their ends; of lines that are too long, start and end only."""
    while line := file.readline(max_bytes):
        rest = line
        while len(rest) == max_bytes and not rest.endswith(b"\n"):
            rest = file.readline(max_bytes)
        yield line if rest is line else line + rest[-1:]


def _opened(path: Path, content: str) -> int:
    """Open a file for this process alone, and make it if it does not exist."""
    # Without O_NONBLOCK, opening a pipe would wait for its reader.
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise EennError(
                f"{path} is a pipe or a device, which cannot be read again; allowed for {content} "
                "is a file on a disk"
            )
        lock(fd, path, content)
    except BaseException:
        os.close(fd)
        raise
    return fd


def lock(fd: int, path: Path, content: str) -> None:
    """Reserve an open file or folder for this process alone, until it is closed.

    Args:
        content: see `LineFile`.

    Raises:
        EennError: another process has it, or the file system has no locks.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise EennError(
            f"another eenn-edge writes its {content} to {path}; stop it, or choose another place"
        ) from None
    except OSError as error:
        raise EennError(
            f"{path} cannot be locked ({error.strerror}); choose a place on another disk"
        ) from error


def _end_of_lines(fd: int) -> int:
    """Find the end of the last whole line, from the end of the file on."""
    end = os.fstat(fd).st_size
    while end:
        start = max(end - SEARCHED_BYTES, 0)
        found = os.pread(fd, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
