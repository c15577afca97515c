"""What an evaluation leaves behind: tables/*.csv, figures/*.png and *.pdf, and report.html."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from eenn.costs import Profile
from eenn.files import write_file
from eenn.grid import LAST_EXIT_ONLY, Results, Service
from eenn.intervals import Row
from eenn.reports.curves import (
    against_level,
    against_p_tar,
    confidence_by_exit,
    exit_times,
    quality_against_level,
    tradeoff_figure,
)
from eenn.reports.figures import save_figure
from eenn.reports.page import Section, report_page
from eenn.reports.tables import write_csv


class Drawn(NamedTuple):
    """A figure with its file's name, its heading on the page and what it shows."""

    name: str
    heading: str
    caption: str
    figure: Figure


def figures(
    results: Results,
    policy: str,
    profiles: Mapping[str, Profile],
    distortion: str,
    service: Service,
) -> list[Drawn]:
    """Every figure that the results have the points for.

    Args:
        policy: the one whose curves against the threshold are drawn.
        profiles: by network.
    """
    points, made = results.points, []
    first = points[0]["level"]
    networks = list(dict.fromkeys(row["network"] for row in points if row["branches"]))
    where = f"{policy.replace('_', ' ')}, {distortion.replace('_', ' ')} level {first:g}"
    clean = [row for row in points if row["level"] == first]
    curve = [row for row in clean if row["policy"] in (policy, LAST_EXIT_ONLY)]
    if networks and len({row["p_tar"] for row in curve if np.isfinite(row["p_tar"])}) > 1:
        batches = f"batches of {service.batch_size}"
        for quantity, heading, caption in (
            ("edge_probability", "Edge probability", "Share of images answered on the edge."),
            ("accuracy", "Accuracy", "Accuracy of all answers, from the edge and from the cloud."),
            (
                "latency_ms",
                "Expected latency",
                "Mean time to the answer from median stage times, the link for offloaded images "
                "included; the intervals are over images alone. Edge and cloud are both this "
                "machine.",
            ),
            (
                "outage",
                "Inference outage",
                f"Share of random {batches} whose accuracy on the edge is below the threshold.",
            ),
            (
                "missed_deadline",
                "Missed deadline",
                f"Share of random {batches} whose mean latency is above {service.deadline_ms:g} ms,"
                " at median stage times.",
            ),
        ):
            if any(np.isfinite(row[quantity]) for row in curve):
                figure = against_p_tar(curve, quantity)
                made.append(Drawn(quantity, heading, f"{caption} {where}. {BARS}", figure))
        taken = [row for row in results.exits if row["level"] == first and row["policy"] == policy]
        made.append(
            Drawn(
                "confidence",
                "Confidence by exit",
                "Mean confidence of the answers of images that stopped at each exit. Those that a "
                "branch accepted lie above the threshold (grey) by construction; the last exit "
                "also holds what nobody accepted. Where no image stopped there is no point. "
                f"{where}. {BARS}",
                confidence_by_exit(taken),
            )
        )
    if networks:
        own = {network: profiles[network] for network in networks}
        caption = (
            "Processing time to every exit with all branches active, one image on one CPU thread, "
            "eager PyTorch: medians, whiskers at the 5th and 95th percentile."
        )
        made.append(Drawn("exit_times", "Time to every exit", caption, exit_times(own)))
    if networks and len({row["level"] for row in points}) > 1:
        for quantity, heading in (
            ("accuracy", "Accuracy"),
            ("edge_probability", "Edge probability"),
            ("macs", "MACs"),
        ):
            figure = against_level(points, quantity, distortion)
            caption = f"{heading} of every policy and threshold at every level. {BARS}"
            name, heading = f"level_{quantity}", f"{heading} against the distortion"
            made.append(Drawn(name, heading, caption, figure))
        for network in networks:
            figure = quality_against_level(results.quality, distortion, network)
            caption = (
                "Calibration error, and how well confidence tells right answers from wrong ones. "
                + BARS
            )
            name, heading = f"quality_{_slug(network)}", f"Quality of the exits, {network}"
            made.append(Drawn(name, heading, caption, figure))
    for network in dict.fromkeys(row["network"] for row in results.tradeoff):
        caption = (
            f"Every policy over its settings, {distortion.replace('_', ' ')} level {first:g}; what "
            "lies more than 20 points below the last exit is cut off. The oracle takes the first "
            "exit that is right: it sees the labels, and bounds the accuracy of rules that pick an "
            "exit, not of committees."
        )
        figure = tradeoff_figure(results.tradeoff, network)
        name, heading = f"tradeoff_{_slug(network)}", f"Trade-off, {network}"
        made.append(Drawn(name, heading, caption, figure))
    return made


