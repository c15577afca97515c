"""Training of experts for an artifact: heads and temperatures by distortion, the classifier.

For comparison, evaluations also get a fine-tuned network for every kind. Everything is fitted on
the training and the validation split of the artifact.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pytorch_lightning import seed_everything
from pytorch_lightning.loggers import Logger
from torch import nn

from eenn.artifact import store
from eenn.artifact.manifest import fine_tuned_path, read_manifest
from eenn.artifact.store import Artifact
from eenn.data.augmentation import Augmentation
from eenn.data.datamodule import ImageDataModule
from eenn.data.datasets import ImageSource
from eenn.data.distortions import DrawnDistortion
from eenn.data.overview import overview
from eenn.data.splits import Split
from eenn.exits.head_sets import FINE_TUNED, Expert
from eenn.files import Json
from eenn.hardware import prepare
from eenn.models.expert_net import ExpertNet
from eenn.provenance import provenance
from eenn.reports.tables import table
from eenn.reports.training import expert_rows, expert_training_report
from eenn.run_directory import ARTIFACT, METRICS
from eenn.training.expert_recipe import ExpertRecipe
from eenn.training.experts import Fits, fine_tune, train_classifier, train_heads
from eenn.training.trainer import quiet
from eenn.workflows.conclusion import Conclusion, conclude
from eenn.workflows.resume_experts import load_heads, save_heads
from eenn.workflows.run import Job
from eenn.workflows.settings import TrainExpertsSettings
from eenn.workflows.tracking import ending, finish, no_tracker
from eenn.workflows.trained_images import TrainedImages

Heads = Mapping[str, nn.ModuleList]


@dataclass(frozen=True)
class ExpertTraining:
    """An artifact to train experts for, its images, and the recipe.

    Args:
        base: the artifact, whose split is trained on.
        source: the images that the split was drawn from.
        seed: of every random draw.
    """

    base: Artifact
    source: ImageSource
    augmentation: Augmentation
    batch_size: int
    num_workers: int | None
    seed: int
    recipe: ExpertRecipe
    fits: Fits

    def images(self, distortion: DrawnDistortion | None) -> ImageDataModule:
        """Build the images of the artifact's split, distorted for training and validation."""
        manifest = self.base.manifest
        split = Split.load(manifest.split_file)
        return ImageDataModule(
            self.source, manifest.preprocessing, self.augmentation, self.seed, self.batch_size,
            self.num_workers, split, distortion,
        )  # fmt: skip


def train_experts(
    job: Job[TrainExpertsSettings],
    images: TrainedImages,
    open_source: Callable[[], ImageSource],
    open_logger: Callable[..., Logger],
) -> None:
    """Train the experts of a job; see `run_expert_training`.

    Args:
        images: those of the artifact's own training.
        open_logger: opens the logger of one fit, given a directory and its label.
    """
    settings, directory = job.settings, job.directory
    machine = prepare(settings.trainer.get("accelerator", "auto"))
    print(f"{machine.settings}\nwriting to {directory}")

    def open_named(folder: Path, fit: str) -> Logger:
        label = job.label(f"{settings.name} {fit}", "train")
        # The fits of a single run are a group as well.
        alone = f"{directory.parent.name} {directory.name}"
        return open_logger(folder, replace(label, group=label.group or alone))

    base, source = store.load(settings.artifact), open_source()
    print(overview(source, Split.load(base.manifest.split_file)))
    seed_everything(settings.seed, workers=True, verbose=False)
    training = ExpertTraining(
        base,
        source,
        images.augmentation,
        images.data.batch_size,
        images.data.num_workers,
        settings.seed,
        settings.recipe,
        Fits(directory / "fits", {"precision": machine.precision, **settings.trainer}, open_named),
    )
    origin = provenance(settings.seed, images.data.title, machine.hardware)
    run_expert_training(directory, training, {**origin, "overrides": list(job.overrides)})


