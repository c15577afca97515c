"""Tables of results: rows of printable values, and CSV files."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from tabulate import tabulate

from eenn.evaluation.rows import Network
from eenn.exits.head_sets import HeadChoice
from eenn.exits.settings import Setting
from eenn.files import write_file
from eenn.statistics.intervals import Estimate

Cell = bool | int | float | str


def flat(row: object) -> dict[str, Cell]:
    """Lay a row, a dataclass, out flat: a quantity has three cells, the ends as `_low` and `_high`.

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
    if isinstance(value, HeadChoice):
        return {name: str(value)}
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
    if setting.policy is not None:
        cells |= {name: getattr(setting.policy, name) for name in setting.policy.grids}
    # Policies with another knob have a column of its name.
    return cells if is_p_tar or not setting.knob else cells | {setting.knob: setting.number}


def write_csv(path: Path, rows: Sequence[Mapping[str, Cell]]) -> None:
    """Write flat rows as a CSV table; missing cells are left empty."""
    columns = dict.fromkeys(key for row in rows for key in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text.getvalue())


def setting_columns(network: Network, level: float, setting: Setting) -> dict[str, str]:
    """Print the columns that distinguish a point from all others."""
    return {
        "network": network.network,
        "seed": str(network.seed),
        "level": f"{level:g}",
        "policy": words(setting.name),
        "p_tar": setting.value_text or "-",
        "active": setting.branches,
    }


class SettingRow(Protocol):
    """A row about one way to answer, at one level of a distortion."""

    @property
    def network(self) -> Network: ...
    @property
    def level(self) -> float: ...
    @property
    def setting(self) -> Setting: ...


def words(name: str) -> str:
    """Print a name with spaces for underscores; names of files, and p_tar, keep theirs."""
    return " ".join(
        word if "." in word or "/" in word or word == "p_tar" else word.replace("_", " ")
        for word in name.split(" ")
    )


def distorted(kind: str, level: float) -> str:
    """Describe the distortion of images in words; level 0 of any kind is none."""
    return f"{words(kind)} level {level:g}" if level else "untouched"


def common_columns(rows: Sequence[Mapping[str, str]]) -> tuple[str, list[dict[str, str]]]:
    """Separate the columns that are alike in all rows from the others.

    Returns:
        A sentence with the values of these columns, and the rows without them.
    """
    columns = dict.fromkeys(column for row in rows for column in row)
    alike = {
        column: rows[0][column]
        for column in columns
        if len(rows) > 1 and len({row.get(column) for row in rows}) == 1
    }
    if len(alike) == len(columns):
        return "", [dict(row) for row in rows]
    said = "; ".join(f"{name} {value}" for name, value in alike.items() if value not in ("", "-"))
    left = [{k: v for k, v in row.items() if k not in alike} for row in rows]
    return f"In all rows: {said}." if said else "", left


def varying(rows: list[dict[str, str]], columns: Sequence[str]) -> list[dict[str, str]]:
    """Leave out those of the columns that are alike in all rows."""
    constant = {c for c in columns if len({row[c] for row in rows}) == 1}
    return without(rows, [*constant])


def without(rows: list[dict[str, str]], columns: Sequence[str]) -> list[dict[str, str]]:
    """Leave out columns."""
    return [{k: v for k, v in row.items() if k not in columns} for row in rows]


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


def signed(difference: Estimate, scale: float, digits: int) -> str:
    """Print a difference, times `scale`, with its interval, the ends of which may be below 0."""
    value, low, high = (number(scale * end, f"z.{digits}f") for end in difference)
    return f"{value} ({low} to {high})" if low != "-" else value


def table(rows: Iterable[Mapping[str, object]]) -> str:
    """Print rows as an aligned text table that is Markdown as well, their values as given."""
    return str(
        tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True, stralign="right")
    )
