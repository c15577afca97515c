"""Courses of a stream of photographs: the fate of every image, and sums of every segment."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, starmap

import numpy as np

from eenn.exits.decide import decide
from eenn.exits.policies.base import Bools, ExitProbs, Floats, Ints
from eenn.offload.adaptation.guard import Guard
from eenn.offload.adaptation.offload_all import OffloadAll
from eenn.offload.adaptation.refit import Candidates
from eenn.offload.adaptation.state import OFFLOAD_ALL
from eenn.offload.bench.stream import RecordedImages, simulate
from eenn.statistics.intervals import UNKNOWN, Estimate, means, share

STATIC, CLAIRVOYANT = "static", "clairvoyant"
GUARDED, LIVE = "guarded, records", "guarded, live"


@dataclass(frozen=True)
class Segment:
    """A part of a stream: recorded images of one distortion, and those of them that come.

    Args:
        name: of the distortion, in words.
        exits: probabilities of every exit; the last is that of the cloud.
        recorded: the same images by every candidate.
        order: numbers of the images that come, in order.
    """

    name: str
    exits: Sequence[ExitProbs]
    labels: Ints
    recorded: RecordedImages
    order: Ints


@dataclass(frozen=True)
class Stream:
    """A stream of photographs, and the policies that may decide about them.

    Args:
        active: the active branches, counted from 0.
    """

    segments: Sequence[Segment]
    candidates: Candidates
    active: tuple[int, ...]

    @property
    def images(self) -> int:
        """Count the images that come."""
        return sum(len(own.order) for own in self.segments)

    @property
    def places(self) -> list[slice]:
        """List the place of every segment among all images."""
        ends = [0, *accumulate(len(own.order) for own in self.segments)]
        return list(starmap(slice, pairwise(ends)))

    @property
    def cloud_labels(self) -> Ints:
        """List the cloud's answer to every image that comes."""
        return np.concatenate([own.exits[-1].prediction[own.order] for own in self.segments])

    @property
    def true_labels(self) -> Ints:
        """List the label of every image that comes."""
        return np.concatenate([own.labels[own.order] for own in self.segments])


@dataclass(frozen=True)
class Course:
    """The fate of every image of a stream; arrays are (images,).

    Args:
        way: one of the names above.
        kept: images that left on the edge.
        differs: those of them whose answer is not the cloud's.
        sent: images that were offloaded or audited.
        correct: images whose answer is right by their labels.
        thresholds: in force, NaN where everything is offloaded.
        alarms: number of the image that raised an alarm, from 0, and its kind: risk or share.
        answer_ms: times of live answers; NaN of records.
    """

    way: str
    kept: Bools
    differs: Bools
    sent: Bools
    correct: Bools
    thresholds: Floats
    alarms: Sequence[tuple[int, str]]
    answer_ms: Floats


@dataclass(frozen=True)
class SegmentRow:
    """One segment of a course.

    Args:
        segment: number of the segment, from 1; `images` are its images in words.
        n: number of images.
        risk: share of images that left although the cloud would answer otherwise.
        edge_probability: share of images that left on the edge.
        sent: share of images that were offloaded or audited.
        detection: number of images until the first alarm; NaN without one.
        alarms: number of alarms.
        answer_ms: mean time of live answers.
    """

    segment: int
    images: str
    way: str
    n: int
    risk: Estimate
    edge_probability: Estimate
    sent: Estimate
    accuracy: Estimate
    detection: float
    alarms: int
    answer_ms: Estimate


def static_course(stream: Stream) -> Course:
    """Let the deployment's own threshold decide about all images."""
    return _recorded(STATIC, stream, np.full(stream.images, stream.candidates.start))


def clairvoyant_course(stream: Stream, risk: float) -> Course:
    """Let the threshold that is best for each segment decide, as if its images were known before.

    Args:
        risk: the largest that the best threshold may have on the recorded images.
    """
    best = [segment.recorded.clairvoyant(risk) for segment in stream.segments]
    found = [OFFLOAD_ALL if own is None else own for own in best]
    positions = np.repeat(found, [len(own.order) for own in stream.segments])
    return _recorded(CLAIRVOYANT, stream, positions)


def guarded_course(stream: Stream, guard: Guard) -> Course:
    """Let a guard decide, whose every audit and offload is answered at once."""
    found = simulate(guard, [(own.recorded, own.order) for own in stream.segments])
    assert found.positions is not None
    return _recorded(GUARDED, stream, found.positions, found.audited, found.alarms)


def _recorded(
    way: str,
    stream: Stream,
    positions: Ints,
    audited: Bools | None = None,
    alarms: Sequence[tuple[int, str]] = (),
) -> Course:
    """Compute a course from records.

    Args:
        positions: of the candidate in force for each image, or OFFLOAD_ALL.
    """
    candidates = stream.candidates
    own = candidates.policies[candidates.start]
    kept, labels = np.zeros(stream.images, bool), np.zeros(stream.images, np.int64)
    for segment, at in zip(stream.segments, stream.places, strict=True):
        offload_all = OffloadAll(own=own, last_exit=len(segment.exits) - 1)
        for position in sorted(set(positions[at].tolist())):
            policy = offload_all if position == OFFLOAD_ALL else candidates.policies[position]
            decided = decide(policy, segment.exits, stream.active)
            here = np.flatnonzero(positions[at] == position)
            images = segment.order[here]
            kept[at.start + here] = decided.on_edge[images]
            labels[at.start + here] = decided.label[images]
    values = np.array([*candidates.values, np.nan])
    return Course(
        way=way,
        kept=kept,
        differs=kept & (labels != stream.cloud_labels),
        sent=~kept if audited is None else ~kept | audited,
        correct=labels == stream.true_labels,
        thresholds=values[positions],  # OFFLOAD_ALL stands for the last one
        alarms=alarms,
        answer_ms=np.full(stream.images, np.nan),
    )


def segment_rows(stream: Stream, courses: Sequence[Course]) -> list[SegmentRow]:
    """Summarise every segment of every course, segment by segment."""
    return [
        _row(number, segment.name, course, at)
        for number, (segment, at) in enumerate(zip(stream.segments, stream.places, strict=True), 1)
        for course in courses
    ]


def whole_row(stream: Stream, course: Course) -> SegmentRow:
    """Summarise a course over all segments, as one segment of the number 0."""
    return _row(0, "all", course, slice(0, stream.images))


def _row(number: int, images: str, course: Course, at: slice) -> SegmentRow:
    alarms = [image - at.start for image, _ in course.alarms if at.start <= image < at.stop]
    n, answer_ms = at.stop - at.start, course.answer_ms[at]
    return SegmentRow(
        segment=number,
        images=images,
        way=course.way,
        n=n,
        risk=share(int(course.differs[at].sum()), n),
        edge_probability=share(int(course.kept[at].sum()), n),
        sent=share(int(course.sent[at].sum()), n),
        accuracy=share(int(course.correct[at].sum()), n),
        detection=float(min(alarms) + 1) if alarms else np.nan,
        alarms=len(alarms),
        answer_ms=UNKNOWN if np.isnan(answer_ms).all() else means({"": answer_ms})[""],
    )
