"""The file of an offloading benchmark's measurements, which an interrupted run resumes from.

The first line names the networks; every other line is the outcome of one photograph, or the times
of the parts of edge and cloud during one block. An incomplete last line is cut off, and
measurements that cannot be read are made again.
"""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from eenn.errors import EennError
from eenn.files import Json, from_json, write_file
from eenn.offload.bench.contenders import Outcome
from eenn.offload.bench.measuring import Passage


@dataclass(frozen=True)
class MeasurementKey:
    """The key of a measurement.

    Args:
        way: number of the contender, in the order that the settings of the run give.
        level: level of the photograph's distortion.
        image: the photograph's sample id.
    """

    way: int
    level: float
    image: str


@dataclass(frozen=True)
class _Measured:
    place: MeasurementKey
    outcome: Outcome


@dataclass(frozen=True)
class _Block:
    block: int
    passages: tuple[Passage, ...]


@dataclass(frozen=True)
class _Head:
    artifacts: tuple[str, ...]


class KeptMeasurements:
    """Measurements in a growing file, including those of an interrupted run.

    Args:
        artifacts: ids of the measured networks.

    Raises:
        EennError: the file has measurements of other networks.
    """

    def __init__(self, file: Path, artifacts: Sequence[str]) -> None:
        self._file, self._artifacts = file, tuple(artifacts)
        self._found: dict[MeasurementKey, Outcome] = {}
        self._passages: dict[int, tuple[Passage, ...]] = {}
        if not file.exists():
            return
        content = file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(file, len(whole))
        head, *lines = whole.splitlines() or [b""]
        known = None
        with suppress(ValueError, RecursionError):
            known = from_json(_Head, json.loads(head))
        if known != _Head(self._artifacts):
            raise EennError(
                f"{file} does not begin with measurements of these networks, "
                f"{', '.join(own[:12] for own in self._artifacts)}; start a new run"
            )
        for line in lines:
            with suppress(ValueError, RecursionError):
                self._read(json.loads(line))

    def __len__(self) -> int:
        return len(self._found)

    def passages(self, block: int, measure: Callable[[], Sequence[Passage]]) -> Sequence[Passage]:
        """Return the kept times of parts during a block, or measure and keep them."""
        if block not in self._passages:
            found = tuple(measure())
            self._append({"block": block, "passages": [asdict(passage) for passage in found]})
            self._passages[block] = found
        return self._passages[block]

    def outcome(self, place: MeasurementKey, answer: Callable[[], Outcome]) -> Outcome:
        """Return the kept outcome of a photograph, or measure and keep it."""
        if place not in self._found:
            outcome = answer()
            self._append({"place": asdict(place), "outcome": asdict(outcome)})
            self._found[place] = outcome
        return self._found[place]

    def sync(self) -> None:
        """Flush the measurements to disk, so that a power loss does not lose them."""
        with self._file.open("rb") as file:
            os.fsync(file.fileno())

    def has(self, place: MeasurementKey) -> bool:
        """Tell whether a measurement is kept."""
        return place in self._found

    def _append(self, content: Json) -> None:
        if not self._file.exists():
            write_file(self._file, json.dumps({"artifacts": self._artifacts}) + "\n")
        with self._file.open("ab") as file:
            file.write(json.dumps(content).encode() + b"\n")

    def _read(self, content: Json) -> None:
        if isinstance(content, dict) and "block" in content:
            block = from_json(_Block, content)
            self._passages[block.block] = block.passages
        else:
            measured = from_json(_Measured, content)
            self._found[measured.place] = measured.outcome
