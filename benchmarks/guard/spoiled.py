"""Distortions of the camera that evaluations do not have: other light, and a dirty lens.

They are no rows of the registry, whose rows all programs offer to their users.
"""

import numpy as np

from eenn.data.distortions import DISTORTIONS, Kind, Pixels

PLACE = (0.4, 0.6)  # of the blot's middle, from above and from the left
SOFT = 0.4  # of the blot's radius, over which it fades
GREY = 90.0


def light(pixels: Pixels, factor: float, _generator: np.random.Generator) -> Pixels:
    """Multiply uint8 (H, W, 3) with a factor, and clip what is brighter than white."""
    return np.asarray(np.rint(pixels * np.float32(factor)).clip(0, 255), np.uint8)


def dirty_lens(pixels: Pixels, radius: float, _generator: np.random.Generator) -> Pixels:
    """Hide a disc behind grey, softly at its border, at the same place of every image.

    Args:
        radius: of the disc, as a share of the image's height.
    """
    height, width = pixels.shape[:2]
    down, right = np.ogrid[:height, :width]
    far = np.hypot(down - PLACE[0] * height, right - PLACE[1] * width) / (radius * height)
    cover = ((1 - far) / SOFT).clip(0, 1)[:, :, None]
    return np.asarray(np.rint(pixels * (1 - cover) + GREY * cover), np.uint8)


def register() -> None:
    """Let records be made of these distortions by this process."""
    DISTORTIONS["light"] = Kind(light)
    DISTORTIONS["dirty_lens"] = Kind(dirty_lens, 0, 1)
