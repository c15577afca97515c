"""Chains of stages through which photographs are sent to measure a device; none leaves early."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eenn.exits.head_sets import HeadChoice
from eenn.exits.policies.base import Bools, ExitProbs
from eenn.exits.policies.threshold import ByConfidence
from eenn.offload.edge.batch import File, Result
from eenn.offload.edge.clouds import LocalCloud, Rest
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.pieces import borders

Floats = NDArray[np.float32]


class Way(NamedTuple):
    """The way of a photograph on the device.

    Args:
        ends: the exits that decide, counted from 1.
        cut: number of blocks that are computed where the device computes on behind the last of
            `ends`, in one more stage; None where it does not.
    """

    ends: tuple[int, ...] = ()
    cut: int | None = None


@dataclass(frozen=True)
class NeverLeaving(ByConfidence):
    """A policy that decides like a device, but accepts no image."""

    p_tar: float | tuple[float, ...] = 1.0

    def accept(self, seen: Sequence[ExitProbs], last: bool) -> Bools:
        return super().accept(seen, last) & False


class Chains:
    """The runtimes of a device by the way that photographs take through its stages.

    Every stage is the last one of a way, behind all stages that can come before it. `ways` are all
    of them, and `ways_to` has one way to every cut of `Graphs.cuts`, by as many branches as there
    are before it. `device` is the rest of the network on this device, and `skipped` a rest that
    computes nothing, for where only what comes before it is measured.

    Args:
        graphs: of the device's network.
        precision: of all stages, and of the rest on this device.
        experts, threads, slowdown: see `EdgeRuntime`; heads of all sets take the same time.

    Raises:
        EennError: see `EdgeRuntime`.
    """

    def __init__(
        self,
        graphs: Graphs,
        precision: str,
        experts: HeadChoice,
        threads: int = 1,
        slowdown: float = 1.0,
    ) -> None:
        manifest = graphs.manifest
        path, at, exits = manifest.path, borders(manifest), range(1, len(manifest.exits))
        self.device = Rest(LocalCloud(path, precision, threads, slowdown))
        self.skipped = Rest(_Skipped(len(manifest.classes)))
        firsts = [Way(), *(Way(tuple(exits[:stop])) for stop in exits)]
        chains = [Way((*first.ends, stop)) for stop in exits for first in firsts[:stop]]
        further = [
            Way(first.ends, cut)
            for start, first in zip(at, firsts, strict=False)
            for cut in graphs.cuts_behind(start)
        ]
        self._runtimes = {
            way: EdgeRuntime(
                path, NeverLeaving(), [end - 1 for end in way.ends],
                replace(self.skipped, cut=way.cut), precision, threads, slowdown=slowdown,
                experts=experts,
            )
            for way in [Way(), *chains, *further]
        }  # fmt: skip
        self.ways = tuple(self._runtimes)
        self.ways_to = {
            at[len(way.ends)] if way.cut is None else way.cut: way for way in [*further, *firsts]
        }

    def run(self, way: Way, file: File, rest: Rest) -> Result:
        """Send a photograph through the stages of a way and on to a rest.

        Raises:
            UnreadableImage, OffloadError, OSError: see `EdgeRuntime.classify_file`.
        """
        runtime = self._runtimes[way]
        runtime.rest = rest
        return runtime.classify_file(file)


class _Skipped:
    def __init__(self, classes: int) -> None:
        self._classes = classes

    def infer(self, features: Floats, *_: object) -> Floats:
        return np.zeros((len(features), self._classes), np.float32)
