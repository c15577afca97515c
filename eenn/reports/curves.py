"""Figures of an evaluation: every quantity against thresholds, levels and costs.

They take the rows of `eenn.evaluation.grid`, each with the keys `network`, `branches`, `seed`,
`level` on top.
A network is one panel. Where it has several seeds, a curve is their mean and its bars are their
range; otherwise the bars are the 95 % interval. Colour-blind safe, and every line has its own
marker and dash, so that it reads in black and white.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eenn.exits.settings import EDGE_ONLY, LAST_EXIT_ONLY, ORACLE
from eenn.planning.costs import Profile
from eenn.statistics.intervals import Row, with_interval

# Okabe and Ito's palette without its yellow, which is lost on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#56b4e9", "#e69f00")
# Numbers without a common divisor, so that a style comes again only after their product.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (3, 1, 1, 1)))

QUANTITIES = {
    "accuracy": ("accuracy, %", 100.0),
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


def against_p_tar(rows: Sequence[Row], quantity: str, baseline: str = LAST_EXIT_ONLY) -> Figure:
    """A quantity against p_tar, a line per active branches, a panel per network ([A] Fig. 4).

    A grey line, and its interval, is the policy `baseline`, which has no threshold.
    """
    networks = _networks(rows)
    figure, panels = _panels(len(networks))
    for axis, network in zip(panels, networks, strict=True):
        own = [row for row in rows if row["network"] == network]
        lines = _lines((row for row in own if row["policy"] != baseline), _branches)
        _draw(axis, lines, "p_tar", quantity)
        _baseline(axis, [row for row in own if row["policy"] == baseline], quantity)
        _label(axis, "threshold p_tar", quantity, network)
    return _finish(figure, panels)


def confidence_by_exit(rows: Sequence[Row]) -> Figure:
    """Mean confidence of what leaves at each exit, all branches active, against p_tar ([A] Fig. 5).

    An exit where no sample left has no point.
    """
    networks = _networks(rows)
    figure, panels = _panels(len(networks))
    for axis, network in zip(panels, networks, strict=True):
        own = [row for row in rows if row["network"] == network and row["most_active"]]
        lines = _lines(own, lambda row: f"exit {row['exit']}")
        _draw(axis, lines, "p_tar", "confidence")
        ends = axis.get_xlim()
        axis.plot(ends, ends, color="0.6", linewidth=0.8, zorder=0)
        axis.set_xlim(ends)
        _label(axis, "threshold p_tar", "confidence", _title(own))
    return _finish(figure, panels)


def against_level(rows: Sequence[Row], quantity: str, distortion: str) -> Figure:
    """A quantity against the distortion's level, a line per policy and threshold ([B] Fig. 3 to 5).

    A panel per network with branches; the conventional network, where there is one, is in all.
    """
    networks = _networks(rows)
    conventional = [row for row in rows if not row["branches"]]
    figure, panels = _panels(len(networks))
    for axis, network in zip(panels, networks, strict=True):
        own = [
            row
            for row in rows
            if row["network"] == network
            and row["most_active"]
            and row["policy"] not in (LAST_EXIT_ONLY, EDGE_ONLY, ORACLE)
        ]
        lines = _lines(own, way_name)
        if conventional and quantity != "edge_probability":
            lines["conventional network"] = conventional
        _draw(axis, lines, "level", quantity)
        _label(axis, f"{distortion.replace('_', ' ')}, level", quantity, _title(own))
    return _finish(figure, panels)


def quality_against_level(rows: Sequence[Row], distortion: str, network: str) -> Figure:
    """ECE and failure-prediction AUROC of every exit of one network against the level."""
    figure, panels = _panels(2, sharey=False)
    own = [row for row in rows if row["network"] == network]
    for axis, quantity in zip(panels, ("ece", "failure_auroc"), strict=True):
        _draw(axis, _lines(own, lambda row: f"exit {row['exit']}"), "level", quantity)
        _label(axis, f"{distortion.replace('_', ' ')}, level", quantity, network)
    return _finish(figure, panels)


def tradeoff_figure(rows: Sequence[Row], network: str) -> Figure:
    """Accuracy against mean MACs and against edge probability for all policies of one network.

    The oracle sees the labels: it is a bound, not a policy.
    """
    figure, panels = _panels(2, width=4.4, height=4.0)
    own = _over_seeds(
        row for row in rows if row["network"] == network and row["policy"] != EDGE_ONLY
    )
    for axis, x in zip(panels, ("macs", "edge_probability"), strict=True):
        scale = QUANTITIES[x][1]
        named = defaultdict(list)
        for row in own:
            named[row["policy"]].append(row)
        bounds = {name: named.pop(name) for name in (LAST_EXIT_ONLY, ORACLE)}
        for (name, points), style in zip(sorted(named.items()), _styles(), strict=False):
            points = sorted(points, key=lambda row: row["setting"])
            xs, _ = _ends(points, x, scale)
            ys, bars = _ends(points, "accuracy", 100)
            axis.errorbar(
                xs, ys, bars, label=name.replace("_", " "), markersize=4, linewidth=1.2,
                elinewidth=0.6, ecolor=to_rgba(style["color"], 0.35), **style,
            )  # fmt: skip
        for (name, points), marker in zip(bounds.items(), ("*", "p"), strict=True):
            xs, _ = _ends(points[:1], x, scale)
            ys, bars = _ends(points[:1], "accuracy", 100)
            axis.errorbar(xs, ys, bars, fmt=marker, color="0.35", markersize=12, label=name)
        best = 100 * bounds[ORACLE][0]["accuracy"]
        # Below lie settings that nobody would choose.
        axis.set_ylim(100 * bounds[LAST_EXIT_ONLY][0]["accuracy"] - 20, best + 2)
        axis.set(xlabel=QUANTITIES[x][0], ylabel="accuracy, %")
        axis.grid(color="0.92")
    figure.suptitle(_title(own), fontsize=11)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def against_slowdown(rows: Sequence[Row], measured: Mapping[str, float], slowdown: float) -> Figure:
    """Predicted latency against how many times slower the edge computes, a line per way to answer.

    Args:
        rows: with `slowdown`, `policy` and `latency_ms`.
        measured: milliseconds at `slowdown` by policy, drawn larger.
    """
    figure, (axis,) = _panels(1, width=5.4, height=3.6)
    lines = _lines(rows, lambda row: row["policy"])
    for (name, line), style in zip(lines.items(), _styles(), strict=False):
        xs, ys = [row["slowdown"] for row in line], [row["latency_ms"] for row in line]
        axis.plot(xs, ys, label=name, markersize=4, markevery=5, linewidth=1.3, **style)
        if name in measured:
            large = {**style, "linestyle": "none", "markersize": 10, "markerfacecolor": "none"}
            axis.plot([slowdown], [measured[name]], **large)
    axis.set(xscale="log", yscale="log", xlabel="edge slower by a factor of")
    axis.set(ylabel="latency, ms (large: measured)")
    axis.grid(color="0.92", which="both")
    return _finish(figure, [axis])


def exit_times(profiles: Mapping[str, Profile]) -> Figure:
    """Processing time to every exit with all branches active, one image ([A] Fig. 6, left).

    Bars are medians, whiskers the 5th and 95th percentile.

    Args:
        profiles: by network.
    """
    figure, panels = _panels(len(profiles))
    for axis, (network, profile) in zip(panels, profiles.items(), strict=True):
        p5, p50, p95 = (np.array(profile.to_exit[q]) for q in ("p5", "p50", "p95"))
        exits = np.arange(1, len(p50) + 1)
        axis.bar(exits, p50, color="#56b4e9", edgecolor="0.2", linewidth=0.8)
        axis.errorbar(exits, p50, [p50 - p5, p95 - p50], fmt="none", ecolor="0.2", capsize=3)
        axis.set(xlabel="exit", ylabel="processing time, ms", xticks=exits)
        axis.set_title(network, fontsize=10)
        axis.label_outer()
    return figure


def _networks(rows: Iterable[Row]) -> list[str]:
    """Networks with branches, in their order."""
    return list(dict.fromkeys(row["network"] for row in rows if row["branches"]))


def _branches(row: Row) -> str:
    return f"branch{'es' if ' ' in row['active'] else ''} {row['active']}"


def way_name(row: Row) -> str:
    """The policy and its threshold, as lines are called."""
    thresholds = row["thresholds"] or (f"{row['p_tar']:g}" if np.isfinite(row["p_tar"]) else "")
    return ", ".join(filter(None, (row["policy"].replace("_", " "), thresholds)))


def _title(rows: Sequence[Row]) -> str:
    """The network of the rows, and its active branches unless all of them are."""
    # Those who answer without branches come first in some.
    row = next((row for row in rows if row["active"]), rows[0])
    all_active = len(row["active"].split()) == row["branches"]
    return row["network"] if all_active else f"{row['network']}, {_branches(row)} active"


def _lines(rows: Iterable[Row], name: Callable[[Row], str]) -> dict[str, list[Row]]:
    lines = defaultdict(list)
    for row in rows:
        lines[name(row)].append(row)
    return dict(lines)


def _draw(axis: Axes, lines: Mapping[str, Sequence[Row]], x: str, quantity: str) -> None:
    scale = QUANTITIES[quantity][1]
    for (name, rows), style in zip(lines.items(), _styles(), strict=False):
        at: dict[float, list[Row]] = defaultdict(list)
        for row in rows:
            if np.isfinite(row[quantity]):
                at[row[x]].append(row)
        xs = sorted(at)
        points = np.array([_spread(at[value], quantity) for value in xs]).reshape(-1, 3) * scale
        middle, low, high = points.T
        axis.errorbar(
            xs, middle, [middle - low, high - middle],
            label=name, capsize=2, markersize=4.5, linewidth=1.3, elinewidth=0.8, **style,
        )  # fmt: skip


def _spread(rows: Sequence[Row], quantity: str) -> tuple[float, float, float]:
    """Middle, low and high: over seeds where there are several, else the interval."""
    values = [row[quantity] for row in rows]
    middle = float(np.mean(values))
    if len(values) > 1:
        return middle, min(values), max(values)
    return (
        middle,
        min(rows[0].get(f"{quantity}_low", middle), middle),
        max(rows[0].get(f"{quantity}_high", middle), middle),
    )


def _over_seeds(rows: Iterable[Row]) -> list[Row]:
    """Accuracy, MACs and edge probability of every policy and setting, with their spread."""
    alike: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        alike[row["policy"], str(row["setting"])].append(row)
    merged = []
    for seeds in alike.values():
        row = dict(seeds[0])
        for quantity in ("accuracy", "macs", "edge_probability"):
            row |= with_interval(quantity, *_spread(seeds, quantity))
        merged.append(row)
    return merged


def _ends(points: Sequence[Row], quantity: str, scale: float) -> tuple[Any, Any]:
    """The values of a quantity, and its bars' lengths below and above them."""
    spread = np.array([_spread([row], quantity) for row in points]).reshape(-1, 3) * scale
    middle, low, high = spread.T
    return middle, [middle - low, high - middle]


