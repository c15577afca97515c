"""Figures of an evaluation: every quantity against thresholds, levels and costs.

A network is one panel. Where it has several seeds, a curve is their mean and its bars are their
range; otherwise the bars are the 95 % interval.
"""

import textwrap
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from eenn.evaluation.rows import ExitMetrics, ExitTaken, Point
from eenn.exits.settings import Baseline, Setting
from eenn.planning.costs import Profile
from eenn.planning.exhaustive import SlowerEdge
from eenn.reports.canvas import (
    LEVELLED,
    QUANTITIES,
    Marks,
    draw_level,
    draw_lines,
    finish,
    label_axis,
    make_panels,
    put_title,
    spread,
    styles,
)
from eenn.reports.tables import SettingRow, words
from eenn.statistics.intervals import Estimate


class Measured(SettingRow, Protocol):
    """A row about one way to answer, whose attributes are quantities named as in QUANTITIES."""

    @property
    def most_active(self) -> bool: ...


def against_knob(
    rows: Sequence[Measured], quantity: str, baseline: Baseline = Baseline.LAST_EXIT_ONLY
) -> Figure:
    """Draw a quantity against the knob of a policy, a line per set of active branches.

    Drawn as Fig. 4 of Pacheco et al. (2021a), a panel per network. A grey line, and its interval,
    is the baseline, which has no knob.
    """
    networks = _networks(rows)
    figure, panels = make_panels(len(networks))
    for axis, network in zip(panels, networks, strict=True):
        own = [row for row in rows if row.network.network == network]
        ways = [row for row in own if row.setting.baseline is not baseline]
        lines = _lines(
            (_branches(row.setting), row.setting.number, quantity_of(row, quantity)) for row in ways
        )
        draw_lines(axis, lines, quantity)
        grey = [row for row in own if row.setting.baseline is baseline]
        if grey and quantity in LEVELLED:
            draw_level(axis, [quantity_of(row, quantity) for row in grey], quantity, baseline.value)
        label_axis(axis, _knob_label(ways), quantity, network)
    return finish(figure, panels)


def confidence_by_exit(rows: Sequence[ExitTaken]) -> Figure:
    """Draw the mean confidence of images that leave at each exit against the knob.

    Drawn with all branches active, as Fig. 5 of Pacheco et al. (2021a). An exit where no sample
    left has no point.
    """
    networks = _networks(rows)
    figure, panels = make_panels(len(networks))
    for axis, network in zip(panels, networks, strict=True):
        own = [row for row in rows if row.network.network == network and row.most_active]
        draw_lines(
            axis,
            _lines((f"exit {row.exit}", row.setting.number, row.confidence) for row in own),
            "confidence",
        )
        ends = axis.get_xlim()
        axis.plot(ends, ends, color="0.6", linewidth=0.8, zorder=0)
        axis.set_xlim(ends)
        label_axis(axis, _knob_label(own), "confidence", _title(own))
    return finish(figure, panels)


def against_level(ways: Sequence[tuple[str, Measured]], quantity: str, distortion: str) -> Figure:
    """Draw a quantity against the distortion's level, a line per way to answer.

    Every network with branches has a panel; the conventional network, if given, is in all panels.

    Args:
        ways: rows with the name of their line.
    """
    networks = _networks(row for _, row in ways)
    conventional = [(row.level, quantity_of(row, quantity)) for _, row in ways if _is_plain(row)]
    figure, panels = make_panels(len(networks))
    bounds = (Baseline.LAST_EXIT_ONLY, Baseline.EDGE_ONLY, Baseline.ORACLE)
    for axis, network in zip(panels, networks, strict=True):
        own = [
            (name, row)
            for name, row in ways
            if row.network.network == network
            and row.most_active
            and row.setting.baseline not in bounds
        ]
        lines = _lines((name, row.level, quantity_of(row, quantity)) for name, row in own)
        if conventional and quantity != "edge_probability":
            lines["conventional network"] = conventional
        draw_lines(axis, lines, quantity)
        label_axis(axis, _level_label(distortion), quantity, _title([row for _, row in own]))
    return finish(figure, panels)


