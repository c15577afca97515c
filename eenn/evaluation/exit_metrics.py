"""Metrics of every exit as if it answered all images: calibration and failure prediction."""

from collections.abc import Sequence

from eenn.evaluation.rows import ExitMetrics, Network
from eenn.records.records import ExitRecords
from eenn.statistics.calibration import ece_if_calibrated, ece_of, nll_per_sample, probabilities
from eenn.statistics.intervals import Estimate, means, share, statistic
from eenn.statistics.metrics import aurc, brier_per_sample, failure_auroc

# Computed from the confidence of each answer and its being right.
STATISTICS = {"ece": ece_of, "failure_auroc": failure_auroc, "aurc": aurc}


def evaluate_exits(
    network: Network, level: float, records: ExitRecords, temperatures: Sequence[float]
) -> list[ExitMetrics]:
    """Measure every exit before and after its temperature, one row each; no rows without labels."""
    rows: list[ExitMetrics] = []
    labels = records.labels
    if labels is None:
        return rows
    for exit, (logits, temperature) in enumerate(zip(records.logits, temperatures, strict=True), 1):
        correct = logits.argmax(-1) == labels
        found: dict[str, Estimate] = {}
        for suffix, t in (("_raw", 1.0), ("", temperature)):
            probs = probabilities(logits, t)
            confidence = probs.max(-1)
            found |= means(
                {
                    f"nll{suffix}": nll_per_sample(logits, labels, t),
                    f"brier{suffix}": brier_per_sample(probs, labels),
                }
            )
            for name, compute in STATISTICS.items():
                found[f"{name}{suffix}"] = statistic(compute, confidence, correct)
            ece = found[f"ece{suffix}"]
            # Subtracting the bias may lead below 0.
            found[f"ece{suffix}"] = ece._replace(low=max(ece.low, 0.0))
        rows.append(
            ExitMetrics(
                network=network,
                level=level,
                exit=exit,
                n=len(labels),
                temperature=temperature,
                accuracy=share(int(correct.sum()), len(labels)),
                ece_if_calibrated=ece_if_calibrated(probs, draws=200)[0],
                **found,
            )
        )
    return rows
