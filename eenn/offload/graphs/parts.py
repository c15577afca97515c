"""A part of the network on ONNX Runtime: some blocks, and maybe an exit behind them. No torch.

Without experts a part is one graph. With experts every head set has its own head in fp32, and the
blocks run, and are kept in memory, once.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.pieces import alone, between, borders, features_name, steps
from eenn.offload.protocol.wire import FEATURES, LOGITS

Floats = NDArray[np.float32]
Names = NDArray[np.str_]


def open_heads(
    graphs: Graphs, exit: int, head_sets: Sequence[str], threads: int, device: str = "cpu"
) -> dict[str, InferenceSession]:
    """Open the heads of an exit, counted from 1, by head set; empty without experts.

    Raises:
        EennError: see `Graphs.session`.
    """
    if not graphs.manifest.experts:
        return {}
    return {
        heads: graphs.session(alone(graphs.manifest, exit, heads), "fp32", threads, device)
        for heads in head_sets
    }


class Part:
    """The blocks from a cut to an exit, and this exit.

    Args:
        first: number of blocks before the cut.
        exit: counted from 1.
        heads: sessions of the exit's heads; see `open_heads`.
        precision: of the segments; heads of experts are fp32.

    Raises:
        EennError: the precision does not exist; see `Graphs.session`.
    """

    def __init__(
        self,
        graphs: Graphs,
        first: int,
        exit: int,
        heads: Mapping[str, InferenceSession],
        precision: str,
        threads: int,
        device: str = "cpu",
    ) -> None:
        manifest = graphs.manifest
        self._is_last = exit == len(manifest.exits)
        self._after = features_name(borders(manifest)[exit])
        pieces = steps(manifest, first, exit)
        self._heads, self._blocks = heads, graphs.session(pieces, precision, threads, device)

    def step(self, features: Floats, heads: Names) -> tuple[Floats, Floats]:
        """Compute logits (N, classes) of the exit, and features (N, C, H, W) for the next part.

        Behind the last exit the given features are returned.

        Args:
            heads: the head set of every sample, (N,).
        """
        if not self._heads and self._is_last:
            (logits,) = self._blocks.run([LOGITS], {FEATURES: features})
            return logits, features
        if not self._heads:
            logits, after = self._blocks.run([LOGITS, self._after], {FEATURES: features})
            return logits, after
        (after,) = self._blocks.run([self._after], {FEATURES: features})
        first, *others = set(heads.tolist())
        logits = self._head(first, after)
        for name in others:
            own = heads == name
            logits[own] = self._head(name, after[own])
        return logits, after

    def logits(self, features: Floats, heads: str) -> Floats:
        """Compute logits (N, classes) of the last exit with one head set."""
        if not self._heads:
            (logits,) = self._blocks.run([LOGITS], {FEATURES: features})
            return np.asarray(logits)
        (after,) = self._blocks.run([self._after], {FEATURES: features})
        return self._head(heads, after)

    def _head(self, name: str, features: Floats) -> Floats:
        (logits,) = self._heads[name].run([LOGITS], {FEATURES: features})
        return np.asarray(logits)


class Headless:
    """The blocks from a cut to a later one, without an exit.

    Args:
        first, last: numbers of blocks before the cuts.

    Raises:
        EennError: see `Graphs.session`.
    """

    def __init__(self, graphs: Graphs, first: int, last: int, precision: str, threads: int) -> None:
        self._name = features_name(last)
        self._blocks = graphs.session(between(first, last), precision, threads)

    def features(self, features: Floats) -> Floats:
        """Compute the features at the later cut, (N, C, H, W)."""
        (after,) = self._blocks.run([self._name], {FEATURES: features})
        return np.asarray(after)
