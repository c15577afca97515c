"""Export of an artifact with the images of its training, and a report of the changes by int8.

The graphs are calibrated on the training split and checked on the validation split. Then the whole
validation split is replayed on the edge runtime in every precision and compared with the decisions
of `eenn.exits.decide` on PyTorch's logits. The test split is not used.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from io import BytesIO
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from eenn.artifact import store
from eenn.cli import with_progress
from eenn.errors import EennError
from eenn.exits.decide import decide
from eenn.exits.policies.base import ExitProbs
from eenn.exits.policies.registry import make_policy
from eenn.exits.policies.threshold import DEFAULT
from eenn.files import Json, write_file
from eenn.models.early_exit import EarlyExitNet
from eenn.offload.edge.clouds import LocalCloud
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.export.write import export
from eenn.offload.graphs.index import FOLDER, PRECISIONS, Piece
from eenn.provenance import processor, provenance
from eenn.records.evaluated_artifact import EvaluatedArtifact
from eenn.reports.tables import table
from eenn.statistics.calibration import probabilities

REPORT = "report.json"
P_TAR = 0.8
# A larger share of answers that a precision changes is said aloud.
MOST_CHANGED = 0.01
BATCH_SIZE = 32
PYTORCH = "PyTorch"


@dataclass(frozen=True)
class Replay:
    """The results of the validation split with PyTorch or with graphs of one precision.

    Args:
        precision: PyTorch, or the precision of the graphs.
        accuracy: share of right answers, in [0, 1].
        edge_probability: share of images that left at a branch, in [0, 1].
        exits_changed: number of images with another exit than in PyTorch.
        answers_changed: number of images with another answer than in PyTorch.
    """

    precision: str
    accuracy: float
    edge_probability: float
    exits_changed: int
    answers_changed: int


@dataclass(frozen=True)
class Change:
    """An image with another exit or answer in a precision than in PyTorch.

    Args:
        exits: exit in PyTorch and in the precision, counted from 1.
        answers: class names, in the same order.
    """

    precision: str
    sample_id: str
    exits: tuple[int, int]
    answers: tuple[str, str]


@dataclass(frozen=True)
class ExportReport:
    """The exported pieces, and the replays of `images` validation images at P_TAR."""

    pieces: tuple[Piece, ...]
    calibration_images: int
    images: int
    replays: tuple[Replay, ...]
    changes: tuple[Change, ...]

    def __str__(self) -> str:
        """Format the report as two tables."""
        by_name: dict[str, dict[str, str]] = {}
        for piece in self.pieces:
            if piece.max_relative_difference is not None:
                row = by_name.setdefault(piece.name, {"piece": piece.name})
                row[f"{piece.precision}, kB"] = f"{piece.bytes / 1e3:.0f}"
                row[f"{piece.precision}, difference"] = f"{piece.max_relative_difference:.1e}"
        replays = [
            {
                "precision": replay.precision,
                "accuracy %": f"{100 * replay.accuracy:.1f}",
                "edge %": f"{100 * replay.edge_probability:.1f}",
                "exits changed": str(replay.exits_changed),
                "answers changed": str(replay.answers_changed),
            }
            for replay in self.replays
        ]
        parts = [
            table(by_name.values()),
            "difference: the largest from PyTorch on the same features, of the largest value",
            table(replays),
            f"{self.images} validation images, {DEFAULT} at p_tar {P_TAR:g}, all branches active",
            *self._warnings(),
        ]
        return "\n\n".join(parts)

    def _warnings(self) -> Iterator[str]:
        """Name the precisions that change many answers, and what can be done."""
        for replay in self.replays:
            share = replay.answers_changed / self.images
            if share > MOST_CHANGED:
                yield (
                    f"{replay.precision} changes {100 * share:.1f} % of the answers, more than "
                    f"{100 * MOST_CHANGED:g} %. Compare the accuracies above; if they differ too "
                    'much, run fp32 ("precision" of the deployment), export again with more images '
                    "(--calibration), or train a backbone whose activations are ReLU."
                )

    def to_dict(self) -> dict[str, Json]:
        """Convert the report to JSON, without the pieces, which are in the index."""
        described = asdict(self)
        del described["pieces"]
        return {**described, "policy": DEFAULT, "p_tar": P_TAR}


def export_artifact(
    artifact: EvaluatedArtifact, calibration: int = 256, checked: int = 64
) -> ExportReport:
    """Export the graphs of an artifact, and write `onnx/report.json` about their accuracy.

    Args:
        calibration: number of training images to measure the ranges for int8 on.
        checked: number of validation images to compare every graph with PyTorch on.

    Raises:
        EennError: there are graphs already, or no images; see `export`.
    """
    folder = artifact.manifest.path / FOLDER
    if folder.exists():
        raise EennError(f"{folder} exists already; remove it to export again")
    if min(calibration, checked) < 1:
        raise EennError(
            f"{calibration} images for calibration and {checked} to check on: allowed is 1 or more"
        )
    ranges = (images for images, _ in _batches(artifact, "train", calibration, "calibration"))
    real = np.concatenate([images for images, _ in _batches(artifact, "val", checked, "check")])
    graphs = export(artifact.manifest.path, ranges, real)
    decided, truth = _replayed(artifact)
    report = ExportReport(
        graphs.rows,
        min(calibration, len(artifact.split.train)),
        len(truth),
        tuple(_replay(name, decided, truth, artifact.branches) for name in decided),
        tuple(change for name in decided for change in _changes(name, decided, artifact)),
    )
    origin = provenance(artifact.split.seed, artifact.title, f"{processor()}, 1 thread")
    content = {"artifact_id": artifact.manifest.id, **report.to_dict(), **origin}
    write_file(folder / REPORT, json.dumps(content, indent=1))
    return report


class _Decided(NamedTuple):
    exits: NDArray[np.int64]
    labels: NDArray[np.int64]


def _replayed(artifact: EvaluatedArtifact) -> tuple[dict[str, _Decided], NDArray[np.int64]]:
    """Replay the validation split; return decisions by precision, and the labels."""
    manifest, active = artifact.manifest, range(artifact.branches)
    policy = make_policy(DEFAULT, {"p_tar": P_TAR})
    network, temperatures = store.load(manifest.path).network, manifest.temperatures.per_exit
    runtimes = {
        precision: EdgeRuntime(
            manifest.path, policy, active, LocalCloud(manifest.path, precision), precision
        )
        for precision in PRECISIONS
    }
    truth: list[NDArray[np.int64]] = []
    batches: dict[str, list[_Decided]] = {name: [] for name in (PYTORCH, *runtimes)}
    for images, labels in _batches(artifact, "val", len(artifact.split.val), "replay"):
        truth.append(labels)
        decisions = decide(policy, _outputs(network, images, temperatures), active)
        batches[PYTORCH].append(_Decided(decisions.taken, decisions.label))
        for precision, runtime in runtimes.items():
            results = runtime.classify(images)
            exits, answers = ([r.exit for r in results], [r.label for r in results])
            batches[precision].append(_Decided(np.array(exits), np.array(answers)))
    decided = {
        name: _Decided(*map(np.concatenate, zip(*own, strict=True)))
        for name, own in batches.items()
    }
    return decided, np.concatenate(truth)


def _replay(
    name: str, decided: dict[str, _Decided], truth: NDArray[np.int64], branches: int
) -> Replay:
    own, whole = decided[name], decided[PYTORCH]
    return Replay(
        name,
        accuracy=float((own.labels == truth).mean()),
        edge_probability=float((own.exits < branches).mean()),
        exits_changed=int((own.exits != whole.exits).sum()),
        answers_changed=int((own.labels != whole.labels).sum()),
    )


def _changes(
    name: str, decided: dict[str, _Decided], artifact: EvaluatedArtifact
) -> Iterator[Change]:
    own, whole = decided[name], decided[PYTORCH]
    classes = artifact.manifest.classes
    for sample in np.flatnonzero((own.exits != whole.exits) | (own.labels != whole.labels)):
        yield Change(
            name,
            artifact.split.val[sample],
            (int(whole.exits[sample]) + 1, int(own.exits[sample]) + 1),
            (classes[whole.labels[sample]], classes[own.labels[sample]]),
        )


def _outputs(
    network: EarlyExitNet, images: NDArray[np.float32], temperatures: tuple[float, ...]
) -> list[ExitProbs]:
    """Compute PyTorch's calibrated probabilities of every exit."""
    with torch.inference_mode():
        logits = network(torch.from_numpy(images)).numpy()
    pairs = zip(logits, temperatures, strict=True)
    return [ExitProbs(exit, probabilities(*pair)) for exit, pair in enumerate(pairs)]


def _batches(
    artifact: EvaluatedArtifact, split: str, count: int, title: str
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Yield preprocessed images (N, 3, H, W) and labels in batches, and show the progress."""
    preprocessing = artifact.manifest.preprocessing
    photos = with_progress(artifact.photos(split, count), title, "images", count)
    while batch := list(islice(photos, BATCH_SIZE)):
        images = (preprocessing(preprocessing.read(BytesIO(photo.file))) for photo in batch)
        yield np.stack(list(images)), np.array([photo.label for photo in batch])
