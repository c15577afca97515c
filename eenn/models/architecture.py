"""The description that a network is built from, and a row of the table of its exits. No torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """Everything needed to build a network again; see `eenn.models.building`.

    Args:
        classes: number of classes.
        positions: index of the block before each branch, ascending.
        head: kind of branch head.
        width_mult: MobileNetV2's width multiplier.
        input_size: height and width of the input in pixels.
    """

    classes: int
    positions: tuple[int, ...]
    head: str = "conv"
    width_mult: float = 1.0
    input_size: int = 224


@dataclass(frozen=True)
class Exit:
    """One row of the table of exits.

    Args:
        after: index of the backbone block before the exit.
        channels, height, width: of its features.
        macs: of all segments up to here.
        head_macs: of the head alone.
        payload_bytes: of the features of one sample in fp32.
    """

    after: int
    channels: int
    height: int
    width: int
    macs: int
    head_macs: int
    payload_bytes: int
