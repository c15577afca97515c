"""Runs of evaluate.py, and the tables that they write."""

import csv
import sys
from pathlib import Path

import pytest

from eenn.workflows.console import evaluate


def run_in(place: Path, *overrides: str) -> Path:
    """Run evaluate.py in `place` and in this process; returns the directory it wrote to."""
    before = _runs(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["evaluate.py", *overrides])
        patch.setenv("WANDB_DATA_DIR", str(place))
        patch.chdir(place)
        evaluate()
    (directory,) = _runs(place) - before
    return directory


def _runs(place: Path) -> set[Path]:
    return set((place / "outputs" / "evaluate").glob("*/*"))


def rows(directory: Path, table: str) -> list[dict[str, str]]:
    """Read a table of a run, its cells as text."""
    with (directory / "tables" / f"{table}.csv").open() as file:
        return list(csv.DictReader(file))
