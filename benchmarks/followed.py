"""Every plan of a table, followed by `eenn-edge` on a bare install, against what records decide.

    python -m benchmarks.followed --artifact DIR --plans plans.json --edge BARE/bin/eenn-edge

Copies what the device needs (`eenn-export --plans --to`), starts a cloud, and lets the given
`eenn-edge` answer photographs of the test split by each row, one process for a row. Exits have to
equal those that `decide` gives on the artifact's records, and so do answers, except those that the
cloud gives to rounded features, which are counted apart. Also times the choice among the rows.
Writes results/followed.json; the exit status is 1 where anything differs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from eenn.artifact.deployment import Deployment
from eenn.cli import with_progress
from eenn.data.distortions import DISTORTIONS
from eenn.evaluation.answers import answers
from eenn.evaluation.grid import exit_outputs
from eenn.exits.decide import Decisions, decide, on_device
from eenn.exits.head_sets import PLAIN_HEADS
from eenn.exits.policies.base import ExitProbs
from eenn.exits.rests import DEVICE, NOBODY
from eenn.files import JsonObject, write_json
from eenn.offload.cloud.command import running
from eenn.offload.edge.plans import Plans
from eenn.offload.export.command import main as export
from eenn.offload.protocol.codecs import PAYLOADS
from eenn.planning.costs import Link
from eenn.planning.table import FASTEST, Goal, Table
from eenn.provenance import processor, provenance
from eenn.records.evaluated_artifact import EvaluatedArtifact, open_artifact

RESULT = Path("results/followed.json")
PHOTOGRAPHS, CHOICES = 40, 200
ROWS = 13_440  # of six exits: 32 sets, 20 thresholds, 7 cuts and 3 formats
ROUNDED = [payload for payload in PAYLOADS if payload != "fp32"]


def expected_of(artifact: EvaluatedArtifact, own: Deployment, ids: Sequence[str]) -> Decisions:
    """Decide on the artifact's records of some photographs."""
    kind = next(iter(DISTORTIONS))
    records, temperatures = answers(artifact, "test", kind, 0, PLAIN_HEADS, own.temperature)
    place = {sample_id: at for at, sample_id in enumerate(records.sample_ids)}
    rows = [place[sample_id] for sample_id in ids]
    outputs = [
        ExitProbs(one.exit, one.probs[rows]) for one in exit_outputs(records, temperatures).exits
    ]
    decided = decide(own.policy, outputs, own.active, cloud=own.rest != NOBODY)
    return on_device(decided) if own.rest == DEVICE else decided


def answered(
    edge: str, folder: Path, row: int, url: str, files: Sequence[Path]
) -> list[JsonObject]:
    """Run `eenn-edge` with one row of the table."""
    command = [edge, "--artifact", folder, "--plan", row, "--cloud", url, "--json"]
    # A deadline that a busy machine keeps.
    command += ["--deadline-ms", 60_000, *files]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"row {row}: {done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def choice_ms(table: Table[Deployment], plans: Plans) -> float:
    """Measure a choice under other conditions each time; return the median in milliseconds."""
    goal, took = Goal((FASTEST,), plans.goal.limits), list[float]()
    for number in range(CHOICES):
        at = replace(plans.at, link=Link(1.0 + number, 10.0))
        start = time.perf_counter()
        table.choose(at, goal, plans.power)
        took.append(1e3 * (time.perf_counter() - start))
    return median(took)


def main() -> None:
    parser = argparse.ArgumentParser(description="every plan of a table on a bare install")
    parser.add_argument("--artifact", required=True, help="exported artifact, or latest")
    parser.add_argument("--images", help="folder of class folders that it was trained on")
    parser.add_argument("--plans", type=Path, required=True, help="table that eenn-plan wrote")
    parser.add_argument("--edge", required=True, help="eenn-edge of an install without extras")
    parser.add_argument("--out", type=Path, default=RESULT, help="file to write")
    given = parser.parse_args()
    artifact, plans = open_artifact(given.artifact, given.images), Plans.load(given.plans)
    photos = list(artifact.photos("test", PHOTOGRAPHS))
    ids, differing, rounded = [photo.sample_id for photo in photos], 0, 0
    with tempfile.TemporaryDirectory() as temporary, running([artifact.manifest.path]) as cloud:
        folder = Path(temporary) / "device"
        export([str(artifact.manifest.path), "--plans", str(given.plans), "--to", str(folder)])
        files = [Path(temporary) / f"{number}.img" for number in range(len(photos))]
        for file, photo in zip(files, photos, strict=True):
            file.write_bytes(photo.file)
        rows = list(enumerate(plans.table, 1))
        for row, own in with_progress(iter(rows), "plans", "rows", len(rows)):
            found = answered(given.edge, folder, row, cloud.url, files)
            expected = expected_of(artifact, own, ids)
            exits = np.array([int(str(one["exit"])) - 1 for one in found])
            labels = np.array([int(str(one["label"])) for one in found])
            may_round = ~expected.on_edge & (own.payload in ROUNDED)
            wrong = (exits != expected.taken) | ((labels != expected.label) & ~may_round)
            rounded += int(((labels != expected.label) & may_round).sum())
            differing += int(wrong.sum())
            if wrong.any():
                print(f"row {row}, {own.setting.policy_text}: {int(wrong.sum())} differ")
    times = -(-ROWS // len(plans.table))
    large = plans.table.at(np.tile(np.arange(len(plans.table)), times)[:ROWS])
    result: JsonObject = {
        "plans": len(plans.table),
        "photographs": len(photos),
        "differing": differing,
        "rounded": rounded,
        "choice_ms": choice_ms(plans.table, plans),
        "choice_of_many_ms": choice_ms(large, plans),
        "many": ROWS,
        **provenance(artifact.split.seed, artifact.title, f"{processor()}, 1 thread"),
    }
    write_json(given.out, result)
    print(json.dumps(result, indent=1))
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