def _baseline(axis: Axes, rows: Sequence[Row], quantity: str) -> None:
    if rows and quantity in ("accuracy", "macs", "latency_ms", "answer_ms", "sent_bytes"):
        middle, low, high = np.array(_spread(rows, quantity)) * QUANTITIES[quantity][1]
        axis.axhspan(low, high, color="0.5", alpha=0.15, linewidth=0, zorder=0)
        axis.axhline(middle, color="0.5", linewidth=1.5, zorder=1.5, label=rows[0]["policy"])


def _panels(
    count: int, width: float = 3.4, height: float = 3.2, sharey: bool = True
) -> tuple[Figure, list[Axes]]:
    columns = min(count, 2) if count != 3 else 3
    rows = -(-count // columns)
    size = (max(width * columns, 4.4), height * rows + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
    for unused in axes.flat[count:]:
        unused.set_axis_off()
    return figure, list(axes.flat[:count])


def _label(axis: Axes, x: str, quantity: str, title: str) -> None:
    axis.set(xlabel=x, ylabel=QUANTITIES[quantity][0])
    axis.xaxis.set_major_locator(MaxNLocator(6))
    axis.set_title(title, fontsize=10)
    axis.grid(color="0.92")
    if quantity in ("edge_probability", "outage", "missed_deadline"):
        axis.set_ylim(-2, 102)


def _finish(figure: Figure, panels: Sequence[Axes]) -> Figure:
    """One legend for all panels, of every line that one of them has."""
    entries: dict[str, Any] = {}
    alike = len({axis.get_ylabel() for axis in panels}) == 1
    for axis in panels:
        if alike:
            axis.label_outer()
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    width = figure.get_size_inches()[0]
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        # A letter of this size takes about 0.07 inches, and a line's sample half an inch.
        ncols=max(1, min(3, int(width / (0.6 + 0.07 * max(map(len, entries), default=1))))),
        frameon=False,
        fontsize=9,
    )
    return figure


def _styles() -> Iterable[dict[str, Any]]:
    for colour, marker, dash in zip(cycle(COLOURS), cycle(MARKERS), cycle(DASHES), strict=False):
        yield {"color": colour, "marker": marker, "linestyle": dash}
