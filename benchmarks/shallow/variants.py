"""The ways to train that are tried: loss weights, gradients, distillation, heads."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from eenn.models.early_exit import EarlyExitNet
from eenn.training.module import EarlyExitModule


class Dynamic(EarlyExitModule):
    """Training whose loss weights follow every exit's loss and cost, in the spirit of DynExit.

    After every epoch w = K softmax(-(L + lambda c) / beta), with L a moving average of the exit's
    training loss and c the exit's share of the MACs. The weights minimise sum w (L + lambda c) less
    beta times their entropy, over weights of sum K. Validation weighs all exits alike, so that the
    losses of epochs compare.
    """

    average, price, temperature = 0.9, 1.0, 1.0

    _losses: Tensor | None = None
    _weights: Tensor | None = None

    def training_step(self, batch: tuple[Tensor, Tensor], *_: object) -> Tensor:
        images, labels = batch
        _, per_exit = self.loss(self.network(images), labels)
        weights = self.loss.weights if self._weights is None else self._weights
        total: Tensor = (per_exit * weights).sum()
        seen = per_exit.detach()
        kept = seen if self._losses is None else self._losses
        self._losses = self.average * kept + (1 - self.average) * seen
        self.log("train/loss", total)
        return total

    def on_train_epoch_end(self) -> None:
        assert self._losses is not None
        exits = len(self._losses)
        # Blocks of MobileNetV2 cost about as much each, and branches lie at even shares of them.
        shares = torch.arange(1, exits + 1) / exits
        self._weights = dynamic_weights(self._losses, shares, self.price, self.temperature)


def dynamic_weights(losses: Tensor, shares: Tensor, price: float, temperature: float) -> Tensor:
    """Compute the loss weights of `Dynamic`, (exits,), of sum `exits`."""
    score = -(losses + price * shares.to(losses)) / temperature
    return len(losses) * score.softmax(0)


class Balanced(EarlyExitModule):
    """Training with gradient equilibrium (Li et al., "Improved Techniques", ICCV 2019).

    Gradients of K exits add up in the first segments. At exit k the gradient of its head is
    multiplied by 1 / (K - k + 1), and that of all behind it by (K - k) / (K - k + 1), so that their
    sum keeps its scale at every depth.
    """

    def training_step(self, batch: tuple[Tensor, Tensor], *_: object) -> Tensor:
        images, labels = batch
        logits = torch.stack([*balanced_logits(self.network, images)])
        total: Tensor
        total, _ = self.loss(logits, labels)
        self.log("train/loss", total)
        return total


def balanced_logits(network: EarlyExitNet, x: Tensor) -> Iterator[Tensor]:
    """Yield the logits of every exit, with gradients scaled as in `Balanced`."""
    exits = len(network.segments)
    for k, (segment, head) in enumerate(zip(network.segments, network.heads, strict=True), 1):
        x = segment(x)
        left = exits - k + 1
        yield head(scale_gradient(x, 1 / left))
        x = scale_gradient(x, (left - 1) / left)


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """Give the same values with a gradient that is multiplied by a factor."""
    return x.detach() + factor * (x - x.detach())


class Distilled(EarlyExitModule):
    """Training in which branches learn from the last exit (Phuong and Lampert, 2019).

    Half of a branch's loss is its cross-entropy, half the divergence from the last exit's softened
    probabilities, which get no gradient from it.
    """

    share, temperature = 0.5, 3.0

    def training_step(self, batch: tuple[Tensor, Tensor], *_: object) -> Tensor:
        images, labels = batch
        logits = self.network(images)
        _, per_exit = self.loss(logits, labels)
        taught = distillation(logits[:-1], logits[-1].detach(), self.temperature)
        mixed = (1 - self.share) * per_exit[:-1] + self.share * taught
        total: Tensor = (torch.cat([mixed, per_exit[-1:]]) * self.loss.weights).sum()
        self.log("train/loss", total)
        return total


def distillation(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compute each exit's divergence from the teacher, times the squared temperature, (exits,)."""
    target = (teacher / temperature).log_softmax(-1)
    return torch.stack(
        [
            temperature**2
            * functional.kl_div(
                (own / temperature).log_softmax(-1), target, reduction="batchmean", log_target=True
            )
            for own in logits
        ]
    )


# By name: the settings of train.py, and the module that trains.
VARIANTS: dict[str, tuple[tuple[str, ...], type[EarlyExitModule]]] = {
    "linspace": ((), EarlyExitModule),
    "ones": (("loss_weights=ones",), EarlyExitModule),
    "dynamic": (("loss_weights=ones",), Dynamic),
    "balanced": (("loss_weights=ones",), Balanced),
    "distilled": ((), Distilled),
    "pooled_heads": (("model.head=pooled_conv",), EarlyExitModule),
}
