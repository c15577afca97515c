"""Random changes of training images: crop, flip, rotation, colour, optionally blur."""

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eenn.data.distortions import gaussian_blur
from eenn.errors import EennError

# torch is imported where it is used, because it takes seconds and a wrong setting should not wait.
if TYPE_CHECKING:
    from torchvision.transforms import v2

# Corners that a rotation leaves open take ImageNet's mean colour, which normalises to zero.
MEAN_COLOUR = (124, 116, 104)


@dataclass(frozen=True)
class Augmentation:
    """Random crop, flip, rotation, jitter or greyscale (Pacheco et al., 2021a), optionally blur.

    Args:
        crop_area: smallest share of the image's area that a random crop keeps.
        flip: flip left to right with probability one half.
        rotation: largest rotation to either side, degrees.
        colour: largest relative change of brightness, contrast and saturation.
        greyscale: probability that the image turns grey instead of changing its colours.
        blur_sigma: largest sigma (pixels at input size) of a Gaussian blur whose level is drawn
            evenly from [0, blur_sigma] per image; 0 leaves it out.
    """

    crop_area: float = 1.0
    flip: bool = True
    rotation: float = 0.0
    colour: float = 0.0
    greyscale: float = 0.0
    blur_sigma: float = 0.0

    def __post_init__(self) -> None:
        allowed = {
            "crop_area": 0 < self.crop_area <= 1,
            "rotation": 0 <= self.rotation <= 180,
            "colour": 0 <= self.colour < 1,
            "greyscale": 0 <= self.greyscale <= 1,
            "blur_sigma": 0 <= self.blur_sigma < math.inf,
        }
        for name, valid in allowed.items():
            if not valid:
                raise EennError(
                    f"augmentation.{name}={getattr(self, name)}: allowed are crop_area in (0, 1], "
                    "rotation in [0, 180], colour in [0, 1), greyscale in [0, 1], blur_sigma >= 0"
                )

    def __call__(self, image: Image.Image, input_size: int, seed: int) -> NDArray[np.uint8]:
        """Augment an RGB image; gives uint8 (input_size, input_size, 3), the same for a seed."""
        import torch

        # torchvision draws from torch's global generator; a fork leaves the training's own alone.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            pixels = np.asarray(_transforms(self, input_size)(image))
        if self.blur_sigma:
            generator = np.random.default_rng(seed)
            pixels = gaussian_blur(pixels, generator.uniform(0, self.blur_sigma), generator)
        return pixels


@cache
def _transforms(augmentation: Augmentation, input_size: int) -> "v2.Transform":
    from torchvision.transforms import v2

    steps: list[v2.Transform] = [
        v2.RandomResizedCrop(input_size, (augmentation.crop_area, 1), (3 / 4, 4 / 3))
    ]
    if augmentation.flip:
        steps.append(v2.RandomHorizontalFlip())
    if augmentation.rotation:
        bilinear = v2.InterpolationMode.BILINEAR
        steps.append(v2.RandomRotation(augmentation.rotation, bilinear, fill=MEAN_COLOUR))
    if augmentation.colour or augmentation.greyscale:
        jitter = v2.ColorJitter(*3 * (augmentation.colour,))
        grey_or_jitter = [augmentation.greyscale, 1 - augmentation.greyscale]
        steps.append(v2.RandomChoice([v2.RandomGrayscale(p=1), jitter], p=grey_or_jitter))
    return v2.Compose(steps)
