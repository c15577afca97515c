"""What an offloading benchmark leaves behind: tables, figures and report.html."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eenn.exits.settings import CLOUD_ONLY, EARLY_ON_EDGE, EDGE_ONLY, WHOLE_ON_EDGE
from eenn.files import write_file
from eenn.reports.curves import against_level, against_p_tar, against_slowdown, way_name
from eenn.reports.figures import BARS, Drawn, save_figures
from eenn.reports.page import Section, report_page
from eenn.reports.tables import number, raw, setting_columns, varying, with_bounds, write_csv
from eenn.statistics.intervals import Row, means, share, statistic

BASELINES = (CLOUD_ONLY, WHOLE_ON_EDGE, EARLY_ON_EDGE, EDGE_ONLY)
SHOWN_PLANS = 20


@dataclass(frozen=True)
class Offloaded:
    """The results of an offloading benchmark.

    Args:
        points: rows of `summarised`, with `predicted_ms` and, of early exits, how many requests are
            `differing`.
        differing: requests whose exit or answer is not that of the records.
        plans, best: of the planner.
        slower: latency against the edge's slowdown.
        parts: measured times of stages and requests.
        slowdown: of the edge in this run.
    """

    points: Sequence[Row]
    differing: Sequence[Row]
    plans: Sequence[Row]
    best: Row
    slower: Sequence[Row]
    parts: Sequence[Row]
    slowdown: float


def summarised(rows: Sequence[Row], cloud_only: Sequence[Row]) -> Row:
    """One row for requests of one way at one level: accuracy, times, bytes, and their intervals.

    `reduction` is the share of the cloud-only baseline's mean time that is saved, its interval
    from resampling the photographs of both together.

    Args:
        rows: a row per photograph, in the order of `cloud_only`.
    """
    columns = {
        name: np.array([row[name] for row in rows], np.float64)
        for name in ("latency_ms", "edge_ms", "cloud_ms", "sent_bytes", "received_bytes")
    }
    answer_ms = columns.pop("latency_ms")
    alone_ms = np.array([row["latency_ms"] for row in cloud_only])
    on_edge = np.array([row["on_edge"] for row in rows])
    correct = np.array([row["label"] == row["truth"] for row in rows])
    n, edge_n = len(rows), int(on_edge.sum())
    kept = ("policy", "p_tar", "thresholds", "active", "most_active", "level")
    return {
        **{name: rows[0][name] for name in kept},
        "n": n,
        **share("accuracy", int(correct.sum()), n),
        **share("edge_probability", edge_n, n),
        **share("edge_accuracy", int(correct[on_edge].sum()), edge_n),
        **means(answer_ms=answer_ms, **columns),
        "median_ms": float(np.median(answer_ms)),
        "p95_ms": float(np.quantile(answer_ms, 0.95)),
        **statistic("reduction", lambda a, b: 1 - a.mean() / b.mean(), answer_ms, alone_ms),
        "degraded": sum(bool(row["failure"]) for row in rows),
    }


def printed(points: Sequence[Row]) -> list[dict[str, str]]:
    """Points as printable rows."""
    rows = []
    for row in points:
        rows.append(
            {
                **setting_columns(row),
                "n": str(row["n"]),
                "mean ms": with_bounds(row, "answer_ms", 1),
                "median": f"{row['median_ms']:.1f}",
                "p95": f"{row['p95_ms']:.1f}",
                "less than cloud only %": with_bounds(row, "reduction", 100),
                "predicted ms": number(row["predicted_ms"], ".1f"),
                "accuracy %": with_bounds(row, "accuracy", 100),
                "edge %": with_bounds(row, "edge_probability", 100),
                "kB sent": with_bounds(row, "sent_bytes", 1e-3),
                "degraded": str(row["degraded"]),
                "not as recorded": number(row["differing"], "g"),
            }
        )
    return varying(rows, ("seed", "level"))


def write_offloaded(
    directory: Path,
    title: str,
    facts: Mapping[str, str],
    results: Offloaded,
    distortion: str,
) -> list[Path]:
    """Write tables, figures, and the page that shows them; returns the PNG files."""
    for name in ("points", "plans", "slower", "parts", "differing"):
        if rows := getattr(results, name):
            columns = dict.fromkeys(key for row in rows for key in row)
            full = [{key: row.get(key, "") for key in columns} for row in rows]
            write_csv(directory / "tables" / f"{name}.csv", [raw(row) for row in full])
    made = _figures(results, distortion)
    pngs = save_figures(directory / "figures", made)
    shown = printed(results.points)
    plans = sorted(results.plans, key=lambda row: (-row["accuracy"], row["latency_ms"]))
    sections = [
        Section("Ways to answer", POINTS_TEXT, shown),
        *(
            Section(drawn.heading, figure=file.read_bytes(), caption=drawn.caption)
            for drawn, file in zip(made, pngs, strict=True)
        ),
        Section("Best plan", PLANS_TEXT, [_plan(results.best)]),
        Section("Most accurate plans", "", [_plan(row) for row in plans[:SHOWN_PLANS]]),
        Section("Measured parts", PARTS_TEXT, [_part(row) for row in results.parts]),
    ]
    if results.differing:
        rows = [raw(row) for row in results.differing]
        sections.append(Section("Not as recorded", DIFFERING_TEXT, rows))
    write_file(directory / "report.html", report_page(title, facts, sections))
    return pngs


def _figures(results: Offloaded, distortion: str) -> list[Drawn]:
    points, made = results.points, []
    first = points[0]["level"]
    slow = f" Edge slowed down by {results.slowdown:g}." if results.slowdown > 1 else ""
    at_first = [row for row in points if row["level"] == first]
    early = [row for row in at_first if row["policy"] not in BASELINES]
    curve = [row for row in early if row["policy"] == early[0]["policy"]]
    if len({row["p_tar"] for row in curve if np.isfinite(row["p_tar"])}) > 1:
        curve += [row for row in at_first if row["policy"] == CLOUD_ONLY]
        for quantity, heading, caption in (
            ("answer_ms", "Time to the answer", "Mean measured time from photograph to answer."),
            ("accuracy", "Accuracy", "Accuracy of all answers."),
            ("sent_bytes", "Bytes", "Mean bytes of HTTP requests per photograph."),
        ):
            figure = against_p_tar(curve, quantity, CLOUD_ONLY)
            made.append(Drawn(quantity, heading, f"{caption}{slow} {BARS}", figure))
    if early and len({row["level"] for row in points}) > 1:
        caption = f"Mean measured time of every way to answer at every level.{slow} {BARS}"
        figure = against_level(points, "answer_ms", distortion)
        made.append(Drawn("level_answer_ms", "Time against the distortion", caption, figure))
    if early:
        measured = {
            row["policy"] if row["policy"] in BASELINES else way_name(row): row["answer_ms"]
            for row in at_first
            if row["most_active"] or row["policy"] in BASELINES
        }
        figure = against_slowdown(results.slower, measured, results.slowdown)
        caption = (
            "Predicted from the measured parts: where lines cross, another way to answer becomes "
            "the fastest. All branches active. Large markers were measured in this run."
        )
        made.append(Drawn("slowdown", "Slower edges", caption, figure))
    return made


def _plan(row: Row) -> dict[str, str]:
    return {
        "active": row["active"] or "none",
        "p_tar": number(row["p_tar"], "g"),
        "payload": row["payload"],
        "latency ms": f"{row['latency_ms']:.2f}",
        "accuracy %": f"{100 * row['accuracy']:.1f}",
        "edge %": f"{100 * row['edge_probability']:.1f}",
        "kB sent": f"{row['sent_bytes'] / 1e3:.1f}",
    }


def _part(row: Row) -> dict[str, str]:
    return {
        "place": row["place"],
        "part": row["part"],
        "ms": f"{row['ms']:.2f}",
        "packing ms": number(row.get("codec_ms", np.nan), ".2f"),
        "kB sent": number(row.get("sent_bytes", np.nan) / 1e3, ".1f"),
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
