"""The quality of every exit as if it answered all images: calibration and failure prediction."""

from collections.abc import Sequence

from eenn.records.records import ExitRecords
from eenn.statistics.calibration import ece_if_calibrated, ece_of, nll_per_sample, probabilities
from eenn.statistics.intervals import Row, means, share, statistic
from eenn.statistics.metrics import aurc, brier_per_sample, failure_auroc

# Of confidences and whether each answer is right.
STATISTICS = {"ece": ece_of, "failure_auroc": failure_auroc, "aurc": aurc}


def exit_quality(records: ExitRecords, temperatures: Sequence[float]) -> list[Row]:
    """One row per exit: accuracy, NLL, Brier score, ECE, AUROC of failure prediction, AURC.

    `_raw` are the numbers before the temperature. `ece_if_calibrated` is what a perfectly
    calibrated model with the same confidences would show on as many samples.
    """
    rows, labels = [], records.labels
    for exit, (logits, temperature) in enumerate(zip(records.logits, temperatures, strict=True), 1):
        correct = logits.argmax(-1) == labels
        row: Row = {
            "exit": exit,
            "n": len(labels),
            "temperature": temperature,
            **share("accuracy", int(correct.sum()), len(labels)),
        }
        for suffix, t in (("_raw", 1.0), ("", temperature)):
            probs = probabilities(logits, t)
            confidence = probs.max(-1)
            row |= means(
                **{
                    f"nll{suffix}": nll_per_sample(logits, labels, t),
                    f"brier{suffix}": brier_per_sample(probs, labels),
                }
            )
            for name, compute in STATISTICS.items():
                row |= statistic(f"{name}{suffix}", compute, confidence, correct)
            # Taking off the bias may lead below 0.
            row[f"ece{suffix}_low"] = max(row[f"ece{suffix}_low"], 0.0)
        row["ece_if_calibrated"] = ece_if_calibrated(probs, draws=200)[0]
        rows.append(row)
    return rows
