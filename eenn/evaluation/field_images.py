"""Images of field logs as arrays: one row an image, in the order of time, apart by artifact."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eenn.cli import with_progress
from eenn.errors import EennError
from eenn.exits.policies.base import Bools
from eenn.offload.adaptation.field_log import (
    AGREES,
    ALARMS,
    DIFFERS,
    DROPPED,
    EDGE,
    FieldEntry,
    read_field_log,
)
from eenn.offload.adaptation.status import STATES

Floats = NDArray[np.float64]

# Bounds of the files that one report reads together.
MAX_IMAGES = 5_000_000
MAX_ARTIFACTS = 20
MAX_NAMES = 100  # of head sets, and of causes of failures
READ_AT_ONCE = 2**14  # entries

_AUDITS = (None, AGREES, DIFFERS, DROPPED)
_AGREES = (None, False, True)
_STATES = (None, *STATES)
_ALARMS = ("", *ALARMS)
_ROW = np.dtype(
    [
        *((name, "f8") for name in ("time", "latency_ms", "sent_bytes")),
        *((name, "f8") for name in ("threshold", "rate", "reference")),
        *((name, "i2") for name in ("artifact", "exit", "heads", "failure")),
        ("looks_like", "i2"),
        ("on_edge", "?"),
        *((name, "i1") for name in ("audit", "agrees", "state", "alarm")),
    ]
)


@dataclass(frozen=True)
class FieldImages:
    """Images that an edge answered with one artifact, or some of them, in the order of time.

    Args:
        rows: the images, see the properties.
        heads, failures: names of head sets and of causes of failures, to which the rows refer.
        kinds: names of head sets that images look like; the first is that of images not judged.
    """

    artifact_id: str
    rows: NDArray[np.void]
    heads: Sequence[str]
    failures: Sequence[str]
    kinds: Sequence[str]

    def __len__(self) -> int:
        return len(self.rows)

    def those(self, which: Bools | slice) -> "FieldImages":
        """Select some of the images."""
        return replace(self, rows=self.rows[which])

    def column(self, name: str) -> Floats:
        """Return numbers of the images as floats, NaN where an entry has none.

        Args:
            name: time (UNIX seconds), latency_ms, sent_bytes, threshold, rate, reference (all three
                of the guard) or exit.
        """
        return np.asarray(self.rows[name], np.float64)

    @property
    def failed(self) -> Bools:
        """Tell which images the cloud was asked about and did not answer."""
        return np.asarray(self.rows["failure"] != 0)

    @property
    def left(self) -> Bools:
        """Tell which images were answered on the edge without asking the cloud first."""
        return np.asarray(self.rows["on_edge"] & ~self.failed)

    @property
    def offloaded(self) -> Bools:
        """Tell which images the cloud answered."""
        return np.asarray(~self.rows["on_edge"])

    def audited(self, *results: str) -> Bools:
        """Tell which images have one of these results of an audit."""
        return np.isin(self.rows["audit"], [_AUDITS.index(one) for one in results])

    def compared(self, agrees: bool) -> Bools:
        """Tell which offloaded images the last active branch answers as the cloud, or does not."""
        return np.asarray(self.rows["agrees"] == _AGREES.index(agrees))

    def in_state(self, state: str) -> Bools:
        """Tell which images came while the guard was in this state."""
        return np.asarray(self.rows["state"] == _STATES.index(state))

    def alarmed(self, kind: str) -> Bools:
        """Tell which images raised an alarm of this kind."""
        return np.asarray(self.rows["alarm"] == _ALARMS.index(kind))

    def by_heads(self) -> Iterator[tuple[str, "FieldImages"]]:
        """Yield every head set that answered, and its images."""
        for code in np.unique(self.rows["heads"]).tolist():
            yield self.heads[code], self.those(self.rows["heads"] == code)

    def looks_like(self) -> dict[str, float]:
        """Compute the share of each head set in the images that were judged, the largest first."""
        judged = self.rows["looks_like"][self.rows["looks_like"] != 0]
        codes, counts = np.unique(judged, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return {self.kinds[codes[n]]: float(counts[n] / len(judged)) for n in order}

    def causes(self) -> list[str]:
        """Name the causes of failures, the most frequent first."""
        codes, counts = np.unique(self.rows["failure"][self.failed], return_counts=True)
        return [self.failures[code] for code in codes[np.argsort(-counts, kind="stable")]]


@dataclass(frozen=True)
class FieldLogs:
    """The content of field logs.

    Args:
        artifacts: the images of every artifact, by the time of its first image.
        damaged: number of lines that are not entries.
    """

    artifacts: Sequence[FieldImages]
    damaged: int


def read_field_logs(paths: Sequence[Path]) -> FieldLogs:
    """Read field logs, which are taken for parts of one.

    Raises:
        EennError: no file has an entry, or there is more than is read at once.
        OSError: a file cannot be read.
    """
    coded = _Coded()
    entries = with_progress(_entries(paths), "read field log", "lines", 0)
    parts = []
    while len(part := np.array([*islice(coded.rows(entries), READ_AT_ONCE)], _ROW)):
        parts.append(part)
    named = ", ".join(map(str, paths))
    if not parts:
        raise EennError(
            f"{named}: no line is an entry of a field log; give a file that `eenn-edge --log` wrote"
        )
    rows = np.concatenate(parts)
    rows = rows[np.argsort(rows["time"], kind="stable")]
    names = {name: [*codes] for name, codes in coded.names.items()}
    found = [
        FieldImages(
            artifact_id,
            rows[rows["artifact"] == code],
            names["heads"],
            names["failure"],
            names["looks_like"],
        )
        for code, artifact_id in enumerate(names["artifact"])
    ]
    found.sort(key=lambda own: float(own.rows["time"][0]))
    return FieldLogs(found, coded.damaged)


def _entries(paths: Sequence[Path]) -> Iterator[FieldEntry | None]:
    for path in paths:
        yield from read_field_log(path)


class _Coded:
    """Turns entries into rows; names become numbers, and other lines are counted in `damaged`."""

    def __init__(self) -> None:
        self.damaged, self._images = 0, 0
        self.names: dict[str, dict[str, int]] = {
            "artifact": {},
            "heads": {},
            "failure": {"": 0},
            "looks_like": {"": 0},
        }

    def rows(self, entries: Iterable[FieldEntry | None]) -> Iterator[tuple[Any, ...]]:
        """Yield rows.

        Raises:
            EennError: there are more entries, or more names, than are read.
        """
        for entry in entries:
            if entry is None:
                self.damaged += 1
                continue
            self._images += 1
            self._check("images", self._images, MAX_IMAGES)
            yield self._row(entry)

    def _row(self, entry: FieldEntry) -> tuple[Any, ...]:
        guard = entry.guard
        of_guard = (guard.threshold, guard.rate, guard.reference) if guard else (None,) * 3
        return (
            entry.time,
            entry.latency_ms,
            entry.link.sent_bytes if entry.link else 0,
            *(np.nan if own is None else own for own in of_guard),
            self._code("artifact", entry.artifact_id, MAX_ARTIFACTS),
            entry.exit,
            self._code("heads", entry.heads, MAX_NAMES),
            self._code("failure", entry.failure, MAX_NAMES),
            self._code("looks_like", entry.looks_like or "", MAX_NAMES),
            entry.place == EDGE,
            _AUDITS.index(entry.audit),
            _AGREES.index(entry.agrees),
            _STATES.index(guard.state if guard else None),
            _ALARMS.index(guard.alarm if guard else ""),
        )

    def _code(self, column: str, name: str, limit: int) -> int:
        codes = self.names[column]
        code = codes.setdefault(name, len(codes))
        self._check(f"names of {column}", len(codes), limit)
        return code

    def _check(self, what: str, count: int, limit: int) -> None:
        if count > limit:
            raise EennError(
                f"more than {limit:,} {what} in the field log; take a part of it, as with "
                "`tail -n 1000000`"
            )
