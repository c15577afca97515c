"""Image distortions by kind and level, the same for the same image every time.

A distortion works on the network's input resolution, before normalisation.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from eenn.errors import EennError, require_numbers

Pixels = NDArray[np.uint8]


def gaussian_blur(pixels: Pixels, sigma: float, generator: np.random.Generator) -> Pixels:
    """Gaussian blur of uint8 (H, W, 3), `sigma` in pixels, kernel to 4 sigma, mirrored borders."""
    blurred = gaussian_filter(pixels.astype(np.float32), (sigma, sigma, 0), mode="mirror")
    return np.rint(blurred).clip(0, 255).astype(np.uint8)


DISTORTIONS: dict[str, Callable[[Pixels, float, np.random.Generator], Pixels]] = {
    "gaussian_blur": gaussian_blur,
}


def seed_of(content_hash: str) -> int:
    """The seed of one image's noise, from the hexadecimal hash of its content."""
    return int(content_hash[:15], 16)


@dataclass(frozen=True)
class Distortion:
    """One kind at one level; level 0 returns the image untouched.

    Raises:
        EennError: unknown kind or negative level.
    """

    kind: str
    level: float

    def __post_init__(self) -> None:
        if self.kind not in DISTORTIONS:
            raise EennError(f"distortion {self.kind!r}: allowed are {', '.join(DISTORTIONS)}")
        require_numbers(level=self.level)
        if not 0 <= self.level < math.inf:
            raise EennError(f"distortion level {self.level}: allowed is 0 (none) or more")

    def __call__(self, pixels: Pixels, sample_seed: int) -> Pixels:
        """Distorted uint8 (H, W, 3); any noise is drawn from `sample_seed`."""
        if self.level == 0:
            return pixels
        return DISTORTIONS[self.kind](pixels, self.level, np.random.default_rng(sample_seed))
