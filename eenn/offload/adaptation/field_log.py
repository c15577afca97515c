"""The field log: one line for every image that a serving edge answered, written and read.

A line has no file name and no answer. Lines are written once audits are known, so they may be a
little out of the order of time. Exits are counted from 1 here, as users count them.
"""

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Self

from eenn.errors import EennError
from eenn.files import from_json
from eenn.offload.adaptation.line_file import LineFile, lines_of
from eenn.offload.adaptation.status import STATES

EDGE, CLOUD = "edge", "cloud"
AGREES, DIFFERS, DROPPED = "agrees", "differs", "dropped"
ALARMS = ("risk", "share")

# Bounds of what is read.
MAX_LINE_BYTES = 2**16
MAX_LOG_BYTES = 2**32
MAX_NAME = 128  # characters
MAX_EXITS = 1000
MAX_NUMBER = 1e12  # of bytes, and of milliseconds since any event
MAX_TIME = 2e11  # seconds; a year that calendars still have


@dataclass(frozen=True)
class FieldLink:
    """The exchange with the cloud about an image.

    Args:
        sent_bytes: of all tries, HTTP included; likewise `received_bytes`.
        wait_ms: from the request to the reply.
        server_ms: as the cloud reports it; None if it does not.
    """

    sent_bytes: int
    received_bytes: int
    wait_ms: float
    server_ms: float | None


@dataclass(frozen=True)
class FieldGuard:
    """The state of the guard as it decided about an image.

    Args:
        knob: name of the knob, such as p_tar; `threshold` is its value in force, None while
            everything is offloaded.
        state: one of STATES.
        alarm: the alarm that the image raised, one of ALARMS; else empty.
        rate: probability with which the image was to be audited if it left.
        reference: share of images that is expected to leave; None if not known.
    """

    knob: str
    threshold: float | None
    state: str
    alarm: str
    rate: float
    reference: float | None = None


@dataclass(frozen=True)
class FieldEntry:
    """One image in the field; `exit` to `cloud_ms` and `failure` are those of an edge's answer.

    Args:
        time: of the answer, in UNIX seconds.
        place: EDGE or CLOUD.
        heads: the head set that answered.
        failure: cause if the cloud was asked and did not answer; else empty.
        link: the exchange about the answer or about the audit; None if the cloud was not asked.
        audit: result of the audit of an image that left on the edge: AGREES, DIFFERS or DROPPED;
            None of an image that was not audited.
        agrees: of an image that the cloud answered, whether the last active branch gave the same
            answer; None of others.
        guard: None without a guard.
        looks_like: the head set that the distortion classifier finds for the image, where the guard
            asked it in the background; else None.
    """

    time: float
    artifact_id: str
    exit: int
    answered_by: int
    place: str
    exits: tuple[int, ...]
    confidences: tuple[float, ...]
    heads: str
    latency_ms: float
    cloud_ms: float
    failure: str = ""
    link: FieldLink | None = None
    audit: str | None = None
    agrees: bool | None = None
    guard: FieldGuard | None = None
    looks_like: str | None = None

    def to_json(self) -> str:
        """Write the entry as a line without its end.

        `time` is rounded to a millisecond, other times to a microsecond.
        """
        link = self.link and {
            **vars(self.link),
            "wait_ms": round(self.link.wait_ms, 3),
            "server_ms": self.link.server_ms and round(self.link.server_ms, 3),
        }
        shown = {
            **vars(self),
            "time": round(self.time, 3),
            "confidences": [round(own, 6) for own in self.confidences],
            "latency_ms": round(self.latency_ms, 3),
            "cloud_ms": round(self.cloud_ms, 3),
            "link": link,
            "guard": self.guard and vars(self.guard),
        }
        return json.dumps(shown, separators=(",", ":"))

    @classmethod
    def read(cls, line: bytes) -> Self | None:
        """Parse a line; return None for a line that is not an entry within the bounds."""
        try:
            entry = from_json(cls, json.loads(line))
        except (ValueError, RecursionError):
            return None
        return entry if entry._is_sound() else None

    def _is_sound(self) -> bool:
        """Tell whether names are known or short, and numbers finite and within the bounds."""
        link, guard = self.link, self.guard
        numbers = [self.latency_ms, self.cloud_ms]
        shares = [*self.confidences]
        names = [self.artifact_id, self.heads, self.failure, self.looks_like or ""]
        if link is not None:
            numbers += [link.sent_bytes, link.received_bytes, link.wait_ms, link.server_ms or 0]
        if guard is not None:
            numbers.append(abs(guard.threshold or 0))
            shares += [guard.rate, guard.reference or 0]
            names.append(guard.knob)
        return (
            0 <= self.time <= MAX_TIME
            and all(0 <= number <= MAX_NUMBER for number in numbers)
            and all(0 <= share <= 1 for share in shares)
            and all(1 <= exit <= MAX_EXITS for exit in (self.exit, self.answered_by, *self.exits))
            and all(len(name) <= MAX_NAME and name.isprintable() for name in names)
            and len(self.exits) == len(self.confidences)
            and self.place in (EDGE, CLOUD)
            and self.audit in (None, AGREES, DIFFERS, DROPPED)
            and (guard is None or (guard.state in STATES and guard.alarm in ("", *ALARMS)))
        )


class FieldLog:
    """The field log on disk, which a restarted edge continues. Thread-safe.

    An entry that cannot be written, for example on a full disk, is lost and counted in `lost`.
    A power loss may cost the entries that the operating system has not yet written out.

    Close the log after use, or use it in a `with` block.

    Raises:
        EennError: the file holds other content, is a pipe or device, or is used by another process.
        OSError: the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.lost = 0
        self._lock, self._is_open = Lock(), True
        self._file = LineFile(path, "field log")
        try:
            _check_own(self._file, path)
            self._file.cut()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Flush the log to disk, and close it; later entries are lost.

        Raises:
            EennError: the disk reports an error.
        """
        with self._lock:
            if self._is_open:
                self._is_open = False
                self._file.close()

    def append(self, entry: FieldEntry) -> None:
        """Write an entry, or count it as lost."""
        line = entry.to_json()
        with self._lock:
            try:
                if not self._is_open:
                    raise OSError("the log is closed")
                self._file.append(line)
            except OSError:
                self.lost += 1


def read_field_log(path: Path) -> Iterator[FieldEntry | None]:
    """Yield the entries of a log in the order of its lines, and None for every other line.

    Memory is that of one line.

    Raises:
        EennError: the file is not a file on a disk, or has more than MAX_LOG_BYTES bytes.
        OSError: the file cannot be read.
    """
    # Without O_NONBLOCK, opening a pipe would wait for its writer.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_LOG_BYTES:
            raise EennError(
                f"{path} has {found.st_size:,} bytes; allowed is a field log on a disk of up to "
                f"{MAX_LOG_BYTES:,} bytes; take a part of it, as with `tail -n 1000000`"
            )
        for line in lines_of(file, MAX_LINE_BYTES):
            yield FieldEntry.read(line)


def _check_own(file: LineFile, path: Path) -> None:
    """Check that the first line of a log, if there is one, is an entry, or else the start of one.

    Raises:
        EennError: the file belongs to something else.
    """
    first = next(file.lines(MAX_LINE_BYTES), None)
    if first is None:
        torn = file.torn(MAX_LINE_BYTES)
        is_own = torn.startswith(_START) or _START.startswith(torn)
    else:
        is_own = FieldEntry.read(first) is not None
    if not is_own:
        raise EennError(f"{path}, line 1 is not an entry of a field log; choose another file")


_START = b'{"time":'
