"""Figures of results: reliability diagrams, and files of every figure."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eenn.files import write_file
from eenn.statistics.calibration import ReliabilityBins, probabilities, reliability_bins

matplotlib.use("Agg")

BARS = "Bars: 95 % interval, or the range where several seeds are one curve."


class Drawn(NamedTuple):
    """A figure with its file's name, its heading on the page and its caption."""

    name: str
    heading: str
    caption: str
    figure: Figure


def reliability_figure(
    logits: NDArray[np.float32], labels: NDArray[np.int64], temperatures: Sequence[float]
) -> Figure:
    """Draw confidence against accuracy for every exit, before and after its temperature.

    The area of a marker grows with the share of samples in its bin.

    Args:
        logits: raw, (exits, samples, classes).
        labels: class indices, (samples,).
        temperatures: one per exit.
    """
    exits = len(logits)
    columns = min(exits, 3)
    rows = -(-exits // columns)
    figure = Figure(figsize=(3.1 * columns, 3.1 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for k, (z, t) in enumerate(zip(logits, temperatures, strict=True)):
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


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's suffix, PNG or PDF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    figure.savefig(content, dpi=150, format=path.suffix[1:])
    write_file(path, content.getvalue())


def save_figures(directory: Path, made: Sequence[Drawn]) -> list[Path]:
    """Write every figure as PNG and as PDF; returns the PNG files."""
    pngs = [directory / f"{drawn.name}.png" for drawn in made]
    for drawn, png in zip(made, pngs, strict=True):
        save_figure(drawn.figure, png)
        save_figure(drawn.figure, png.with_suffix(".pdf"))
    return pngs


def _markers(axis: Any, bins: ReliabilityBins, colour: str, marker: str, label: str) -> None:
    size = 8 + 150 * bins.count / bins.count.sum()
    axis.scatter(
        bins.confidence, bins.accuracy, size, colour, marker=marker, label=label, alpha=0.7
    )
