"""Callbacks: early stopping across resumes, temperatures, training rate, progress."""

import logging
import re
import sys
import time
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor

from eenn.cli import Pace
from eenn.errors import EennError
from eenn.records.recording import record
from eenn.statistics.calibration import HELD, Temperatures, fit_temperatures, how_fitted
from eenn.training.checkpoints import WholeCheckpoints

log = logging.getLogger(__name__)

ACCURACY = re.compile(r"val/(exit\d+/)?acc")


class ResumableEarlyStopping(EarlyStopping):
    """Lightning's early stopping, which also stops a run that is resumed after its stop."""

    @property
    def state_key(self) -> str:
        """Return the name of the state in checkpoints, which the class had in the first of them."""
        return f"StayingEarlyStopping{{'monitor': {self.monitor!r}, 'mode': {self.mode!r}}}"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = self.wait_count >= self.patience


class TemperatureScaling(Callback):
    """Restores the best checkpoint when the fit ends and fits the temperatures on validation.

    Afterwards `temperatures`, `val_logits` (exits, samples, classes) and `val_labels` (samples,)
    belong to the weights that the module holds, computed on `device`. One process fits over the
    whole validation split.

    Args:
        checkpoints: keeps the best checkpoint of the fit.
        batches: of the validation split, images (batch, 3, H, W) and labels (batch,).
    """

    temperatures: Temperatures
    val_logits: NDArray[np.float32]
    val_labels: NDArray[np.int64]
    device: torch.device

    def __init__(
        self, checkpoints: ModelCheckpoint, batches: Iterable[tuple[Tensor, Tensor]]
    ) -> None:
        self.checkpoints, self.batches = checkpoints, batches

    @property
    def fitted(self) -> str:
        """Describe how the temperatures were fitted, for a manifest."""
        return how_fitted(self.val_logits, self.val_labels)

    @property
    def val_accuracy(self) -> tuple[float, ...]:
        """Compute the share of validation samples that every exit gets right, (exits,)."""
        return tuple((self.val_logits.argmax(-1) == self.val_labels).mean(axis=1).tolist())

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        if not self.checkpoints.best_model_path:
            raise EennError("no epoch was finished, so there is nothing to calibrate; train longer")
        best = WholeCheckpoints().load_checkpoint(self.checkpoints.best_model_path)
        pl_module.load_state_dict(best["state_dict"])
        # By now Lightning has moved the module to the CPU.
        self.device = trainer.strategy.root_device
        network = pl_module.get_submodule("network")
        self.val_logits, self.val_labels = record(network, self.batches, self.device)
        self.temperatures = fit_temperatures(self.val_logits, self.val_labels)
        if HELD in self.fitted:
            log.warning("temperatures: %s", self.fitted)


class Throughput(Callback):
    """Logs `train/images_per_s` per epoch, and keeps the fit's mean rate and its seconds.

    Both go on through a resumed run. The seconds leave out validation and checkpoints.
    """

    def __init__(self) -> None:
        self.images, self.seconds = 0, 0.0

    @property
    def images_per_s(self) -> float:
        """Compute the mean training rate of the fit, over all processes."""
        return self.images / self.seconds if self.seconds else 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_images, self._started = 0, time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
    ) -> None:
        self._epoch_images += len(batch[1]) * trainer.world_size
        self._ended = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seconds = self._ended - self._started
        self.images += self._epoch_images
        self.seconds += seconds
        pl_module.log("train/images_per_s", self._epoch_images / seconds, rank_zero_only=True)

    def state_dict(self) -> dict[str, float]:
        return {"images": self.images, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.images, self.seconds = int(state_dict["images"]), state_dict["seconds"]


class ProgressLines(Callback):
    """Writes the progress of a fit to stderr: within epochs, and each epoch's metrics.

    These lines replace the progress bar where stderr is not a terminal. The time left is counted to
    the last epoch; early stopping may end sooner.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epochs = max(trainer.max_epochs or 0, 0)
        self._before = trainer.global_step
        total = epochs * int(trainer.num_training_batches) - self._before
        self._pace = Pace("training", max(total, 0), "batches")
        self._epochs = f" of at most {epochs}" if epochs else ""

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
    ) -> None:
        self._tell(trainer, self._pace.line(trainer.global_step - self._before))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        losses = [f"{name} {found[f'{name}/loss']:.3f}" for name in ("train", "val")]
        accuracies = [f"{100 * v:.1f}" for name, v in found.items() if ACCURACY.fullmatch(name)]
        exits = f"; validation accuracy by exit {' '.join(accuracies)} %" if accuracies else ""
        epoch = f"epoch {trainer.current_epoch + 1}{self._epochs}"
        self._tell(trainer, f"{epoch}: loss {', '.join(losses)}{exits}")

    def _tell(self, trainer: Trainer, line: str | None) -> None:
        if line is not None and trainer.is_global_zero:
            print(line, file=sys.stderr, flush=True)
