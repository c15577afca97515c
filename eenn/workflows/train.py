"""A training run from its parts to its results: fit, calibrate, save, test, report, track."""

import json
import logging
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import Logger

from eenn.artifact import store
from eenn.data.datamodule import ImageDataModule
from eenn.files import write_file
from eenn.models.architecture import Architecture
from eenn.records.recording import record
from eenn.reports.figures import reliability_figure, save_figure
from eenn.reports.tables import exit_metrics, exit_rows, table, write_csv
from eenn.run_directory import ARTIFACT, LAST_CHECKPOINT, METRICS
from eenn.training.callbacks import StayingEarlyStopping, TemperatureScaling, Throughput
from eenn.training.module import EarlyExitModule
from eenn.workflows.tracking import publish

# Lightning's remarks on what is chosen here, and on its own use of what torch deprecates.
EXPECTED_WARNINGS = (
    ".*does not have many workers",  # see ImageDataModule
    "The number of training batches",  # a short epoch logs less often
    ".*sync_dist",  # every process validates the whole split
    "Checkpoint directory .* exists and is not empty",  # of the run that is resumed
    "Found .* module.* in eval mode",  # the backbone while heads train
    ".*LeafSpec",
)


def run_training(
    directory: Path,
    datamodule: ImageDataModule,
    architecture: Architecture,
    module: EarlyExitModule,
    logger: Logger,
    trainer: dict[str, Any],
    patience: int,
    provenance: dict[str, Any],
) -> None:
    """Train, then write `artifact/`, `metrics.json`, `tables/` and `figures/` into `directory`.

    Goes on from the last checkpoint in `directory` if there is one.

    Args:
        trainer: arguments of Lightning's Trainer.
        patience: epochs without a better validation loss before the training stops.
        provenance: put into `metrics.json` as it is.
    """
    # Which devices exist and what else one might buy is said neither here nor on every run.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    best, last = (
        ModelCheckpoint(
            directory / LAST_CHECKPOINT.parent,
            filename=name,
            monitor=monitor,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        for name, monitor in (("best", "val/loss"), (LAST_CHECKPOINT.stem, None))
    )
    scaling = TemperatureScaling(best, datamodule.val_dataloader())
    throughput = Throughput()
    fit = Trainer(
        **trainer,
        logger=logger,
        callbacks=[
            throughput,
            StayingEarlyStopping("val/loss", patience=patience),
            LearningRateMonitor("step"),
            scaling,
            best,
            last,
        ],
        # The data module deals out samples itself, the same in every run.
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        log_every_n_steps=10,
    )
    resumed = str(directory / LAST_CHECKPOINT) if (directory / LAST_CHECKPOINT).exists() else None
    with warnings.catch_warnings():
        for expected in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", expected)
        fit.fit(module, datamodule, ckpt_path=resumed)
    if not fit.is_global_zero:
        return

    temperatures = scaling.temperatures
    # A run that was killed after this point and resumed has its artifact already.
    if not (directory / ARTIFACT).exists():
        accuracy = (scaling.val_logits.argmax(-1) == scaling.val_labels).mean(axis=1)
        store.save(
            directory / ARTIFACT,
            module.network,
            architecture=architecture,
            classes=datamodule.source.classes,
            preprocessing=datamodule.preprocessing,
            temperatures=temperatures,
            fitted=scaling.fitted,
            validation_accuracy=accuracy.tolist(),
            split=datamodule.split,
        )
    # What is tested is what is deployed: the artifact as it comes back from disk.
    saved = store.load(directory / ARTIFACT)
    logits, labels = record(saved.network, datamodule.test_dataloader(), scaling.device)
    test = exit_metrics(logits, labels, temperatures)
    metrics = {
        "test": test,
        "test_samples": len(labels),
        "temperatures": asdict(temperatures),
        "exits": [asdict(row) for row in saved.manifest.exits],
        "head": architecture.head,
        "input_size": architecture.input_size,
        "epochs": fit.current_epoch,
        "seconds": throughput.seconds,
        "images_per_s": throughput.images_per_s,
        **provenance,
    }
    rows = exit_rows(test, temperatures, saved.manifest.exits)
    figures = {
        f"reliability_{part}": reliability_figure(part_logits, part_labels, temperatures.per_exit)
        for part, part_logits, part_labels in (
            ("val", scaling.val_logits, scaling.val_labels),
            ("test", logits, labels),
        )
    }
    write_csv(directory / "tables" / "exits.csv", rows)
    for name, figure in figures.items():
        save_figure(figure, directory / "figures" / f"{name}.png")
    write_file(directory / METRICS, json.dumps(metrics, indent=1))
    publish(logger, rows, _summary(metrics), figures, directory / ARTIFACT)
    print(f"\nTest split, {len(labels)} images:\n\n{table(rows)}\n")


def _summary(metrics: dict[str, Any]) -> dict[str, float]:
    """The headline numbers under W&B's keys, such as `test/exit2/acc`."""
    names = {"accuracy": "acc", "nll": "nll", "ece": "ece"}
    names |= {f"{name}_calibrated": f"{name}_calibrated" for name in ("nll", "ece")}
    summary = {
        f"test/exit{k}/{short}": value
        for name, short in names.items()
        for k, value in enumerate(metrics["test"][name], 1)
    }
    for k, temperature in enumerate(metrics["temperatures"]["per_exit"], 1):
        summary[f"exit{k}/temperature"] = temperature
    return {**summary, "images_per_s": metrics["images_per_s"], "seconds": metrics["seconds"]}
