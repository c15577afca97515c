"""Draws the plots of docs/tracking.md from the offline W&B runs of sweeps.

    python -m benchmarks.tracking --data Caltech-101 SWEEP_DIR [SWEEP_DIR ...]

It writes results/tracking.json, the columns that the plots need, and a picture of each plot.
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.readme.results import RESULTS, ROOT
from benchmarks.wandb_runs import Tracked, runs
from eenn.errors import EennError
from eenn.files import Json, write_json
from eenn.programs import command_of
from eenn.provenance import processor, provenance
from eenn.reports.canvas import draw_lines, finish, label_axis, make_panels
from eenn.run_directory import Sweep
from eenn.statistics.intervals import Estimate


@dataclass(frozen=True)
class Plot:
    """A scatter plot over the runs of a sweep, as W&B draws it from columns of its table of runs.

    Args:
        kind: job type of the runs.
        x: column, as W&B names it: `config:KEY` or `summary:KEY`.
        quantity: the quantity of the y axis.
        colour: column that divides the marks; empty for one colour.
    """

    name: str
    kind: str
    x: str
    y: str
    quantity: str
    colour: str = ""


PLOTS = (
    Plot("branches", "train", "config:branches", "summary:test/final/acc", "accuracy"),
    Plot("mmacs", "evaluate", "summary:mmacs", "summary:accuracy", "accuracy", "config:active"),
    Plot(
        "p_tar", "evaluate", "config:p_tar", "summary:edge_probability", "edge_probability",
        "config:active",
    ),
)  # fmt: skip


def main() -> None:
    """Read the runs, write their columns and draw the plots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweeps", nargs="+", type=Path, metavar="SWEEP_DIR")
    parser.add_argument("--data", required=True, help="name of the data set")
    given = parser.parse_args()
    by_sweep = {sweep: runs(sweep) for sweep in given.sweeps}
    found = [run for own in by_sweep.values() for run in own]
    # A run that was interrupted and went on has a file for each part; the last has its summary.
    found = [run for run in found if run.exit_code == 0]
    drawn = {
        plot: own for plot in PLOTS if (own := [run for run in found if run.kind == plot.kind])
    }
    if not drawn:
        raise EennError(
            f"{', '.join(map(str, given.sweeps))}: no offline W&B runs of a training or an "
            "evaluation; name directories of sweeps that ran with WANDB_MODE=offline"
        )
    seeds = sorted({str(run.config["seed"]) for run in found})
    columns: dict[str, Json] = {
        plot.name: [
            {name: column(run, name) for name in ("name", *axes(plot))} for run in drawn[plot]
        ]
        for plot in drawn
    }
    origin = provenance(", ".join(seeds), given.data, processor())
    sweeps: list[Json] = [
        {"command": command(Sweep.read(sweep)), "runs": len({run.id for run in own})}
        for sweep, own in by_sweep.items()
    ]
    write_json(RESULTS / "tracking.json", {**origin, "sweeps": sweeps, "plots": columns})
    for plot, own in drawn.items():
        file = RESULTS / f"tracking-{plot.name}.png"
        figure, (axis,) = make_panels(1, width=5.2)
        draw_lines(axis, lines_of(own, plot), plot.quantity)
        label_axis(axis, plot.x, plot.quantity, f"{plot.y} over {plot.x}")
        if plot.x.startswith("config:"):
            axis.set_xticks(sorted({column(run, plot.x) for run in own}))
        finish(figure, [axis]).savefig(file, dpi=110)
        print(f"{file}: {len(own)} runs")


def command(sweep: Sweep) -> str:
    """Word the command line of a sweep, with paths as seen from the checkout."""
    line = f"{command_of(sweep.config_name)} -m {' '.join(sweep.overrides)}"
    return line.replace(f"{ROOT}/", "")


def axes(plot: Plot) -> list[str]:
    """List the columns of a plot."""
    return [column for column in (plot.x, plot.y, plot.colour) if column]


def column(run: Tracked, name: str) -> Any:
    """Read a cell of W&B's table of runs, None where it is empty."""
    source, _, key = name.partition(":")
    return run.name if not key else getattr(run, source).get(key)


def lines_of(found: Sequence[Tracked], plot: Plot) -> Mapping[str, list[tuple[float, Estimate]]]:
    """Divide runs into the marks of each colour, with intervals where the summary has them."""
    lines: dict[str, list[tuple[float, Estimate]]] = defaultdict(list)
    for run in found:
        x, y = column(run, plot.x), column(run, plot.y)
        ends = [column(run, f"{plot.y}{end}") for end in ("_low", "_high")]
        colour = f"{plot.colour}={column(run, plot.colour)}" if plot.colour else plot.y
        low, high = (math.nan if end is None else end for end in ends)
        lines[colour].append((float(x), Estimate(y, low, high)))
    return lines


if __name__ == "__main__":
    main()
