"""Modules with networks of a user's own, written for tests."""

from pathlib import Path

# Convolutions that learn within seconds.
NETWORK = """
from torch import nn


def convolution(before, after):
    layer = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(after), nn.ReLU())


def blocks(classes):
    widths = (3, 24, 48, 96)
    chain = [convolution(a, b) for a, b in zip(widths, widths[1:])]
    pool = nn.AdaptiveAvgPool2d(1)
    return chain, nn.Sequential(pool, nn.Flatten(), nn.Linear(widths[-1], classes))
"""


def write_module(place: Path, module: str, code: str = NETWORK) -> str:
    """Write a module whose function `blocks` builds a network; returns MODULE:FUNCTION."""
    (place / f"{module}.py").write_text(code)
    return f"{module}:blocks"


def write_trap(place: Path, module: str) -> str:
    """Write a module that leaves `place/MODULE.imported` if it is imported."""
    marker = place / f"{module}.imported"
    return write_module(place, module, f"open({str(marker)!r}, 'w').close()\n{NETWORK}")
