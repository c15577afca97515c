"""The figure of the stream: moving means of risk and edge share, and the alarms."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from benchmarks.guard.recorded import SETTINGS, Part
from eenn.exits.policies.base import Bools, Floats
from eenn.offload.bench.stream import Streamed
from eenn.reports.canvas import finish, styles

WINDOW = 300  # images of a moving mean
SHADES = ("#ffffff", "#eef2f6")


def stream_figure(parts: Sequence[Part], courses: Mapping[str, Streamed]) -> Figure:
    """Draw the course of a stream by several rules.

    Args:
        courses: by the rule's name; alarms are those of the rule `guard`.
    """
    figure = Figure(figsize=(8.5, 5.4), layout="constrained")
    risk, edge = figure.subplots(2, 1, sharex=True)
    for (name, course), style in zip(courses.items(), styles(), strict=False):
        for axis, values in ((risk, course.differs), (edge, course.kept)):
            line = {"color": style["color"], "linestyle": style["linestyle"]}
            axis.plot(*_moving_mean(values), label=name, linewidth=1.3, **line)
    begin = 0
    for number, part in enumerate(parts):
        end = begin + len(part.order)
        for axis in (risk, edge):
            axis.axvspan(begin, end, color=SHADES[number % 2], zorder=0)
        risk.text(
            (begin + end) / 2, 1.02, part.name, ha="center", transform=risk.get_xaxis_transform()
        )
        begin = end
    for number, (at, _) in enumerate(courses["guard"].alarms):
        for axis in (risk, edge):
            axis.axvline(
                at, color="0.4", linewidth=0.9, linestyle=":", label="alarm" * (not number)
            )
    risk.axhline(100 * SETTINGS.risk, color="0.6", linewidth=1, label="promised risk")
    risk.set(ylabel="risk, %", xlim=(0, begin))
    edge.set(ylabel="edge share, %", xlabel="images", ylim=(-2, 102))
    return finish(figure, [risk, edge])


def _moving_mean(values: Bools) -> tuple[Floats, Floats]:
    """Average the newest WINDOW images, in per cent, by the number of the last of them."""
    sums = np.concatenate([[0], np.cumsum(values)])
    ends = np.arange(WINDOW, len(sums), 10)
    return ends.astype(np.float64), 100 * (sums[ends] - sums[ends - WINDOW]) / WINDOW
