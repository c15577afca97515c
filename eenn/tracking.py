"""Experiment tracking; the only module that imports wandb. Offline unless WANDB_MODE says not."""

import os
from pathlib import Path
from typing import Any

import wandb
from matplotlib.figure import Figure
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger


def wandb_logger(directory: Path, name: str, group: str | None, project: str) -> WandbLogger:
    """A W&B run that writes below `directory`; going on in the same directory continues the run."""
    os.environ.setdefault("WANDB_SILENT", "true")
    identity = "-".join(directory.parts[-3:])
    return WandbLogger(
        project=project,
        name=name,
        group=group,
        id="".join(c if c.isalnum() or c in "-_" else "-" for c in identity),
        save_dir=directory,
        mode=os.environ.get("WANDB_MODE", "offline"),
        resume="allow",
    )


def csv_logger(directory: Path, name: str, group: str | None) -> CSVLogger:
    """Metrics as `logs/version_0/metrics.csv` in `directory`; a resumed run adds version 1."""
    return CSVLogger(directory, name="logs")


def publish(
    logger: Logger,
    rows: list[dict[str, str]],
    summary: dict[str, Any],
    figures: dict[str, Figure],
    artifact: Path,
) -> None:
    """Put a finished run's table of exits, summary, figures and artifact into W&B.

    Other loggers hold no such things; the run directory has them all.
    """
    if not isinstance(logger, WandbLogger):
        return
    run = logger.experiment
    columns: list[str | int] = list(rows[0])
    run.log({"exits": wandb.Table(columns, [list(row.values()) for row in rows])})
    run.log({name: wandb.Image(figure) for name, figure in figures.items()})
    run.summary.update(summary)
    model = wandb.Artifact(f"eenn-{run.id}", type="model")
    model.add_dir(str(artifact))
    run.log_artifact(model)


def finish() -> None:
    """End the process's W&B run, if there is one, so that the next job of a sweep gets its own."""
    if wandb.run is not None:
        wandb.finish()
