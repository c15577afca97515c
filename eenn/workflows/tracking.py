"""Experiment tracking; the only module that imports wandb. Offline unless WANDB_MODE says not."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import wandb

from eenn.data.by_name import Table
from eenn.reports.tables import Cell
from eenn.workflows.run import Run

if TYPE_CHECKING:
    from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger

# Flat rows by name of their table.
Tables = Mapping[str, Sequence[Mapping[str, Cell]]]


class Tracker(Protocol):
    """Puts what a run came to where runs are compared."""

    def __call__(
        self, tables: Tables, summary: Mapping[str, float], figures: Sequence[Path]
    ) -> None:
        """Track tables, without those that have no rows, numbers by name, and image files."""


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


# As `open_logger` of a training: called with a directory and the run's name and group.
LOGGERS: Table["Logger"] = Table(
    {"csv": csv_logger, "wandb": wandb_logger},
    {
        f"{module}.{kind}_logger": kind
        for module in ("eenn.tracking", "eenn.workflows.tracking")
        for kind in ("csv", "wandb")
    },
)


def no_tracker(tables: Tables, summary: Mapping[str, float], figures: Sequence[Path]) -> None:
    """Track nothing."""


def run_tracker(run: Run) -> Tracker:
    """Track by a W&B run of its own, which ends with that; not at all without a project."""
    if run.project is None:
        return no_tracker

    def track(tables: Tables, summary: Mapping[str, float], figures: Sequence[Path]) -> None:
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
            _publish(tracked, tables, summary, figures)
        finally:
            tracked.finish()

    return track


def training_tracker(logger: "Logger", artifact: Path) -> Tracker:
    """Track by the W&B run of a training, and put its artifact there, if it has one."""
    from pytorch_lightning.loggers import WandbLogger

    if not isinstance(logger, WandbLogger):
        return no_tracker

    def track(tables: Tables, summary: Mapping[str, float], figures: Sequence[Path]) -> None:
        tracked = logger.experiment
        _publish(tracked, tables, summary, figures)
        model = wandb.Artifact(f"eenn-{tracked.id}", type="model")
        model.add_dir(str(artifact))
        tracked.log_artifact(model)

    return track


def finish() -> None:
    """End the process's W&B run, if there is one, so that the next job of a sweep gets its own."""
    if wandb.run is not None:
        wandb.finish()


def _publish(
    tracked: wandb.Run, tables: Tables, summary: Mapping[str, float], figures: Sequence[Path]
) -> None:
    tracked.log({name: _table(rows) for name, rows in tables.items() if rows})
    if figures:
        tracked.log({file.stem: wandb.Image(str(file)) for file in figures})
    tracked.summary.update(dict(summary))


def _run_id(directory: Path) -> str:
    identity = "-".join(directory.parts[-3:])
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in identity)


def _offline_by_default() -> None:
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_MODE", "offline")


def _table(rows: Sequence[Mapping[str, Cell]]) -> wandb.Table:
    columns: list[str | int] = list(dict.fromkeys(key for row in rows for key in row))
    return wandb.Table(columns, [[row.get(str(column)) for column in columns] for row in rows])
