"""Experiment tracking; the only module that imports wandb. Offline unless WANDB_MODE is set.

A run that is not tracked by W&B does without wandb, which is large and takes seconds to import.
"""

import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from eenn.artifact.manifest import Manifest
from eenn.data.by_name import Table
from eenn.files import Json
from eenn.reports.summed_up import SummedUp
from eenn.reports.tables import Cell
from eenn.run_directory import ARTIFACT
from eenn.workflows.run import Label, Run

if TYPE_CHECKING:
    import wandb
    from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger

log = logging.getLogger(__name__)
# Exit codes with which W&B itself marks a run.
FAILED, INTERRUPTED = 1, 255
# Flat rows by name of their table.
Tables = Mapping[str, Sequence[Mapping[str, Cell]]]


class Tracker(Protocol):
    """Publishes the outcome of a run to the place where runs are compared."""

    def __call__(self, tables: Tables, summed_up: SummedUp, figures: Sequence[Path]) -> None:
        """Track tables, without those that have no rows, the numbers summed up, and image files."""


def wandb_logger(directory: Path, label: Label, project: str) -> "WandbLogger":
    """Open a W&B run that writes below `directory`; the same directory continues the run."""
    # Lightning takes seconds to import, and an evaluation has no use for it.
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    _offline_by_default()
    wandb.setup()  # silent from here on, as Lightning gives a setting that wandb warns of
    return WandbLogger(
        project=project,
        name=label.name,
        group=label.group,
        job_type=label.kind,
        tags=label.tags,
        id=_run_id(directory),
        save_dir=directory,
        resume="allow",
    )


def csv_logger(directory: Path, label: Label) -> "CSVLogger":
    """Log metrics to `logs/version_0/metrics.csv` in `directory`; a resumed run adds version 1."""
    from pytorch_lightning.loggers import CSVLogger

    return CSVLogger(directory, name="logs")


# As `open_logger` of a training: called with a directory and the run's label.
LOGGERS: Table["Logger"] = Table(
    {"csv": csv_logger, "wandb": wandb_logger},
    {
        f"{module}.{kind}_logger": kind
        for module in ("eenn.tracking", "eenn.workflows.tracking")
        for kind in ("csv", "wandb")
    },
)


def no_tracker(tables: Tables, summed_up: SummedUp, figures: Sequence[Path]) -> None:
    """Track nothing."""


def run_tracker(run: Run) -> Tracker:
    """Track in a W&B run of its own, which ends with the tracking; not at all without a project."""
    if run.project is None:
        return no_tracker

    def track(tables: Tables, summed_up: SummedUp, figures: Sequence[Path]) -> None:
        with ending():
            _publish(_opened(run, summed_up), tables, summed_up, figures)

    return track


@contextmanager
def tracked_if_it_fails(run: Run) -> Iterator[None]:
    """Open a W&B run, marked as failed or interrupted, if the block ends before it tracks."""
    try:
        yield
    except BaseException:
        if run.project is None:
            raise
        with ending():
            _opened(run, SummedUp())
            raise


def training_tracker(logger: "Logger", artifact: Path) -> Tracker:
    """Track in the W&B run of a training, and publish the trained artifact there."""
    from pytorch_lightning.loggers import WandbLogger

    if not isinstance(logger, WandbLogger):
        return no_tracker

    def track(tables: Tables, summed_up: SummedUp, figures: Sequence[Path]) -> None:
        import wandb

        tracked = logger.experiment
        _publish(tracked, tables, summed_up, figures)
        model = wandb.Artifact(_model_name(tracked.id), type="model")
        model.add_dir(str(artifact))
        tracked.log_artifact(model)

    return track


@contextmanager
def ending() -> Iterator[None]:
    """End the process's W&B run with the block, as failed or interrupted where the block is."""
    try:
        yield
    except BaseException as error:
        # Lightning turns Ctrl-C and SIGTERM into SystemExit.
        finish(FAILED if isinstance(error, Exception) else INTERRUPTED)
        raise
    finish()


def finish(exit_code: int = 0) -> None:
    """End the process's W&B run, if there is one, so that the next job of a sweep gets its own."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code)


def _opened(run: Run, summed_up: SummedUp) -> "wandb.Run":
    """Open the W&B run, linked to the models that it evaluates.

    For a setting that was given as a grid or as a mapping, config has the value of the run's point,
    and the given value under `given`.
    """
    import wandb

    _offline_by_default()
    trainings = [_training_of(manifest) for manifest in run.models]
    own = summed_up.settings
    tracked = wandb.init(
        project=run.project,
        name=run.label.name,
        group=run.label.group,
        job_type=run.label.kind,
        tags=run.label.tags,
        id=_run_id(run.directory),
        dir=run.directory,
        config={
            **run.settings,
            **own,
            "given": {key: run.settings[key] for key in own if key in run.settings},
            **_links(run.models, trainings),
        },
    )
    for training in trainings:
        if training and not tracked.offline:
            try:
                tracked.use_artifact(f"{_model_name(training)}:latest")
            except (wandb.errors.Error, ValueError) as error:
                log.warning("not linked to %s: %s", _model_name(training), error)
    return tracked


def _links(models: Sequence[Manifest], trainings: Sequence[str | None]) -> dict[str, Json]:
    """Name a run's models, separated by commas: their ids, and W&B's artifacts and runs."""
    known = [training for training in trainings if training]
    return {
        "model_id": ", ".join(manifest.id for manifest in models),
        "model_artifact": ", ".join(map(_model_name, known)) or None,
        "model_run": ", ".join(known) or None,
    }


def _training_of(manifest: Manifest) -> str | None:
    """Find the id of the W&B run that trained and logged a model, if its directory is there."""
    path = Path(os.path.abspath(manifest.path))
    # The folder of a network fine-tuned for a kind lies beside that of another network.
    runs = path.parent.glob("wandb/*run-*") if path.name == ARTIFACT else ()
    for found in runs:
        if match := re.fullmatch(r"(?:offline-)?run-\d+_\d+-(.+)", found.name):
            return match[1]
    return None


def _model_name(run_id: str) -> str:
    return f"eenn-{run_id}"


def _publish(
    tracked: "wandb.Run", tables: Tables, summed_up: SummedUp, figures: Sequence[Path]
) -> None:
    import wandb

    tracked.log({name: _table(rows) for name, rows in tables.items() if rows})
    if figures:
        tracked.log({file.stem: wandb.Image(str(file)) for file in figures})
    tracked.summary.update(dict(summed_up.numbers))


def _run_id(directory: Path) -> str:
    identity = "-".join(directory.parts[-3:])
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in identity)


def _offline_by_default() -> None:
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_MODE", "offline")


def _table(rows: Sequence[Mapping[str, Cell]]) -> "wandb.Table":
    import wandb

    columns: list[str | int] = list(dict.fromkeys(key for row in rows for key in row))
    return wandb.Table(columns, [[row.get(str(column)) for column in columns] for row in rows])
