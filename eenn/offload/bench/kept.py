"""Measurements of an offloading benchmark as they come, a line each, so that none is made twice.

The first line says of which networks they are, and the times of the parts; every other line is
what became of one photograph. What is torn at the end is cut off, and what cannot be read is
measured again.
"""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from eenn.errors import EennError
from eenn.files import from_json, write_file
from eenn.offload.bench.contenders import Outcome
from eenn.planning.costs import Link
from eenn.planning.times import RequestCost, Times


@dataclass(frozen=True)
class Place:
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
    place: Place
    outcome: Outcome


@dataclass(frozen=True)
class _Head:
    """The file's first line; mappings by pairs are lists, as JSON has them."""

    artifacts: tuple[str, ...]
    preprocess_ms: float
    classifier_ms: float
    stage_ms: tuple[tuple[int, int, float], ...]
    whole_ms: float
    requests: tuple[tuple[int, str, int, float, float], ...]
    link: Link


class KeptMeasurements:
    """Measurements in a file that grows, those of an interrupted run included.

    Args:
        artifacts: ids of the networks that are measured.

    Raises:
        EennError: the file has measurements of other networks.
    """

    def __init__(self, file: Path, artifacts: Sequence[str]) -> None:
        self._file, self._artifacts = file, tuple(artifacts)
        self._found: dict[Place, Outcome] = {}
        self._head: _Head | None = None
        if not file.exists():
            return
        content = file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(file, len(whole))
        head, *lines = whole.splitlines() or [b""]
        with suppress(ValueError, RecursionError):
            self._head = from_json(_Head, json.loads(head))
        if self._head is None or self._head.artifacts != self._artifacts:
            raise EennError(
                f"{file} does not begin with measurements of these networks, "
                f"{', '.join(own[:12] for own in self._artifacts)}; start a new run"
            )
        for line in lines:
            with suppress(ValueError, RecursionError):
                measured = from_json(_Measured, json.loads(line))
                self._found[measured.place] = measured.outcome

    def __len__(self) -> int:
        return len(self._found)

    def times(self, measure: Callable[[], Times]) -> Times:
        """Give the times of the parts: those that were kept, or else measured and kept now."""
        if self._head is None:
            times = measure()
            own = {**vars(times), "link": asdict(times.link)}
            own["stage_ms"] = [(*step, ms) for step, ms in times.stage_ms.items()]
            own["requests"] = [
                (*at, cost.sent_bytes, cost.cloud_ms, cost.codec_ms)
                for at, cost in times.requests.items()
            ]
            head = {"artifacts": self._artifacts, **own}
            write_file(self._file, json.dumps(head) + "\n")
            self._head = from_json(_Head, json.loads(json.dumps(head)))
        known = self._head
        return Times(
            known.preprocess_ms,
            known.classifier_ms,
            {(start, stop): ms for start, stop, ms in known.stage_ms},
            known.whole_ms,
            {
                (cut, payload): RequestCost(sent_bytes, cloud_ms, codec_ms)
                for cut, payload, sent_bytes, cloud_ms, codec_ms in known.requests
            },
            known.link,
        )

    def outcome(self, place: Place, answer: Callable[[], Outcome]) -> Outcome:
        """Give what became of a photograph: what was kept, or else measured and kept now."""
        if place not in self._found:
            outcome = answer()
            line = json.dumps({"place": asdict(place), "outcome": asdict(outcome)}) + "\n"
            with self._file.open("ab") as file:
                file.write(line.encode())
            self._found[place] = outcome
        return self._found[place]

    def sync(self) -> None:
        """Have the disk hold what was measured, also if the power fails."""
        with self._file.open("rb") as file:
            os.fsync(file.fileno())

    def has(self, place: Place) -> bool:
        """Whether a measurement is there."""
        return place in self._found
