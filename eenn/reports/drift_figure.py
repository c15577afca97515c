"""The figure of a stream: risk and edge share over its images, alarms, and the threshold."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eenn.exits.policies.base import Floats
from eenn.offload.bench.courses import CLAIRVOYANT, GUARDED, LIVE, STATIC, Course, Stream
from eenn.reports.canvas import COLOURS, DASHES

# Of moving means.
WINDOWS, SMALLEST_WINDOW = 40, 50
# In the order in which lines are drawn; the live one is solid.
WAYS = (LIVE, GUARDED, STATIC, CLAIRVOYANT)
SHADES = ("1.0", "0.94")
ALARM_MARKS = {"risk": "v", "share": "s"}


def window_of(images: int) -> int:
    """Count the images of which a moving mean is taken in a stream of so many."""
    return max(images // WINDOWS, SMALLEST_WINDOW)


def stream_figure(stream: Stream, courses: Sequence[Course], risk: float, knob: str) -> Figure:
    """Draw moving means of risk and edge share, the alarms, and the threshold in force.

    Args:
        risk: the promised one.
        knob: name of the threshold.
    """
    figure = Figure(figsize=(7.6, 6.6), layout="constrained")
    lost, left, threshold = figure.subplots(3, 1, sharex=True, height_ratios=(5, 5, 3))
    window = window_of(stream.images)
    for course in sorted(courses, key=lambda own: WAYS.index(own.way)):
        number, is_live = WAYS.index(course.way), course.way == LIVE
        style: dict[str, Any] = {
            "color": COLOURS[number],
            "linestyle": DASHES[number],
            "linewidth": 1.8 if is_live else 1.2,
        }
        for axis, values in ((lost, course.differs), (left, course.kept)):
            newest = 100 * moving_mean(values.astype(float), window)
            # Means of fewer images would jump.
            begin = min(window, len(newest)) - 1
            xs = np.arange(begin, len(newest))
            axis.plot(xs, newest[begin:], label=course.way, **style)
        if course.way != CLAIRVOYANT:
            threshold.step(np.arange(stream.images), course.thresholds, where="post", **style)
        _mark(threshold, course, COLOURS[number])
    lost.axhline(100 * risk, color="0.4", linewidth=1, label="promised")
    for axis in (lost, left, threshold):
        _shade(axis, stream)
    for segment, at in zip(stream.segments, stream.places, strict=True):
        lost.text(
            (at.start + at.stop) / 2, 1.02, segment.name.replace(" level ", "\nlevel "),
            transform=lost.get_xaxis_transform(), ha="center", va="bottom", fontsize=9,
        )  # fmt: skip
    lost.set(ylabel="risk, %", ylim=(0, None))
    left.set(ylabel="edge probability, %", ylim=(-2, 102))
    threshold.set(ylabel=f"{knob} in force", xlabel="images")
    threshold.set_xlim(0, stream.images)
    handles, labels = lost.get_legend_handles_labels()
    marks, kinds = threshold.get_legend_handles_labels()
    figure.legend(
        [*handles, *marks], [*labels, *kinds], loc="outside lower center", ncols=4,
        frameon=False, fontsize=9, handlelength=3,
    )  # fmt: skip
    return figure


def moving_mean(values: Floats, window: int) -> Floats:
    """Average every value with those before it, over at most `window` values."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def _shade(axis: Axes, stream: Stream) -> None:
    """Tell the segments apart by their background."""
    for number, at in enumerate(stream.places):
        axis.axvspan(at.start, at.stop, color=SHADES[number % 2], linewidth=0, zorder=0)
    axis.grid(color="0.88", linewidth=0.6)


def _mark(axis: Axes, course: Course, colour: str) -> None:
    """Mark the alarms of a course on the upper border, those of records around the live ones."""
    is_live = course.way == LIVE
    for kind, mark in ALARM_MARKS.items():
        at = [image for image, own in course.alarms if own == kind]
        if at:
            axis.plot(
                at, [1.0] * len(at), mark, color=colour, markersize=5 if is_live else 9,
                fillstyle="full" if is_live else "none", clip_on=False, linestyle="none",
                transform=axis.get_xaxis_transform(),
                label=f"alarm by {kind}, {course.way.split(', ')[-1]}",
            )  # fmt: skip
