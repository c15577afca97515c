"""Experiment tracking; the only module that imports wandb. Offline unless WANDB_MODE says not."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wandb
from matplotlib.figure import Figure

from eenn.statistics.intervals import Row

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


def publish_tables(
    directory: Path,
    name: str,
    group: str | None,
    project: str,
    settings: Mapping[str, Any],
    tables: Mapping[str, Sequence[Row]],
    headline: Sequence[Row],
    figures: Sequence[Path],
) -> None:
    """Put tables, headline and figures into a W&B run of its own, and end it.

    Args:
        project: W&B's.
        tables: rows with the same keys, by name; those without rows are left out.
        headline: rows whose numbers become the run's summary, under network and setting.
        figures: image files.
    """
    _offline_by_default()
    run = wandb.init(
        project=project,
        name=name,
        group=group,
        id=_run_id(directory),
        dir=directory,
        config=dict(settings),
    )
    try:
        run.log({name: _table(rows) for name, rows in tables.items() if rows})
        run.log({file.stem: wandb.Image(str(file)) for file in figures})
        for row in headline:
            numbers = {k: v for k, v in row.items() if isinstance(v, float)}
            run.summary.update({f"{_setting(row)}/{key}": value for key, value in numbers.items()})
    finally:
        run.finish()


def finish() -> None:
    """End the process's W&B run, if there is one, so that the next job of a sweep gets its own."""
    if wandb.run is not None:
        wandb.finish()


def _setting(row: Row) -> str:
    """What tells a row from all others of an evaluation."""
    threshold = row["thresholds"] or ("" if math.isnan(row["p_tar"]) else f"{row['p_tar']:g}")
    policy = " ".join(filter(None, (row["policy"], threshold)))
    where = f"{row['network']}, seed {row['seed']}/level {row['level']:g}"
    return f"{where}/{policy}" + (f", branches {row['active']}" if row["active"] else "")


def _run_id(directory: Path) -> str:
    identity = "-".join(directory.parts[-3:])
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in identity)


def _offline_by_default() -> None:
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_MODE", "offline")


def _table(rows: Sequence[Mapping[str, Any]]) -> wandb.Table:
    return wandb.Table(list(rows[0]), [list(row.values()) for row in rows])
