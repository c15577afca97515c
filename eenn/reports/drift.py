"""The report of a stream: a static threshold, the guard by records and live, a clairvoyant one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eenn.artifact.guard_settings import GuardSettings
from eenn.files import Json
from eenn.offload.bench.courses import GUARDED, LIVE, STATIC, Course, SegmentRow, Stream
from eenn.reports.drift_figure import stream_figure, window_of
from eenn.reports.figures import Drawn
from eenn.reports.opening import tile
from eenn.reports.page import Number, Section
from eenn.reports.report import Report, table_section
from eenn.reports.summed_up import SummedUp
from eenn.reports.tables import Cell, flat, number, with_bounds
from eenn.statistics.intervals import Estimate


@dataclass(frozen=True)
class Streamed:
    """The results of a stream.

    Args:
        rows: every segment of every course.
        whole: the live course as one row.
        promise: the settings of the guard.
    """

    stream: Stream
    courses: Sequence[Course]
    rows: Sequence[SegmentRow]
    whole: SegmentRow
    promise: GuardSettings

    @property
    def largest_risk(self) -> dict[str, Estimate]:
        """Find the largest risk of a segment, for every way."""
        return {
            course.way: max(row.risk for row in self.rows if row.way == course.way)
            for course in self.courses
        }


def drift_report(title: str, facts: Mapping[str, str], results: Streamed, command: str) -> Report:
    """Put together the report of a stream.

    Args:
        command: runs the deployment on a device.
    """
    stream, promised = results.stream, results.promise.risk
    window = window_of(stream.images)
    drawn = Drawn(
        "stream",
        "Risk and edge probability",
        f"Means of the newest {window} images. Risk: images that left on the edge although the "
        "cloud would answer otherwise. Below, the threshold in force, with gaps where everything "
        "is offloaded, and on its upper border the alarms.",
        stream_figure(stream, results.courses, promised, stream.candidates.knob),
    )
    alarms = alarm_cells(results)
    return Report(
        title,
        facts,
        {"segments": [flat(row) for row in results.rows], "alarms": alarms},
        [],
        [],
        [
            Section("Segments", SEGMENTS_TEXT, segment_cells(results.rows)),
            table_section(
                "Alarms", ALARMS_TEXT, [{k: str(v) for k, v in row.items()} for row in alarms]
            ),
        ],
        _headline(results, command),
        drawn,
    )


def segment_cells(rows: Sequence[SegmentRow]) -> list[dict[str, str]]:
    """Print segments as rows of a table."""
    return [
        {
            "segment": f"{row.segment} {row.images}",
            "threshold": row.way,
            "images": str(row.n),
            "risk %": with_bounds(row.risk, 100),
            "edge %": f"{100 * row.edge_probability.value:.1f}",
            "sent %": f"{100 * row.sent.value:.1f}",
            "accuracy %": f"{100 * row.accuracy.value:.1f}",
            "alarms": str(row.alarms),
            "images to the alarm": number(row.detection, "g"),
            "mean ms": number(row.answer_ms.value, ".1f"),
        }
        for row in rows
    ]


def alarm_cells(results: Streamed) -> list[dict[str, Cell]]:
    """List the alarms of all courses."""
    places = results.stream.places
    return [
        {
            "threshold": course.way,
            "image": image + 1,
            "segment": next(n for n, at in enumerate(places, 1) if image < at.stop),
            "kind": kind,
        }
        for course in results.courses
        for image, kind in course.alarms
    ]


def summed_up(results: Streamed) -> SummedUp:
    """Sum up a stream by its live course."""
    whole = results.whole
    quantities = {
        "risk": whole.risk,
        "largest_risk": results.largest_risk[LIVE],
        "edge_probability": whole.edge_probability,
        "sent": whole.sent,
        "accuracy": whole.accuracy,
        "latency_ms": whole.answer_ms,
    }
    numbers = {
        f"{name}{end}": float(value)
        for name, estimate in quantities.items()
        for end, value in zip(("", "_low", "_high"), estimate, strict=True)
        if math.isfinite(value)
    }
    candidates = results.stream.candidates
    settings: dict[str, Json] = {
        "policy": candidates.policies[candidates.start].label,
        candidates.knob: candidates.values[candidates.start],
        "active": " ".join(str(branch + 1) for branch in results.stream.active),
        "guard": str(results.promise),
    }
    return SummedUp(numbers, settings)


def _headline(results: Streamed, command: str) -> Section:
    """Compare the largest risk of a segment with the promise."""
    largest, promised = results.largest_risk, results.promise.risk
    live, static, records = (largest[way] for way in (LIVE, STATIC, GUARDED))
    numbers = [
        Number("promised risk", f"{100 * promised:g} %"),
        tile("largest risk, guarded live", "%", 100, live, records, GUARDED),
        tile("largest risk, static", "%", 100, static),
        tile("answered on the edge, guarded live", "%", 100, results.whole.edge_probability),
        tile("mean time to the answer", "ms", 1, results.whole.answer_ms),
    ]
    return Section(
        f"At most {100 * live.value:.1f} % lost in any segment with the guard, "
        f"{100 * static.value:.1f} % without, {100 * promised:g} % promised",
        HEADLINE_TEXT,
        numbers=numbers,
        purpose="Run the edge of this stream on a device:",
        command=command,
    )


HEADLINE_TEXT = (
    "Lost are images that left on the edge although the cloud would answer otherwise. No label is "
    "involved: nothing is promised about images that the cloud gets wrong too."
)
SEGMENTS_TEXT = (
    "The same photographs in the same order for all four. Static: the deployment's own threshold, "
    "by records. Guarded: by records, where every audit is answered at once, and live, by an edge "
    "and a cloud in processes of their own. Clairvoyant: the threshold that keeps most of each "
    "segment's images on the edge within the promised risk, which nobody can know before. Risks of "
    "whole segments include the images until an alarm and the bursts behind it; the cloud's answer "
    "is that of the records. Sent: offloaded or audited. Intervals are 95 % over the draw of the "
    "images."
)
ALARMS_TEXT = (
    "By audits (risk) or by the share of images that leave (share). In the first segment, or where "
    "images are as in the segment before, an alarm is a false one."
)
