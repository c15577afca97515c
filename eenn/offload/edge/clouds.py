"""The rest of the network for the edge: the protocols of clouds, and a cloud on this device."""

import io
import statistics
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eenn.errors import EennError
from eenn.exits.head_sets import PLAIN
from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.parts import Part, open_heads
from eenn.offload.protocol.wire import IMAGE_CUT, Cut

Floats = NDArray[np.float32]

NEWEST = 5  # runs from which the time of the next run is estimated


class Cloud(Protocol):
    """The protocol of a cloud that runs the rest of the network from features."""

    def infer(
        self, features: Floats, cut: Cut, deadline: float | None, heads: str = PLAIN
    ) -> Floats:
        """Compute raw logits of the last exit, float32 (N, classes), finite.

        Args:
            features: at the cut, (N, C, H, W); the images where nothing is before it.
            deadline: seconds of `time.monotonic()` by which the call ends; None for no deadline.
            heads: the head set of the last exit.

        Raises:
            OffloadError: the cloud did not answer; the message says why.
        """
        ...


class PhotographCloud(Protocol):
    """The protocol of a cloud that runs a whole network from photographs."""

    def infer_files(self, files: Sequence[bytes], deadline: float | None) -> Floats:
        """Compute raw logits of the last exit, (N, classes), finite, for image files.

        Args:
            deadline: see `Cloud`.

        Raises:
            OffloadError: the cloud did not answer; the message says why.
        """
        ...


class LocalCloud:
    """The cloud's part on this device, for a device that runs the whole network itself.

    Args:
        slowdown: see `EdgeRuntime`.

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
        self.manifest = self._graphs.manifest
        self._exits = len(self.manifest.exits)
        self._heads = open_heads(self._graphs, self._exits, self.manifest.head_sets, threads)
        self._parts: dict[int, Part] = {}
        self._taken_s: dict[int, deque[float]] = {}

    def infer(
        self,
        features: Floats,
        cut: Cut,
        deadline: float | None,  # noqa: ARG002 (a deadline does not stop computing)
        heads: str = PLAIN,
    ) -> Floats:
        """Compute raw logits of the last exit, float32 (N, classes); see `Cloud`."""
        blocks = cut.blocks
        if blocks not in self._parts:
            self._parts[blocks] = Part(
                self._graphs, blocks, self._exits, self._heads, self._precision, self._threads
            )
        start = time.perf_counter()
        logits = self._parts[blocks].logits(features, heads)
        taken_s = 1e-3 * slowed_ms(start, self._slowdown)
        newest = self._taken_s.setdefault(blocks, deque(maxlen=NEWEST))
        newest.append(taken_s / len(features))
        return logits

    def infer_files(self, files: Sequence[bytes], deadline: float | None) -> Floats:
        """Compute raw logits of the last exit for image files; see `PhotographCloud`.

        Raises:
            UnreadableImage: a file is not an image.
        """
        preprocessing, start = self.manifest.preprocessing, time.perf_counter()
        images = np.stack([preprocessing(preprocessing.read(io.BytesIO(file))) for file in files])
        slowed_ms(start, self._slowdown)
        return self.infer(images, IMAGE_CUT, deadline)

    def expected_s(self, cut: Cut) -> float:
        """Estimate the seconds for one image from a cut on: the newest runs' median.

        Before the first image, two runs on zeros are measured.
        """
        if cut.blocks not in self._taken_s:
            shape = self._graphs.features_shape(cut.blocks)
            for _ in range(2):  # The first run is slower than later runs.
                self.infer(np.zeros((1, *shape), np.float32), cut, None)
        return statistics.median(self._taken_s[cut.blocks])


@dataclass(frozen=True)
class Rest:
    """The rest of the network: answers images that no active branch accepts.

    Args:
        features: a cloud that is asked with features, or
        photographs: a cloud that is asked with the photograph's file; if both are None, the last
            active branch answers.
        temperature: of the last exit of an upstream network, which comes after all exits of the
            artifact; None where the artifact's own rest answers.
        on_device: whether the rest runs on this device, so that no image leaves it.
        standby: the rest of the network on this device, for when the cloud fails or is late.
        cut: number of blocks that an edge runs before it asks with features; None for those up to
            its last active branch. An edge opens them when it is made.

    Raises:
        EennError: both clouds are given.
    """

    features: Cloud | None = None
    photographs: PhotographCloud | None = None
    temperature: float | None = None
    on_device: bool = False
    standby: LocalCloud | None = None
    cut: int | None = None

    def __post_init__(self) -> None:
        if self.features is not None and self.photographs is not None:
            raise EennError(
                "the rest has a cloud for features and one for photographs; allowed is one of them"
            )

    @property
    def is_nobody(self) -> bool:
        """Tell whether the rest is nobody, so that the last active branch has to answer."""
        return self.features is None and self.photographs is None


def slowed_ms(start: float, slowdown: float = 1.0) -> float:
    """Wait as long as a slower device would; return the milliseconds since `start`.

    Args:
        start: seconds of `time.perf_counter()`.
        slowdown: factor by which the time since `start` is extended.
    """
    if slowdown > 1:
        time.sleep((slowdown - 1) * (time.perf_counter() - start))
    return 1e3 * (time.perf_counter() - start)
