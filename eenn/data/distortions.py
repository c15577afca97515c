"""Image distortions by kind and level, the same for the same image every time.

A distortion works on the network's input resolution, before normalisation. The unit of a level
depends on the kind and is named where the kind is defined; more is worse, but for JPEG's quality.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.ndimage import convolve, gaussian_filter

from eenn.errors import EennError, require_numbers

Pixels = NDArray[np.uint8]


def gaussian_blur(pixels: Pixels, sigma: float, generator: np.random.Generator) -> Pixels:
    """Blur uint8 (H, W, 3): Gaussian, `sigma` in pixels, kernel to 4 sigma, mirrored borders."""
    blurred = gaussian_filter(pixels.astype(np.float32), (sigma, sigma, 0), mode="mirror")
    return _rounded(blurred)


def gaussian_noise(pixels: Pixels, sigma: float, generator: np.random.Generator) -> Pixels:
    """Add independent Gaussian noise to every channel, `sigma` in grey levels 0 to 255, clipped."""
    noise = generator.standard_normal(pixels.shape, np.float32)
    return _rounded(pixels + np.float32(sigma) * noise)


def jpeg(pixels: Pixels, quality: float, generator: np.random.Generator) -> Pixels:
    """Compress and decode as JPEG at a quality from 1 to 100, rounded to a whole number."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=round(quality))
    return np.asarray(Image.open(file))


def motion_blur(pixels: Pixels, length: float, generator: np.random.Generator) -> Pixels:
    """Average along a line of `length` pixels in a random direction, mirrored borders."""
    angle = generator.uniform(0, math.pi)
    reach = (length - 1) / 2
    kernel = _line_kernel(reach * math.sin(angle), reach * math.cos(angle), math.ceil(2 * length))
    return _rounded(convolve(pixels.astype(np.float32), kernel[:, :, None], mode="mirror"))


def box_blur(pixels: Pixels, radius: float, generator: np.random.Generator) -> Pixels:
    """Average over a square of 2 `radius` + 1 pixels, as a lens out of focus; borders repeat."""
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.BoxBlur(radius)))


def salt_and_pepper(pixels: Pixels, share: float, generator: np.random.Generator) -> Pixels:
    """Turn a `share` of the pixels, from 0 to 1, black or white, either as likely."""
    drawn = generator.random(pixels.shape[:2])[:, :, None]
    return np.where(drawn < share / 2, 0, np.where(drawn < share, 255, pixels)).astype(np.uint8)


class Kind(NamedTuple):
    """A kind of distortion, and the levels it is defined at, besides 0.

    Args:
        apply: distorts pixels uint8 (H, W, 3) at a level.
        lowest, highest: ends of the levels.
    """

    apply: Callable[[Pixels, float, np.random.Generator], Pixels]
    lowest: float = 0.0
    highest: float = math.inf


DISTORTIONS = {
    "gaussian_blur": Kind(gaussian_blur),
    "gaussian_noise": Kind(gaussian_noise),
    "jpeg": Kind(jpeg, 1, 100),
    "motion_blur": Kind(motion_blur, 1),
    "box_blur": Kind(box_blur),
    "salt_and_pepper": Kind(salt_and_pepper, 0, 1),
}


def seed_of(content_hash: str) -> int:
    """Derive the seed of one image's noise from the hexadecimal hash of its content."""
    return int(content_hash[:15], 16)


@dataclass(frozen=True)
class Distortion:
    """One kind at one level; level 0 of any kind returns the image untouched.

    JPEG loses nothing by this, as its qualities begin at 1.

    Raises:
        EennError: unknown kind, or a level at which the kind is not defined.
    """

    kind: str
    level: float

    def __post_init__(self) -> None:
        if self.kind not in DISTORTIONS:
            raise EennError(f"distortion {self.kind!r}: allowed are {', '.join(DISTORTIONS)}")
        require_numbers(level=self.level)
        _, lowest, highest = DISTORTIONS[self.kind]
        if self.level != 0 and not (lowest <= self.level <= highest and 0 < self.level < math.inf):
            raise EennError(
                f"distortion level {self.level}: allowed is 0 (none) or more, of {self.kind} from "
                f"{lowest:g} to {highest:g}"
            )

    def __call__(self, pixels: Pixels, sample_seed: int) -> Pixels:
        """Distort uint8 (H, W, 3); randomness is drawn from `sample_seed`."""
        if self.level == 0:
            return pixels
        generator = np.random.default_rng(sample_seed)
        return DISTORTIONS[self.kind].apply(pixels, self.level, generator)


@dataclass(frozen=True)
class DrawnDistortion:
    """One kind at a level that is drawn for every image, uniformly between two levels.

    Args:
        mildest, strongest: the ends; of JPEG the mildest is the larger number.

    Raises:
        EennError: unknown kind, or a level at which the kind is not defined.
    """

    kind: str
    mildest: float
    strongest: float

    def __post_init__(self) -> None:
        for level in (self.mildest, self.strongest):
            Distortion(self.kind, level)

    def __call__(self, pixels: Pixels, sample_seed: int) -> Pixels:
        """Distort uint8 (H, W, 3); level and noise are drawn from `sample_seed`."""
        # The noise begins with the same numbers, so the level has a generator of its own.
        share = np.random.default_rng([sample_seed, 1]).random()
        level = self.mildest + share * (self.strongest - self.mildest)
        return Distortion(self.kind, level)(pixels, sample_seed)


def _rounded(values: NDArray[np.float32]) -> Pixels:
    # A cast alone would wrap 256 to 0.
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _line_kernel(down: float, across: float, steps: int) -> NDArray[np.float32]:
    """Make the weights, of sum 1, of pixels under a line from (-down, -across) to (down, across).

    Each of `steps` points on the line is shared out between the four pixels around it.
    """
    radius = math.ceil(max(abs(down), abs(across)))
    kernel = np.zeros((2 * radius + 2, 2 * radius + 2), np.float32)
    along = np.linspace(-1, 1, steps)[:, None] * (down, across) + radius
    corner = np.floor(along).astype(int)
    y_share, x_share = (along - corner).T
    y, x = corner.T
    for dy, dx in np.ndindex(2, 2):
        weight = abs(1 - dy - y_share) * abs(1 - dx - x_share)
        np.add.at(kernel, (y + dy, x + dx), weight)
    kernel /= steps
    return kernel[:-1, :-1]
