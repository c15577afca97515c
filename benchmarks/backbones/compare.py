"""Backbones trained by one recipe: accuracy of every exit, and what int8 changes.

    python -m benchmarks.backbones.compare ARTIFACT ARTIFACT ...

Artifacts of one split, all of them exported by `eenn-export`. The last exit of each is compared
with that of the first on the same test images. Writes results/backbones.json.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.policies.protocol import estimate
from eenn.errors import EennError
from eenn.files import Json, JsonObject, write_json
from eenn.models.architecture import exit_macs
from eenn.offload.export.report import REPORT
from eenn.offload.graphs.index import FOLDER
from eenn.provenance import processor, provenance
from eenn.records.evaluated_artifact import EvaluatedArtifact, open_artifact
from eenn.statistics.intervals import means, share

RESULT = Path("results/backbones.json")


def main() -> None:
    parser = argparse.ArgumentParser(description="backbones trained by one recipe")
    parser.add_argument("artifacts", nargs="+", help="directories of artifacts")
    artifacts = [open_artifact(path, None) for path in parser.parse_args().artifacts]
    first = artifacts[0]
    if any(other.split.hash != first.split.hash for other in artifacts):
        raise EennError("the artifacts have different splits; train them with the same seed")
    rows: list[Json] = [row(artifact, first) for artifact in artifacts]
    origin = provenance(first.split.seed, first.title, processor())
    result: JsonObject = {"rows": rows, **origin}
    write_json(RESULT, result)
    print(f"wrote {RESULT}")


def row(artifact: EvaluatedArtifact, first: EvaluatedArtifact) -> JsonObject:
    """Measure a network on the test split, and compare its last exit with that of the first."""
    records, others = (own.records("test", "none", 0) for own in (artifact, first))
    right = records.logits.argmax(-1) == records.truth
    theirs = others.logits[-1].argmax(-1) == others.truth
    difference = means({"last": right[-1].astype(np.float64) - theirs})["last"]
    made = artifact.manifest.architecture
    return {
        "backbone": made.backbone,
        "input_size": made.input_size,
        "positions": made.positions,
        "macs": exit_macs(artifact.manifest.exits),
        "n": len(records.truth),
        "exits": [estimate("accuracy", share(int(own.sum()), len(own))) for own in right],
        **estimate("difference", difference),
        "int8": int8(artifact),
    }


def int8(artifact: EvaluatedArtifact) -> JsonObject:
    """Read what the export found on the validation images: shares of them, and accuracy."""
    report = json.loads((artifact.manifest.path / FOLDER / REPORT).read_text())
    replays = {replay["precision"]: replay for replay in report["replays"]}
    fp32, own = replays["fp32"], replays["int8"]
    return {
        "same_answers": 1 - own["answers_changed"] / report["images"],
        "accuracy": own["accuracy"],
        "accuracy_fp32": fp32["accuracy"],
        "p_tar": report["p_tar"],
    }


if __name__ == "__main__":
    main()
