"""Whoever runs the rest of the network for the edge: what they are asked, and this machine."""

import time
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eenn.exits.head_sets import PLAIN
from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.parts import Part, open_heads

Floats = NDArray[np.float32]


class Cloud(Protocol):
    """Whoever runs the rest of the network."""

    def infer(
        self, features: Floats, split_point: int, deadline: float | None, heads: str = PLAIN
    ) -> Floats:
        """Raw logits of the last exit, (N, classes), finite.

        Args:
            features: after `split_point` segments, (N, C, H, W); the images for split point 0.
            deadline: `time.monotonic()` seconds by which this returns or raises; None if never.
            heads: the head set whose last exit answers.

        Raises:
            OffloadError: there is no answer, and why.
        """
        ...


class LocalCloud:
    """The cloud's part on this machine, for a device that runs the whole network itself.

    Args:
        slowdown: as of `EdgeRuntime`.

    Raises:
        EennError: see `Graphs.read`.
    """

    def __init__(
        self,
        artifact_dir: str | Path,
        precision: str = "fp32",
        threads: int = 1,
        slowdown: float = 1.0,
    ) -> None:
        self._graphs = Graphs.read(artifact_dir)
        self._precision, self._threads, self._slowdown = precision, threads, slowdown
        manifest = self._graphs.manifest
        self._exits = len(manifest.exits)
        self._heads = open_heads(self._graphs, self._exits, manifest.head_sets, threads)
        self._parts: dict[int, Part] = {}

    def infer(
        self,
        features: Floats,
        split_point: int,
        deadline: float | None,  # noqa: ARG002 (computing is not stopped by it)
        heads: str = PLAIN,
    ) -> Floats:
        """See `Cloud`."""
        if split_point not in self._parts:
            self._parts[split_point] = Part(
                self._graphs, split_point, self._exits, self._heads, self._precision, self._threads
            )
        start = time.perf_counter()
        logits = self._parts[split_point].logits(features, heads)
        stretched_ms(start, self._slowdown)
        return logits


def stretched_ms(start: float, slowdown: float = 1.0) -> float:
    """Milliseconds since `start`, of `time.perf_counter()`, after waiting as a slower device would.

    Args:
        slowdown: how many times as long everything since `start` is to take.
    """
    if slowdown > 1:
        time.sleep((slowdown - 1) * (time.perf_counter() - start))
    return 1e3 * (time.perf_counter() - start)
