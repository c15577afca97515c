"""Predicted times of networks and devices that were never measured, against measured ones.

    nice -n -10 python -m benchmarks.latency [--fbnet FILE] [--to FILE]

Untrained MobileNetV2 with five branches at four resolutions, two widths and two precisions, one
image, one thread: blocks, stages and the whole network run in turn, after a warm-up, and medians of
the thread's CPU time count. Then one resolution or width is left out and predicted from the others,
every network is predicted from each other one, and scaled from each other one as if that were
another device. FILE has times of FBNet's blocks on real devices. Writes results/latency.json; misses
of what prediction has to reach are named.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.latency.fbnet import fbnet
from benchmarks.latency.held_out import by_totals, from_one_network, left_out, regrets
from benchmarks.latency.measuring import SEED, WHOLE, Cell, measured
from eenn.cli import one_line_errors
from eenn.files import Json, JsonObject, write_json
from eenn.planning.rates import Rates
from eenn.planning.device_prediction import rates_of
from eenn.provenance import processor, provenance

RESULT = Path("results/latency.json")
# What prediction has to reach: of stages the median error and the 90th percentile, of FBNet's blocks
# the median, of plans the loss, and of sums of stages the distance from the whole network's time.
MEDIAN, P90, FBNET_MEDIAN, MEAN_LOSS, WORST_LOSS, SUM = 0.15, 0.35, 0.20, 0.01, 0.15, 0.10


def sums(cells: Sequence[Cell]) -> list[JsonObject]:
    """Compare the whole network's time with the sum of its stages between exits."""
    rows: list[JsonObject] = []
    for cell in cells:
        stages, exits, cuts = cell.profile.stages, cell.profile.exits, (0, *cell.work.after)
        inner = [stages[f"{a}-{b}"] for a, b in zip(cuts[:-2], cuts[1:-1], strict=True)]
        last_ms = exits[f"{cuts[-2]}-{len(cuts) - 1}"]
        whole_ms, call_ms = exits[WHOLE[1]], float(rates_of([(cell.profile, cell.work)]).ms[-1])
        rows.append(
            {
                "cell": str(cell.shape),
                "whole_ms": whole_ms,
                "sum": (sum(inner) + last_ms) / whole_ms - 1,
                "sum_less_calls": (sum(inner) + last_ms - len(inner) * call_ms) / whole_ms - 1,
            }
        )
    return rows


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("--fbnet", type=Path)
    p.add_argument("--to", type=Path, default=RESULT)
    g = p.parse_args()
    torch.set_num_threads(1)
    import pickle, os

    if os.path.exists("/tmp/devx/cells.pkl"):
        cells = pickle.load(open("/tmp/devx/cells.pkl", "rb"))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            cells = measured(Path(scratch))
        pickle.dump(cells, open("/tmp/devx/cells.pkl", "wb"))
    for rows in (
        sums(cells),
        left_out(cells),
        from_one_network(cells),
        by_totals(cells),
        regrets(cells),
        *fbnet(g.fbnet).values(),
    ):
        for r in rows:
            print({k: round(v, 4) if isinstance(v, float) else v for k, v in r.items()})


main()