def reliability(network: str, seed: int, distortion: str, level: float, figure: Figure) -> Drawn:
    """The reliability diagrams of one network at one level."""
    caption = (
        "Accuracy against confidence before and after temperature scaling; the area of a marker is "
        f"its share of the images. Seed {seed}."
    )
    heading = f"Reliability, {network}, {distortion.replace('_', ' ')} level {level:g}"
    return Drawn(_slug(heading), heading, caption, figure)


def write_report(
    directory: Path,
    title: str,
    facts: Mapping[str, str],
    results: Results,
    thresholds: Sequence[Row],
    made: Sequence[Drawn],
) -> list[Path]:
    """Write the tables, the figures and the page that shows them all; returns the PNG files."""
    for name in ("points", "exits", "quality", "tradeoff"):
        if rows := getattr(results, name):
            write_csv(directory / "tables" / f"{name}.csv", [_raw(row) for row in rows])
    pngs = []
    for drawn in made:
        pngs.append(directory / "figures" / f"{drawn.name}.png")
        save_figure(drawn.figure, pngs[-1])
        save_figure(drawn.figure, pngs[-1].with_suffix(".pdf"))
    sections = [
        Section("Settings", POINTS_TEXT, point_rows(results.points)),
        *(
            Section(drawn.heading, figure=file.read_bytes(), caption=drawn.caption)
            for drawn, file in zip(made, pngs, strict=True)
        ),
        Section("Who stopped where", EXITS_TEXT, taken_rows(results.exits)),
        Section("Quality of the exits", QUALITY_TEXT, quality_rows(results.quality)),
    ]
    if thresholds:
        rows = [_raw(row) for row in thresholds]
        sections.insert(1, Section("Fitted thresholds", THRESHOLDS_TEXT, rows))
    if results.tradeoff:
        rows = [
            {"setting": f"{row['setting']:g}", **printed}
            for row, printed in zip(results.tradeoff, point_rows(results.tradeoff), strict=True)
        ]
        sections.append(Section("Every policy", TRADEOFF_TEXT, rows))
    write_file(directory / "report.html", report_page(title, facts, sections))
    return pngs


BARS = "Bars: 95 % interval, or the range where several seeds are one curve."
POINTS_TEXT = (
    "Each row is a policy at a threshold over a set of active branches. Intervals are 95 %: Wilson "
    "for shares, bootstrap over images for means; a latency is a sum of median stage times and the "
    'link. "Last exit only" runs no branch; "edge only" lets the last active branch answer '
    "whatever is left; the oracle sees the labels. Outage: where a threshold promises an accuracy; "
    "its interval and that of missed deadlines are those of drawing batches, not of the test set."
)
EXITS_TEXT = (
    "How many images stopped at each exit, and how confident and right their answers are. At the "
    "last exit that includes the answers of the fallback, which may be an earlier exit's."
)
QUALITY_TEXT = (
    'Every exit as if it answered all images. "ECE % if calibrated" is what a perfectly calibrated '
    'model with the same confidences would show on as many images. NLL in nats; "raw" is before '
    "temperature scaling; AUROC: of confidence as a detector of right answers; AURC: area under "
    "the risk-coverage curve."
)
THRESHOLDS_TEXT = (
    "Fitted on the validation split without distortion. A test risk is the share of test images "
    "answered wrongly although the last exit is right, with its upper confidence bound at delta."
)
TRADEOFF_TEXT = "Every policy over its settings: p_tar, or how many exits in a row have to agree."


