"""Every registered backbone from a short training to the edge: sizes, differences, int8.

    python -m benchmarks.backbones [--backbones resnet18 ...]

Each is trained for a few epochs on the demo images from a random start, in
outputs/train/backbones-NAME, where finished runs are left as they are, and exported. So the table
shows what export and int8 do to it, not how well it learns. Writes results/every_backbone.json.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from eenn.artifact.manifest import WEIGHTS
from eenn.files import Json, JsonObject, write_json
from eenn.models.architecture import exit_macs
from eenn.models.backbones.registry import BACKBONES
from eenn.offload.export.report import P_TAR, REPORT, export_artifact
from eenn.offload.graphs.index import FOLDER, Graphs
from eenn.provenance import processor, provenance
from eenn.records.evaluated_artifact import EvaluatedArtifact, open_artifact
from eenn.run_directory import ARTIFACT, METRICS, OUTPUTS

RESULT = Path("results/every_backbone.json")
SETTINGS = (
    *("data=demo", "branches=2", "logger=csv", "model.weights=null"),
    *("model.width_mult=1", "trainer.max_epochs=8", "seed=0"),
)
WITHOUT_BATCH_NORM = ("alexnet", "vgg16", "convnext_tiny")


def run_of(name: str) -> Path:
    """Name the run directory of a backbone."""
    return OUTPUTS / "train" / f"backbones-{name}" / "run"


def main() -> None:
    parser = argparse.ArgumentParser(description="every backbone through training and export")
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=[*BACKBONES])
    names = parser.parse_args().backbones
    for name in names:
        if not (run_of(name) / METRICS).exists():
            recipe = "from_scratch_plain" if name in WITHOUT_BATCH_NORM else "from_scratch"
            own = [f"model={name}", f"recipe={recipe}"]
            own += [f"name=backbones-{name}", f"hydra.run.dir={run_of(name)}"]
            subprocess.run([sys.executable, "train.py", *SETTINGS, *own], check=True)
        artifact = open_artifact(str(run_of(name) / ARTIFACT), None)
        if not (artifact.manifest.path / FOLDER).exists():
            export_artifact(artifact)
    artifacts = [open_artifact(str(run_of(name) / ARTIFACT), None) for name in names]
    rows: list[Json] = [row(artifact) for artifact in artifacts]
    first = artifacts[0]
    result: JsonObject = {
        "rows": rows,
        **provenance(first.split.seed, first.title, processor()),
        "settings": SETTINGS,
        "p_tar": P_TAR,
    }
    write_json(RESULT, result)
    print(f"wrote {RESULT}")


def row(artifact: EvaluatedArtifact) -> JsonObject:
    """Read sizes and differences from the exported graphs, and what int8 changes from their report.

    Accuracies and answers are those of early exits on the validation images.
    """
    manifest = artifact.manifest
    pieces = Graphs.read(manifest.path).rows
    report = json.loads((manifest.path / FOLDER / REPORT).read_text())
    replays = {replay["precision"]: replay for replay in report["replays"]}
    differences = [
        piece.max_relative_difference or 0.0 for piece in pieces if piece.precision == "fp32"
    ]
    return {
        "backbone": manifest.architecture.backbone,
        "blocks": len(manifest.blocks),
        "macs": exit_macs(manifest.exits)[-1],
        "weight_bytes": manifest.stored(WEIGHTS).bytes,
        "graph_bytes": sum(piece.bytes for piece in pieces),
        "largest_difference": max(differences),
        "images": report["images"],
        "replays": {name: _replay(own, report["images"]) for name, own in replays.items()},
    }


def _replay(replay: JsonObject, images: int) -> JsonObject:
    changed = replay["answers_changed"]
    assert isinstance(changed, int)
    return {"accuracy": replay["accuracy"], "same_answers": 1 - changed / images}


if __name__ == "__main__":
    main()
