"""Heads of branches: from the features after a block to the logits of an exit."""

from collections.abc import Callable

from torch import Tensor, nn

from eenn.errors import EennError

# (channels, map side, side of the backbone's last map, classes) -> head
HeadBuilder = Callable[[int, int, int, int], nn.Module]


def linear_head(channels: int, side: int, last_side: int, classes: int) -> nn.Module:
    """Build BatchNorm, average pool, linear: the head of Pacheco et al. (2021a)."""
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(nn.BatchNorm2d(channels), pool, nn.Flatten(), nn.Linear(channels, classes))


def pool2_head(channels: int, side: int, last_side: int, classes: int) -> nn.Module:
    """Build a 2x2 average pool and a linear layer: the head of Pacheco et al. (2023, 2021c)."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, classes))


class ConvHead(nn.Module):
    """Separable convolutions that cheaply make up for the depth that a shallow exit lacks.

    Each convolution halves the map until it is as small as the backbone's last, and doubles the
    channels up to `widest`; there is at least one. Their pooled output is put beside the pooled
    input, so the linear layer sees all that the one of `linear_head` sees.
    """

    widest = 192

    def __init__(self, channels: int, side: int, last_side: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        layers: list[nn.Module] = []
        width = channels
        while not layers or side > last_side:
            stride = 2 if side > last_side else 1
            wider = min(2 * width, self.widest)
            layers += [
                nn.Conv2d(width, width, 3, stride, padding=1, groups=width, bias=False),
                nn.BatchNorm2d(width),
                nn.Conv2d(width, wider, 1, bias=False),
                nn.BatchNorm2d(wider),
                nn.ReLU6(inplace=True),
            ]
            side, width = (side + 1) // stride, wider
        self.convs = nn.Sequential(*layers)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.seen = nn.Linear(channels, classes, bias=False)
        self.made = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        # Two linear layers summed are one over both vectors put side by side.
        logits: Tensor = self.seen(self.pool(x)) + self.made(self.pool(self.convs(x)))
        return logits


def pooled_conv_head(channels: int, side: int, last_side: int, classes: int) -> nn.Module:
    """Build `ConvHead` on features that an average pool has halved: fewer MACs, a wider view."""
    if side <= last_side:
        return ConvHead(channels, side, last_side, classes)
    pool = nn.AvgPool2d(2, ceil_mode=True)
    return nn.Sequential(pool, ConvHead(channels, -(-side // 2), last_side, classes))


HEADS: dict[str, HeadBuilder] = {
    "linear": linear_head,
    "pool2": pool2_head,
    "conv": ConvHead,
    "pooled_conv": pooled_conv_head,
}


def make_head(kind: str, channels: int, side: int, last_side: int, classes: int) -> nn.Module:
    """Build a head from features (batch, channels, side, side) to logits (batch, classes).

    Args:
        kind: a name in HEADS.
        last_side: side of the backbone's last map, in pixels.

    Raises:
        EennError: `kind` is not in HEADS.
    """
    if kind not in HEADS:
        raise EennError(f"model.head={kind}: allowed are {', '.join(HEADS)}")
    return HEADS[kind](channels, side, last_side, classes)
