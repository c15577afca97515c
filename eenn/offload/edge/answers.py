"""Formats of the edge's answers: JSON, a line of text, and a file that outlives the process.

Exits are counted from 1 here, as users count them.
"""

import json
from pathlib import Path
from typing import NamedTuple, Self

from eenn.errors import EennError
from eenn.exits.head_sets import PLAIN
from eenn.files import Json, JsonObject
from eenn.offload.adaptation.line_file import LineFile
from eenn.offload.edge.batch import Result

MAX_LINE_BYTES = 2**24  # longer lines are not answers, and are not kept in memory


def as_json(result: Result) -> dict[str, Json]:
    """Convert a result to JSON.

    `exit` and `place` tell where the image left; `answered_by` is the exit that gave the answer, an
    earlier exit where none accepted and the policy falls back on it. `exits` are the evaluated
    exits, with `confidences`; `stages_ms` are the times of stages on the edge, and `latency_ms` is
    the sum of preprocessing, distortion classifier, stages and cloud, without waits for other
    images: for the turn to compute, or for an earlier answer. Exits are counted from 1.
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
    """Name the side on which the image left: edge or cloud."""
    return "edge" if result.on_edge else "cloud"


def as_line(file: str, result: Result) -> str:
    """Format a result as a line of text."""
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
    """Answers on disk, a JSON object per line, which a restarted process continues.

    The operating system has a line before the next image is begun, and the disk has it `SYNC_S`
    seconds later, see `LineFile`. A line that was not written completely is cut off. A line in the
    middle that is not an answer is left unchanged. Only one process at a time may use the file.

    `answered` are image files with an answer of this network, and `bad_lines` the numbers of lines
    without one, counted from 1.

    Use the file in a `with` block.

    Args:
        artifact_id: id of the network that answers.

    Raises:
        EennError: the file holds other content or answers of another network, is a pipe or device,
            or is used by another process.
        OSError: the file cannot be read or written.
    """

    def __init__(self, path: Path, artifact_id: str) -> None:
        self._path, self._artifact_id = path, artifact_id
        self.answered: set[str] = set()
        self.bad_lines: list[int] = []
        self._file = LineFile(path, "answers")
        try:
            self._read()
            self._file.cut()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, file: str, answer: JsonObject) -> None:
        """Write the answer for an image file.

        Raises:
            EennError: the file cannot be written, for example on a full disk; it keeps its old
                content.
        """
        self.sync()
        line = json.dumps({"file": file, "artifact_id": self._artifact_id, **answer})
        try:
            self._file.append(line)
        except OSError as error:
            raise EennError(
                f"{file} has no answer yet, because {self._path} cannot be written: "
                f"{error.strerror}"
            ) from error
        self.answered.add(file)

    def sync(self) -> None:
        """Flush answers to disk that have waited for it; see `LineFile.sync`.

        Raises:
            EennError: the disk reports an error.
        """
        self._file.sync()

    def _read(self) -> None:
        """Read answered files and bad lines."""
        others = dict[int, str]()
        for number, line in enumerate(self._file.lines(MAX_LINE_BYTES), 1):
            row = _row(line)
            if row is None:
                self.bad_lines.append(number)
            elif row.artifact_id == self._artifact_id:
                self.answered.add(row.file)
            else:
                others[number] = row.artifact_id
        if not self.answered:
            self._check_own(others)
        self.bad_lines = sorted([*self.bad_lines, *others])

    def _check_own(self, others: dict[int, str]) -> None:
        """Check a file without any answer of this network: only the start of an answer is allowed.

        Args:
            others: ids of other artifacts, by the numbers of lines.
        """
        if others:
            found = next(iter(others.values()))
            raise EennError(
                f"{self._path} holds answers of artifact {found[:12]}, not of "
                f"{self._artifact_id[:12]}; choose another file"
            )
        torn = self._file.torn(MAX_LINE_BYTES)
        if self.bad_lines or not (torn.startswith(_START) or _START.startswith(torn)):
            raise EennError(
                f"{self._path}, line 1 is not an answer of eenn-edge; choose another file"
            )


class _Row(NamedTuple):
    """The image file and the artifact of an answer."""

    file: str
    artifact_id: str


def _row(line: bytes) -> _Row | None:
    """Parse the image file and artifact of an answer; return None if the line is not an answer."""
    try:
        row = json.loads(line)
        file, artifact_id = row["file"], row["artifact_id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    are_texts = isinstance(file, str) and isinstance(artifact_id, str)
    return _Row(file, artifact_id) if are_texts else None


_START = b'{"file": "'
