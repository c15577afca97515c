"""The description that a network is built from, and its tables of blocks and exits. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass

# The backbone of artifacts that state none, as those of the first versions do.
MOBILENET_V2 = "mobilenet_v2"


@dataclass(frozen=True)
class Architecture:
    """The description that `eenn.models.building` builds a network from.

    Args:
        classes: number of classes.
        positions: index of the block before each branch, ascending.
        head: kind of branch head.
        width_mult: multiplies the channels of a backbone that has widths.
        input_size: height and width of the input in pixels.
        backbone: name of a registered backbone.
    """

    classes: int
    positions: tuple[int, ...]
    head: str = "conv"
    width_mult: float = 1.0
    input_size: int = 224
    backbone: str = MOBILENET_V2

    @property
    def details(self) -> tuple[str, ...]:
        """List properties in words, the important ones first, the positions last."""
        after = ", ".join(map(str, self.positions))
        return (
            self.backbone,
            f"{self.input_size} px",
            f"width {self.width_mult:g}",
            f"{self.head} heads",
            f"after {after or 'none'}",
        )


@dataclass(frozen=True)
class Block:
    """A row of the table of blocks; after any of them the network can be cut.

    Args:
        channels, height, width: of the features behind the block.
        macs: of all blocks up to this one.
        payload_bytes: size of one sample's features in fp32.
    """

    channels: int
    height: int
    width: int
    macs: int
    payload_bytes: int


@dataclass(frozen=True)
class Exit:
    """A row of the table of exits.

    Args:
        after: index of the backbone block before the exit.
        channels, height, width: of the features that the exit's head reads.
        macs: of all segments up to the exit, without heads.
        head_macs: of the exit's head alone.
        payload_bytes: size of one sample's features in fp32.
    """

    after: int
    channels: int
    height: int
    width: int
    macs: int
    head_macs: int
    payload_bytes: int


def branches_text(count: int) -> str:
    """Count branches in words: `no branches`, `1 branch`, `5 branches`."""
    return f"{count or 'no'} branch{'' if count == 1 else 'es'}"


def exit_macs(exits: Sequence[Exit]) -> list[int]:
    """Count the MACs to every exit: of all segments and heads up to it."""
    return [row.macs + sum(e.head_macs for e in exits[: k + 1]) for k, row in enumerate(exits)]
