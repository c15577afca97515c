"""From an image file to the network's input: reading, resizing, cropping, normalising.

The one preprocessing of the project: training's evaluation transform, evaluation and the edge
runtime all call it, and the artifact's manifest describes it.
"""

from dataclasses import dataclass
from os import PathLike
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from eenn.errors import EennError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"})


class UnreadableImage(EennError):
    """The file is no image that Pillow can decode to its last pixel."""


def read_image(
    file: str | PathLike[str] | BinaryIO, shorter_side: int | None = None
) -> Image.Image:
    """Decode an image file to RGB, turned upright by its EXIF orientation.

    Transparent images are laid on white; 16-bit greyscale is scaled to 8 bits.

    Args:
        shorter_side: pixels that suffice; a larger JPEG is then decoded at 1/2, 1/4 or 1/8 of its
            size, never below this.

    Raises:
        UnreadableImage: not an image, truncated or corrupt.
    """
    try:
        with Image.open(file) as image:
            if shorter_side is not None:
                image.draft(None, (shorter_side, shorter_side))
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        name = getattr(file, "name", file)
        raise UnreadableImage(f"{name} is not a readable image ({error})") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow clips 16-bit greyscale at 255 where it should scale.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


@dataclass(frozen=True)
class Preprocessing:
    """Resize the shorter side to `resize_size`, cut the central square of `input_size`, normalise.

    Sizes are in pixels; `mean` and `std` are per RGB channel of images in [0, 1].

    Raises:
        EennError: a size that is not positive, or a crop larger than the resized image.
    """

    input_size: int
    resize_size: int
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if not 32 <= self.input_size <= self.resize_size:
            raise EennError(
                f"input_size={self.input_size}, resize_size={self.resize_size}: "
                "allowed is 32 <= input_size <= resize_size"
            )

    def read(self, file: str | PathLike[str] | BinaryIO) -> Image.Image:
        """Decode `file` to RGB, at a reduced scale where that loses nothing."""
        return read_image(file, self.resize_size)

    def crop(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resized and centrally cropped pixels, uint8 (input_size, input_size, 3)."""
        # Resizing only the box that is kept costs less than resizing all and cutting after.
        side = min(image.size) * self.input_size / self.resize_size
        left, top = (image.width - side) / 2, (image.height - side) / 2
        size = (self.input_size, self.input_size)
        box = (left, top, left + side, top + side)
        return np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box))

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Zero-mean, unit-variance channels: uint8 (H, W, 3) -> float32 (3, H, W)."""
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
        planes /= 255
        planes -= np.array(self.mean, np.float32)[:, None, None]
        planes /= np.array(self.std, np.float32)[:, None, None]
        return planes

    def __call__(self, image: Image.Image) -> NDArray[np.float32]:
        """The network's input for one RGB image, float32 (3, input_size, input_size)."""
        return self.normalise(self.crop(image))
