"""The loss over all exits: a weighted sum of their cross-entropies."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from eenn.errors import EennError


def exit_weights(spec: str | Sequence[float], exits: int) -> tuple[float, ...]:
    """Compute one loss weight per exit.

    Args:
        spec: `ones`; `linspace`, from 0.15 at the first exit to 1 at the last as in Pacheco et al.
            (2021a); or the weights themselves.

    Raises:
        EennError: another word, a wrong number of weights, or weights that are not positive.
    """
    if spec == "ones":
        return (1.0,) * exits
    if spec == "linspace":
        return tuple(torch.linspace(0.15, 1, exits).tolist()) if exits > 1 else (1.0,)
    numbers = isinstance(spec, Sequence) and all(isinstance(w, int | float) for w in spec)
    if not numbers or len(spec) != exits or min(map(float, spec)) <= 0:
        raise EennError(
            f"loss_weights={spec}: allowed are ones, linspace, or {exits} positive numbers, "
            "one per exit"
        )
    return tuple(map(float, spec))


class EarlyExitLoss(nn.Module):
    """Weighted sum of the cross-entropies of all exits."""

    weights: Tensor

    def __init__(self, weights: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the total (scalar) and the mean cross-entropy of each exit (exits,), in nats.

        Args:
            logits: (exits, batch, classes).
            labels: int (batch,).
        """
        per_exit = torch.stack([functional.cross_entropy(z, labels) for z in logits])
        # As a matrix product autocast would round it to bf16.
        return (per_exit * self.weights).sum(), per_exit
