"""The fits of a training of experts: heads for one kind, the classifier, a fine-tuned network."""

import copy
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn

from eenn.artifact import store
from eenn.artifact.store import Artifact
from eenn.data.datamodule import ImageDataModule
from eenn.data.distortion_classifier import kind_dataloader
from eenn.data.distortions import DrawnDistortion
from eenn.exits.head_sets import Classifier, Expert
from eenn.models.distortion_classifier import DistortionClassifier
from eenn.models.early_exit import EarlyExitNet
from eenn.records.recording import record
from eenn.statistics.calibration import HELD, fit_temperature, how_fitted
from eenn.training.callbacks import TemperatureScaling
from eenn.training.distortion_classifier import fit_classifier
from eenn.training.expert_recipe import ExpertRecipe
from eenn.training.losses import exit_weights
from eenn.training.module import EarlyExitModule, HeadModule
from eenn.training.trainer import make_trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fits:
    """Makes fits, each with a folder and a logger of its own.

    Args:
        directory: holds the folders, one per fit.
        trainer: arguments of Lightning's Trainer, but for the epochs.
        open_logger: opens the logger of one fit, given its folder and name.
    """

    directory: Path
    trainer: Mapping[str, Any]
    open_logger: Callable[[Path, str], Logger]

    def best(
        self, name: str, module: EarlyExitModule, data: ImageDataModule, epochs: int
    ) -> TemperatureScaling:
        """Train the module, and leave it at the epoch with the least validation loss.

        Returns:
            The temperatures of these weights.
        """
        folder = self.directory / name
        logger = self.open_logger(folder, name)
        best = ModelCheckpoint(folder / "checkpoints", filename="best", monitor="val/loss")
        scaling = TemperatureScaling(best, data.val_dataloader())
        make_trainer({**self.trainer, "max_epochs": epochs}, logger, [scaling, best]).fit(
            module, data
        )
        return scaling


def train_heads(
    base: Artifact,
    data: ImageDataModule,
    recipe: ExpertRecipe,
    distortion: DrawnDistortion,
    fits: Fits,
) -> tuple[nn.ModuleList, Expert]:
    """Train heads for one kind of distortion, starting from the plain ones.

    Args:
        data: with training and validation images distorted.

    Returns:
        The heads, and their entry in the manifest.
    """
    network = EarlyExitNet([*base.network.segments], [*copy.deepcopy(base.network.heads)])
    classes = len(base.manifest.classes)
    module = HeadModule(network, classes, recipe.lr, recipe.weight_decay, data.seed)
    scaling = fits.best(distortion.kind, module, data, recipe.epochs)
    plain, labels = record(base.network, data.val_dataloader(), scaling.device)
    expert = Expert(
        distortion.kind,
        distortion.mildest,
        distortion.strongest,
        scaling.temperatures,
        scaling.val_accuracy,
        tuple((plain.argmax(-1) == labels).mean(axis=1).tolist()),
        _bytes(network.heads.state_dict()),
        scaling.fitted,
    )
    return network.heads.cpu(), expert


def train_classifier(
    data: ImageDataModule, recipe: ExpertRecipe, fits: Fits
) -> tuple[DistortionClassifier, Classifier]:
    """Train the classifier of the recipe's kinds of distortion.

    Args:
        data: without distortion.

    Returns:
        The classifier, and its entry in the manifest.
    """
    torch.manual_seed(data.seed)
    network = DistortionClassifier(len(recipe.kinds), data.preprocessing.std)
    train, val = (kind_dataloader(data, part, recipe.kinds) for part in ("train", "val"))
    logger = fits.open_logger(fits.directory / "classifier", "classifier")
    logits, kinds = fit_classifier(
        network, train, val, recipe.classifier_lr, **fits.trainer, logger=logger,
        max_epochs=recipe.classifier_epochs,
    )  # fmt: skip
    right = logits.argmax(-1) == kinds
    fitted = how_fitted(logits[None], kinds)
    if HELD in fitted:
        log.warning("temperature of the distortion classifier: %s", fitted)
    network.cpu()
    return network, Classifier(
        fit_temperature(logits, kinds),
        recipe.sure,
        tuple(float(right[kinds == kind].mean()) for kind in range(logits.shape[-1])),
        network.macs(data.preprocessing.input_size),
        _bytes(network.state_dict()),
        fitted,
    )


def fine_tune(
    path: Path,
    base: Artifact,
    heads: nn.ModuleList,
    data: ImageDataModule,
    recipe: ExpertRecipe,
    distortion: DrawnDistortion,
    fits: Fits,
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
    scaling = fits.best(path.name, module, data, recipe.fine_tuned_epochs)
    store.save_fine_tuned(
        path,
        base.manifest,
        network,
        temperatures=scaling.temperatures,
        fitted=scaling.fitted,
        validation_accuracy=scaling.val_accuracy,
        distortion=distortion,
    )


def _bytes(state: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())
