"""Training of the distortion classifier, and of the temperature of its answers."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import OneCycleLR

from eenn.models.distortion_classifier import DistortionClassifier
from eenn.records.recording import record
from eenn.training.trainer import FIXED

Batches = Iterable[tuple[Tensor, Tensor]]


class KindModule(LightningModule):
    """Trains a `DistortionClassifier` with AdamW and a one-cycle schedule that peaks at `lr`.

    Batches are images (batch, versions, 3, H, W) and the kind of every version (batch, versions).
    """

    def __init__(self, classifier: DistortionClassifier, lr: float) -> None:
        super().__init__()
        self.classifier, self.lr = classifier, lr

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        loss, accuracy = self._loss_and_accuracy(batch)
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/acc", accuracy)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        loss, accuracy = self._loss_and_accuracy(batch)
        self.log_dict({"val/loss": loss, "val/acc": accuracy}, batch_size=batch[1].numel())

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimiser = torch.optim.AdamW(self.parameters(), self.lr, weight_decay=0.05)
        steps = max(2, int(self.trainer.estimated_stepping_batches))
        schedule = OneCycleLR(optimiser, self.lr, steps, pct_start=max(0.2, 1.5 / steps))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _loss_and_accuracy(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        images, kinds = (part.flatten(0, 1) for part in batch)
        logits = self.classifier(images)
        accuracy = (logits.argmax(-1) == kinds).float().mean()
        return functional.cross_entropy(logits, kinds), accuracy


def fit_classifier(
    classifier: DistortionClassifier, train: Batches, val: Batches, lr: float, **trainer: Any
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Train the classifier, then set its typical roughness from the validation images.

    Args:
        train, val: batches of `KindModule`.
        trainer: arguments of Lightning's Trainer.

    Returns:
        The validation logits (samples, 1 + kinds) and the true kinds (samples,).
    """
    fit = Trainer(**trainer, **FIXED, enable_checkpointing=False)
    fit.fit(KindModule(classifier, lr), train, val)
    device = fit.strategy.root_device
    roughness, kinds = record(_Asked(classifier, classifier.roughness), val, device)
    known = torch.from_numpy(roughness[0]), torch.from_numpy(kinds.ravel())
    classifier.cpu().fit_typical(*known)
    logits, _ = record(_Asked(classifier, classifier), val, device)
    return logits[0], kinds.ravel()


class _Asked(nn.Module):
    """A network with a single exit: the classifier's answer to one question about images."""

    def __init__(
        self, classifier: DistortionClassifier, question: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.classifier, self._question = classifier, question

    def forward(self, images: Tensor) -> Tensor:
        return self._question(images.flatten(0, 1))[None]
