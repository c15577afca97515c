"""The figure of a field log: edge share, agreement, latency, failures and threshold over time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from eenn.evaluation.field import DAY_S, FieldBin, alarms, bins, clock, periods
from eenn.evaluation.field_images import FieldImages, Floats
from eenn.offload.adaptation.status import BURST, OFFLOADING
from eenn.reports.canvas import COLOURS, finish
from eenn.statistics.intervals import Estimate

BLUE, RED, GREEN, PINK, BLACK, LIGHT_BLUE, ORANGE = COLOURS
ALARM_COLOURS = {"risk": RED, "share": PINK}
MOST_MARKS = 200  # alarms and periods that are drawn
TICKS = 6
SHORT_S = 600  # of a log whose clock times have seconds

CAPTION = (
    "Each mark is a part of the log with equally many images. Bands and bars are Wilson's 95 % "
    "intervals of that part; few audits fall into one part, so the bars of the agreement are wide. "
    "Clock times are UTC. In a burst of the guard everything is offloaded, so no image leaves on "
    "the edge."
)


@dataclass(frozen=True)
class _Line:
    """A quantity over the parts of a log, and how its intervals are drawn: band, bars or not."""

    name: str
    colour: str
    marker: str
    of: Callable[[FieldBin], Estimate | float]
    scale: float = 1.0
    intervals: str = ""


@dataclass(frozen=True)
class _Panel:
    """A panel: the label of its axis, and its lines."""

    label: str
    lines: Sequence[_Line]
    is_share: bool = True


_PANELS = (
    _Panel(
        "on the edge, %",
        [
            _Line("edge share", BLUE, "o", lambda b: b.numbers.edge_probability, 100, "band"),
            _Line("edge share expected by the guard", "0.4", "", lambda b: b.reference, 100),
        ],
    ),
    _Panel(
        "agreement, %",
        [
            _Line("audits that agree", GREEN, "s", lambda b: b.numbers.agreement, 100, "bars"),
            _Line(
                "offloaded images: the last branch agrees",
                ORANGE, "^", lambda b: b.numbers.needless, 100,
            ),
        ],
    ),
    _Panel(
        "latency, ms",
        [
            _Line("latency, mean", LIGHT_BLUE, "D", lambda b: b.numbers.latency_ms),
            _Line("latency, 95 % of images within", BLACK, "v", lambda b: b.numbers.latency_p95_ms),
        ],
        is_share=False,
    ),
    _Panel(
        "cloud failures, %",
        [_Line("requests that failed", RED, "X", lambda b: b.numbers.failures, 100, "band")],
    ),
)  # fmt: skip


def field_figure(images: FieldImages) -> Figure:
    """Draw one artifact's part of a field log; panels without values are left out."""
    parts = bins(images)
    shown = [panel for panel in _PANELS if _is_known(panel, parts)]
    threshold = images.column("threshold")
    has_threshold = bool(np.isfinite(threshold).any())
    count = len(shown) + has_threshold
    figure = Figure(figsize=(7.6, 1.75 * count + 1.5), layout="constrained")
    axes = list(figure.subplots(count, 1, squeeze=False, sharex=True).flat)
    for axis, panel in zip(axes, shown, strict=False):
        _draw(axis, panel, parts)
    if has_threshold:
        _draw_threshold(axes[-1], threshold)
    for axis in axes:
        axis.grid(color="0.92")
        _mark(axis, images)
    axes[-1].set(xlabel="images", xlim=(1, max(len(images), 2)))
    axes[-1].xaxis.set_major_locator(MaxNLocator(TICKS, integer=True))
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    _clock_above(axes[0], images.column("time"))
    return finish(figure, axes)


def _is_known(panel: _Panel, parts: Sequence[FieldBin]) -> bool:
    """Tell whether a panel has a value to show; failures are shown only if there are some."""
    values = [_ends(line, part)[0] for line in panel.lines for part in parts]
    known = [value for value in values if np.isfinite(value)]
    return any(known) if panel is _PANELS[-1] else bool(known)


def _ends(line: _Line, part: FieldBin) -> Estimate:
    found = line.of(part)
    own = found if isinstance(found, Estimate) else Estimate(found, np.nan, np.nan)
    return Estimate(*(line.scale * end for end in own))


def _draw(axis: Axes, panel: _Panel, parts: Sequence[FieldBin]) -> None:
    middle = np.array([part.first + (part.numbers.n - 1) / 2 for part in parts])
    for line in panel.lines:
        value, low, high = np.array([_ends(line, part) for part in parts]).T
        if not np.isfinite(value).any():
            continue
        axis.plot(
            middle, value,
            color=line.colour, marker=line.marker, label=line.name,
            markersize=3, linewidth=1.2, linestyle="-" if line.marker else "--",
        )  # fmt: skip
        if line.intervals == "band":
            axis.fill_between(middle, low, high, color=line.colour, alpha=0.18, linewidth=0)
        elif line.intervals == "bars":
            axis.vlines(middle, low, high, color=line.colour, linewidth=0.8, alpha=0.6)
    axis.set_ylabel(panel.label)
    if panel.is_share:
        axis.set_ylim(-3, 103)
    else:
        axis.set_ylim(bottom=0)


def _draw_threshold(axis: Axes, threshold: Floats) -> None:
    """Draw the threshold as steps, with gaps while everything is offloaded."""
    same = (threshold[1:] == threshold[:-1]) | (np.isnan(threshold[1:]) & np.isnan(threshold[:-1]))
    at = np.concatenate([[0], np.flatnonzero(~same) + 1, [len(threshold) - 1]])
    axis.step(
        at + 1, threshold[at],
        where="post", color=BLUE, linewidth=1.5, label="threshold in force",
    )  # fmt: skip
    axis.set_ylabel("threshold")


def _mark(axis: Axes, images: FieldImages) -> None:
    """Mark bursts and periods without a safe threshold, and draw a line at every alarm."""
    for state, shade, name in (
        (BURST, "0.55", "burst of the guard"),
        (OFFLOADING, "0.8", "no safe threshold"),
    ):
        for number, (first, last) in enumerate(periods(images, state)[:MOST_MARKS]):
            label = name if number == 0 else None
            axis.axvspan(first, last, color=shade, alpha=0.5, linewidth=0, zorder=0, label=label)
    named = set[str]()
    for alarm in alarms(images)[:MOST_MARKS]:
        label = None if alarm.kind in named else f"alarm: {alarm.kind}"
        named.add(alarm.kind)
        axis.axvline(
            alarm.image, color=ALARM_COLOURS[alarm.kind], linestyle=":", linewidth=1.4, label=label
        )


def _clock_above(axis: Axes, time: Floats) -> None:
    """Write clock times above a panel, at round numbers of images."""
    seconds = time[-1] - time[0]
    form = "%H:%M:%S" if seconds < SHORT_S else "%H:%M" if seconds < DAY_S else "%d %b\n%H:%M"
    found = MaxNLocator(TICKS, integer=True).tick_values(1, len(time))
    ticks = [max(int(tick), 1) for tick in found if 0 <= tick <= len(time)]
    above = axis.secondary_xaxis("top")
    above.set_xticks(ticks, [clock(time[tick - 1], form) for tick in ticks])
    above.tick_params(labelsize=8)
    above.set_xlabel(f"UTC, from {clock(time[0], '%d %B %Y, %H:%M')}", fontsize=9)
