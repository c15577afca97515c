"""The report of an offloading benchmark: its tables, its figures, and the page that shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eenn.evaluation.rows import Network
from eenn.exits.rests import PHOTOGRAPH
from eenn.exits.settings import Baseline, Setting
from eenn.offload.bench.contenders import Request
from eenn.offload.bench.deployments import PLANS
from eenn.offload.bench.rows import Measured, Prediction
from eenn.planning.exhaustive import Plan, SlowerEdge
from eenn.planning.planners.comparison import Compared
from eenn.planning.times import MeasuredPart, RequestCost, Times
from eenn.reports.curves import against_knob, against_level, against_slowdown, way_name
from eenn.reports.figures import BARS, Drawn
from eenn.reports.headline import headline_point
from eenn.reports.opening import change, tile
from eenn.reports.page import Section
from eenn.reports.planners import COMPARED_TEXT, compared_rows
from eenn.reports.report import Report, table_section
from eenn.reports.tables import Cell, flat, number, raw, setting_columns, varying, with_bounds
from eenn.statistics.intervals import Estimate

CLOUD_ONLY = Baseline.CLOUD_ONLY.value


@dataclass(frozen=True)
class OffloadPoint:
    """One way to answer at one level: the network, the measurements, and the predictions."""

    network: Network
    measured: Measured
    foreseen: Prediction

    @property
    def level(self) -> float:
        """Return the distortion's level."""
        return self.measured.level

    @property
    def setting(self) -> Setting:
        """Return the setting that distinguishes the way from the others."""
        return self.measured.setting

    @property
    def most_active(self) -> bool:
        """Tell if no other way has more active branches."""
        return self.measured.most_active

    @property
    def answer_ms(self) -> Estimate:
        """Return the time from the photograph to the answer."""
        return self.measured.answer_ms

    @property
    def accuracy(self) -> Estimate:
        """Return the accuracy of all answers."""
        return self.measured.accuracy

    @property
    def sent_bytes(self) -> Estimate:
        """Return the bytes sent per photograph."""
        return self.measured.sent_bytes


@dataclass(frozen=True)
class Offloaded:
    """The results of an offloading benchmark.

    Args:
        differing: requests with another exit or answer than the records.
        plans, best: of the planner; in place of a missing best plan, the reason.
        others: the best plan for every rest and payload.
        slower: latency against the edge's slowdown.
        times: of the measured parts, of the edge without its slowdown.
        slowdown: of the edge in this run.
        compared: plans of named planners; `live`, their measurements by planner.
    """

    points: Sequence[OffloadPoint]
    differing: Sequence[Request]
    plans: Sequence[Plan]
    best: Plan | str
    others: Sequence[Plan]
    slower: Sequence[SlowerEdge]
    times: Times
    slowdown: float
    compared: Sequence[Compared]
    live: Mapping[str, Measured]


def offload_report(
    title: str, facts: Mapping[str, str], results: Offloaded, distortion: str, command: str
) -> Report:
    """Put together the report of an offloading benchmark.

    Args:
        command: runs the best plan; empty where there is none.
    """
    best, parts = results.best, results.times.parts()
    plans = [] if isinstance(best, str) else [_plan(best)]
    tables = [
        Section("Best plan", PLANS_TEXT if plans else f"{PLANS_TEXT} {best}.", plans),
        table_section("Ways to answer", POINTS_TEXT, point_rows(results.points)),
        table_section(
            "Best plan of each kind", KINDS_TEXT, [_kind(plan) for plan in results.others]
        ),
        table_section("Photographs or features", PAYLOADS_TEXT, payload_rows(results.times)),
        table_section("Measured parts", PARTS_TEXT, [_part(part) for part in parts]),
    ]
    if results.compared:
        rows = compared_rows(results.compared, results.live)
        tables.insert(1, table_section("Named planners", COMPARED_TEXT, rows))
    differing = [request_cells(request) for request in results.differing]
    if differing:
        rows = [raw(row) for row in differing]
        tables.append(table_section("Not as recorded", DIFFERING_TEXT, rows))
    drawn = _figures(results, distortion)
    return Report(
        title,
        facts,
        {
            "points": [flat(point) for point in results.points],
            "plans": [flat(plan) for plan in results.plans],
            "slower": [flat(row) for row in results.slower],
            "parts": [flat(part) for part in parts],
            "differing": differing,
        },
        [],
        drawn[1:],
        tables,
        offload_headline(results, command),
        next(iter(drawn), None),
    )


