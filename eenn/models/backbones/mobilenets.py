"""MobileNetV2 and V3 (Sandler et al., 2018; Howard et al., 2019), MNASNet (Tan et al., 2019)."""

from torch import nn
from torchvision.models import MNASNet, MobileNetV2, MobileNetV3

from eenn.models.backbones.pooling import SpatialMean, pooled
from eenn.models.backbones.registry import Chain, register


@register("mobilenet_v2", has_widths=True)
@register("mobilenet_v3_small", has_widths=True)
@register("mobilenet_v3_large", has_widths=True)
def mobilenet(network: MobileNetV2 | MobileNetV3) -> Chain:
    """Take a MobileNet apart: stem, inverted residuals, last convolution."""
    return Chain([*network.features], pooled(*network.classifier))


def mnasnet(num_classes: int, width_mult: float) -> MNASNet:
    """Build MNASNet, whose widths torchvision offers as networks of their own."""
    return MNASNet(width_mult, num_classes)


@register("mnasnet1_0", has_widths=True, source=mnasnet)
def mnasnet_chain(network: MNASNet) -> Chain:
    """Take MNASNet apart: stem, separable convolution, inverted residuals, last convolution."""
    layers = [*network.layers]
    stem, separable, last = layers[:3], layers[3:8], layers[-3:]
    residuals = [block for stage in layers[8:-3] for block in stage]
    first, second, end = (nn.Sequential(*part) for part in (stem, separable, last))
    classifier = nn.Sequential(SpatialMean(), *network.classifier)
    return Chain([first, second, *residuals, end], classifier)
