"""Training experts for an artifact: heads and temperatures by kind of distortion, the classifier.

And beside them, for evaluations to hold them against, a fine-tuned network for every kind.
Everything is fitted on the training and the validation split of the artifact.
"""

import copy
import json
import logging
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn

from eenn.artifact import store
from eenn.artifact.manifest import fine_tuned_path, read_manifest
from eenn.artifact.store import Artifact
from eenn.data.augmentation import Augmentation
from eenn.data.datamodule import ImageDataModule
from eenn.data.datasets import ImageSource
from eenn.data.distortion_classifier import kind_dataloader
from eenn.data.distortions import DrawnDistortion
from eenn.data.splits import Split
from eenn.errors import EennError, require_numbers
from eenn.exits.head_sets import FINE_TUNED, Classifier, Expert
from eenn.files import write_file
from eenn.models.distortion_classifier import DistortionClassifier
from eenn.models.early_exit import EarlyExitNet
from eenn.models.expert_net import ExpertNet
from eenn.records.recording import record
from eenn.reports.tables import table
from eenn.run_directory import ARTIFACT, METRICS
from eenn.statistics.calibration import fit_temperature
from eenn.training.callbacks import TemperatureScaling
from eenn.training.distortion_classifier import fit_classifier
from eenn.training.losses import exit_weights
from eenn.training.module import EarlyExitModule, HeadModule
from eenn.workflows.finished_heads import load_heads, save_heads
from eenn.workflows.tracking import finish
from eenn.workflows.train import EXPECTED_WARNINGS


@dataclass(frozen=True)
class Recipe:
    """How experts are trained.

    Args:
        levels: of every kind, the mildest and the strongest that is drawn.
        epochs, lr, weight_decay: of every set of heads; the epoch with the least validation loss
            is kept.
        classifier_epochs, classifier_lr: of the distortion classifier.
        sure: the least probability with which it is believed.
        fine_tuned_epochs, fine_tuned_lr: of the networks fine-tuned for a kind; 0 epochs leave this
            out.

    Raises:
        EennError: no kinds, levels that are not two or not allowed, or a number out of range.
    """

    levels: Mapping[str, Sequence[float]]
    epochs: int
    lr: float
    weight_decay: float
    classifier_epochs: int
    classifier_lr: float
    sure: float
    fine_tuned_epochs: int
    fine_tuned_lr: float

    def __post_init__(self) -> None:
        pairs = all(isinstance(two, Sequence) and len(two) == 2 for two in self.levels.values())
        if not self.levels or not pairs:
            raise EennError(
                f"expert_training.levels={dict(self.levels)}: allowed are kinds of distortion with "
                "their mildest and strongest level, as in {gaussian_blur: [1, 5]}"
            )
        assert self.kinds
        numbers = {name: value for name, value in asdict(self).items() if name != "levels"}
        require_numbers(**{f"expert_training.{name}": value for name, value in numbers.items()})
        for name, least in (("epochs", 1), ("classifier_epochs", 1), ("fine_tuned_epochs", 0)):
            if numbers[name] < least or numbers[name] != int(numbers[name]):
                raise EennError(
                    f"expert_training.{name}={numbers[name]}: allowed is a whole number from "
                    f"{least} up"
                )
        rates = {name: rate for name, rate in numbers.items() if name.endswith("lr")}
        if min(rates.values()) <= 0 or not 0 <= self.sure <= 1:
            given = ", ".join(f"{name}={rate}" for name, rate in rates.items())
            raise EennError(
                f"expert_training: {given}, sure={self.sure}: allowed are rates above 0, and sure "
                "from 0 to 1"
            )

    @property
    def kinds(self) -> list[DrawnDistortion]:
        """What is drawn from."""
        return [DrawnDistortion(kind, *ends) for kind, ends in self.levels.items()]


