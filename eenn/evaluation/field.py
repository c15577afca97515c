"""Every number of a report on field logs: shares, agreement, latency, outages and alarms."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np

from eenn.evaluation.field_images import FieldImages
from eenn.exits.head_sets import PLAIN
from eenn.exits.policies.base import Bools
from eenn.offload.adaptation.field_log import AGREES, ALARMS, DIFFERS, DROPPED
from eenn.offload.adaptation.status import BURST
from eenn.statistics.intervals import UNKNOWN, Estimate, share
from eenn.statistics.metrics import wilson_interval

BINS = 50
SMALLEST_BIN = 20  # images
# Images that were answered at the same time may stand in another order than they were begun in.
NEIGHBOURS = 10
DAY_S = 86_400


@dataclass(frozen=True)
class FieldNumbers:
    """The numbers of some images.

    Args:
        edge_probability: share that left on the edge.
        audits: number of audits with a result.
        agreement: share of images that left whose answer is the cloud's, by the audits; each counts
            by 1 / rate, and the interval is Wilson's for the effective number of audits.
        risk: share of all images that left and would be answered otherwise by the cloud: the edge
            probability times the disagreement; the ends are those of the disagreement.
        needless: share of offloaded images that the last active branch answers as the cloud.
        failures: share of images that the cloud did not answer, of those it was asked about.
        sent_bytes: mean per image, audits included.
        latency_ms: mean; the others are percentiles.
    """

    n: int
    edge_probability: Estimate
    audits: int
    agreement: Estimate
    risk: Estimate
    needless: Estimate
    failures: Estimate
    sent_bytes: float
    latency_ms: float
    latency_p50_ms: float
    latency_p95_ms: float
    latency_p99_ms: float

    @classmethod
    def of(cls, images: FieldImages) -> "FieldNumbers":
        """Compute the numbers of one image or more."""
        left, agreement = share(int(images.left.sum()), len(images)), _agreement(images)
        disagreement = (1 - agreement.value, 1 - agreement.high, 1 - agreement.low)
        same, other = (int(images.compared(agrees).sum()) for agrees in (True, False))
        failed = int(images.failed.sum())
        latency = images.column("latency_ms")
        return cls(
            len(images),
            left,
            int(images.audited(AGREES, DIFFERS).sum()),
            agreement,
            Estimate(*(left.value * end for end in disagreement)),
            share(same, same + other),
            share(failed, failed + int(images.offloaded.sum())),
            float(images.column("sent_bytes").mean()),
            float(latency.mean()),
            *np.percentile(latency, (50, 95, 99)).tolist(),
        )


@dataclass(frozen=True)
class FieldBin:
    """Neighbouring images.

    Args:
        first: number of the first image, from 1.
        start: time of the first image; `end` that of the last.
        reference: edge share that the guard expected; NaN if not known.
        threshold: in force at the end; NaN while everything is offloaded or without a guard.
        bursts: share of images that came within a burst.
        alarms: number of alarms.
    """

    first: int
    start: str
    end: str
    numbers: FieldNumbers
    reference: float
    threshold: float
    bursts: float
    alarms: int


@dataclass(frozen=True)
class Group:
    """The images of one place, exit or head set; `part` is their share of all images."""

    name: str
    part: float
    numbers: FieldNumbers


@dataclass(frozen=True)
class Outage:
    """A period in which the cloud answered none of the images that it was asked about.

    Args:
        start, end: times of its first and its last failure.
        images: number of failures.
    """

    start: str
    end: str
    seconds: float
    images: int
    causes: str


@dataclass(frozen=True)
class Alarm:
    """An alarm of the guard.

    Args:
        image: its number, from 1.
        before, after: thresholds before the alarm and after the burst that followed; NaN if none
            is known.
        looked_like: shares of the head sets that the images since the alarm before look like;
            `looks_like` of those until the next one; empty where none was judged.
    """

    time: str
    image: int
    kind: str
    before: float
    after: float
    looked_like: str
    looks_like: str


@dataclass(frozen=True)
class FieldTotals:
    """All images of an artifact in the field.

    Args:
        artifact: beginning of its id.
        start, end: times of the first and the last image, which are `days` apart.
        dropped_audits: number of audits without a result.
    """

    artifact: str
    start: str
    end: str
    days: float
    numbers: FieldNumbers
    dropped_audits: int
    alarms: int
    bursts: int
    outages: int

    @classmethod
    def of(cls, images: FieldImages) -> "FieldTotals":
        """Sum up the images of an artifact."""
        time = images.column("time")
        return cls(
            images.artifact_id[:12],
            clock(time[0]),
            clock(time[-1]),
            float(time[-1] - time[0]) / DAY_S,
            FieldNumbers.of(images),
            int(images.audited(DROPPED).sum()),
            len(alarms(images)),
            len(periods(images, BURST)),
            len(outages(images)),
        )


def clock(time_s: float, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Write a time, in UNIX seconds, as date and clock time in UTC."""
    return datetime.fromtimestamp(time_s, UTC).strftime(form)


