"""Answers of a live edge and the lines of its field log, put together."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eenn.errors import EennError
from eenn.exits.policies.base import ExitProbs
from eenn.exits.policies.registry import make_policy
from eenn.offload.adaptation.field_log import FieldEntry, FieldGuard, FieldLink, FieldLog
from eenn.offload.adaptation.refit import Candidates
from eenn.offload.bench.courses import Segment, Stream, whole_row
from eenn.offload.bench.edge_process import EdgeAnswer
from eenn.offload.bench.live_stream import live_course
from eenn.offload.bench.stream import RecordedImages

# Of four images: the cloud's answers, and the labels.
CLOUD, LABELS = (0, 1, 1, 0), (0, 1, 0, 0)
GUARD = FieldGuard("p_tar", 0.8, "watching", "", 0.02)
LINK = FieldLink(4000, 700, 15.0, None)


@pytest.fixture(scope="module")
def stream() -> Stream:
    candidates = Candidates(make_policy("confidence", {"p_tar": 0.8}), (0,))
    exits = [ExitProbs(exit, np.eye(2)[list(CLOUD)]) for exit in range(2)]
    recorded = RecordedImages.of(exits, (0,), candidates)
    return Stream(
        [Segment("all", exits, np.array(LABELS), recorded, np.arange(4))], candidates, (0,)
    )


def answers() -> list[EdgeAnswer]:
    """Two images that leave, the second one with another answer than the cloud's, and two more."""
    return [
        EdgeAnswer(0, 1, (1,), (0.9123456789,), 3.125),
        EdgeAnswer(0, 1, (1,), (0.8,), 3.5),
        EdgeAnswer(1, 2, (1, 2), (0.7, 0.6), 20.25),
        EdgeAnswer(1, 1, (1,), (0.6,), 500.0),
    ]


def entries() -> list[FieldEntry]:
    left, differing, sent, failed = (
        FieldEntry(
            time=1e9 + at, artifact_id="a", exit=answer.exit, answered_by=answer.exit, place="edge",
            exits=answer.exits, confidences=answer.confidences, heads="plain",
            latency_ms=answer.latency_ms, cloud_ms=0.0, guard=GUARD,
        )
        for at, answer in enumerate(answers())
    )  # fmt: skip
    alarmed = replace(GUARD, alarm="risk")
    return [
        left,
        replace(differing, audit="differs", link=LINK, guard=alarmed),
        replace(sent, place="cloud", link=LINK, agrees=True, guard=replace(GUARD, threshold=None)),
        replace(failed, failure="timeout"),
    ]


def test_lines_in_any_order_are_those_of_their_images(stream: Stream, tmp_path: Path) -> None:
    log = tmp_path / "field.jsonl"
    with FieldLog(log) as file:
        for at in (2, 0, 3, 1):
            file.append(entries()[at])
    course, found = live_course(stream, answers(), log)
    assert [entry.latency_ms for entry in found] == [answer.latency_ms for answer in answers()]
    assert course.kept.tolist() == [True, True, False, False]
    assert course.differs.tolist() == [False, True, False, False]
    assert course.sent.tolist() == [False, True, True, True]
    assert course.correct.tolist() == [True, False, False, False]
    assert course.alarms == [(1, "risk")]
    assert course.thresholds[[0, 1, 3]].tolist() == [0.8] * 3
    assert math.isnan(course.thresholds[2])
    assert whole_row(stream, course).answer_ms.value == pytest.approx(526.875 / 4)


def test_a_log_without_an_image_is_an_error(stream: Stream, tmp_path: Path) -> None:
    log = tmp_path / "field.jsonl"
    with FieldLog(log) as file:
        for entry in entries()[1:]:
            file.append(entry)
    with pytest.raises(EennError, match=r"does not have a line about every one of 4 photographs"):
        live_course(stream, answers(), log)
