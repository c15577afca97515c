"""Trials of shallow exits: each variant's formula against another way to compute it."""

import numpy as np
import torch
from scipy.optimize import minimize
from torch import nn
from torch.nn import functional

from benchmarks.shallow.variants import (
    balanced_logits,
    distillation,
    dynamic_weights,
    scale_gradient,
)
from eenn.models.early_exit import EarlyExitNet


def test_dynamic_weights_minimise_loss_and_cost_less_entropy() -> None:
    losses, shares = torch.tensor([2.0, 1.0, 0.5]), torch.tensor([0.2, 0.6, 1.0])
    found = dynamic_weights(losses, shares, 1.0, 1.0).numpy()
    np.testing.assert_allclose(found, [0.620, 1.130, 1.249], atol=5e-4)
    scores = (losses + shares).numpy()

    def objective(weights: np.ndarray) -> float:
        return float((weights * scores).sum() + (weights * np.log(weights / 3)).sum())

    best = minimize(
        objective,
        np.ones(3),
        bounds=[(1e-6, 3)] * 3,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 3},
    )
    np.testing.assert_allclose(found, best.x, atol=1e-3)


def test_a_scaled_gradient_leaves_the_values_alone() -> None:
    x = torch.tensor([2.0, -3.0], requires_grad=True)
    y = scale_gradient(x, 0.25)
    assert torch.equal(y, x)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.25, 0.25]


def test_balanced_gradients_have_the_scale_of_one_exit_at_every_depth() -> None:
    network = EarlyExitNet([nn.Identity() for _ in range(4)], [nn.Identity() for _ in range(4)])
    x = torch.tensor([[1.5]], requires_grad=True)
    logits = torch.stack([*balanced_logits(network, x)])
    assert torch.equal(logits, network(x))
    logits.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.ones(1, 1))


def test_distillation_is_the_divergence_of_softened_probabilities() -> None:
    torch.manual_seed(0)
    logits, teacher = torch.randn(2, 5, 3), torch.randn(5, 3)
    p, q = (functional.softmax(z / 3, -1) for z in (teacher, logits[1]))
    expected = 9 * (p * (p / q).log()).sum(-1).mean()
    found = distillation(logits, teacher, 3.0)
    torch.testing.assert_close(found[1], expected)
    torch.testing.assert_close(distillation(teacher[None], teacher, 3.0), torch.zeros(1))
