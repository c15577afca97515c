"""Temperatures fitted on few validation images, judged by the NLL of unseen images.

    python -m benchmarks.temperatures --artifact DIR --images PATH

The validation and test records of the artifact together are the population. From it 10 to 100
images are drawn, 200 times each; temperatures are fitted to them, as today and by the least NLL of
these images alone, and judged by the NLL of all other images against uncalibrated. At the end both
fits are compared on the whole validation split. Writes results/temperatures.json.
"""

import argparse
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from eenn.files import JsonObject, write_json
from eenn.provenance import processor, provenance
from eenn.records.evaluated_artifact import open_artifact
from eenn.statistics.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    fit_temperatures,
    nll,
)

IMAGES, DRAWS = (10, 20, 30, 50, 100), 200
RESULT = Path("results/temperatures.json")

Logits = NDArray[np.float32]
Labels = NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description="temperatures from few validation images")
    parser.add_argument("--artifact", required=True, help="directory of an artifact, or latest")
    parser.add_argument("--images", help="folder of class folders; as in the training if left out")
    given = parser.parse_args()
    artifact = open_artifact(given.artifact, given.images)
    validation, test = (artifact.records(split, "none", 0) for split in ("val", "test"))
    logits = np.concatenate([validation.logits, test.logits], axis=1)
    labels = np.concatenate([validation.truth, test.truth])
    generator = np.random.default_rng(0)
    rows: list[dict[str, str | float]] = []
    print("images       exit   ours: mean    worst %   alone: mean    worst %")
    for images in IMAGES:
        changes = np.array(
            [
                drawn(logits, labels, generator.permutation(len(labels)), images)
                for _ in range(DRAWS)
            ]
        )
        for k, (ours, alone) in enumerate(changes.transpose(2, 1, 0), 1):
            exit_ = "shared" if k > len(logits) else str(k)
            row: dict[str, str | float] = {
                "images": images,
                "exit": exit_,
                "ours_mean": float(ours.mean()),
                "ours_worst": float(ours.max()),
                "alone_mean": float(alone.mean()),
                "alone_worst": float(alone.max()),
            }
            rows.append(row)
            numbers = (ours.mean(), ours.max(), alone.mean(), alone.max())
            shown = " ".join(f"{100 * number:12.2f}" for number in numbers)
            print(f"{images:6} {exit_:>10} {shown}", flush=True)
    result: JsonObject = {
        "draws": DRAWS,
        "population_n": len(labels),
        "relative_change_of_nll": rows,
        "whole_validation": whole(validation.logits, validation.truth, test.logits, test.truth),
        **provenance(artifact.split.seed, "Caltech-101", processor()),
    }
    write_json(RESULT, result)
    print(f"wrote {RESULT}")


def drawn(
    logits: Logits, labels: Labels, order: NDArray[np.int64], images: int
) -> list[list[float]]:
    """Fit to the first images of an order and judge by the others: ours, and the images alone.

    Returns the relative change of the NLL of every exit, and last of all exits by the shared
    temperature.
    """
    few, others = order[:images], order[images:]
    fitted = fit_temperatures(logits[:, few], labels[few])
    ours = (*fitted.per_exit, fitted.shared)
    pairs = [*zip(logits[:, few], len(logits) * [labels[few]], strict=True)]
    pairs.append(pooled(logits[:, few], labels[few]))
    unseen = [*zip(logits[:, others], len(logits) * [labels[others]], strict=True)]
    unseen.append(pooled(logits[:, others], labels[others]))
    before = [nll(*pair) for pair in unseen]
    return [
        [
            nll(*pair, temperature) / uncalibrated - 1
            for pair, temperature, uncalibrated in zip(unseen, temperatures, before, strict=True)
        ]
        for temperatures in (ours, [least_nll(*pair) for pair in pairs])
    ]


def pooled(logits: Logits, labels: Labels) -> tuple[Logits, Labels]:
    """Put all exits' samples together."""
    return logits.reshape(-1, logits.shape[-1]), np.tile(labels, len(logits))


def least_nll(logits: Logits, labels: Labels) -> float:
    """Fit the temperature of the least NLL, by a search over its logarithm."""
    bounds = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    found = minimize_scalar(
        lambda log: nll(logits, labels, math.exp(log)), bounds=bounds, method="bounded"
    )
    return math.exp(found.x)


def whole(
    logits: Logits, labels: Labels, test_logits: Logits, test_labels: Labels
) -> list[dict[str, float]]:
    """Compare both fits on a whole validation split, exit by exit, and their NLL on test."""
    ours = fit_temperatures(logits, labels).per_exit
    alone = [least_nll(own, labels) for own in logits]
    return [
        {
            "temperature": mine,
            "alone_temperature": theirs,
            "test_nll": nll(own, test_labels, mine),
            "alone_test_nll": nll(own, test_labels, theirs),
        }
        for mine, theirs, own in zip(ours, alone, test_logits, strict=True)
    ]


if __name__ == "__main__":
    main()