def bins(images: FieldImages) -> list[FieldBin]:
    """Divide images into about BINS parts of neighbours, of about SMALLEST_BIN images or more."""
    count = max(1, min(BINS, len(images) // SMALLEST_BIN))
    edges = np.linspace(0, len(images), count + 1).astype(int).tolist()
    return [_bin(images.those(slice(start, stop)), start + 1) for start, stop in pairwise(edges)]


def _bin(images: FieldImages, first: int) -> FieldBin:
    time, reference = images.column("time"), images.column("reference")
    known = reference[np.isfinite(reference)]
    return FieldBin(
        first,
        clock(time[0]),
        clock(time[-1]),
        FieldNumbers.of(images),
        float(known[-1]) if len(known) else np.nan,
        float(images.column("threshold")[-1]),
        float(images.in_state(BURST).mean()),
        sum(int(images.alarmed(kind).sum()) for kind in ALARMS),
    )


def places(images: FieldImages) -> list[Group]:
    """Group images by the place of their answer."""
    on_edge = ~images.offloaded
    return _groups(
        images,
        {
            "edge": images.left,
            "cloud": images.offloaded,
            "edge, as the cloud failed": on_edge & images.failed,
        },
    )


def exits(images: FieldImages) -> list[Group]:
    """Group images by the exit at which they stopped, counted from 1."""
    exit = images.column("exit")
    return _groups(images, {f"{own:g}": exit == own for own in np.unique(exit).tolist()})


def head_sets(images: FieldImages) -> list[Group]:
    """Group images by the head set that answered; no groups if there are plain heads only."""
    found = [*images.by_heads()]
    if [name for name, _ in found] == [PLAIN]:
        return []
    return [Group(name, len(own) / len(images), FieldNumbers.of(own)) for name, own in found]


def outages(images: FieldImages) -> list[Outage]:
    """Find the periods in which the cloud answered nothing, in the order of time."""
    asked = images.those(images.failed | images.offloaded | images.audited(AGREES, DIFFERS))
    time, found = asked.column("time"), []
    for start, stop in _runs(asked.failed):
        own = asked.those(slice(start, stop))
        begin, end = time[start], time[stop - 1]
        causes = ", ".join(own.causes())
        found.append(Outage(clock(begin), clock(end), float(end - begin), stop - start, causes))
    return found


def alarms(images: FieldImages) -> list[Alarm]:
    """Find the alarms, in the order of time."""
    threshold, time = images.column("threshold"), images.column("time")
    known = np.isfinite(threshold)
    offloaded = _merged(~known)
    at = {int(n): kind for kind in ALARMS for n in np.flatnonzero(images.alarmed(kind))}
    found = []
    edges = [0, *sorted(at), len(images)]
    for number, (image, kind) in enumerate(sorted(at.items())):
        before = threshold[: image + 1][known[: image + 1]][-1:]
        end = next((stop for _, stop in offloaded if stop > image), len(images))
        earlier, later = (
            float(own[0]) if len(own) else np.nan for own in (before, threshold[end:])
        )
        looked, looks = (
            _kinds(images.those(slice(*edges[n : n + 2]))) for n in (number, number + 1)
        )
        found.append(Alarm(clock(time[image]), image + 1, kind, earlier, later, looked, looks))
    return found


def periods(images: FieldImages, state: str) -> list[tuple[int, int]]:
    """Find the periods of the guard in a state, as numbers of first and last images, from 1."""
    return [(start + 1, stop) for start, stop in _merged(images.in_state(state))]


def _kinds(images: FieldImages) -> str:
    return ", ".join(f"{100 * own:.0f} % {name}" for name, own in images.looks_like().items())


def _groups(images: FieldImages, members: dict[str, Bools]) -> list[Group]:
    return [
        Group(name, float(who.mean()), FieldNumbers.of(images.those(who)))
        for name, who in members.items()
        if who.any()
    ]


def _agreement(images: FieldImages) -> Estimate:
    audited = images.those(images.audited(AGREES, DIFFERS))
    if not len(audited):
        return UNKNOWN
    rate = audited.column("rate")
    weight = 1 / np.where(rate > 0, rate, 1)  # NaN, without a guard, counts as 1
    value = min(float((weight * audited.audited(AGREES)).sum() / weight.sum()), 1.0)
    effective = float(weight.sum() ** 2 / (weight**2).sum())
    low, high = wilson_interval(value * effective, effective)
    return Estimate(value, float(low), float(high))


def _merged(which: Bools) -> list[tuple[int, int]]:
    """List start and end of runs of true values; runs that a few false values part are one."""
    found: list[tuple[int, int]] = []
    for start, stop in _runs(which):
        is_next = found and start - found[-1][1] < NEIGHBOURS
        found.append((found.pop()[0] if is_next else start, stop))
    return found


def _runs(which: Bools) -> Iterator[tuple[int, int]]:
    """Find start and end of every run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], which, [False]]).astype(np.int8)))
    return zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
