"""Reads result files, and prints their intervals and origin for all tables."""

import json
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"

# A result file, or a row in it: what is in there depends on the script that wrote it.
Content = dict[str, Any]


def run_of(name: str) -> Content:
    """Read results/NAME.json."""
    content: Content = json.loads((RESULTS / f"{name}.json").read_text())
    return content


def interval(row: Content, name: str, scale: float) -> str:
    """Print a number with its interval, both times `scale`."""
    low, high = (row[f"{name}_{end}"] * scale for end in ("low", "high"))
    return f"{row[name] * scale:.1f} ({low:.1f}-{high:.1f})"


def points(row: Content, name: str) -> str:
    """Print a difference in points with its interval, or - where the rule cannot cost that."""
    if row[name] is None:
        return "-"
    # Rounded first, and added to 0, so that no small difference is printed as -0.0.
    value, low, high = (round(100 * row[f"{name}{end}"], 1) + 0.0 for end in ("", "_low", "_high"))
    return f"{value:+.1f} ({low:+.1f}, {high:+.1f})"


def answered_by(row: Content) -> str:
    """Name a deployment by its file, and a baseline as it is."""
    policy: str = row["policy"]
    return PurePath(policy.rsplit(", ", 1)[1]).stem if policy.endswith(".json") else policy


def where(*runs: Content) -> str:
    """Print data, seed, hardware and date, for a line under a table."""
    data, hardware, date, seed = (
        distinct(runs, key) for key in ("data", "hardware", "date", "seed")
    )
    return f"Data: {data}. Seed {seed}. {hardware}. {date}."


def distinct(runs: Sequence[Content], key: str) -> str:
    """Join the values that runs have for a key, every value once."""
    return ", ".join(dict.fromkeys(str(run[key]) for run in runs))