def point_rows(points: Sequence[Row]) -> list[dict[str, str]]:
    """Points as printable rows."""
    rows = []
    for row in points:
        rows.append(
            {
                **_setting(row),
                "n": str(row["n"]),
                "accuracy %": _with_interval(row, "accuracy", 100),
                "edge %": _with_interval(row, "edge_probability", 100),
                "edge accuracy %": _with_interval(row, "edge_accuracy", 100),
                "MMACs": _with_interval(row, "macs", 1e-6),
                "latency ms": _with_interval(row, "latency_ms", 1),
                "kB sent": _with_interval(row, "sent_bytes", 1e-3),
                "outage %": _with_interval(row, "outage", 100),
                "missed deadline %": _with_interval(row, "missed_deadline", 100),
            }
        )
    return _varying(rows, ("seed", "level"))


def taken_rows(exits: Sequence[Row]) -> list[dict[str, str]]:
    """Who stopped where as printable rows."""
    rows = []
    for row in exits:
        rows.append(
            {
                **_setting(row),
                "exit": str(row["exit"]),
                "n": str(row["exit_n"]),
                "stopped here %": _with_interval(row, "exit_share", 100),
                "stopped by here %": f"{100 * row['left_by_here']:.1f}",
                "confidence": _with_interval(row, "confidence", 1, 3),
                "accuracy %": _with_interval(row, "accuracy", 100),
            }
        )
    return _varying(rows, ("seed", "level"))


def _setting(row: Row) -> dict[str, str]:
    """What tells a point from all others."""
    return {
        "network": row["network"],
        "seed": str(row["seed"]),
        "level": f"{row['level']:g}",
        "policy": row["policy"].replace("_", " "),
        "p_tar": row["thresholds"] or _number(row["p_tar"], "g"),
        "active": row["active"],
    }


def quality_rows(quality: Sequence[Row]) -> list[dict[str, str]]:
    """Accuracy, calibration and failure prediction of the exits as printable rows."""
    rows = []
    for row in quality:
        rows.append(
            {
                "network": row["network"],
                "seed": str(row["seed"]),
                "level": f"{row['level']:g}",
                "exit": str(row["exit"]),
                "n": str(row["n"]),
                "accuracy %": _with_interval(row, "accuracy", 100),
                "T": f"{row['temperature']:.3f}",
                "NLL raw": _with_interval(row, "nll_raw", 1, 3),
                "NLL": _with_interval(row, "nll", 1, 3),
                "Brier raw": _with_interval(row, "brier_raw", 1, 3),
                "Brier": _with_interval(row, "brier", 1, 3),
                "ECE % raw": _with_interval(row, "ece_raw", 100),
                "ECE %": _with_interval(row, "ece", 100),
                "ECE % if calibrated": f"{100 * row['ece_if_calibrated']:.1f}",
                "AUROC raw": _with_interval(row, "failure_auroc_raw", 1, 3),
                "AUROC": _with_interval(row, "failure_auroc", 1, 3),
                "AURC raw": _with_interval(row, "aurc_raw", 1, 3),
                "AURC": _with_interval(row, "aurc", 1, 3),
            }
        )
    return _varying(rows, ("seed", "level"))


def _varying(rows: list[dict[str, str]], columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows without those of the columns that say the same in all of them."""
    constant = {c for c in columns if len({row[c] for row in rows}) == 1}
    return [{k: v for k, v in row.items() if k not in constant} for row in rows]


def _raw(row: Row) -> dict[str, str]:
    return {k: f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in row.items()}


def _number(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else "-"


def _with_interval(row: Row, name: str, scale: float, digits: int = 1) -> str:
    value, low, high = (row[key] * scale for key in (name, f"{name}_low", f"{name}_high"))
    if not np.isfinite(value):
        return "-"
    if not np.isfinite(low):
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def _slug(network: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", network.lower()).strip("_")
