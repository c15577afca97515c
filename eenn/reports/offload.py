"""The report of an offloading benchmark: its tables, its figures, and the page that shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eenn.evaluation.rows import Network
from eenn.exits.settings import Baseline, Setting
from eenn.offload.bench.contenders import Request
from eenn.offload.bench.rows import Foreseen, Measured
from eenn.planning.exhaustive import Plan, SlowerEdge
from eenn.planning.times import MeasuredPart
from eenn.reports.curves import against_knob, against_level, against_slowdown, way_name
from eenn.reports.figures import BARS, Drawn
from eenn.reports.page import Section
from eenn.reports.report import Report
from eenn.reports.tables import Cell, flat, number, raw, setting_columns, varying, with_bounds
from eenn.statistics.intervals import Estimate

SHOWN_PLANS = 20


@dataclass(frozen=True)
class OffloadPoint:
    """One way to answer at one level: the network, what was measured, and what was foreseen."""

    network: Network
    measured: Measured
    foreseen: Foreseen

    @property
    def level(self) -> float:
        """Of the distortion."""
        return self.measured.level

    @property
    def setting(self) -> Setting:
        """What tells the way from the others."""
        return self.measured.setting

    @property
    def most_active(self) -> bool:
        """No other way has more active branches."""
        return self.measured.most_active

    @property
    def answer_ms(self) -> Estimate:
        """From the photograph to the answer."""
        return self.measured.answer_ms

    @property
    def accuracy(self) -> Estimate:
        """Of all answers."""
        return self.measured.accuracy

    @property
    def sent_bytes(self) -> Estimate:
        """Per photograph."""
        return self.measured.sent_bytes


@dataclass(frozen=True)
class Offloaded:
    """The results of an offloading benchmark.

    Args:
        differing: requests whose exit or answer is not that of the records.
        plans, best: of the planner; for want of a best one, why there is none.
        slower: latency against the edge's slowdown.
        parts: measured times of stages and requests.
        slowdown: of the edge in this run.
    """

    points: Sequence[OffloadPoint]
    differing: Sequence[Request]
    plans: Sequence[Plan]
    best: Plan | str
    slower: Sequence[SlowerEdge]
    parts: Sequence[MeasuredPart]
    slowdown: float


def offload_report(
    title: str, facts: Mapping[str, str], results: Offloaded, distortion: str
) -> Report:
    """Put together the report of an offloading benchmark."""
    plans = sorted(results.plans, key=lambda plan: (-plan.accuracy, plan.latency_ms))
    best = results.best
    closing = [
        Section("Best plan", f"{PLANS_TEXT} {best}.")
        if isinstance(best, str)
        else Section("Best plan", PLANS_TEXT, [_plan(best)]),
        Section("Most accurate plans", "", [_plan(plan) for plan in plans[:SHOWN_PLANS]]),
        Section("Measured parts", PARTS_TEXT, [_part(part) for part in results.parts]),
    ]
    differing = [request_cells(request) for request in results.differing]
    if differing:
        rows = [raw(row) for row in differing]
        closing.append(Section("Not as recorded", DIFFERING_TEXT, rows))
    return Report(
        title,
        facts,
        {
            "points": [flat(point) for point in results.points],
            "plans": [flat(plan) for plan in results.plans],
            "slower": [flat(row) for row in results.slower],
            "parts": [flat(part) for part in results.parts],
            "differing": differing,
        },
        [Section("Ways to answer", POINTS_TEXT, point_rows(results.points))],
        _figures(results, distortion),
        closing,
    )


def request_cells(request: Request) -> dict[str, Cell]:
    """Lay a request out flat, with the time to its answer."""
    return {**flat(request), "latency_ms": request.outcome.latency_ms}


def point_rows(points: Sequence[OffloadPoint]) -> list[dict[str, str]]:
    """Print points as rows of a table."""
    rows = []
    for point in points:
        measured, foreseen = point.measured, point.foreseen
        rows.append(
            {
                **setting_columns(point.network, point.level, point.setting),
                "n": str(measured.n),
                "mean ms": with_bounds(measured.answer_ms, 1),
                "median": f"{measured.median_ms:.1f}",
                "p95": f"{measured.p95_ms:.1f}",
                "less than cloud only %": with_bounds(measured.reduction, 100),
                "predicted ms": number(foreseen.predicted_ms, ".1f"),
                "accuracy %": with_bounds(measured.accuracy, 100),
                "edge %": with_bounds(measured.edge_probability, 100),
                "kB sent": with_bounds(measured.sent_bytes, 1e-3),
                "degraded": str(measured.degraded),
                "not as recorded": number(foreseen.differing, "g"),
            }
        )
    return varying(rows, ("seed", "level"))


def _figures(results: Offloaded, distortion: str) -> list[Drawn]:
    points, made = results.points, list[Drawn]()
    slow = f" Edge slowed down by {results.slowdown:g}." if results.slowdown > 1 else ""
    at_first = [point for point in points if point.level == points[0].level]
    early = [point for point in at_first if point.setting.baseline is None]
    if not early:
        return made
    curve = [point for point in early if point.setting.name == early[0].setting.name]
    knobs = {point.setting.number for point in curve}
    if len([knob for knob in knobs if np.isfinite(knob)]) > 1:
        alone = Baseline.CLOUD_ONLY
        curve += [point for point in at_first if point.setting.baseline is alone]
        for quantity, heading, caption in (
            ("answer_ms", "Time to the answer", "Mean measured time from photograph to answer."),
            ("accuracy", "Accuracy", "Accuracy of all answers."),
            ("sent_bytes", "Bytes", "Mean bytes of HTTP requests per photograph."),
        ):
            figure = against_knob(curve, quantity, alone)
            made.append(Drawn(quantity, heading, f"{caption}{slow} {BARS}", figure))
    if len({point.level for point in points}) > 1:
        caption = f"Mean measured time of every way to answer at every level.{slow} {BARS}"
        ways = [(way_name(point.setting), point) for point in points]
        figure = against_level(ways, "answer_ms", distortion)
        made.append(Drawn("level_answer_ms", "Time against the distortion", caption, figure))
    measured = {
        _slowdown_name(point.setting): point.answer_ms.value
        for point in at_first
        if point.most_active or point.setting.baseline is not None
    }
    figure = against_slowdown(results.slower, measured, results.slowdown)
    caption = (
        "Predicted from the measured parts: where lines cross, another way to answer becomes "
        "the fastest. All branches active. Large markers were measured in this run."
    )
    return [*made, Drawn("slowdown", "Slower edges", caption, figure)]


def _slowdown_name(setting: Setting) -> str:
    """Name a way as `slower_edges` does: baselines without a threshold."""
    return setting.name if setting.baseline is not None else way_name(setting)


def _plan(plan: Plan) -> dict[str, str]:
    return {
        "active": plan.setting.branches or "none",
        "p_tar": plan.setting.value_text or "-",
        "payload": plan.payload,
        "latency ms": f"{plan.latency_ms:.2f}",
        "accuracy %": f"{100 * plan.accuracy:.1f}",
        "edge %": f"{100 * plan.edge_probability:.1f}",
        "kB sent": f"{plan.sent_bytes / 1e3:.1f}",
    }


def _part(part: MeasuredPart) -> dict[str, str]:
    return {
        "place": part.place,
        "part": part.part,
        "ms": f"{part.ms:.2f}",
        "packing ms": number(part.codec_ms, ".2f"),
        "kB sent": number(part.sent_bytes / 1e3, ".1f"),
    }


POINTS_TEXT = (
    "Measured, one photograph at a time, the ways to answer taking turns. Intervals are 95 % over "
    'photographs. "cloud only" sends the photograph; "whole network on the edge" sends nothing; of '
    'what branches leave, "edge only" lets the last one answer, and "rest on the edge" the rest '
    "of the network. Predicted: from the measured parts and the recorded exits. Not as recorded: "
    "another exit or answer than the records of PyTorch lead to."
)
PLANS_TEXT = (
    "Of every set of active branches, threshold and payload: latencies from the measured parts, "
    "exits and accuracies from the validation split. The network is cut after the last active "
    "branch."
)
PARTS_TEXT = (
    "Medians for one image. Of the edge without its slowdown; of the cloud as the server says, "
    "without the link."
)
DIFFERING_TEXT = "Rounded features or stages lead to another exit or answer on these photographs."
