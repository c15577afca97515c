"""From results to tables: rows of printable values, and CSV files."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from eenn.files import write_file
from eenn.models.architecture import Exit
from eenn.statistics.calibration import Temperatures, ece, ece_if_calibrated, nll, probabilities
from eenn.statistics.intervals import Row


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


def write_csv(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write rows with the same keys as a CSV table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text.getvalue())


def setting_columns(row: Row) -> dict[str, str]:
    """What tells a point from all others."""
    return {
        "network": row["network"],
        "seed": str(row["seed"]),
        "level": f"{row['level']:g}",
        "policy": row["policy"].replace("_", " "),
        "p_tar": row["thresholds"] or number(row["p_tar"], "g"),
        "active": row["active"],
    }


def varying(rows: list[dict[str, str]], columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows without those of the columns that say the same in all of them."""
    constant = {c for c in columns if len({row[c] for row in rows}) == 1}
    return [{k: v for k, v in row.items() if k not in constant} for row in rows]


def raw(row: Row) -> dict[str, str]:
    """A row with every number to six digits."""
    return {k: f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in row.items()}


def number(value: float, form: str) -> str:
    """A number in that format, or "-" for NaN."""
    return format(value, form) if np.isfinite(value) else "-"


def with_bounds(row: Row, name: str, scale: float, digits: int = 1) -> str:
    """A quantity, times `scale`, with its interval where it has one: 12.3 (11.0-13.5)."""
    value, low, high = (row[key] * scale for key in (name, f"{name}_low", f"{name}_high"))
    if not np.isfinite(value):
        return "-"
    if not np.isfinite(low):
        return f"{value:z.{digits}f}"
    return f"{value:z.{digits}f} ({low:z.{digits}f}-{high:z.{digits}f})"


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Rows as an aligned text table that is Markdown as well; values are printed as given."""
    return str(
        tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True, stralign="right")
    )
