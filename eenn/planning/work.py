"""The work of a network's blocks and heads, which the times of its parts follow. NumPy only."""

import re
from collections.abc import Iterator
from dataclasses import astuple, dataclass

import numpy as np

from eenn.errors import EennError
from eenn.exits.policies.base import Floats

# A profile has an entry for every pair of cuts, and at most 1 MiB.
MAX_BLOCKS = 256
BLOCKS, STAGES, EXITS = "blocks", "stages", "exits"
# A group of a profile, and a key in it: ("stages", "0-3").
Part = tuple[str, str]
_NUMBERS = {
    BLOCKS: re.compile(r"(\d{1,5})", re.ASCII),
    STAGES: re.compile(r"(\d{1,5})-(\d{1,5})", re.ASCII),
    EXITS: re.compile(r"(\d{1,5})-(\d{1,5})", re.ASCII),
}


def numbers_of(part: Part) -> tuple[int, ...] | None:
    """Read the numbers in the key of a part; return None if the key is not one of its group."""
    group, key = part
    found = _NUMBERS[group].fullmatch(key)
    return found and tuple(map(int, found.groups()))


@dataclass(frozen=True)
class Work:
    """The work of a block or head for one image, by what a device needs time for.

    Args:
        full_macs: multiply-accumulates of pointwise, full and grouped convolutions, and of products
            of matrices.
        depthwise_macs: of convolutions with a group for each channel, which are slower per MAC.
        weights: numbers to read from memory, once for each image.
        layers: number of convolutions and products of matrices.
    """

    full_macs: int
    depthwise_macs: int
    weights: int
    layers: int


@dataclass(frozen=True)
class NetworkWork:
    """The work of every block and head of a network.

    Args:
        blocks: in their order.
        heads: of the exits, in their order.
        after: number of blocks before each exit.

    Raises:
        EennError: there are more than MAX_BLOCKS blocks.
    """

    artifact_id: str
    input_size: int
    blocks: tuple[Work, ...]
    heads: tuple[Work, ...]
    after: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.blocks) > MAX_BLOCKS:
            raise EennError(
                f"a network of {len(self.blocks)} blocks: times are predicted for at most "
                f"{MAX_BLOCKS}; measure them with `eenn-edge --profile`"
            )

    def parts(self) -> Iterator[Part]:
        """Yield every part that a profile can have: blocks, stages and exits."""
        cuts = range(len(self.blocks) + 1)
        yield from ((BLOCKS, str(stop)) for stop in cuts[1:])
        yield from ((STAGES, f"{start}-{stop}") for start in cuts for stop in cuts[start + 1 :])
        for exit, after in enumerate(self.after, 1):
            yield from ((EXITS, f"{start}-{exit}") for start in range(after + 1))

    def features(self, part: Part) -> Floats:
        """Sum up the work of a part in one graph, (FEATURES,).

        Raises:
            EennError: the network does not have the part.
        """
        numbers, blocks, exits = numbers_of(part), len(self.blocks), len(self.after)
        heads: tuple[Work, ...] = ()
        start, stop = 0, -1
        if numbers is not None:
            start, stop = numbers[0] - (part[0] == BLOCKS), numbers[-1]
            if part[0] == EXITS:
                heads = self.heads[stop - 1 : stop] if stop else ()
                stop = self.after[stop - 1] if heads else -1
        if not 0 <= start <= stop <= blocks or (start == stop and not heads):
            raise EennError(
                f"{part[0]} {part[1]:.80}: this network has {blocks} blocks and {exits} exits; "
                "take the profile and the totals of the same network"
            )
        works = [astuple(work) for work in (*self.blocks[start:stop], *heads)]
        return np.array([*np.sum(works, axis=0), 1.0], np.float64)
