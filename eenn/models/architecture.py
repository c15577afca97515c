"""Everything needed to build an early-exit network again, and the table of its exits."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from eenn.models.backbones.mobilenet_v2 import mobilenetv2
from eenn.models.early_exit import EarlyExitNet
from eenn.models.heads import make_head
from eenn.models.placement import measure, place_branches


@dataclass(frozen=True)
class Exit:
    """One row of the table of exits.

    `after` is the index of the backbone block before the exit; `channels`, `height`, `width` are of
    its features; `macs` counts all segments up to here, `head_macs` the head alone;
    `payload_bytes` are the features of one sample in fp32.
    """

    after: int
    channels: int
    height: int
    width: int
    macs: int
    head_macs: int
    payload_bytes: int


@dataclass(frozen=True)
class Architecture:
    """Everything needed to build a network again.

    Args:
        classes: number of classes.
        positions: index of the block before each branch, ascending; `place` finds even ones.
        head: kind of branch head.
        width_mult: MobileNetV2's width multiplier.
        input_size: height and width of the input in pixels.
    """

    classes: int
    positions: tuple[int, ...]
    head: str = "conv"
    width_mult: float = 1.0
    input_size: int = 224

    @classmethod
    def place(
        cls,
        classes: int,
        branches: int | Sequence[int],
        head: str = "conv",
        width_mult: float = 1.0,
        input_size: int = 224,
    ) -> "Architecture":
        """The architecture with `branches` spread evenly over the MACs, or at given positions.

        Raises:
            EennError: see `place_branches`.
        """
        blocks, _ = mobilenetv2(classes, width_mult)
        return cls(
            classes, place_branches(blocks, branches, input_size), head, width_mult, input_size
        )

    def build(self, weights: str | Path | None = None) -> EarlyExitNet:
        """The network in channels-last format, its backbone started from `weights`.

        Raises:
            EennError: unknown head, or unusable weights (see `mobilenetv2`).
        """
        blocks, classifier = mobilenetv2(self.classes, self.width_mult, weights)
        ends = [position + 1 for position in self.positions] + [len(blocks)]
        segments = [nn.Sequential(*blocks[a:b]) for a, b in pairwise([0, *ends])]
        shapes = _feature_shapes(segments, self.input_size)
        last_side = shapes[-1][-1]
        heads = [make_head(self.head, c, h, last_side, self.classes) for c, h, _ in shapes[:-1]]
        # Convolutions on CPU and on tensor cores run fastest with channels last.
        network = EarlyExitNet(segments, [*heads, classifier])
        return network.to(memory_format=torch.channels_last)

    def exits(self) -> tuple[Exit, ...]:
        """The table of exits, measured on a network built for the purpose."""
        network = self.build()
        x = torch.zeros(1, 3, self.input_size, self.input_size)
        rows = []
        macs = 0
        last_block = len(mobilenetv2(self.classes, self.width_mult)[0]) - 1
        after = [*self.positions, last_block]
        for block, segment, head in zip(after, network.segments, network.heads, strict=True):
            segment_macs, x = measure(segment, x)
            head_macs, _ = measure(head, x)
            macs += segment_macs
            _, channels, height, width = x.shape
            payload_bytes = x.numel() * x.element_size()
            rows.append(Exit(block, channels, height, width, macs, head_macs, payload_bytes))
        return tuple(rows)


def _feature_shapes(segments: Sequence[nn.Module], input_size: int) -> list[torch.Size]:
    """Shape (channels, height, width) after each segment."""
    x = torch.zeros(1, 3, input_size, input_size)
    shapes = []
    with torch.no_grad():
        for segment in segments:
            # In training mode the pass would change BatchNorm's statistics.
            x = segment.eval()(x)
            segment.train()
            shapes.append(x.shape[1:])
    return shapes
