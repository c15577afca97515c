"""The figure of named planners on every link: latencies as measured and as predicted."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from eenn.reports.canvas import finish, styles

Cell = Mapping[str, Any]
# Planners whose plans are the same in nearly all cells would hide each other.
SHOWN = ("joint", "neurosurgeon", "shortest_path", "spinn", "flexdnn")


def planners_figure(cells: Sequence[Cell]) -> Figure:
    """Draw a panel for every link: milliseconds over the slowdown of the edge."""
    links = list(dict.fromkeys(cell["link"] for cell in cells))
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    axes = figure.subplots(1, len(links), sharey=True, squeeze=False)[0]
    for axis, link in zip(axes, links, strict=True):
        own = [cell for cell in cells if cell["link"] == link]
        slowdowns = [cell["slowdown"] for cell in own]
        for name, style in zip(SHOWN, styles(), strict=False):
            ways = [cell["ways"][cell["planners"][name]["way"]] for cell in own]
            axis.plot(slowdowns, [way["measured_ms"] for way in ways], label=name, **style)
            axis.plot(
                slowdowns, [way["predicted_ms"] for way in ways], marker="_", markersize=12,
                linestyle="none", color=style["color"],
            )  # fmt: skip
        axis.set(xscale="log", yscale="log", title=link, xticks=slowdowns)
        axis.set_xticks(slowdowns, [f"{slowdown:g}" for slowdown in slowdowns])
        axis.minorticks_off()
        axis.set_ylabel("ms per photograph")
    axes[len(links) // 2].set_xlabel("edge slower by; bars: as predicted")
    return finish(figure, axes)
