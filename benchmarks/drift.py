"""Rates of drift flagged among images of the same kind, and missed among blurred images.

    python -m benchmarks.drift --artifact DIR

By the drift section of evaluate.py, on records of a real network. Sets of images are drawn with
replacement from the validation split itself, which must not be flagged; from the test split, which
nothing was fitted to and whose images are of the same kind; and from the test split at a blur of
sigma 2, which must be flagged. 100 draws of each, of 100 and of 400 images. The setting is the
default policy at p_tar 0.8 with all branches active. Writes results/drift.json.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from eenn.evaluation.drift import Observed, drift
from eenn.evaluation.grid import exit_probs
from eenn.evaluation.rows import Network
from eenn.exits.decide import decide
from eenn.exits.policies.threshold import baseline_rule
from eenn.exits.settings import Setting
from eenn.files import Json, JsonObject, write_json
from eenn.provenance import processor, provenance
from eenn.records.evaluated_artifact import open_artifact
from eenn.records.records import ExitRecords
from eenn.statistics.drift import LEVEL

DRAWS, SIZES, P_TAR, KIND, SIGMA = 100, (100, 400), 0.8, "gaussian_blur", 2.0
RESULT = Path("results/drift.json")


def main() -> None:
    parser = argparse.ArgumentParser(description="rates of drift flagged and missed")
    parser.add_argument("--artifact", required=True, help="directory of an artifact, or latest")
    parser.add_argument("--images", help="directory of its images, if they were moved")
    given = parser.parse_args()
    artifact = open_artifact(given.artifact, given.images)
    temperatures = artifact.manifest.temperatures.per_exit
    setting = Setting(baseline_rule(P_TAR), tuple(range(artifact.branches)))
    network = Network("artifact", artifact.branches, artifact.split.seed)

    def observed(records: ExitRecords, rows: np.ndarray | slice) -> Observed:
        logits = records.logits[:, rows]
        ids = tuple(map(str, range(logits.shape[1])))
        exits = exit_probs(
            replace(records, logits=logits, labels=None, sample_ids=ids), temperatures
        )
        return Observed(exits, decide(baseline_rule(P_TAR), exits, setting.active))

    validation = artifact.records("val", KIND, 0)
    known = observed(validation, slice(None))
    sources = {
        "validation": validation,
        "test": artifact.records("test", KIND, 0),
        "blurred": artifact.records("test", KIND, SIGMA),
    }
    generator = np.random.default_rng(0)
    flagged: list[Json] = []
    for name, records in sources.items():
        for n in SIZES:
            total = len(records.sample_ids)
            draws = [observed(records, generator.integers(total, size=n)) for _ in range(DRAWS)]
            found = [drift(network, 0, setting, draw, known) for draw in draws]
            times = sum(any(row.drift for row in rows) for rows in found)
            flagged.append({"images": name, "n": n, "flagged": times})
    result: JsonObject = {
        "draws": DRAWS,
        "level": LEVEL,
        "blur_sigma": SIGMA,
        "p_tar": P_TAR,
        "quantities": len(found[0]),
        "validation_n": len(validation.sample_ids),
        "flagged": flagged,
        **provenance(artifact.split.seed, artifact.title, processor()),
    }
    write_json(RESULT, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
