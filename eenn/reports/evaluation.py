"""What an evaluation leaves behind: tables/*.csv, figures/*.png and *.pdf, and report.html."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from eenn.calibration import Temperatures
from eenn.costs import Profile
from eenn.files import write_file
from eenn.grid import LAST_EXIT_ONLY, Results, Row
from eenn.records import ExitRecords
from eenn.reports.curves import (
    against_level,
    against_p_tar,
    confidence_by_exit,
    exit_times,
    quality_against_level,
    tradeoff_figure,
)
from eenn.reports.figures import reliability_figure, save_figure
from eenn.reports.page import Section, report_page
from eenn.reports.tables import write_csv

CAPTIONS = {
    "edge_probability": "Share of images answered on the edge against the threshold.",
    "accuracy": "Accuracy of all answers, from the edge and from the cloud, against the threshold.",
    "confidence": "Mean confidence of the images that leave at each exit. A calibrated exit stays "
    "above the threshold (grey line), and where no image left there is no point.",
    "exit_times": "Processing time to every exit with all branches active, one image on one CPU "
    "thread: medians, whiskers at the 5th and 95th percentile.",
    "latency": "Expected time to the answer: measured stage times, and the link for offloaded "
    "images. Edge and cloud are both this machine.",
    "outage": "Share of random batches whose accuracy on the edge is below the threshold.",
    "missed_deadline": "Share of random batches whose mean latency exceeds the deadline.",
    "level_accuracy": "Accuracy of all answers against the distortion.",
    "level_edge_probability": "Share of images answered on the edge against the distortion.",
    "level_macs": "Mean MACs until the answer, heads included, against the distortion.",
    "tradeoff": "Every policy over its settings. The oracle takes the first exit that is right: it "
    "sees the labels and is a bound, not a policy.",
    "reliability": "Accuracy against confidence before and after temperature scaling; the area of "
    "a marker is its share of the images.",
    "quality": "Calibration error and how well confidence tells right answers from wrong ones.",
}


def figures(
    results: Results,
    policy: str,
    profiles: Mapping[int, Profile],
    calibrated: Mapping[int, tuple[ExitRecords, Temperatures]],
    distortion: str,
) -> dict[str, Figure]:
    """Every figure that the results have the points for, by file name.

    Args:
        policy: the one whose curves against the threshold are drawn.
        profiles: by number of branches.
        calibrated: records of the first level, and temperatures, by number of branches.
    """
    points, networks = results.points, sorted(branches for branches in profiles if branches)
    first = min(row["level"] for row in points)
    clean = [
        row for row in points if row["level"] == first and row["policy"] in (policy, LAST_EXIT_ONLY)
    ]
    made: dict[str, Figure] = {}
    if networks and len({row["p_tar"] for row in clean if np.isfinite(row["p_tar"])}) > 1:
        for name, quantity in (
            ("edge_probability", "edge_probability"),
            ("accuracy", "accuracy"),
            ("latency", "latency_ms"),
            ("outage", "outage"),
            ("missed_deadline", "missed_deadline"),
        ):
            made[name] = against_p_tar(clean, quantity)
        exits = [row for row in results.exits if row["level"] == first and row["policy"] == policy]
        made["confidence"] = confidence_by_exit(exits)
    if networks:
        made["exit_times"] = exit_times({branches: profiles[branches] for branches in networks})
    if networks and len({row["level"] for row in points}) > 1:
        for quantity in ("accuracy", "edge_probability", "macs"):
            made[f"level_{quantity}"] = against_level(points, quantity, distortion)
        for branches in networks:
            figure = quality_against_level(results.quality, distortion, branches)
            made[f"quality_{branches}"] = figure
    for branches in sorted({row["branches"] for row in results.tradeoff}):
        made[f"tradeoff_{branches}"] = tradeoff_figure(results.tradeoff, branches)
    for branches, (records, temperatures) in sorted(calibrated.items()):
        figure = reliability_figure(records.logits, records.labels, temperatures)
        made[f"reliability_{branches}"] = figure
    return made


def write_report(
    directory: Path,
    title: str,
    facts: Mapping[str, str],
    results: Results,
    made: Mapping[str, Figure],
) -> list[Path]:
    """Write the tables, the figures and the page that shows them all; returns the PNG files."""
    tables = {
        name: rows
        for name in ("points", "exits", "quality", "tradeoff")
        if (rows := getattr(results, name))
    }
    for name, rows in tables.items():
        write_csv(directory / "tables" / f"{name}.csv", [_raw(row) for row in rows])
    pngs = {name: directory / "figures" / f"{name}.png" for name in made}
    for name, figure in made.items():
        save_figure(figure, pngs[name])
        save_figure(figure, pngs[name].with_suffix(".pdf"))
    sections = [
        Section("Settings", POINTS_TEXT, point_rows(results.points)),
        *(
            Section(_heading(name), figure=file.read_bytes(), caption=CAPTIONS[_kind(name)])
            for name, file in pngs.items()
        ),
        Section("Exits", EXITS_TEXT, quality_rows(results.quality)),
    ]
    write_file(directory / "report.html", report_page(title, facts, sections))
    return list(pngs.values())


POINTS_TEXT = (
    "Each row is a policy at a threshold over a set of active branches. Intervals are 95 %: Wilson "
    'for shares, bootstrap over images for means. "Last exit only" runs no branch; "edge only" '
    "lets the last active branch answer whatever is left; the oracle sees the labels: a bound."
)
EXITS_TEXT = (
    'Every exit as if it answered all images. "ECE % if calibrated" is what a perfectly calibrated '
    'model with the same confidences would show on as many images. NLL in nats; "raw" is before '
    "temperature scaling; AUROC: of confidence as a detector of right answers; AURC: area under "
    "the risk-coverage curve."
)


def point_rows(points: Sequence[Row]) -> list[dict[str, str]]:
    """Points as printable rows."""
    rows = []
    for row in points:
        rows.append(
            {
                "branches": str(row["branches"]),
                "seed": str(row["seed"]),
                "level": f"{row['level']:g}",
                "policy": row["policy"].replace("_", " "),
                "p_tar": _number(row["p_tar"], "g"),
                "active": row["active"],
                "n": str(row["n"]),
                "accuracy %": _with_interval(row, "accuracy", 100),
                "edge %": _with_interval(row, "edge_probability", 100),
                "edge accuracy %": _with_interval(row, "edge_accuracy", 100),
                "MMACs": _with_interval(row, "macs", 1e-6),
                "latency ms": _with_interval(row, "latency_ms", 1),
                "kB sent": f"{row['sent_bytes'] / 1e3:.1f}",
                "outage %": _number(100 * row["outage"], ".1f"),
                "missed deadline %": _number(100 * row["missed_deadline"], ".1f"),
            }
        )
    return _varying(rows, ("seed", "level"))


def quality_rows(quality: Sequence[Row]) -> list[dict[str, str]]:
    """Accuracy, calibration and failure prediction of the exits as printable rows."""
    rows = []
    for row in quality:
        rows.append(
            {
                "branches": str(row["branches"]),
                "seed": str(row["seed"]),
                "level": f"{row['level']:g}",
                "exit": str(row["exit"]),
                "n": str(row["n"]),
                "accuracy %": _with_interval(row, "accuracy", 100),
                "T": f"{row['temperature']:.3f}",
                "NLL raw": f"{row['nll_raw']:.3f}",
                "NLL": _with_interval(row, "nll", 1, 3),
                "Brier raw": f"{row['brier_raw']:.3f}",
                "Brier": _with_interval(row, "brier", 1, 3),
                "ECE % raw": f"{100 * row['ece_raw']:.1f}",
                "ECE %": _with_interval(row, "ece", 100),
                "ECE % if calibrated": f"{100 * row['ece_if_calibrated']:.1f}",
                "AUROC": _with_interval(row, "failure_auroc", 1, 3),
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


def _kind(name: str) -> str:
    return name.rstrip("0123456789").rstrip("_")


def _heading(name: str) -> str:
    kind = _kind(name)
    network = name[len(kind) + 1 :]
    readable = kind.replace("level_", "").replace("_", " ").replace("macs", "MACs")
    against = " against the distortion" if kind.startswith("level_") else ""
    branches = f", {network} branches" if network else ""
    return readable[0].upper() + readable[1:] + against + branches
