"""The Lightning module: one step over all exits, metrics per exit, optimiser and schedule."""

import numpy as np
import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from eenn.errors import EennError, require_numbers
from eenn.models.early_exit import EarlyExitNet
from eenn.training.losses import EarlyExitLoss

SCHEDULES = ("onecycle", "cosine", "constant")


class EarlyExitModule(LightningModule):
    """Trains an `EarlyExitNet`; exits are counted from 1 in metric names, as in `val/exit2/acc`.

    Args:
        loss_weights: one per exit.
        lr_backbone: learning rate of the segments (the peak, for `onecycle`).
        lr_heads: the same for all heads, the last classifier among them.
        weight_decay: AdamW's, on weight matrices and kernels only.
        schedule: `onecycle`, `cosine` or `constant`, stepped every batch.
        seed: each epoch draws its dropout from this, its number and the process's, so a resumed run
            meets the same random numbers as an uninterrupted one.

    Raises:
        EennError: unknown schedule, or a learning rate that is not positive.
    """

    def __init__(
        self,
        network: EarlyExitNet,
        classes: int,
        loss_weights: tuple[float, ...],
        lr_backbone: float,
        lr_heads: float,
        weight_decay: float,
        schedule: str,
        seed: int,
    ) -> None:
        super().__init__()
        if schedule not in SCHEDULES:
            raise EennError(f"optimiser.schedule={schedule}: allowed are {', '.join(SCHEDULES)}")
        require_numbers(
            lr_backbone=lr_backbone, lr_heads=lr_heads, weight_decay=weight_decay, seed=seed
        )
        if min(lr_backbone, lr_heads) <= 0:
            raise EennError(
                f"lr_backbone={lr_backbone}, lr_heads={lr_heads}: allowed are rates above 0"
            )
        self.network = network
        self.loss = EarlyExitLoss(loss_weights)
        self.lr_backbone, self.lr_heads = lr_backbone, lr_heads
        self.weight_decay, self.schedule, self.seed = weight_decay, schedule, seed
        accuracy = {
            f"exit{k}/acc": MulticlassAccuracy(classes, average="micro")
            for k in range(1, len(loss_weights) + 1)
        }
        self.val_accuracy = MetricCollection(dict(accuracy), prefix="val/", compute_groups=False)

    def on_train_epoch_start(self) -> None:
        entropy = np.random.SeedSequence([self.seed, self.current_epoch, self.global_rank])
        torch.manual_seed(int(entropy.generate_state(1)[0]))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        images, labels = batch
        total: Tensor
        total, per_exit = self.loss(self.network(images), labels)
        self.log("train/loss", total, prog_bar=True)
        self.log_dict({f"train/exit{k}/loss": loss for k, loss in enumerate(per_exit, 1)})
        return total

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        images, labels = batch
        logits = self.network(images)
        total, per_exit = self.loss(logits, labels)
        for metric, exit_logits in zip(self.val_accuracy.values(), logits, strict=True):
            metric.update(exit_logits, labels)
        size = len(labels)
        self.log("val/loss", total, prog_bar=True, batch_size=size)
        losses = {f"val/exit{k}/loss": loss for k, loss in enumerate(per_exit, 1)}
        self.log_dict(losses, batch_size=size)
        self.log_dict(dict(self.val_accuracy.items()), batch_size=size)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        groups = [
            group
            for name, part, lr in (
                ("backbone", self.network.segments, self.lr_backbone),
                ("heads", self.network.heads, self.lr_heads),
            )
            for group in _parameter_groups(name, part, lr, self.weight_decay)
            if group["params"]
        ]
        optimiser = torch.optim.AdamW(groups, fused=True)
        if self.schedule == "constant":
            return optimiser
        steps = int(self.trainer.estimated_stepping_batches)
        schedule: LRScheduler
        if self.schedule == "cosine":
            schedule = CosineAnnealingLR(optimiser, steps)
        else:
            peaks = [group["lr"] for group in optimiser.param_groups]
            steps = max(2, steps)
            # torch divides by the rise's length less one, so a very short run needs more of it.
            schedule = OneCycleLR(optimiser, peaks, steps, pct_start=max(0.2, 1.5 / steps))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class HeadModule(EarlyExitModule):
    """Trains the heads alone, all exits alike, with a one-cycle schedule.

    The segments stay as they are: they do not learn, and always run in evaluation mode, so that not
    even the statistics of their batch norms move.
    """

    def __init__(
        self, network: EarlyExitNet, classes: int, lr: float, weight_decay: float, seed: int
    ) -> None:
        alike = (1.0,) * len(network.heads)
        super().__init__(network, classes, alike, lr, lr, weight_decay, "onecycle", seed)
        self.network.segments.requires_grad_(False)
        # Lightning keeps the modes that it finds, and a loaded network is in evaluation mode.
        self.train()

    def train(self, mode: bool = True) -> "HeadModule":
        """Set the mode of all parts but the segments."""
        super().train(mode)
        self.network.segments.eval()
        return self


def _parameter_groups(
    name: str, part: nn.Module, lr: float, weight_decay: float
) -> list[dict[str, object]]:
    # Decay shrinks scales and shifts of BatchNorm for no benefit, so only kernels are decayed. The
    # curves of learning rates have the groups' names.
    learning = [p for p in part.parameters() if p.requires_grad]
    kernels = [p for p in learning if p.ndim > 1]
    others = [p for p in learning if p.ndim <= 1]
    return [
        {"name": name, "params": kernels, "lr": lr, "weight_decay": weight_decay},
        {"name": f"{name}_undecayed", "params": others, "lr": lr, "weight_decay": 0.0},
    ]
