"""The report of a training: how good and how calibrated every exit, or every expert, became."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from eenn.exits.head_sets import Classifier, Expert
from eenn.models.architecture import Exit
from eenn.reports.figures import Drawn, reliability_figure
from eenn.reports.page import Section
from eenn.reports.report import Report
from eenn.statistics.calibration import Temperatures, ece, ece_if_calibrated, nll, probabilities

Logits = NDArray[np.float32]
Labels = NDArray[np.int64]


def training_report(
    facts: Mapping[str, str],
    rows: Sequence[Mapping[str, str]],
    recorded: Mapping[str, tuple[Logits, Labels]],
    temperatures: Temperatures,
) -> Report:
    """Put together the report of a training.

    Args:
        rows: see `exit_rows`.
        recorded: raw logits and labels by part of the split.
    """
    caption = (
        "Accuracy against confidence before and after temperature scaling; the area of a marker is "
        "its share of the images."
    )
    figures = [
        Drawn(
            f"reliability_{part}",
            f"Reliability, {part} split",
            caption,
            reliability_figure(logits, labels, temperatures.per_exit),
        )
        for part, (logits, labels) in recorded.items()
    ]
    return Report("Training", facts, {"exits": rows}, [Section("Exits", EXITS_TEXT, rows)], figures)


def expert_training_report(facts: Mapping[str, str], rows: Sequence[Mapping[str, str]]) -> Report:
    """Put together the report of a training of experts; `rows` are those of `expert_rows`."""
    opening = [Section("Experts", EXPERTS_TEXT, rows)]
    return Report("Training of experts", facts, {"experts": rows}, opening, [])


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
    metrics: dict[str, list[float]], temperatures: Temperatures, exits: Sequence[Exit]
) -> list[dict[str, str]]:
    """One printable row per exit: where it is, what it costs, how good and how calibrated it is.

    Args:
        exits: the manifest's table of exits. MACs count all segments and heads up to the exit.
    """
    return [
        {
            "exit": str(k + 1),
            "after block": str(row.after),
            "MMACs": f"{(row.macs + sum(e.head_macs for e in exits[: k + 1])) / 1e6:.1f}",
            "accuracy %": f"{100 * metrics['accuracy'][k]:.1f}",
            "NLL": f"{metrics['nll'][k]:.3f}",
            "NLL cal.": f"{metrics['nll_calibrated'][k]:.3f}",
            "ECE %": f"{100 * metrics['ece'][k]:.1f}",
            "ECE % cal.": f"{100 * metrics['ece_calibrated'][k]:.1f}",
            "T": f"{temperatures.per_exit[k]:.3f}",
        }
        for k, row in enumerate(exits)
    ]


def expert_rows(experts: Sequence[Expert], classifier: Classifier) -> list[dict[str, str]]:
    """One printable row per expert: accuracies on distorted validation images, and its size."""
    rows = []
    for expert, recognised in zip(experts, classifier.validation_accuracy[1:], strict=True):
        accuracies = {
            f"exit {k}": f"{100 * plain:.1f} -> {100 * own:.1f}"
            for k, (plain, own) in enumerate(
                zip(expert.plain_accuracy, expert.validation_accuracy, strict=True), 1
            )
        }
        rows.append(
            {
                "expert": expert.kind,
                "levels": f"{expert.mildest:g} to {expert.strongest:g}",
                **accuracies,
                "recognised %": f"{100 * recognised:.1f}",
                "kB": f"{expert.bytes / 1e3:.0f}",
            }
        )
    return rows


EXITS_TEXT = (
    "The test split, every exit as if it answered all images. MACs count all segments and heads up "
    'to the exit. NLL in nats; "cal." is after temperature scaling, T the temperature.'
)
EXPERTS_TEXT = (
    "The validation split, distorted as in training: accuracy of the plain heads and then of the "
    "expert's, in %, for every exit, and how many of these images the classifier recognises."
)
