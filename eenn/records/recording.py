"""Passes of a network over a whole split that keep the raw logits of every exit."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eenn.cli import with_progress
from eenn.models.expert_net import ExpertNet

Batches = Iterable[tuple[Tensor, Tensor]]
Logits = NDArray[np.float32]
Labels = NDArray[np.int64]


def record(
    network: nn.Module,
    batches: Batches,
    device: torch.device | str = "cpu",
    title: str = "record",
) -> tuple[Logits, Labels]:
    """Run a network once; return float32 logits (exits, samples, classes) and labels.

    The network is left on `device`, in evaluation mode.

    Args:
        title: of the progress bar on a terminal.
    """
    passed = [
        (_array(logits), labels) for logits, labels in _passes(network, batches, device, title)
    ]
    logits, labels = zip(*passed, strict=True)
    return np.concatenate(logits, axis=1), np.concatenate(labels)


def record_experts(
    network: ExpertNet,
    batches: Batches,
    device: torch.device | str = "cpu",
    title: str = "record",
) -> tuple[Logits, Logits, Labels]:
    """Run a network with experts once, like `record`.

    Returns:
        Logits of every head set (1 + kinds, exits, samples, classes), logits of the distortion
        classifier (samples, 1 + kinds), and labels (samples,).
    """
    passed = [
        (_array(sets), _array(kinds), labels)
        for (sets, kinds), labels in _passes(network, batches, device, title)
    ]
    sets, kinds, labels = zip(*passed, strict=True)
    return np.concatenate(sets, axis=2), np.concatenate(kinds), np.concatenate(labels)


def _passes(
    network: nn.Module, batches: Batches, device: torch.device | str, title: str
) -> Iterator[tuple[Any, Labels]]:
    network = network.to(device).eval()
    with torch.inference_mode():
        for images, truth in with_progress(batches, title, "batches"):
            yield network(images.to(device, non_blocking=True)), truth.numpy()


def _array(logits: Tensor) -> Logits:
    values: Logits = logits.float().cpu().numpy()
    return values