def run_expert_training(
    directory: Path, training: ExpertTraining, origin: Mapping[str, Json]
) -> None:
    """Train; write `artifact/`, that is the base with experts, and `metrics.json` into `directory`.

    The fine-tuned networks, `fine_tuned_KIND/`, are trained last. Parts that an interrupted run in
    this directory has finished are taken over.

    Args:
        origin: provenance of the results.
    """
    started = time.perf_counter()
    with quiet(), ending():
        heads, experts = _heads(directory, training)
        if not (directory / ARTIFACT).exists():
            _add_classifier(directory, training, heads, experts)
        fine_tuned = _fine_tuned(directory, training, heads)
    classifier = read_manifest(directory / ARTIFACT).classifier
    rows = expert_rows(experts, classifier)
    size = f"{classifier.bytes / 1e3:.0f} kB, {classifier.macs / 1e6:.2f} MMACs"
    facts = {
        "artifact": f"{directory / ARTIFACT}",
        "distortion classifier": size,
        "temperatures": "; ".join(f"{e.kind}: {e.fitted}" for e in experts if e.fitted),
        "temperature of the distortion classifier": classifier.fitted,
    }
    metrics: dict[str, Json] = {
        "experts": [asdict(expert) for expert in experts],
        "classifier": asdict(classifier),
        FINE_TUNED: fine_tuned,
        "table": rows,
        "base": training.base.manifest.id,
        "recipe": asdict(training.recipe),
        "seconds": time.perf_counter() - started,
    }
    shown = (
        f"Validation split, levels as in training, every exit:\n\n{table(rows)}\n\n"
        f"distortion classifier: {size}"
    )
    report = expert_training_report(facts, rows, experts, classifier, directory / ARTIFACT)
    conclusion = Conclusion(report, METRICS, metrics, shown)
    # Every fit had a W&B run of its own.
    conclude(directory, conclusion, origin, no_tracker)


def _heads(directory: Path, training: ExpertTraining) -> tuple[Heads, list[Expert]]:
    """Train the heads of every kind, or take over finished ones; keep each once trained."""
    base, heads, experts = training.base, dict[str, nn.ModuleList](), list[Expert]()
    for distortion in training.recipe.kinds:
        kind = distortion.kind
        try:
            heads[kind], expert = load_heads(directory, kind, base.network.heads)
        except FileNotFoundError:
            print(f"heads for {kind}")
            heads[kind], expert = train_heads(
                base, training.images(distortion), training.recipe, distortion, training.fits
            )
            save_heads(directory, heads[kind], expert)
            finish()
        experts.append(expert)
    return heads, experts


def _add_classifier(
    directory: Path, training: ExpertTraining, heads: Heads, experts: Sequence[Expert]
) -> None:
    """Train the classifier and write the artifact, which is whole then."""
    print("distortion classifier")
    base = training.base
    network, described = train_classifier(training.images(None), training.recipe, training.fits)
    finish()
    whole = ExpertNet(base.network, heads, network)
    store.save_with_experts(directory / ARTIFACT, base.manifest, whole, experts, described)


def _fine_tuned(
    directory: Path, training: ExpertTraining, heads: Heads
) -> dict[str, tuple[float, ...]]:
    """Fine-tune a network for every kind or take over finished ones; gives their accuracies."""
    accuracies: dict[str, tuple[float, ...]] = {}
    for distortion in training.recipe.kinds if training.recipe.fine_tuned_epochs else ():
        kind = distortion.kind
        path = fine_tuned_path(directory / ARTIFACT, kind)
        if not path.exists():
            fine_tune(
                path, training.base, heads[kind], training.images(distortion), training.recipe,
                distortion, training.fits,
            )  # fmt: skip
            finish()
        accuracies[kind] = read_manifest(path).validation_accuracy
        shown = ", ".join(f"{100 * accuracy:.1f}" for accuracy in accuracies[kind])
        print(f"network fine-tuned for {kind}, in the same way: {shown}")
    return accuracies
