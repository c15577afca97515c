"""Measurements of an offloading benchmark as they come, a line each, so that none is made twice.

The first line says of which networks they are; every other line is what became of one photograph,
or what the parts of edge and cloud took during one block of them. What is torn at the end is cut
off, and what cannot be read is measured again.
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
    """Which measurement it is.

    Args:
        way: its number among the ways to answer, which the settings of a run put in order.
        level: of the photograph's distortion.
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
    """Measurements in a file that grows, those of an interrupted run included.

    Args:
        artifacts: ids of the networks that are measured.

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
        """Give what the parts took during a block: what was kept, or else measured and kept now."""
        if block not in self._passages:
            found = tuple(measure())
            self._append({"block": block, "passages": [asdict(passage) for passage in found]})
            self._passages[block] = found
        return self._passages[block]

    def outcome(self, place: MeasurementKey, answer: Callable[[], Outcome]) -> Outcome:
        """Give what became of a photograph: what was kept, or else measured and kept now."""
        if place not in self._found:
            outcome = answer()
            self._append({"place": asdict(place), "outcome": asdict(outcome)})
            self._found[place] = outcome
        return self._found[place]

    def sync(self) -> None:
        """Have the disk hold what was measured, also if the power fails."""
        with self._file.open("rb") as file:
            os.fsync(file.fileno())

    def has(self, place: MeasurementKey) -> bool:
        """Whether a measurement is there."""
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
