"""ResNet (He et al., 2016) and RegNet (Radosavovic et al., 2020)."""

import torch
from torch import nn
from torchvision import models
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


def regnet_y_400mf(num_classes: int) -> RegNet:
    """Build RegNet, which reads its widths from tensors and so cannot begin on a meta device."""
    wanted = torch.get_default_device()
    with torch.device("cpu"):
        network: RegNet = models.regnet_y_400mf(num_classes=1)
    network.to(wanted)
    # Made last and where it is wanted: the number of classes may be that of a damaged file.
    network.fc = nn.Linear(network.fc.in_features, num_classes)
    nn.init.normal_(network.fc.weight, std=0.01)
    nn.init.zeros_(network.fc.bias)
    return network


@register("regnet_y_400mf", classifier="fc.", source=regnet_y_400mf)
def regnet(network: RegNet) -> Chain:
    """Take RegNet apart: stem, every residual block."""
    blocks = [block for stage in network.trunk_output for block in stage]
    return Chain([network.stem, *blocks], pooled(network.fc))