def calibration_against_level(rows: Sequence[ExitMetrics], distortion: str, network: str) -> Figure:
    """Draw ECE and failure-prediction AUROC of every exit of one network against the level."""
    figure, panels = make_panels(2, sharey=False)
    own = [row for row in rows if row.network.network == network]
    for axis, quantity in zip(panels, ("ece", "failure_auroc"), strict=True):
        lines = _lines((f"exit {row.exit}", row.level, getattr(row, quantity)) for row in own)
        draw_lines(axis, lines, quantity)
        label_axis(axis, _level_label(distortion), quantity, network)
    return finish(figure, panels)


def tradeoff_figure(
    rows: Sequence[Point], network: str, conventional: Sequence[Point] = ()
) -> Figure:
    """Draw accuracy against mean MACs and against edge probability for all policies of one network.

    The oracle sees the labels: it is a bound, not a policy.

    Args:
        conventional: the last exits of conventional networks, drawn over their MACs.
    """
    figure, panels = make_panels(2, width=4.4, height=4.0)
    own = [
        row
        for row in rows
        if row.network.network == network and row.setting.baseline is not Baseline.EDGE_ONLY
    ]
    for axis, x in zip(panels, ("macs", "edge_probability"), strict=True):
        policies, bounds = _by_way(own, x)
        for (name, marks), style in zip(sorted(policies.items()), styles(), strict=False):
            xs, ys, bars = _scaled(marks, x)
            axis.errorbar(
                xs, ys, bars, label=words(name), markersize=4, linewidth=1.2,
                elinewidth=0.6, ecolor=to_rgba(style["color"], 0.35), **style,
            )  # fmt: skip
        for baseline, marker in ((Baseline.LAST_EXIT_ONLY, "*"), (Baseline.ORACLE, "p")):
            xs, ys, bars = _scaled(bounds[baseline], x)
            axis.errorbar(
                xs, ys, bars, fmt=marker, color="0.35", markersize=12, label=baseline.value
            )
        if x == "macs" and conventional:
            xs, ys, bars = _scaled([(own.macs.value, own.accuracy) for own in conventional], x)
            axis.errorbar(
                xs, ys, bars, fmt="X", color="#d55e00", markersize=9, label="conventional networks"
            )
        ((_, last),) = bounds[Baseline.LAST_EXIT_ONLY]
        ((_, best),) = bounds[Baseline.ORACLE]
        # Settings below this range are too inaccurate to choose.
        axis.set_ylim(100 * last.value - 20, 100 * best.value + 2)
        axis.set(xlabel=QUANTITIES[x][0], ylabel="accuracy, %")
        axis.grid(color="0.92")
    figure.suptitle(textwrap.fill(_title(own), 90), fontsize=11)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def against_slowdown(
    rows: Sequence[SlowerEdge], measured: Mapping[str, float], slowdown: float
) -> Figure:
    """Draw predicted latency against the slowdown factor of the edge, a line per way to answer.

    Args:
        measured: milliseconds at `slowdown` by the name of a way, drawn larger.
    """
    figure, (axis,) = make_panels(1, width=5.4, height=3.6)
    lines: dict[str, list[SlowerEdge]] = defaultdict(list)
    for row in rows:
        lines[row.way].append(row)
    for (name, line), style in zip(lines.items(), styles(), strict=False):
        xs, ys = [row.slowdown for row in line], [row.latency_ms for row in line]
        axis.plot(xs, ys, label=name, markersize=4, markevery=5, linewidth=1.3, **style)
        if name in measured:
            axis.plot(
                [slowdown], [measured[name]], color=style["color"], marker=style["marker"],
                linestyle="none", markersize=10, markerfacecolor="none",
            )  # fmt: skip
    axis.set(xscale="log", yscale="log", xlabel="edge slower by a factor of")
    axis.set(ylabel="latency, ms (large: measured)")
    axis.grid(color="0.92", which="both")
    return finish(figure, [axis])


