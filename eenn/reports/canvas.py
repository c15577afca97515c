"""Panels, lines and legends of curves with intervals.

Colour-blind safe, and every line has its own marker and dash, so that it reads in black and white.
"""

import textwrap
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import TypedDict

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eenn.statistics.intervals import Estimate

Dash = str | tuple[int, tuple[int, ...]]

# Okabe and Ito's palette without its yellow, which is lost on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#56b4e9", "#e69f00")
# Their numbers have no common divisor, so that a style repeats only after their product.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
DASHES: tuple[Dash, ...] = ("-", "--", "-.", ":", (0, (3, 1, 1, 1)))

QUANTITIES = {
    "accuracy": ("accuracy, %", 100.0),
    "same_as_last": ("answers of the last exit, %", 100.0),
    "edge_probability": ("edge probability, %", 100.0),
    "edge_accuracy": ("accuracy on the edge, %", 100.0),
    "macs": ("mean MACs to the answer, millions", 1e-6),
    "latency_ms": ("expected latency, ms", 1.0),
    "answer_ms": ("mean time to the answer, ms", 1.0),
    "sent_bytes": ("bytes sent per image, kB", 1e-3),
    "confidence": ("mean confidence", 1.0),
    "outage": ("inference outage, % of batches", 100.0),
    "missed_deadline": ("missed deadline, % of batches", 100.0),
    "ece": ("ECE, %", 100.0),
    "failure_auroc": ("AUROC of confidence", 1.0),
}


# Quantities in which a baseline without a knob is a grey line.
LEVELLED = ("accuracy", "macs", "latency_ms", "answer_ms", "sent_bytes")

# Positions with their estimates, by the name of the line.
Marks = Sequence[tuple[float, Estimate]]
Lines = Mapping[str, Marks]


class Style(TypedDict):
    """The colour, marker and dash of a line."""

    color: str
    marker: str
    linestyle: Dash


def draw_lines(axis: Axes, lines: Lines, quantity: str) -> None:
    """Draw lines with the bars of their intervals; values that are not numbers have no point."""
    for (name, marks), style in zip(lines.items(), styles(), strict=False):
        draw_line(axis, name, marks, quantity, style)


def draw_line(
    axis: Axes, name: str, marks: Marks, quantity: str, style: Style, markersize: float = 4.5
) -> None:
    """Draw one line with the bars of its intervals; see `draw_lines`."""
    at: dict[float, list[Estimate]] = defaultdict(list)
    for x, estimate in marks:
        if np.isfinite(estimate.value):
            at[x].append(estimate)
    xs = sorted(at)
    points = np.array([spread(at[x]) for x in xs]).reshape(-1, 3) * QUANTITIES[quantity][1]
    middle, low, high = points.T
    axis.errorbar(
        xs, middle, [middle - low, high - middle], label=name,
        capsize=2, markersize=markersize, linewidth=1.3, elinewidth=0.8, **style,
    )  # fmt: skip


def spread(estimates: Sequence[Estimate]) -> Estimate:
    """Merge estimates of one quantity: mean and range over several seeds, else the interval."""
    values = [estimate.value for estimate in estimates]
    if len(values) > 1:
        return Estimate(float(np.mean(values)), min(values), max(values))
    (only,) = estimates
    # An interval that does not exist, or not at the value, has no bar on that side.
    return Estimate(only.value, min(only.low, only.value), max(only.high, only.value))


def draw_level(axis: Axes, estimates: Sequence[Estimate], quantity: str, name: str) -> None:
    """Draw a quantity without a knob as a grey line, with its interval around it."""
    middle, low, high = np.array(spread(estimates)) * QUANTITIES[quantity][1]
    axis.axhspan(low, high, color="0.5", alpha=0.15, linewidth=0, zorder=0)
    axis.axhline(middle, color="0.5", linewidth=1.5, zorder=1.5, label=name)


def make_panels(
    count: int, width: float = 3.4, height: float = 3.2, sharey: bool = True
) -> tuple[Figure, list[Axes]]:
    """Make a figure of `count` panels, side by side and then below each other."""
    columns = min(count, 2) if count != 3 else 3
    rows = -(-count // columns)
    size = (max(width * columns, 4.4), height * rows + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
    for unused in axes.flat[count:]:
        unused.set_axis_off()
    return figure, list(axes.flat[:count])


def label_axis(axis: Axes, x: str, quantity: str, title: str) -> None:
    """Name the axes, with units, and the panel."""
    axis.set(xlabel=x, ylabel=QUANTITIES[quantity][0])
    axis.xaxis.set_major_locator(MaxNLocator(6))
    put_title(axis, title)
    axis.grid(color="0.92")
    if quantity in ("edge_probability", "outage", "missed_deadline"):
        axis.set_ylim(-2, 102)


def put_title(axis: Axes, title: str) -> None:
    """Write a panel's title, in as many lines as its width needs."""
    figure, grid = axis.get_figure(root=True), axis.get_gridspec()
    columns = grid.ncols if grid is not None else 1
    # A letter of this size takes about 0.08 inches.
    letters = int(figure.get_size_inches()[0] / columns / 0.08) if figure is not None else 40
    axis.set_title(textwrap.fill(title, letters), fontsize=10)


def finish(figure: Figure, panels: Sequence[Axes]) -> Figure:
    """Put one legend below all panels, with every line of the panels."""
    entries: dict[str, Artist] = {}
    alike = len({axis.get_ylabel() for axis in panels}) == 1
    for axis in panels:
        if alike:
            axis.label_outer()
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    width, height = figure.get_size_inches()
    # A letter of this size takes about 0.07 inches, and a line's sample over half an inch.
    columns = max(1, min(3, int(width / (0.7 + 0.07 * max(map(len, entries), default=1)))))
    # `make_panels` has room for three rows.
    figure.set_size_inches(width, height + 0.19 * max(0, -(-len(entries) // columns) - 3))
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9,
        # Long enough to tell dashes apart.
        handlelength=3,
    )
    return figure


def styles() -> Iterator[Style]:
    """Yield the styles of lines, in their order, without end."""
    for colour, marker, dash in zip(cycle(COLOURS), cycle(MARKERS), cycle(DASHES), strict=False):
        yield {"color": colour, "marker": marker, "linestyle": dash}


def style_in(family: int, member: int, single: bool) -> Style:
    """Choose the style of a line: colour and marker of its family, dash of its number there.

    Args:
        family, member: numbers of the family and of the line within it, from 0.
        single: the line is one mark, without a dash; its number has a marker instead.
    """
    dashes = 1 if single else len(DASHES)
    return {
        "color": COLOURS[family % len(COLOURS)],
        # Where the dashes are used up, the line takes another marker.
        "marker": MARKERS[(family + member // dashes) % len(MARKERS)],
        "linestyle": "none" if single else DASHES[member % dashes],
    }
