"""Running a network over a whole split and keeping the raw logits of every exit."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm


def record(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    device: torch.device | str = "cpu",
    title: str = "record",
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """One pass in evaluation mode: logits float32 (exits, samples, classes), labels int (samples,).

    The network is left on `device`, in evaluation mode.

    Args:
        title: of the progress bar, which a terminal shows.
    """
    network = network.to(device).eval()
    logits, labels = [], []
    with torch.inference_mode():
        for images, truth in tqdm(batches, title, unit="batch", disable=None):
            logits.append(network(images.to(device, non_blocking=True)).float().cpu().numpy())
            labels.append(truth.numpy())
    return np.concatenate(logits, axis=1), np.concatenate(labels)