def exit_times(profiles: Mapping[str, Profile]) -> Figure:
    """Draw the processing time to every exit with all branches active, one image.

    Drawn as Fig. 6, left, of Pacheco et al. (2021a): medians, whiskers at the 5th and 95th
    percentile.

    Args:
        profiles: by network.
    """
    figure, panels = make_panels(len(profiles))
    for axis, (network, profile) in zip(panels, profiles.items(), strict=True):
        p5, p50, p95 = (np.array(profile.to_exit[q]) for q in ("p5", "p50", "p95"))
        exits = np.arange(1, len(p50) + 1)
        axis.bar(exits, p50, color="#56b4e9", edgecolor="0.2", linewidth=0.8)
        axis.errorbar(exits, p50, [p50 - p5, p95 - p50], fmt="none", ecolor="0.2", capsize=3)
        axis.set(xlabel="exit", ylabel="processing time, ms", xticks=exits)
        put_title(axis, network)
        axis.label_outer()
    return figure


def quantity_of(row: Measured, name: str) -> Estimate:
    """Read one of QUANTITIES off a row."""
    found: Estimate = getattr(row, name)
    return found


def way_name(setting: Setting) -> str:
    """Name a line by its policy and knob."""
    return ", ".join(filter(None, (words(setting.name), setting.value_text)))


def _networks(rows: Iterable[Measured]) -> list[str]:
    """List the networks with branches, in their order."""
    return list(dict.fromkeys(row.network.network for row in rows if not _is_plain(row)))


def _is_plain(row: Measured) -> bool:
    """Tell if the row is about a conventional network."""
    return not row.network.branches


def _branches(setting: Setting) -> str:
    return f"branch{'es' if len(setting.active) > 1 else ''} {setting.branches}"


def _knob_label(rows: Sequence[Measured]) -> str:
    knob = rows[0].setting.knob
    return "threshold p_tar" if knob == "p_tar" else knob


def _level_label(distortion: str) -> str:
    return f"{distortion.replace('_', ' ')}, level"


def _title(rows: Sequence[Measured]) -> str:
    """Name the rows' network, and its active branches unless all are active."""
    # Some rows begin with ways to answer without branches.
    row = next((row for row in rows if row.setting.active), rows[0])
    name = row.network.network
    if len(row.setting.active) == row.network.branches:
        return name
    return f"{name}, {_branches(row.setting)} active"


def _lines(
    marks: Iterable[tuple[str, float, Estimate]],
) -> dict[str, Marks]:
    lines: dict[str, list[tuple[float, Estimate]]] = defaultdict(list)
    for name, x, estimate in marks:
        lines[name].append((x, estimate))
    return dict(lines)


def _by_way(rows: Iterable[Point], x: str) -> tuple[dict[str, Marks], dict[Baseline, Marks]]:
    """Average x and accuracy over seeds, for every policy along its knob and every baseline."""
    alike: dict[tuple[str, float, Baseline | None], list[Point]] = defaultdict(list)
    for row in rows:
        knob = 0.0 if row.setting.baseline else row.setting.number
        alike[row.setting.name, knob, row.setting.baseline].append(row)
    policies: dict[str, list[tuple[float, Estimate]]] = defaultdict(list)
    bounds: dict[Baseline, list[tuple[float, Estimate]]] = defaultdict(list)
    for (name, _, baseline), seeds in sorted(alike.items(), key=lambda item: item[0][1]):
        middle = spread([quantity_of(row, x) for row in seeds]).value
        mark = middle, spread([row.accuracy for row in seeds])
        (policies[name] if baseline is None else bounds[baseline]).append(mark)
    return dict(policies), dict(bounds)


def _scaled(marks: Marks, x: str) -> tuple[list[float], list[float], list[list[float]]]:
    """List positions, accuracies in %, and the lengths of their bars below and above."""
    xs = [QUANTITIES[x][1] * position for position, _ in marks]
    ys = [100 * estimate.value for _, estimate in marks]
    below = [100 * (estimate.value - estimate.low) for _, estimate in marks]
    above = [100 * (estimate.high - estimate.value) for _, estimate in marks]
    return xs, ys, [below, above]
