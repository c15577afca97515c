"""From a description to a network: placing branches, building the network, measuring it."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from eenn.models.architecture import MOBILENET_V2, Architecture, Block, Exit
from eenn.models.backbones.chain_check import check_chain
from eenn.models.backbones.registry import find_backbone
from eenn.models.backbones.weights import started
from eenn.models.early_exit import EarlyExitNet
from eenn.models.heads import make_head
from eenn.models.placement import measure, place_branches


def place(
    classes: int,
    branches: int | Sequence[int],
    head: str = "conv",
    width_mult: float = 1.0,
    input_size: int = 224,
    backbone: str = MOBILENET_V2,
) -> Architecture:
    """Spread branches evenly over the MACs, or put them at given positions.

    Raises:
        EennError: see `place_branches` and `check_chain`; unknown backbone, or a width that the
            backbone lacks.
    """
    chain = started(find_backbone(backbone), classes, width_mult)
    check_chain(backbone, chain, classes, input_size)
    positions = place_branches(chain.blocks, branches, input_size)
    return Architecture(classes, positions, head, width_mult, input_size, backbone)


def build(architecture: Architecture, weights: str | Path | None = None) -> EarlyExitNet:
    """Build a network in channels-last format, with the backbone started from `weights`.

    Raises:
        EennError: unknown backbone or head, or unusable weights (see `started`).
    """
    classes, input_size = architecture.classes, architecture.input_size
    backbone = find_backbone(architecture.backbone)
    blocks, classifier = started(backbone, classes, architecture.width_mult, weights)
    ends = [position + 1 for position in architecture.positions] + [len(blocks)]
    segments = [nn.Sequential(*blocks[a:b]) for a, b in pairwise([0, *ends])]
    shapes = _feature_shapes(segments, input_size)
    last_side = shapes[-1][-1]
    heads = [make_head(architecture.head, c, h, last_side, classes) for c, h, _ in shapes[:-1]]
    # Convolutions on CPU and on tensor cores run fastest with channels last.
    network = EarlyExitNet(segments, [*heads, classifier])
    return network.to(memory_format=torch.channels_last)


@cache
def measure_network(architecture: Architecture) -> tuple[tuple[Block, ...], tuple[Exit, ...]]:
    """Measure the tables of blocks and of exits on a newly built network.

    Raises:
        EennError: see `build`.
    """
    network = build(architecture)
    x = torch.zeros(1, 3, architecture.input_size, architecture.input_size)
    blocks: list[Block] = []
    exits: list[Exit] = []
    macs = 0
    for segment, head in zip(network.blocks, network.heads, strict=True):
        for block in segment:
            own, x = measure(block, x)
            macs += own
            size = x.numel() * x.element_size()
            _, channels, height, width = x.shape
            blocks.append(Block(channels, height, width, macs, size))
        head_macs, _ = measure(head, x)
        here = (len(blocks) - 1, channels, height, width, macs)
        exits.append(Exit(*here, head_macs, size))
    return tuple(blocks), tuple(exits)


def _feature_shapes(segments: Sequence[nn.Module], input_size: int) -> list[torch.Size]:
    """Compute the shape (channels, height, width) after each segment."""
    x = torch.zeros(1, 3, input_size, input_size)
    shapes = []
    with torch.no_grad():
        for segment in segments:
            # In training mode the pass would change BatchNorm's statistics.
            x = segment.eval()(x)
            segment.train()
            shapes.append(x.shape[1:])
    return shapes
