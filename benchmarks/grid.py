"""Speed of a grid evaluated from records, against running the network again for every point.

    python -m benchmarks.grid

Five thresholds x five sets of active branches on random records of 3,060 x 6 x 257 logits, the size
of Caltech-256's test split. Every number of a point is computed, intervals and exits included. The
network's time is measured on a few images between the repeats and scaled to the split. The memory
is the peak of a process of its own, on 30,000 samples. Writes results/grid_speed.json.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch

from eenn.evaluation.exit_metrics import evaluate_exits
from eenn.evaluation.grid import (
    Case,
    Service,
    by_baselines,
    by_policies,
    exit_outputs,
    exits_taken,
    point,
)
from eenn.evaluation.rows import Network
from eenn.exits.policies.base import Validation
from eenn.exits.policies.threshold import DEFAULT
from eenn.exits.settings import ActiveBranches, Swept
from eenn.files import JsonObject, write_json
from eenn.models.architecture import Exit
from eenn.models.building import build, measure_network, place
from eenn.planning.costs import CostModel, Link, macs, payloads
from eenn.provenance import processor, provenance
from eenn.records.records import ExitRecords, Origin

CLASSES, BRANCHES, SIZE = 257, 5, 224
SAMPLES, MANY = 3_060, 30_000
P_TARS = (0.7, 0.75, 0.8, 0.85, 0.9)
IMAGES, REPEATS = 16, 5
RESULT = Path("results/grid_speed.json")
NETWORK = Network("random records", BRANCHES, 0)
ARCHITECTURE = place(CLASSES, BRANCHES, "conv", 1.0, SIZE)


def random_records(samples: int) -> ExitRecords:
    """Draw logits whose confidences spread over the thresholds."""
    generator = np.random.default_rng(0)
    logits = generator.standard_normal((BRANCHES + 1, samples, CLASSES), np.float32)
    labels = generator.integers(CLASSES, size=samples)
    strength = generator.uniform(0, 16, (BRANCHES + 1, samples)).astype(np.float32)
    np.put_along_axis(logits, np.tile(labels, (BRANCHES + 1, 1))[..., None], strength[..., None], 2)
    origin = Origin("benchmark", "test", "", "none", 0.0, SIZE)
    return ExitRecords(logits, labels, tuple(map(str, range(samples))), origin)


@cache
def exits_table() -> tuple[Exit, ...]:
    return measure_network(ARCHITECTURE)[1]


def evaluate_grid(records: ExitRecords) -> int:
    """Compute all points from raw logits; returns their number."""
    exits = exits_table()
    per_part = macs(exits)
    costs = CostModel(per_part, per_part, per_part, payloads(exits, SIZE), Link(94, 12.8))
    outputs = exit_outputs(records, (BRANCHES + 1) * (1.1,))
    case = Case(NETWORK, 0.0, outputs.exits, outputs.labels, costs, Service(20, 32))
    actives = ActiveBranches().sets(BRANCHES)
    decided = by_policies(case, [Swept(DEFAULT, {}, P_TARS)], actives, Validation())
    for each in [*decided, *by_baselines(case, P_TARS, actives[-1])]:
        point(case, each)
        exits_taken(case, each)
    return len(decided)


def main() -> None:
    torch.set_num_threads(1)
    network, records = build(ARCHITECTURE).eval(), random_records(SAMPLES)
    images = torch.randn(IMAGES, 3, SIZE, SIZE).to(memory_format=torch.channels_last)
    grid_s, image_s = [], []
    points = evaluate_grid(records)
    for _ in range(REPEATS):
        start = time.perf_counter()
        evaluate_grid(records)
        grid_s.append(time.perf_counter() - start)
        start = time.perf_counter()
        with torch.inference_mode():
            network(images)
        image_s.append((time.perf_counter() - start) / IMAGES)
    again_s = statistics.median(image_s) * SAMPLES * points
    measure = [sys.executable, "-m", "benchmarks.grid", "memory"]
    peak = subprocess.run(measure, capture_output=True, text=True, check=True)
    result: JsonObject = {
        "points": points,
        "samples": SAMPLES,
        "grid_s": statistics.median(grid_s),
        "network_again_s": again_s,
        "ratio": again_s / statistics.median(grid_s),
        "memory_samples": MANY,
        "peak_memory_mib": float(peak.stdout),
        **provenance(0, "random records", f"{processor()}, 1 thread"),
    }
    write_json(RESULT, result)
    print(json.dumps(result, indent=1))


def peak_memory() -> None:
    records = random_records(MANY)
    evaluate_grid(records)
    evaluate_exits(NETWORK, 0.0, records, (BRANCHES + 1) * (1.1,))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    peak_memory() if sys.argv[1:] == ["memory"] else main()