def offload_headline(results: Offloaded, command: str) -> Section:
    """Report the time to the answer of the best measured way, and the planner's recommendation.

    Args:
        command: runs the best plan; empty where there is none.
    """
    points = results.points
    point = headline_point(
        points, None, lambda one: one.answer_ms.value, lambda one: one.accuracy.value
    )
    point = point or points[0]
    alone = next(one for one in points if one.setting.baseline is Baseline.CLOUD_ONLY)
    measured, cloud = point.measured, alone.measured
    way = f"{way_name(point.setting)}, branches {point.setting.branches or 'none'}"
    numbers = [
        tile("mean time to the answer", "ms", 1, measured.answer_ms, cloud.answer_ms, CLOUD_ONLY),
        tile("accuracy", "%", 100, measured.accuracy, cloud.accuracy, CLOUD_ONLY),
        tile("answered on the edge", "%", 100, measured.edge_probability),
        tile("sent per photograph", "kB", 1e-3, measured.sent_bytes, cloud.sent_bytes, CLOUD_ONLY),
    ]
    best = results.best
    planned = f"No plan: {best}." if isinstance(best, str) else f"Best plan: {plan_text(best)}."
    return Section(
        f"{measured.answer_ms.value:.1f} ms to the answer, "
        f"{change(measured.answer_ms, cloud.answer_ms)} time than cloud only",
        f"{way}: the fastest of the measured policies that lose at most one point of accuracy "
        f"to the whole network, or else the one that loses least.\n{planned}",
        numbers=numbers,
        purpose="Run the best plan on a device:" if command else "",
        command=command,
    )


def plan_text(plan: Plan) -> str:
    """Say what a plan does and what it is predicted to take."""
    setting, route = plan.setting, plan.route
    way = f"branches {setting.branches}, {way_name(setting)}" if setting.active else "no branches"
    return (
        f"{way}, rest {str(route).replace('-', ', ')}: {plan.latency_ms:.2f} ms, accuracy "
        f"{100 * plan.accuracy:.1f} %, {100 * plan.edge_probability:.1f} % on the edge"
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
        "policy": plan.setting.policy_text if plan.setting.active else "-",
        "rest": plan.route.rest + (", upstream network" if plan.route.upstream else ""),
        "sent": plan.route.payload or "-",
        "latency ms": f"{plan.latency_ms:.2f}",
        "accuracy %": f"{100 * plan.accuracy:.1f}",
        "edge %": f"{100 * plan.edge_probability:.1f}",
        "kB sent": f"{plan.sent_bytes / 1e3:.1f}",
        "edge MB": f"{plan.edge_weight_bytes / 1e6:.1f}",
    }


def _kind(plan: Plan) -> dict[str, str]:
    return {**_plan(plan), "deployment": f"{PLANS}/{plan.route}.json"}


def payload_rows(times: Times) -> list[dict[str, str]]:
    """Print the costs of an image behind every cut, as features and as its photograph.

    The round trip is the same for both, so that the bandwidth decides between them.
    """
    photograph = times.requests[0, PHOTOGRAPH]
    rows = []
    for (cut, payload), features in times.requests.items():
        if payload == PHOTOGRAPH:
            continue
        rows.append(
            {
                "after block": str(cut),
                "features": payload,
                "kB": f"{features.sent_bytes / 1e3:.1f}",
                "ms": f"{times.request_ms(features):.1f}",
                "photograph kB": f"{photograph.sent_bytes / 1e3:.1f}",
                "photograph ms": f"{times.request_ms(photograph):.1f}",
                "photograph wins": wins(photograph, features),
            }
        )
    return rows


def wins(one: RequestCost, other: RequestCost) -> str:
    """Name the bandwidths at which one request takes less time than another, on any link."""
    more_bytes = one.sent_bytes - other.sent_bytes
    saved_ms = other.cloud_ms + other.codec_ms - one.cloud_ms - one.codec_ms
    if more_bytes >= 0 >= saved_ms:
        return "never"
    if saved_ms >= 0 >= more_bytes:
        return "always"
    mbps = 8e-3 * more_bytes / saved_ms
    shown = f"{mbps:,.0f}" if mbps >= 100 else f"{mbps:.3g}"
    return f"{'above' if more_bytes > 0 else 'below'} {shown} Mbps"


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
    'photographs. "cloud only" sends the photograph; "whole network on the edge" sends nothing. '
    'Images that no branch accepts are answered by the last branch in "edge only", and by the rest '
    'of the network in "rest on the edge". '
    "Predicted: from the measured parts and the recorded exits. Not as recorded: "
    "another exit or answer than the records of PyTorch lead to."
)
PLANS_TEXT = (
    "Of every set of active branches, policy, strictness, rest and payload: latencies from the "
    "measured parts, exits and accuracies from the validation split. The rest, images that no "
    "active branch accepts, is answered by the cloud, which is sent features or the photograph's "
    "file, by the device, or by the last active branch. The network is cut after the last active "
    "branch, or behind the block that is named. Edge MB: the weights that the device keeps, in "
    "fp32; a quarter of it in int8."
)
KINDS_TEXT = "The best plan for every rest and payload that keeps the same bounds; fastest first."
PAYLOADS_TEXT = (
    "The cost of one image from the cut to the cloud's answer over the measured link, as "
    "features and as the photograph's file, which the cloud decodes and computes from the start. "
    "The bandwidth alone decides which of the two is faster."
)
PARTS_TEXT = (
    "For one image, run in chains as the runtime runs them: medians, and means of times that "
    "differ from photograph to photograph. Edge times are without the slowdown; cloud times are "
    "those that the server reports, without the link."
)
DIFFERING_TEXT = "Rounded features or stages lead to another exit or answer on these photographs."
