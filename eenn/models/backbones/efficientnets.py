"""EfficientNet (Tan and Le, 2019)."""

from torchvision.models import EfficientNet

from eenn.models.backbones.pooling import pooled
from eenn.models.backbones.registry import Chain, register


@register("efficientnet_b0")
def efficientnet(network: EfficientNet) -> Chain:
    """Take EfficientNet apart: stem, every inverted residual of every stage, last convolution."""
    stem, *stages, last = network.features
    blocks = [block for stage in stages for block in stage]
    return Chain([stem, *blocks, last], pooled(*network.classifier))
