"""A part of the network on ONNX Runtime: some of its segments, and the heads behind them. No torch.

Without experts that is one graph. With experts every head set has a head of its own, so that the
segments are run, and held in memory, once.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eenn.experts import PLAIN
from eenn.offload.graphs import (
    FEATURES,
    LOGITS,
    NEXT_FEATURES,
    Graphs,
    cloud_name,
    head_name,
    stage_name,
    trunk_name,
)

Floats = NDArray[np.float32]


class Part:
    """The segments from one split point to a later one, and the exit behind them.

    Args:
        head_sets: whose heads can be asked for.
        precision: of the segments; heads of experts are fp32.

    Raises:
        EennError: no such precision or head set; see `Graphs.session`.
    """

    def __init__(
        self,
        graphs: Graphs,
        start: int,
        stop: int,
        head_sets: Sequence[str],
        precision: str,
        threads: int,
        device: str = "cpu",
    ) -> None:
        if tuple(head_sets) == (PLAIN,):
            is_last = stop == len(graphs.manifest.exits)
            name = cloud_name(start) if is_last else stage_name(start, stop)
            self._heads = {}
        else:
            name = trunk_name(start, stop)
            self._heads = {
                heads: graphs.session(head_name(stop, heads), "fp32", threads, device)
                for heads in head_sets
            }
        self._segments = graphs.session(name, precision, threads, device)

    def step(self, features: Floats, heads: str) -> tuple[Floats, Floats]:
        """Logits (N, classes) of a branch, and the features (N, C, H, W) that go on behind it."""
        logits, after = self._run(features, heads, [LOGITS, NEXT_FEATURES])
        return logits, after

    def logits(self, features: Floats, heads: str) -> Floats:
        """Logits (N, classes) of the exit."""
        return self._run(features, heads, [LOGITS])[0]

    def _run(self, features: Floats, heads: str, wanted: list[str]) -> list[Floats]:
        given = {FEATURES: features}
        if not self._heads:
            return list(self._segments.run(wanted, given))
        (after,) = self._segments.run([NEXT_FEATURES], given)
        (logits,) = self._heads[heads].run([LOGITS], {FEATURES: after})
        return [logits, after]
