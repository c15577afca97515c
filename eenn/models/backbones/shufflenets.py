"""ShuffleNetV2 (Ma et al., 2018)."""

from torch import nn
from torchvision.models import ShuffleNetV2

from eenn.models.backbones.pooling import SpatialMean
from eenn.models.backbones.registry import Chain, register


@register("shufflenet_v2_x1_0", classifier="fc.")
def shufflenet(network: ShuffleNetV2) -> Chain:
    """Take ShuffleNetV2 apart: stem, every shuffled block, last convolution."""
    stem = nn.Sequential(network.conv1, network.maxpool)
    stages = (network.stage2, network.stage3, network.stage4)
    blocks = [block for stage in stages for block in stage]
    return Chain([stem, *blocks, network.conv5], nn.Sequential(SpatialMean(), network.fc))
