"""Measurement of the time of every segment and head on this machine, one image at a time."""

import time
from collections.abc import Callable
from datetime import datetime

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eenn.cli import with_progress
from eenn.models.early_exit import EarlyExitNet
from eenn.planning.costs import Profile

WARM_UP = 5


def profile(
    network: EarlyExitNet,
    artifact_id: str,
    input_size: int,
    hardware: str,
    classifier: nn.Module | None = None,
    repeats: int = 50,
) -> Profile:
    """Measure the milliseconds of every segment and head in eager PyTorch on one CPU thread.

    One thread is used because with several, a busy neighbour makes them wait for each other. The
    parts take turns, so that a disturbance affects all of them alike.

    Args:
        classifier: the distortion classifier, measured as well; None if there is none.
    """
    network = network.cpu().eval()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    segments = np.empty((repeats, len(network.segments)))
    heads = np.empty((repeats, len(network.heads)))
    kinds = np.empty((repeats, 1))
    image = torch.randn(1, 3, input_size, input_size).to(memory_format=torch.channels_last)
    try:
        with torch.inference_mode():
            # Warm-up passes have negative numbers: their rows are overwritten later.
            for repeat in with_progress(range(-WARM_UP, repeats), "profile", "passes"):
                x = image
                if classifier is not None:
                    _, kinds[repeat, 0] = _timed(classifier, image)
                for k, (segment, head) in enumerate(
                    zip(network.segments, network.heads, strict=True)
                ):
                    x, segments[repeat, k] = _timed(segment, x)
                    _, heads[repeat, k] = _timed(head, x)
    finally:
        torch.set_num_threads(threads)
    # Without a classifier its times are empty.
    asked = _percentiles(kinds) if classifier is not None else {}
    return Profile(
        artifact_id,
        hardware,
        threads=1,
        repeats=repeats,
        date=datetime.now().date().isoformat(),
        segments=_percentiles(segments),
        heads=_percentiles(heads),
        to_exit=_percentiles(np.cumsum(segments + heads, axis=1)),
        classifier={name: ms for name, (ms,) in asked.items()},
    )


def _timed(part: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, float]:
    start = time.perf_counter()
    result = part(x)
    return result, 1e3 * (time.perf_counter() - start)


def _percentiles(ms: NDArray[np.float64]) -> dict[str, list[float]]:
    """Compute percentiles over the repeats of every part, from milliseconds (repeats, parts)."""
    return {f"p{q}": np.percentile(ms, q, axis=0).round(4).tolist() for q in (5, 50, 95)}
