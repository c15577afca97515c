"""Classifiers of backbones that pool the last features first."""

from torch import Tensor, nn


class SpatialMean(nn.Module):
    """The mean over height and width, (batch, channels, height, width) -> (batch, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        """Average every channel."""
        return x.mean([2, 3])


def pooled(*classifier: nn.Module) -> nn.Sequential:
    """Put an average pool before a classifier."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *classifier)
