"""Chains of blocks with exits between them: the way of an image for every place of the cut.

The problem of published planners: how many blocks run on the device, and the rest in the cloud.
Blocks count from 1; a cut leaves blocks 1 to `cut` on the device, 0 sends the image, and a cut
behind the last block sends nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from eenn.errors import EennError
from eenn.planning.engine import Way
from eenn.planning.table import Row

D = TypeVar("D")


@dataclass(frozen=True)
class ChainExit:
    """An exit behind a block.

    Args:
        after: the block.
        head_ms, cloud_head_ms: of its head and decision, on the device and in the cloud.
    """

    after: int
    head_ms: float
    cloud_head_ms: float = 0.0


@dataclass(frozen=True)
class Chain:
    """Times of blocks, and the size of a request from every cut but the last.

    Raises:
        EennError: times or sizes are missing.
    """

    device_ms: tuple[float, ...]
    cloud_ms: tuple[float, ...]
    payload_bytes: tuple[float, ...]

    def __post_init__(self) -> None:
        blocks = len(self.device_ms)
        if len(self.cloud_ms) != blocks or len(self.payload_bytes) < blocks:
            raise EennError(
                f"a chain of {blocks} blocks with {len(self.cloud_ms)} times in the cloud and "
                f"{len(self.payload_bytes)} sizes: give one of each for every block"
            )

    @property
    def cuts(self) -> range:
        """List all places of the cut."""
        return range(len(self.device_ms) + 1)

    def way(self, cut: int, exits: Sequence[ChainExit]) -> Way:
        """Set out the steps of an image that passes all of some exits, in ascending order.

        Exits up to the cut run on the device, the others in the cloud.
        """
        on_device, at = [], 0
        here = [exit for exit in exits if exit.after <= cut]
        for exit in here:
            on_device.append(sum(self.device_ms[at : exit.after]) + exit.head_ms)
            at = exit.after
        on_device.append(sum(self.device_ms[at:cut]))
        if cut == len(self.device_ms):
            return Way(tuple(on_device))
        in_cloud, at = [], cut
        for exit in exits[len(here) :]:
            in_cloud.append(sum(self.cloud_ms[at : exit.after]) + exit.cloud_head_ms)
            at = exit.after
        in_cloud.append(sum(self.cloud_ms[at:]))
        return Way(tuple(on_device), tuple(in_cloud), self.payload_bytes[cut])

    def row(
        self,
        design: D,
        cut: int,
        exits: Sequence[ChainExit],
        reach: ArrayLike,
        accuracy: float = math.nan,
    ) -> Row[D]:
        """Compute the costs of a design.

        Args:
            exits: those that are evaluated.
            reach: the share of images before each exit, and behind the last one.
        """
        shares = np.asarray(reach, np.float64)
        leaving = tuple((-np.diff(shares)).tolist())
        return Row(design, cut, self.way(cut, exits).spent(shares), leaving, accuracy)
