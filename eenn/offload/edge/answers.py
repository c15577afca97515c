"""What the edge answered: for programs, for people, and in a file that outlives the process.

Exits are counted from 1 here, as users count them.
"""

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from eenn.errors import EennError
from eenn.exits.head_sets import PLAIN
from eenn.files import Json, JsonObject
from eenn.offload.edge.batch import Result

SYNC_S = 5.0  # answers that a power loss may cost: those of so many seconds
MAX_LINE_BYTES = 2**24  # longer ones are nobody's answer, and are not kept in memory


def as_json(result: Result) -> dict[str, Json]:
    """A result as JSON takes it.

    `exit` and `place` are where the image left; `answered_by` is the exit whose answer is given,
    an earlier one where none was sure enough and it was the surest. `exits` are those that were
    evaluated, with a confidence each; `stages_ms` are the times of those on the edge, and
    `latency_ms` is all of them, preprocessing, distortion classifier and cloud.
    """
    return {
        "class_name": result.class_name,
        "label": result.label,
        "confidence": result.confidence,
        "exit": result.exit + 1,
        "answered_by": result.answered_by + 1,
        "place": place_of(result),
        "degraded": result.degraded,
        "failure": result.failure,
        "heads": result.heads,
        "latency_ms": round(result.latency_ms, 3),
        "preprocess_ms": round(result.preprocess_ms, 3),
        "classifier_ms": round(result.classifier_ms, 3),
        "stages_ms": [round(ms, 3) for ms in result.stages_ms],
        "cloud_ms": round(result.cloud_ms, 3),
        "exits": [exit + 1 for exit in result.exits],
        "confidences": list(result.confidences),
    }


def place_of(result: Result) -> str:
    """Name the side where the image left: edge or cloud."""
    return "edge" if result.on_edge else "cloud"


def as_line(file: str, result: Result) -> str:
    """A result as a line of text."""
    place = place_of(result)
    exit = f"exit {result.exit + 1}"
    if result.answered_by != result.exit:
        exit += f", answer of exit {result.answered_by + 1}"
    return "  ".join(
        [
            f"{file}:",
            result.class_name,
            f"{result.confidence:.3f}",
            exit,
            f"{place}, degraded: {result.failure}" if result.degraded else place,
            *([] if result.heads == PLAIN else [f"heads for {result.heads}"]),
            f"{result.latency_ms:.1f} ms",
        ]
    )


class AnswerFile:
    """Answers on disk, a JSON object per line; a process that was killed goes on where it stopped.

    A line is with the operating system before the next image is begun, and on the disk `SYNC_S`
    seconds later, see `sync`. Behind the last whole line, whatever a full disk or a power loss left
    there is cut off. A line in the middle that holds no answer is left as it is. One process at a
    time has the file.

    `answered` are image files with an answer of this network, and `bad_lines` the numbers of lines
    without one, counted from 1.

    To be closed after use, or used in a `with` block.

    Args:
        artifact_id: of the network that answers.

    Raises:
        EennError: the file holds something else, or answers of another network; it is no file that
            can be read again, or another process has it.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path, artifact_id: str) -> None:
        self._path, self._artifact_id = path, artifact_id
        self.answered: set[str] = set()
        self.bad_lines: list[int] = []
        self._torn_at: int | None = None
        self._unsynced_since: float | None = None
        self._fd = _opened(path)
        try:
            self._torn_at = self._read()
            self._cut()
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._unsynced_since is not None:
                self._sync()
        finally:
            os.close(self._fd)

    def append(self, file: str, answer: JsonObject) -> None:
        """Write the answer for an image file.

        Raises:
            EennError: the disk is full, or the like; the file is as before.
        """
        self.sync()
        line = json.dumps({"file": file, "artifact_id": self._artifact_id, **answer}) + "\n"
        try:
            self._cut()
            self._torn_at = os.fstat(self._fd).st_size
            rest = memoryview(line.encode())
            while rest:
                # A disk that fills up takes a part, and says why only when it is asked again.
                rest = rest[os.write(self._fd, rest) :]
            self._torn_at = None
        except OSError as error:
            raise EennError(
                f"{file} has no answer yet, as {self._path} cannot be written: {error.strerror}"
            ) from error
        finally:
            with suppress(OSError):
                self._cut()
        self.answered.add(file)
        if self._unsynced_since is None:
            self._unsynced_since = time.monotonic()

    def sync(self) -> None:
        """Have answers on the disk that were written `SYNC_S` seconds ago or earlier.

        Raises:
            EennError: the disk fails.
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

    def _cut(self) -> None:
        """Cut off a line that did not become whole."""
        if self._torn_at is not None:
            os.ftruncate(self._fd, self._torn_at)
            self._torn_at = None

    def _read(self) -> int:
        """Note who is answered; returns where the last whole line ends."""
        end, others, torn = 0, dict[int, str](), b""
        with open(self._fd, "rb", closefd=False) as file:
            for number, line in enumerate(_lines(file), 1):
                if not line.endswith(b"\n"):
                    torn = line.strip(b"\0")
                    break
                end = file.tell()
                row = _row(line)
                if row is None:
                    self.bad_lines.append(number)
                elif row.artifact_id == self._artifact_id:
                    self.answered.add(row.file)
                else:
                    others[number] = row.artifact_id
        if not self.answered:
            self._check_own(others, torn)
        self.bad_lines = sorted([*self.bad_lines, *others])
        return end

    def _check_own(self, others: dict[int, str], torn: bytes) -> None:
        """Check a file without any answer of this network: it may hold the start of one.

        Args:
            others: artifact ids by the numbers of lines.
            torn: what follows the last whole line.
        """
        if others:
            found = next(iter(others.values()))
            raise EennError(
                f"{self._path} holds answers of artifact {found[:12]}, not of "
                f"{self._artifact_id[:12]}; choose another file"
            )
        if self.bad_lines or not (torn.startswith(_START) or _START.startswith(torn)):
            raise EennError(f"{self._path}, line 1: no answer of eenn-edge; choose another file")


class _Row(NamedTuple):
    """What says whose answer a line is."""

    file: str
    artifact_id: str


def _opened(path: Path) -> int:
    """Open a file for one process, and make it if there is none.

    Raises:
        EennError: it is no file that can be read again, or another process has it.
        OSError: it cannot be opened.
    """
    # Opening a pipe would otherwise wait for whoever reads it.
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise EennError(
                f"{path} is a pipe or a device, which cannot be read again; allowed for answers "
                "is a file on a disk"
            )
        _lock(fd, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise EennError(
            f"another eenn-edge writes its answers to {path}; stop it, or choose another file"
        ) from None
    except OSError as error:
        raise EennError(
            f"{path} cannot be locked ({error.strerror}); choose a file on another disk"
        ) from error


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, of one that is too long for an answer the start alone."""
    while line := file.readline(MAX_LINE_BYTES):
        rest = line
        while len(rest) == MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE_BYTES)
        yield line if rest is line else line + rest[-1:]


def _row(line: bytes) -> _Row | None:
    """Whose answer a line holds; None if it holds none."""
    try:
        row = json.loads(line)
        file, artifact_id = row["file"], row["artifact_id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    are_texts = isinstance(file, str) and isinstance(artifact_id, str)
    return _Row(file, artifact_id) if are_texts else None


_START = b'{"file": "'
