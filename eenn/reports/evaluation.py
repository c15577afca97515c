"""What an evaluation leaves behind: tables/*.csv, figures/*.png and *.pdf, and report.html."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from eenn.evaluation.grid import Results, Service
from eenn.exits.settings import LAST_EXIT_ONLY
from eenn.files import write_file
from eenn.planning.costs import Profile
from eenn.reports.curves import (
    against_level,
    against_p_tar,
    confidence_by_exit,
    exit_times,
    quality_against_level,
    tradeoff_figure,
)
from eenn.reports.figures import BARS, Drawn, save_figures
from eenn.reports.page import Section, report_page
from eenn.reports.tables import raw, setting_columns, varying, with_bounds, write_csv
from eenn.statistics.intervals import Row


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
            f"exit, not of committees. {BARS}"
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
            write_csv(directory / "tables" / f"{name}.csv", [raw(row) for row in rows])
    pngs = save_figures(directory / "figures", made)
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
        rows = [raw(row) for row in thresholds]
        sections.insert(1, Section("Fitted thresholds", THRESHOLDS_TEXT, rows))
    if results.tradeoff:
        rows = [
            {"setting": f"{row['setting']:g}", **printed}
            for row, printed in zip(results.tradeoff, point_rows(results.tradeoff), strict=True)
        ]
        sections.append(Section("Every policy", TRADEOFF_TEXT, rows))
    write_file(directory / "report.html", report_page(title, facts, sections))
    return pngs


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
                **setting_columns(row),
                "n": str(row["n"]),
                "accuracy %": with_bounds(row, "accuracy", 100),
                "edge %": with_bounds(row, "edge_probability", 100),
                "edge accuracy %": with_bounds(row, "edge_accuracy", 100),
                "MMACs": with_bounds(row, "macs", 1e-6),
                "latency ms": with_bounds(row, "latency_ms", 1),
                "kB sent": with_bounds(row, "sent_bytes", 1e-3),
                "outage %": with_bounds(row, "outage", 100),
                "missed deadline %": with_bounds(row, "missed_deadline", 100),
            }
        )
    return varying(rows, ("seed", "level"))


def taken_rows(exits: Sequence[Row]) -> list[dict[str, str]]:
    """Who stopped where as printable rows."""
    rows = []
    for row in exits:
        rows.append(
            {
                **setting_columns(row),
                "exit": str(row["exit"]),
                "n": str(row["exit_n"]),
                "stopped here %": with_bounds(row, "exit_share", 100),
                "stopped by here %": f"{100 * row['left_by_here']:.1f}",
                "confidence": with_bounds(row, "confidence", 1, 3),
                "accuracy %": with_bounds(row, "accuracy", 100),
            }
        )
    return varying(rows, ("seed", "level"))


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
                "accuracy %": with_bounds(row, "accuracy", 100),
                "T": f"{row['temperature']:.3f}",
                "NLL raw": with_bounds(row, "nll_raw", 1, 3),
                "NLL": with_bounds(row, "nll", 1, 3),
                "Brier raw": with_bounds(row, "brier_raw", 1, 3),
                "Brier": with_bounds(row, "brier", 1, 3),
                "ECE % raw": with_bounds(row, "ece_raw", 100),
                "ECE %": with_bounds(row, "ece", 100),
                "ECE % if calibrated": f"{100 * row['ece_if_calibrated']:.1f}",
                "AUROC raw": with_bounds(row, "failure_auroc_raw", 1, 3),
                "AUROC": with_bounds(row, "failure_auroc", 1, 3),
                "AURC raw": with_bounds(row, "aurc_raw", 1, 3),
                "AURC": with_bounds(row, "aurc", 1, 3),
            }
        )
    return varying(rows, ("seed", "level"))


def _slug(network: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", network.lower()).strip("_")
