"""AlexNet (Krizhevsky et al., 2012) and VGG (Simonyan and Zisserman, 2015).

For papers that used them: most of their weights are in the classifier.
"""

from torch import nn
from torchvision.models import VGG, AlexNet

from eenn.models.backbones.registry import Chain, register


@register("alexnet")
@register("vgg16")
def plain_convolutions(network: AlexNet | VGG) -> Chain:
    """Take a chain of convolutions apart before each of them."""
    groups: list[list[nn.Module]] = []
    for layer in network.features:
        if isinstance(layer, nn.Conv2d):
            groups.append([])
        groups[-1].append(layer)
    classifier = nn.Sequential(network.avgpool, nn.Flatten(), *network.classifier)
    return Chain([nn.Sequential(*group) for group in groups], classifier)
