"""From recorded logits to tables and figures."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eenn.calibration import (
    ReliabilityBins,
    Temperatures,
    ece,
    ece_if_calibrated,
    nll,
    probabilities,
    reliability_bins,
)
from eenn.files import write_file

matplotlib.use("Agg")


def exit_metrics(
    logits: NDArray[np.float32], labels: NDArray[np.int64], temperatures: Temperatures
) -> dict[str, list[float]]:
    """Per exit: accuracy, NLL (nats) and ECE before and after its temperature.

    Also `ece_if_calibrated`, what a perfectly calibrated model with the same confidences would
    show on average over draws of this many samples.

    Args:
        logits: raw, (exits, samples, classes).
        labels: class indices, (samples,).
    """
    metrics: dict[str, list[float]] = {
        "accuracy": [float((z.argmax(-1) == labels).mean()) for z in logits],
        "nll": [nll(z, labels) for z in logits],
        "ece": [ece(probabilities(z), labels) for z in logits],
    }
    pairs = list(zip(logits, temperatures.per_exit, strict=True))
    calibrated = [probabilities(z, t) for z, t in pairs]
    metrics["nll_calibrated"] = [nll(z, labels, t) for z, t in pairs]
    metrics["ece_calibrated"] = [ece(probs, labels) for probs in calibrated]
    metrics["ece_if_calibrated"] = [ece_if_calibrated(probs)[0] for probs in calibrated]
    return metrics


def exit_rows(
    metrics: dict[str, list[float]], temperatures: Temperatures, exits: Sequence[dict[str, Any]]
) -> list[dict[str, str]]:
    """One printable row per exit: where it is, what it costs, how good and how calibrated it is.

    Args:
        exits: the manifest's table of exits. MACs count all segments and heads up to the exit.
    """
    return [
        {
            "exit": str(k + 1),
            "after block": str(row["after"]),
            "MMACs": f"{(row['macs'] + sum(e['head_macs'] for e in exits[: k + 1])) / 1e6:.1f}",
            "accuracy %": f"{100 * metrics['accuracy'][k]:.1f}",
            "NLL": f"{metrics['nll'][k]:.3f}",
            "NLL cal.": f"{metrics['nll_calibrated'][k]:.3f}",
            "ECE %": f"{100 * metrics['ece'][k]:.1f}",
            "ECE % cal.": f"{100 * metrics['ece_calibrated'][k]:.1f}",
            "T": f"{temperatures.per_exit[k]:.3f}",
        }
        for k, row in enumerate(exits)
    ]


def reliability_figure(
    logits: NDArray[np.float32], labels: NDArray[np.int64], temperatures: Temperatures
) -> Figure:
    """Confidence against accuracy for every exit, before and after its temperature.

    The area of a marker grows with the share of samples in its bin.

    Args:
        logits: raw, (exits, samples, classes).
        labels: class indices, (samples,).
    """
    exits = len(logits)
    columns = min(exits, 3)
    rows = -(-exits // columns)
    figure = Figure(figsize=(3.1 * columns, 3.1 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for k, (z, t) in enumerate(zip(logits, temperatures.per_exit, strict=True)):
        axis = axes.flat[k]
        axis.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
        for temperature, colour, marker, label in (
            (1.0, "#d55e00", "o", "uncalibrated"),
            (t, "#0072b2", "s", "temperature"),
        ):
            bins = reliability_bins(probabilities(z, temperature), labels)
            axis.plot(bins.confidence, bins.accuracy, color=colour, linewidth=1)
            _markers(axis, bins, colour, marker, label)
        axis.set_title(f"exit {k + 1}, T = {t:.2f}", fontsize=10)
        axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    for unused in axes.flat[exits:]:
        unused.set_axis_off()
    figure.supxlabel("confidence", fontsize=10)
    figure.supylabel("accuracy", fontsize=10)
    handles, names = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False)
    return figure


def write_csv(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write rows with the same keys as a CSV table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text.getvalue())


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _markers(axis: Any, bins: ReliabilityBins, colour: str, marker: str, label: str) -> None:
    size = 8 + 150 * bins.count / bins.count.sum()
    axis.scatter(
        bins.confidence, bins.accuracy, size, colour, marker=marker, label=label, alpha=0.7
    )
