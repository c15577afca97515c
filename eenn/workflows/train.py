"""A training run from its settings to its results: fit, calibrate, save, test, report, track."""

import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pytorch_lightning import seed_everything
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import Logger

from eenn.artifact import store
from eenn.artifact.card import ExitResults, write_card
from eenn.artifact.manifest import Origin
from eenn.data.datamodule import ImageDataModule
from eenn.data.datasets import ImageSource
from eenn.data.overview import likely_mistakes, overview
from eenn.errors import EennError
from eenn.files import Json
from eenn.hardware import Machine, prepare
from eenn.models.architecture import Architecture
from eenn.models.backbones.registry import find_backbone
from eenn.models.building import build, place
from eenn.programs import TRAIN
from eenn.provenance import provenance
from eenn.records.recording import record
from eenn.records.weights import weight_bytes
from eenn.reports.summed_up import SummedUp, trained
from eenn.reports.tables import table
from eenn.reports.training import exit_metrics, exit_rows, training_report
from eenn.run_directory import (
    ARTIFACT,
    LAST_CHECKPOINT,
    METRICS,
    is_first_process,
    resume_hint,
    unfinished_runs,
)
from eenn.training.callbacks import ResumableEarlyStopping, TemperatureScaling, Throughput
from eenn.training.losses import exit_weights
from eenn.training.module import EarlyExitModule
from eenn.training.trainer import make_trainer, quiet
from eenn.workflows.conclusion import Conclusion, conclude
from eenn.workflows.run import Job
from eenn.workflows.settings import TrainSettings
from eenn.workflows.tracking import ending, training_tracker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """A network to train, and its images."""

    images: ImageDataModule
    architecture: Architecture
    module: EarlyExitModule


@dataclass(frozen=True)
class Fit:
    """The outcome of a fit: `scaling` and the module belong to the best epoch."""

    scaling: TemperatureScaling
    throughput: Throughput
    epochs: int


def train(
    job: Job[TrainSettings],
    open_source: Callable[[], ImageSource],
    open_logger: Callable[..., Logger],
) -> None:
    """Train, then write `artifact/`, `metrics.json`, `tables/` and `figures/` into the directory.

    Goes on from the last checkpoint there if there is one.

    Args:
        open_source: opens the images.
        open_logger: opens the logger, given a directory and the run's label.
    """
    settings, directory = job.settings, job.directory
    machine = prepare(settings.trainer.get("accelerator", "auto"))
    if is_first_process():
        print(f"{machine.settings}\nwriting to {directory}")
        _tell_of_unfinished(job)
    _check_build(job)
    training = _plan(settings, open_source)
    if is_first_process():
        images = training.images
        print(overview(images.source, images.split))
        for mistake in likely_mistakes(images.source, images.split):
            log.warning("%s", mistake)
    logger = open_logger(directory, job.label(settings.name, "train"))
    logger.log_hyperparams(dict(job.recorded))
    with ending():
        fit = _fit(training, settings, directory, logger, machine)
        if fit is None:
            return
        _save(training, fit.scaling, directory, _origin(job, machine))
        origin = provenance(settings.seed, settings.data.title, machine.hardware)
        origin |= {"overrides": list(job.overrides)}
        tracker = training_tracker(logger, directory / ARTIFACT)
        conclude(directory, _test(training, fit, directory), origin, tracker)


def _tell_of_unfinished(job: Job[TrainSettings]) -> None:
    """Name an unfinished run to go on with, where a single run starts anew."""
    left = unfinished_runs("train")
    if left and job.group is None and job.directory not in left:
        print(f"not finished, unless it still runs: {left[-1]}; {resume_hint(left[-1])}")


def _check_build(job: Job[TrainSettings]) -> None:
    """Check that `model.build` has a network to make, in this job or in another of its sweep.

    Raises:
        EennError: it is given for another network alone.
    """
    model = job.settings.model
    if model.leaves_out_build and "model" not in job.varied:
        raise EennError(
            f"model.build={model.build} with {model.backbone}: this network is not made by it; add "
            "model=custom, or leave model.build out"
        )


def _plan(settings: TrainSettings, open_source: Callable[[], ImageSource]) -> Training:
    """Build the network with its branches and loss, and split the images.

    Raises:
        EennError: a setting out of range, or images that cannot be split.
    """
    data, model = settings.data, settings.model
    preprocessing = find_backbone(model.backbone).preprocessing(data.input_size, data.resize_size)
    source = open_source()
    images = ImageDataModule(
        source,
        preprocessing,
        settings.augmentation,
        settings.seed,
        data.batch_size,
        data.num_workers,
    )
    seed_everything(settings.seed, workers=True, verbose=False)
    classes = len(source.classes)
    architecture = place(
        classes,
        settings.branches,
        model.head,
        model.width_mult,
        images.preprocessing.input_size,
        model.backbone,
    )
    loss_weights = exit_weights(settings.loss_weights, len(architecture.positions) + 1)
    network = build(architecture, model.weights)
    settings.regularisation.apply(network.segments)
    module = EarlyExitModule(
        network, classes, loss_weights, seed=settings.seed, **asdict(settings.optimiser)
    )
    return Training(images, architecture, module)


