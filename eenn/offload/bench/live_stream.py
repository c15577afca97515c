"""A stream of photographs through a live edge, and its course by answers and field log."""

from collections import defaultdict, deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eenn.cli import with_progress
from eenn.data.datasets import Photo
from eenn.data.distortions import Distortion
from eenn.errors import EennError
from eenn.offload.adaptation.field_log import EDGE, FieldEntry, read_field_log
from eenn.offload.bench.courses import LIVE, Course, Stream
from eenn.offload.bench.edge_process import EdgeAnswer, LiveEdge
from eenn.offload.bench.stream_photographs import distorted_file
from eenn.preprocess import Preprocessing


def feed(
    edge: LiveEdge,
    stream: Stream,
    photos: Sequence[Photo],
    distortions: Sequence[Distortion],
    preprocessing: Preprocessing,
) -> list[EdgeAnswer]:
    """Let an edge answer the photographs of a stream, one after the other.

    Args:
        photos: the photographs that the segments' `order` numbers.
        distortions: of the segments.

    Raises:
        EennError: the edge does not answer.
    """
    coming = [
        (photos[image], distortion)
        for segment, distortion in zip(stream.segments, distortions, strict=True)
        for image in segment.order.tolist()
    ]
    return [
        edge.classify(distorted_file(preprocessing, photo, distortion))
        for photo, distortion in with_progress(coming, "stream", "photographs")
    ]


def live_course(
    stream: Stream, answers: Sequence[EdgeAnswer], log: Path
) -> tuple[Course, list[FieldEntry]]:
    """Put the answers of the edge and the lines of its field log together.

    The cloud's answers that others are compared with are those of the records.

    Returns:
        The course, and the entry of every image in the order of the stream.

    Raises:
        EennError: the field log does not have every image.
    """
    entries = _matched(answers, log)
    labels = np.array([answer.label for answer in answers])
    kept = np.array([entry.place == EDGE and not entry.failure for entry in entries])
    guards = [entry.guard for entry in entries]
    thresholds = [own.threshold if own is not None else None for own in guards]
    alarms = [(at, own.alarm) for at, own in enumerate(guards) if own is not None and own.alarm]
    course = Course(
        way=LIVE,
        kept=kept,
        differs=kept & (labels != stream.cloud_labels),
        sent=np.array([entry.link is not None for entry in entries]) | ~kept,
        correct=labels == stream.true_labels,
        thresholds=np.array(thresholds, np.float64),  # None becomes NaN
        alarms=alarms,
        answer_ms=np.array([answer.latency_ms for answer in answers]),
    )
    return course, entries


def _matched(answers: Sequence[EdgeAnswer], log: Path) -> list[FieldEntry]:
    """Find the entry about every answer.

    Lines are not quite in the order of time, and have no names; but what an answer and its line
    have in common differs from image to image, by confidences and microseconds.
    """
    found = defaultdict[tuple[object, ...], deque[FieldEntry]](deque)
    for entry in read_field_log(log):
        if entry is not None:
            found[_common(entry)].append(entry)
    try:
        return [found[_common(answer)].popleft() for answer in answers]
    except IndexError:
        raise EennError(
            f"{log} does not have a line about every one of {len(answers)} photographs; was the "
            "disk full? start the stream again"
        ) from None


def _common(about: EdgeAnswer | FieldEntry) -> tuple[object, ...]:
    rounded = tuple(round(own, 6) for own in about.confidences)
    return about.exit, about.exits, rounded, about.latency_ms
