"""ConvNeXt (Liu et al., 2022)."""

from torch import nn
from torchvision.models import ConvNeXt

from eenn.models.backbones.registry import Chain, register


@register("convnext_tiny")
def convnext(network: ConvNeXt) -> Chain:
    """Take ConvNeXt apart: stem, then every block and every downsampling layer."""
    stem, *parts = network.features
    blocks: list[nn.Module] = [stem]
    for at, part in enumerate(parts):
        # Stages and downsampling layers take turns.
        blocks += [part] if at % 2 else [*part]
    return Chain(blocks, nn.Sequential(network.avgpool, *network.classifier))
