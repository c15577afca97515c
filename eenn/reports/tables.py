"""From results to tables: rows of printable values, and CSV files."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eenn.calibration import Temperatures, ece, ece_if_calibrated, nll, probabilities
from eenn.files import write_file


def exit_metrics(
    logits: NDArray[np.float32], labels: NDArray[np.int64], temperatures: Temperatures
) -> dict[str, list[float]]:
    """Per exit: accuracy, NLL (nats) and ECE before and after its temperature.

    Also `ece_if_calibrated`, what a perfectly calibrated model with the same confidences would
    show on average over draws of this many samples.

    Args:
        logits: raw, (exits, samples, classes).
        labels: class indices, (samples,).
    """
    metrics: dict[str, list[float]] = {
        "accuracy": [float((z.argmax(-1) == labels).mean()) for z in logits],
        "nll": [nll(z, labels) for z in logits],
        "ece": [ece(probabilities(z), labels) for z in logits],
    }
    pairs = list(zip(logits, temperatures.per_exit, strict=True))
    calibrated = [probabilities(z, t) for z, t in pairs]
    metrics["nll_calibrated"] = [nll(z, labels, t) for z, t in pairs]
    metrics["ece_calibrated"] = [ece(probs, labels) for probs in calibrated]
    metrics["ece_if_calibrated"] = [ece_if_calibrated(probs)[0] for probs in calibrated]
    return metrics


def exit_rows(
    metrics: dict[str, list[float]], temperatures: Temperatures, exits: Sequence[dict[str, Any]]
) -> list[dict[str, str]]:
    """One printable row per exit: where it is, what it costs, how good and how calibrated it is.

    Args:
        exits: the manifest's table of exits. MACs count all segments and heads up to the exit.
    """
    return [
        {
            "exit": str(k + 1),
            "after block": str(row["after"]),
            "MMACs": f"{(row['macs'] + sum(e['head_macs'] for e in exits[: k + 1])) / 1e6:.1f}",
            "accuracy %": f"{100 * metrics['accuracy'][k]:.1f}",
            "NLL": f"{metrics['nll'][k]:.3f}",
            "NLL cal.": f"{metrics['nll_calibrated'][k]:.3f}",
            "ECE %": f"{100 * metrics['ece'][k]:.1f}",
            "ECE % cal.": f"{100 * metrics['ece_calibrated'][k]:.1f}",
            "T": f"{temperatures.per_exit[k]:.3f}",
        }
        for k, row in enumerate(exits)
    ]


def write_csv(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write rows with the same keys as a CSV table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text.getvalue())