def _fit(
    training: Training, settings: TrainSettings, directory: Path, logger: Logger, machine: Machine
) -> Fit | None:
    """Train, and leave the module with the weights of the epoch with the least validation loss.

    Returns None in all processes but the first.
    """
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
    scaling = TemperatureScaling(best, training.images.val_dataloader())
    throughput = Throughput()
    callbacks = [
        throughput,
        ResumableEarlyStopping("val/loss", patience=settings.patience),
        LearningRateMonitor("step"),
        scaling,
        best,
        last,
    ]
    resumed = str(directory / LAST_CHECKPOINT) if (directory / LAST_CHECKPOINT).exists() else None
    with quiet():
        arguments = {"precision": machine.precision, **settings.trainer}
        trainer = make_trainer(arguments, logger, callbacks)
        trainer.fit(training.module, training.images, ckpt_path=resumed)
    return Fit(scaling, throughput, trainer.current_epoch) if trainer.is_global_zero else None


def _origin(job: Job[TrainSettings], machine: Machine) -> Origin:
    """State the origin of the artifact, for its manifest and its model card."""
    data, model = job.settings.data, job.settings.model
    return Origin(
        data.title,
        data.licence,
        model.weights or "random",
        model.licence,
        shlex.join([*shlex.split(TRAIN.command), *job.overrides]),
        job.settings.seed,
        machine.hardware,
    )


def _save(training: Training, scaling: TemperatureScaling, directory: Path, origin: Origin) -> None:
    """Write the artifact, unless a run that was killed after this point has it already."""
    if (directory / ARTIFACT).exists():
        return
    images = training.images
    store.save(
        directory / ARTIFACT,
        training.module.network,
        architecture=training.architecture,
        classes=images.source.classes,
        preprocessing=images.preprocessing,
        temperatures=scaling.temperatures,
        fitted=scaling.fitted,
        validation_accuracy=scaling.val_accuracy,
        split=images.split,
        origin=origin,
    )


def _test(training: Training, fit: Fit, directory: Path) -> Conclusion:
    """Evaluate the artifact, as read back from disk, on the test split."""
    scaling, architecture = fit.scaling, training.architecture
    saved = store.load(directory / ARTIFACT)
    logits, labels = record(saved.network, training.images.test_dataloader(), scaling.device)
    temperatures, exits = scaling.temperatures, saved.manifest.exits
    found = exit_metrics(logits, labels, temperatures)
    rows = exit_rows(found, temperatures, exits, weight_bytes(saved.manifest))
    tested = ExitResults(len(labels), found["accuracy"], found["ece"], found["ece_calibrated"])
    write_card(saved.manifest, tested)
    metrics: dict[str, Json] = {
        "test": found,
        "test_samples": len(labels),
        "temperatures": asdict(temperatures),
        "exits": [asdict(row) for row in exits],
        "backbone": architecture.backbone,
        "head": architecture.head,
        "input_size": architecture.input_size,
        "epochs": fit.epochs,
        "seconds": fit.throughput.seconds,
        "images_per_s": fit.throughput.images_per_s,
    }
    recorded = {"val": (scaling.val_logits, scaling.val_labels), "test": (logits, labels)}
    facts = {
        "artifact": f"{directory / ARTIFACT} ({saved.manifest.id[:12]})",
        "temperatures": scaling.fitted,
    }
    report = training_report(facts, rows, recorded, temperatures, exits, directory / ARTIFACT)
    shown = f"Test split, {len(labels)} images:\n\n{table(rows)}"
    numbers = {**_numbers(found, fit), **trained(exits, found["accuracy"])}
    return Conclusion(report, METRICS, metrics, shown, SummedUp(numbers))


def _numbers(test: Mapping[str, Sequence[float]], fit: Fit) -> dict[str, float]:
    """List the numbers of every exit under W&B's keys, such as `test/exit2/acc`."""
    names = {"accuracy": "acc", "nll": "nll", "ece": "ece"}
    names |= {f"{name}_calibrated": f"{name}_calibrated" for name in ("nll", "ece")}
    numbers = {
        f"test/exit{k}/{short}": value
        for name, short in names.items()
        for k, value in enumerate(test[name], 1)
    }
    for k, temperature in enumerate(fit.scaling.temperatures.per_exit, 1):
        numbers[f"exit{k}/temperature"] = temperature
    throughput = fit.throughput
    return {**numbers, "images_per_s": throughput.images_per_s, "seconds": throughput.seconds}
