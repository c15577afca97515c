"""Experiment tracking; the only module that imports wandb. Offline unless WANDB_MODE says not."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wandb
from matplotlib.figure import Figure

from eenn.reports.tables import Cell
from eenn.workflows.run import Run

if TYPE_CHECKING:
    from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger


def wandb_logger(directory: Path, name: str, group: str | None, project: str) -> "WandbLogger":
    """A W&B run that writes below `directory`; going on in the same directory continues the run."""
    # Lightning takes seconds to import, and an evaluation has no use for it.
    from pytorch_lightning.loggers import WandbLogger

    _offline_by_default()
    return WandbLogger(
        project=project,
        name=name,
        group=group,
        id=_run_id(directory),
        save_dir=directory,
        resume="allow",
    )


def csv_logger(directory: Path, name: str, group: str | None) -> "CSVLogger":
    """Metrics as `logs/version_0/metrics.csv` in `directory`; a resumed run adds version 1."""
    from pytorch_lightning.loggers import CSVLogger

    return CSVLogger(directory, name="logs")


def publish(
    logger: "Logger",
    rows: list[dict[str, str]],
    summary: dict[str, Any],
    figures: dict[str, Figure],
    artifact: Path,
) -> None:
    """Put a finished run's table of exits, summary, figures and artifact into W&B.

    Other loggers hold no such things; the run directory has them all.
    """
    from pytorch_lightning.loggers import WandbLogger

    if not isinstance(logger, WandbLogger):
        return
    run = logger.experiment
    run.log({"exits": _table(rows)})
    run.log({name: wandb.Image(figure) for name, figure in figures.items()})
    run.summary.update(summary)
    model = wandb.Artifact(f"eenn-{run.id}", type="model")
    model.add_dir(str(artifact))
    run.log_artifact(model)


def publish_report(
    run: Run,
    tables: Mapping[str, Sequence[Mapping[str, Cell]]],
    headline: Mapping[str, Mapping[str, Cell]],
    figures: Sequence[Path],
) -> None:
    """Put tables, headline and figures into a W&B run of its own, and end it.

    Args:
        tables: flat rows by name; those without rows are left out.
        headline: flat rows by name, whose numbers become the run's summary.
        figures: image files.
    """
    _offline_by_default()
    tracked = wandb.init(
        project=run.project,
        name=run.name,
        group=run.group,
        id=_run_id(run.directory),
        dir=run.directory,
        config=dict(run.settings),
    )
    try:
        tracked.log({name: _table(rows) for name, rows in tables.items() if rows})
        tracked.log({file.stem: wandb.Image(str(file)) for file in figures})
        for name, row in headline.items():
            numbers = {key: value for key, value in row.items() if isinstance(value, float)}
            tracked.summary.update({f"{name}/{key}": value for key, value in numbers.items()})
    finally:
        tracked.finish()


def finish() -> None:
    """End the process's W&B run, if there is one, so that the next job of a sweep gets its own."""
    if wandb.run is not None:
        wandb.finish()


def _run_id(directory: Path) -> str:
    identity = "-".join(directory.parts[-3:])
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in identity)


def _offline_by_default() -> None:
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_MODE", "offline")


def _table(rows: Sequence[Mapping[str, Cell]]) -> wandb.Table:
    columns: list[str | int] = list(dict.fromkeys(key for row in rows for key in row))
    return wandb.Table(columns, [[row.get(str(column)) for column in columns] for row in rows])
