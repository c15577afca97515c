"""Runs of evaluate.py, and the tables that they write."""

import csv
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from eenn.workflows.console import evaluate


def run_in(place: Path, *overrides: str, drawn: bool = False) -> Path:
    """Run evaluate.py in `place` and in this process; returns the directory it wrote to.

    Args:
        drawn: whether files of figures show them. They take a third of a run's time, so that most
            runs leave blank ones.
    """
    before = _runs(place)
    with pytest.MonkeyPatch.context() as patch:
        if not drawn:
            patch.setattr("eenn.reports.figures.save_figure", _save_blank)
        patch.setattr(sys, "argv", ["evaluate.py", *overrides])
        patch.setenv("WANDB_DATA_DIR", str(place))
        patch.chdir(place)
        evaluate()
    (directory,) = _runs(place) - before
    return directory


def _save_blank(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix[1:].upper()
    Image.new("RGB", (8, 8), "white").save(path, kind, dpi=(150, 150), resolution=150)


def _runs(place: Path) -> set[Path]:
    return set((place / "outputs" / "evaluate").glob("*/*"))


def rows(directory: Path, table: str) -> list[dict[str, str]]:
    """Read a table of a run, its cells as text."""
    with (directory / "tables" / f"{table}.csv").open() as file:
        return list(csv.DictReader(file))
