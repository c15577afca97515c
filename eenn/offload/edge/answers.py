"""What the edge answered: for programs, for people, and in a file that outlives the process.

Exits are counted from 1 here, as users count them.
"""

import json
from pathlib import Path
from typing import NoReturn, Self

from eenn.errors import EennError
from eenn.exits.head_sets import PLAIN
from eenn.files import Json, JsonObject
from eenn.offload.edge.runtime import EdgeRuntime, Result


def as_json(result: Result, runtime: EdgeRuntime) -> dict[str, Json]:
    """A result as JSON takes it.

    `exits` are those that were evaluated, with a confidence each; `stages_ms` are the times of
    those on the edge, and `latency_ms` is all of them, preprocessing, distortion classifier and
    cloud.
    """
    order = (*runtime.active, runtime.branches)
    return {
        "class_name": result.class_name,
        "label": result.label,
        "confidence": result.confidence,
        "exit": result.exit + 1,
        "place": place_of(result),
        "degraded": result.degraded,
        "failure": result.failure,
        "heads": result.heads,
        "latency_ms": round(result.latency_ms, 3),
        "preprocess_ms": round(result.preprocess_ms, 3),
        "classifier_ms": round(result.classifier_ms, 3),
        "stages_ms": [round(ms, 3) for ms in result.stages_ms],
        "cloud_ms": round(result.cloud_ms, 3),
        "exits": [exit + 1 for exit in order[: len(result.confidences)]],
        "confidences": list(result.confidences),
    }


def place_of(result: Result) -> str:
    """Name the side that answered: edge or cloud."""
    return "edge" if result.on_edge else "cloud"


def as_line(file: str, result: Result) -> str:
    """A result as a line of text."""
    place = place_of(result)
    return "  ".join(
        [
            f"{file}:",
            result.class_name,
            f"{result.confidence:.3f}",
            f"exit {result.exit + 1}",
            f"{place}, degraded: {result.failure}" if result.degraded else place,
            *([] if result.heads == PLAIN else [f"heads for {result.heads}"]),
            f"{result.latency_ms:.1f} ms",
        ]
    )


class AnswerFile:
    """Answers on disk, a JSON object per line; a process that was killed goes on where it stopped.

    A line is with the operating system before the next image is begun. What was torn off in the
    middle of the last line is dropped, and its image is not in `answered`.

    To be closed after use, or used in a `with` block.

    Args:
        artifact_id: of the network that answers.

    Raises:
        EennError: the file holds something else, or answers of another network.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path, artifact_id: str) -> None:
        self._path, self._artifact_id = path, artifact_id
        content = path.read_bytes() if path.exists() else b""
        *lines, torn = content.split(b"\n")
        self.answered = {self._file_of(line, number) for number, line in enumerate(lines, 1)}
        if not (torn.startswith(_START) or _START.startswith(torn)):
            self._refuse(len(lines) + 1)
        self._file = path.open("ab", buffering=0)
        self._file.truncate(len(content) - len(torn))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, file: str, answer: JsonObject) -> None:
        """Write the answer for an image file.

        Raises:
            EennError: the disk is full, or the like.
        """
        line = json.dumps({"file": file, "artifact_id": self._artifact_id, **answer}) + "\n"
        try:
            self._file.write(line.encode())
        except OSError as error:
            raise EennError(f"cannot write to {self._path}: {error.strerror}") from error
        self.answered.add(file)

    def _file_of(self, line: bytes, number: int) -> str:
        try:
            row = json.loads(line)
            file, artifact_id = row["file"], row["artifact_id"]
        except (ValueError, KeyError, TypeError):
            self._refuse(number)
        if artifact_id != self._artifact_id:
            raise EennError(
                f"{self._path} holds answers of artifact {artifact_id[:12]}, not of "
                f"{self._artifact_id[:12]}; choose another file"
            )
        return str(file)

    def _refuse(self, number: int) -> NoReturn:
        raise EennError(f"{self._path}, line {number}: no answer of eenn-edge; choose another file")


_START = b'{"file": "'
