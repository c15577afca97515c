"""Predicted times of networks and devices that were never measured, against measured ones.

    nice -n -10 python -m benchmarks.latency [--fbnet FILE] [--to FILE]

Untrained MobileNetV2 with five branches at four resolutions, two widths and two precisions, one
image, one thread: blocks, stages and the whole network run in turn, after a warm-up, and medians of
the thread's CPU time count. Then one resolution or width is left out and predicted from the others,
every network is predicted from each other one, and as if it were another device, from each other
one and few totals. FILE has times of FBNet's blocks on other devices. Writes results/latency.json,
and names all misses of the bounds.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.latency.fbnet import fbnet
from benchmarks.latency.held_out import (
    BANDWIDTHS_MBPS,
    KNOWN_STAGES,
    RTTS_MS,
    SLOWDOWNS,
    WORST_LOSS,
    Row,
    by_totals,
    from_one_network,
    left_out,
    regrets,
)
from benchmarks.latency.measuring import PASSES, ROUNDS, SEED, WHOLE, Cell, Shape, measured
from eenn.cli import one_line_errors
from eenn.files import Json, JsonObject, write_json
from eenn.planning.device_prediction import ERROR_ON_OTHER_KIND, rates_of
from eenn.provenance import processor, provenance

RESULT = Path("results/latency.json")
# The median error of stages and its 90th percentile, the median of FBNet's blocks, the mean loss of
# plans, and how far sums of stages may lie from the whole network's time.
MEDIAN, P90, FBNET_MEDIAN, MEAN_LOSS, SUM = 0.15, 0.35, 0.20, 0.01, 0.10


def sums(cells: Sequence[Cell]) -> list[Row]:
    """Compare the whole network's time with the sum of its stages between exits.

    Each stage is a call of its own; the sum less calls subtracts the fitted time of these.
    """
    rows: list[Row] = []
    for cell in cells:
        cuts, exits = (0, *cell.work.after), cell.profile.exits
        inner = [f"{a}-{b}" for a, b in pairwise(cuts[:-1])]
        sum_ms = exits[f"{cuts[-2]}-{len(cuts) - 1}"]
        sum_ms += sum(cell.profile.stages[key] for key in inner)
        calls_ms = len(inner) * float(rates_of([(cell.profile, cell.work)]).ms[-1])
        whole_ms = exits[WHOLE[1]]
        rows.append(
            {
                **asdict(cell.shape),
                "whole_ms": whole_ms,
                "sum": sum_ms / whole_ms - 1,
                "sum_less_calls": (sum_ms - calls_ms) / whole_ms - 1,
            }
        )
    return rows


def held(
    figure: str, rows: Iterable[Row], key: str, bound: float, names: Sequence[str]
) -> JsonObject:
    """Hold a figure of all rows against its bound, and name the rows that miss it.

    Args:
        names: columns that name a row.
    """
    values = {", ".join(str(row[own]) for own in names): abs(float(row[key])) for row in rows}
    return {
        "figure": figure,
        "bound": bound,
        "worst": max(values.values()),
        "rows": len(values),
        "misses": {name: value for name, value in values.items() if value > bound},
    }


def acceptance(found: Mapping[str, Sequence[Row]]) -> list[JsonObject]:
    """Hold all figures against their bounds."""
    fitted, plans = ("precision", "left_out"), ("differs", "way", "slowdown")
    cell = [field.name for field in fields(Shape)]
    rows = [
        held("stages left out, median error", found["left_out"], "median", MEDIAN, fitted),
        held("stages left out, 90th percentile", found["left_out"], "p90", P90, fitted),
        held("sum of stages, from the whole", found["sums"], "sum", SUM, cell),
        held("sum less calls, from the whole", found["sums"], "sum_less_calls", SUM, cell),
        held("plans, mean loss", found["regrets"], "mean", MEAN_LOSS, plans),
        held("plans, worst loss", found["regrets"], "worst", WORST_LOSS, plans),
    ]
    if "fbnet" in found:
        own = held(
            "FBNet's shapes, median error", found["fbnet"], "median", FBNET_MEDIAN, ["device"]
        )
        rows.append(own)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="predicted against measured times of networks")
    parser.add_argument("--fbnet", type=Path, metavar="FILE", help="times of FBNet's blocks, CSV")
    parser.add_argument("--to", type=Path, default=RESULT, metavar="FILE", help="file to write")
    given = parser.parse_args()
    torch.set_num_threads(1)
    start = time.monotonic()
    with one_line_errors():
        found: dict[str, Sequence[Row]] = fbnet(given.fbnet) if given.fbnet else {}
    with tempfile.TemporaryDirectory() as scratch:
        cells = measured(Path(scratch))
    found |= {
        "sums": sums(cells),
        "left_out": left_out(cells),
        "one_network": from_one_network(cells),
        "totals": by_totals(cells),
        "regrets": regrets(cells),
    }
    checks = acceptance(found)
    for name, rows in {**found, "acceptance": checks}.items():
        print(f"\n{name}")
        for row in rows:
            print("  " + ", ".join(f"{key} {_shown(value)}" for key, value in row.items()))
    result: JsonObject = {
        **found,
        "acceptance": checks,
        "known_stages": KNOWN_STAGES,
        "slowdowns": SLOWDOWNS,
        "bandwidths_mbps": BANDWIDTHS_MBPS,
        "rtts_ms": RTTS_MS,
        "repeats": PASSES * ROUNDS,
        "error_on_other_kind": ERROR_ON_OTHER_KIND,
        "clock": "CPU time of the one thread",
        "onnxruntime": version("onnxruntime"),
        **provenance(SEED, "random pixels", processor()),
    }
    write_json(given.to, result)
    took_s = time.monotonic() - start
    print(f"\n{processor()}, 1 thread, seed {SEED}, {result['date']}; {took_s:.0f} s")
    print(f"wrote {given.to}")


def _shown(value: Json) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