def train_experts(
    directory: Path,
    base: Artifact,
    source: ImageSource,
    augmentation: Augmentation,
    batch_size: int,
    num_workers: int | None,
    recipe: Recipe,
    seed: int,
    open_logger: Callable[[Path, str], Logger],
    trainer: dict[str, Any],
    provenance: dict[str, Any],
) -> None:
    """Train; write `artifact/`, that is `base` with experts, and `metrics.json` into `directory`.

    Last come the fine-tuned networks, `fine_tuned_KIND/`. What an interrupted run in this directory
    has finished of all this is taken over.

    Args:
        seed: of every random draw.
        open_logger: gives the logger of one fit, from its directory and name.
        trainer: arguments of Lightning's Trainer.
        provenance: put into `metrics.json` as it is.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    started = time.perf_counter()
    manifest = base.manifest
    split = Split.load(manifest.split_file)

    def images(distortion: DrawnDistortion | None) -> ImageDataModule:
        return ImageDataModule(
            source, manifest.preprocessing, augmentation, seed, batch_size, num_workers, split,
            distortion,
        )  # fmt: skip

    def fit_arguments(name: str) -> dict[str, Any]:
        return {**trainer, "logger": open_logger(directory / "fits" / name, name)}

    heads: dict[str, nn.ModuleList] = {}
    experts = []
    with warnings.catch_warnings():
        for expected in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", expected)
        for distortion in recipe.kinds:
            kind = distortion.kind
            try:
                heads[kind], expert = load_heads(directory, kind, base.network.heads)
            except FileNotFoundError:
                print(f"heads for {kind}")
                heads[kind], expert = _train_heads(
                    base, images(distortion), recipe, distortion, fit_arguments(kind)
                )
                save_heads(directory, heads[kind], expert)
                finish()
            experts.append(expert)
        if not (directory / ARTIFACT).exists():
            print("distortion classifier")
            torch.manual_seed(seed)
            network = DistortionClassifier(len(heads), manifest.preprocessing.std)
            arguments = fit_arguments("classifier") | {"max_epochs": recipe.classifier_epochs}
            train, val = (
                kind_dataloader(images(None), part, recipe.kinds) for part in ("train", "val")
            )
            logits, kinds = fit_classifier(network, train, val, recipe.classifier_lr, **arguments)
            finish()
            input_size = manifest.preprocessing.input_size
            found = _described(network, logits, kinds, recipe.sure, input_size)
            whole = ExpertNet(base.network, heads, network)
            store.save_with_experts(directory / ARTIFACT, manifest, whole, experts, found)
        classifier = read_manifest(directory / ARTIFACT).classifier
        rows = expert_rows(experts, classifier)
        print(
            f"\nValidation split, levels as in training, every exit:\n\n{table(rows)}\n\n"
            f"distortion classifier: {classifier.bytes / 1e3:.0f} kB, "
            f"{classifier.macs / 1e6:.2f} MMACs\n"
        )
        fine_tuned: dict[str, tuple[float, ...]] = {}
        for distortion in recipe.kinds if recipe.fine_tuned_epochs else ():
            kind = distortion.kind
            path = fine_tuned_path(directory / ARTIFACT, kind)
            if not path.exists():
                _fine_tune(
                    path, base, heads[kind], images(distortion), recipe, distortion,
                    fit_arguments(path.name),
                )  # fmt: skip
                finish()
            fine_tuned[kind] = read_manifest(path).validation_accuracy
            accuracies = ", ".join(f"{100 * accuracy:.1f}" for accuracy in fine_tuned[kind])
            print(f"network fine-tuned for {kind}, in the same way: {accuracies}")
    metrics = {
        "experts": [asdict(expert) for expert in experts],
        "classifier": asdict(classifier),
        FINE_TUNED: fine_tuned,
        "table": rows,
        "base": manifest.id,
        "recipe": asdict(recipe),
        "seconds": time.perf_counter() - started,
        **provenance,
    }
    write_file(directory / METRICS, json.dumps(metrics, indent=1))


def expert_rows(experts: Sequence[Expert], classifier: Classifier) -> list[dict[str, str]]:
    """One printable row per expert: accuracies on distorted validation images, and its size."""
    rows = []
    for expert, recognised in zip(experts, classifier.validation_accuracy[1:], strict=True):
        accuracies = {
            f"exit {k}": f"{100 * plain:.1f} -> {100 * own:.1f}"
            for k, (plain, own) in enumerate(
                zip(expert.plain_accuracy, expert.validation_accuracy, strict=True), 1
            )
        }
        rows.append(
            {
                "expert": expert.kind,
                "levels": f"{expert.mildest:g} to {expert.strongest:g}",
                **accuracies,
                "recognised %": f"{100 * recognised:.1f}",
                "kB": f"{expert.bytes / 1e3:.0f}",
            }
        )
    return rows


def _train_heads(
    base: Artifact,
    data: ImageDataModule,
    recipe: Recipe,
    distortion: DrawnDistortion,
    trainer: dict[str, Any],
) -> tuple[nn.ModuleList, Expert]:
    """Heads for one kind of distortion, started from the plain ones, and what to say of them."""
    network = EarlyExitNet([*base.network.segments], [*copy.deepcopy(base.network.heads)])
    classes = len(base.manifest.classes)
    module = HeadModule(network, classes, recipe.lr, recipe.weight_decay, data.seed)
    scaling = _fitted(module, data, recipe.epochs, trainer)
    plain, labels = record(base.network, data.val_dataloader(), scaling.device)
    expert = Expert(
        distortion.kind,
        distortion.mildest,
        distortion.strongest,
        scaling.temperatures,
        _accuracies(scaling.val_logits, scaling.val_labels),
        _accuracies(plain, labels),
        _bytes(network.heads.state_dict()),
    )
    return network.heads.cpu(), expert


def _fine_tune(
    path: Path,
    base: Artifact,
    heads: nn.ModuleList,
    data: ImageDataModule,
    recipe: Recipe,
    distortion: DrawnDistortion,
    trainer: dict[str, Any],
) -> None:
    """Train the whole network for one kind of distortion, from its `heads`; write it to `path`."""
    network = copy.deepcopy(EarlyExitNet([*base.network.segments], [*heads]))
    # The segments were frozen while the heads were trained.
    network.requires_grad_(True).train()
    rate = recipe.fine_tuned_lr
    module = EarlyExitModule(
        network,
        len(base.manifest.classes),
        exit_weights("ones", len(heads)),
        rate,
        rate,
        recipe.weight_decay,
        "onecycle",
        data.seed,
    )
    scaling = _fitted(module, data, recipe.fine_tuned_epochs, trainer)
    store.save_fine_tuned(
        path,
        base.manifest,
        network,
        temperatures=scaling.temperatures,
        fitted=scaling.fitted,
        validation_accuracy=_accuracies(scaling.val_logits, scaling.val_labels),
        distortion=distortion,
    )


def _fitted(
    module: EarlyExitModule, data: ImageDataModule, epochs: int, trainer: dict[str, Any]
) -> TemperatureScaling:
    """Train; the module then holds the epoch with the least validation loss, and what comes back
    its temperatures."""
    folder = Path(trainer["logger"].save_dir or ".")
    best = ModelCheckpoint(folder / "checkpoints", filename="best", monitor="val/loss")
    scaling = TemperatureScaling(best, data.val_dataloader())
    fit = Trainer(
        **{**trainer, "max_epochs": epochs},
        callbacks=[scaling, best],
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        log_every_n_steps=10,
    )
    fit.fit(module, data)
    return scaling


def _described(
    network: DistortionClassifier,
    logits: NDArray[np.float32],
    kinds: NDArray[np.int64],
    sure: float,
    input_size: int,
) -> Classifier:
    right = logits.argmax(-1) == kinds
    accuracy = tuple(float(right[kinds == kind].mean()) for kind in range(logits.shape[-1]))
    network.cpu()
    return Classifier(
        fit_temperature(logits, kinds),
        sure,
        accuracy,
        network.macs(input_size),
        _bytes(network.state_dict()),
    )


def _accuracies(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, ...]:
    return tuple((logits.argmax(-1) == labels).mean(axis=1).tolist())


def _bytes(state: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())
