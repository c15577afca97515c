"""From results to tables: rows of printable values, and CSV files."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from eenn.evaluation.rows import Network
from eenn.exits.settings import Setting
from eenn.files import write_file
from eenn.models.architecture import Exit
from eenn.statistics.calibration import Temperatures, ece, ece_if_calibrated, nll, probabilities
from eenn.statistics.intervals import Estimate

Cell = bool | int | float | str


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


def flat(row: object) -> dict[str, Cell]:
    """Lay a row, a dataclass, out flat: a quantity becomes three cells, `_low` and `_high` behind.

    A setting becomes its policy, threshold or other knob, and active branches; rows within the row
    are laid out in their place, and so are mappings of quantities, under their names.
    """
    cells: dict[str, Cell] = {}
    for field in fields(cast(Any, row)):
        cells |= _cells(field.name, getattr(row, field.name))
    return cells


def _cells(name: str, value: object) -> dict[str, Cell]:
    if isinstance(value, Estimate):
        return {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
    if isinstance(value, Setting):
        return _setting_cells(value)
    if isinstance(value, Mapping):
        parts = (_cells(f"{name}_{key}", own) for key, own in value.items())
        return {key: cell for part in parts for key, cell in part.items()}
    if is_dataclass(value):
        return flat(value)
    return {name: value if isinstance(value, bool | int | float) else str(value)}


def _setting_cells(setting: Setting) -> dict[str, Cell]:
    is_p_tar = setting.knob == "p_tar"
    cells: dict[str, Cell] = {
        "policy": setting.name,
        "p_tar": setting.number if is_p_tar else np.nan,
        "thresholds": setting.value_text if isinstance(setting.value, tuple) else "",
        "active": setting.branches,
    }
    # Policies with another knob have a column of its name.
    return cells if is_p_tar or not setting.knob else cells | {setting.knob: setting.number}


def write_csv(path: Path, rows: Sequence[Mapping[str, Cell]]) -> None:
    """Write flat rows as a CSV table; what a row lacks is left empty."""
    columns = dict.fromkeys(key for row in rows for key in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text.getvalue())


def setting_columns(network: Network, level: float, setting: Setting) -> dict[str, str]:
    """Print what tells a point from all others."""
    return {
        "network": network.network,
        "seed": str(network.seed),
        "level": f"{level:g}",
        "policy": setting.name.replace("_", " "),
        "p_tar": setting.value_text or "-",
        "active": setting.branches,
    }


def point_name(network: Network, level: float, setting: Setting) -> str:
    """Name a point by what tells it from all others of an evaluation."""
    way = " ".join(filter(None, (setting.name, setting.value_text)))
    branches = f", branches {setting.branches}" if setting.active else ""
    return f"{network.network}, seed {network.seed}/level {level:g}/{way}{branches}"


def varying(rows: list[dict[str, str]], columns: Sequence[str]) -> list[dict[str, str]]:
    """Leave out those of the columns that say the same in all rows."""
    constant = {c for c in columns if len({row[c] for row in rows}) == 1}
    return [{k: v for k, v in row.items() if k not in constant} for row in rows]


def raw(row: Mapping[str, Cell]) -> dict[str, str]:
    """Print a row with every number to six digits."""
    return {k: f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in row.items()}


def number(value: float, form: str) -> str:
    """Print a number in that format, or "-" for NaN."""
    return format(value, form) if np.isfinite(value) else "-"


def with_bounds(estimate: Estimate, scale: float, digits: int = 1) -> str:
    """Print a quantity, times `scale`, with its interval where it has one: 12.3 (11.0-13.5)."""
    value, low, high = (end * scale for end in estimate)
    if not np.isfinite(value):
        return "-"
    if not np.isfinite(low):
        return f"{value:z.{digits}f}"
    return f"{value:z.{digits}f} ({low:z.{digits}f}-{high:z.{digits}f})"


def table(rows: Iterable[Mapping[str, object]]) -> str:
    """Print rows as an aligned text table that is Markdown as well, their values as given."""
    return str(
        tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True, stralign="right")
    )
