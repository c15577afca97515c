"""ResNet (He et al., 2016) and RegNet (Radosavovic et al., 2020)."""

from torch import nn
from torchvision.models import RegNet, ResNet

from eenn.models.backbones.pooling import pooled
from eenn.models.backbones.registry import Chain, register


@register("resnet18", classifier="fc.")
@register("resnet50", classifier="fc.")
def resnet(network: ResNet) -> Chain:
    """Take ResNet apart: stem, every residual block."""
    stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
    stages = (network.layer1, network.layer2, network.layer3, network.layer4)
    return Chain([stem, *(block for stage in stages for block in stage)], pooled(network.fc))


@register("regnet_y_400mf", classifier="fc.")
def regnet(network: RegNet) -> Chain:
    """Take RegNet apart: stem, every residual block."""
    blocks = [block for stage in network.trunk_output for block in stage]
    return Chain([network.stem, *blocks], pooled(network.fc))
