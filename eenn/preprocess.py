"""From an image file to the network's input: reading, resizing, cropping, normalising.

This is the only preprocessing of the project: the evaluation transform of training, evaluation,
edge and cloud call it, and the artifact's manifest describes it. No other module opens untrusted
images.
"""

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from os import PathLike
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from eenn.errors import EennError
from eenn.image_file import MAX_SIDE, orientation_of, without_metadata

# Pillow reads dozens of further formats, and starts Ghostscript for PostScript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
FORMATS_IN_WORDS = "JPEG, PNG, WebP, GIF, BMP, TIFF, PGM or PPM"

MAX_FILE_BYTES = 2**28
MAX_PIXELS = 50_000_000  # decoded: 200 MB, and as much again if the image is not plain RGB
MAX_WEBP_PIXELS = MAX_PIXELS // 2  # WebP's decoder holds four pictures at a time
# A JPEG is decoded at a reduced scale, row by row, so its cost depends on the result's size;
# cameras reach 200 million pixels.
MAX_JPEG_PIXELS = 2**28
MAX_SLOW_PIXELS = 2**20  # of files that Pillow decodes in Python
STRIP_PIXELS = 2**22  # pixels that are converted at a time
MAX_READS = 2**18  # of one file; only a file made of tiny blocks needs more

_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # TIFF's tags and their values
_SAMPLE_FORMAT, _UNSIGNED = 339, 1
_SILENT = ("ignore", None, Warning, re.compile(r"PIL\."), 0)

logging.getLogger("PIL").addHandler(logging.NullHandler())  # our errors say enough
# Pillow itself refuses twice this number, before this module knows the size.
Image.MAX_IMAGE_PIXELS = MAX_JPEG_PIXELS // 2


class UnreadableImage(EennError):
    """A file that is too large or is not an image that can be decoded to its last pixel."""


def read_image(
    file: str | PathLike[str] | BinaryIO, shorter_side: int | None = None
) -> Image.Image:
    """Decode an image file to RGB, turned upright by its orientation.

    Transparent images are laid on white, and 16-bit greyscale is scaled to 8 bits. Of an animation
    the first picture is decoded. No metadata but the orientation is read.

    Args:
        shorter_side: pixels that suffice; a larger JPEG is then decoded at 1/2, 1/4 or 1/8 of its
            size, never below this. The pixels differ slightly from those of the whole image,
            resized.

    Raises:
        UnreadableImage: the file is not an image of `FORMATS`, is truncated or corrupt, or is
            larger than the bounds of this module.
    """
    with _opened(file, shorter_side) as opened:
        return _upright(_decoded(opened.image, opened.greys), opened.orientation)


def decoded_pixels(file: str | PathLike[str] | BinaryIO, shorter_side: int | None = None) -> int:
    """Count the pixels that `read_image` would decode, from the file's header alone.

    Raises:
        UnreadableImage: see `read_image`, as far as the header shows it.
    """
    with _opened(file, shorter_side) as opened:
        return opened.pixels


class _Opened(NamedTuple):
    """An open image within the bounds that is not decoded yet."""

    image: ImageFile
    orientation: int
    pixels: int
    greys: "_Greys | None"


@contextmanager
def _opened(file: str | PathLike[str] | BinaryIO, shorter_side: int | None) -> Iterator[_Opened]:
    """Open an image; every error until the image is closed becomes an UnreadableImage."""
    if warnings.filters[:1] != [_SILENT]:
        # Pillow warns about odd files; a permanent filter is safe with threads.
        warnings.filterwarnings("ignore", module=_SILENT[3].pattern)
    try:
        picture = without_metadata(_content(file))
        reader = _Reader(picture.data)
        with Image.open(reader, formats=FORMATS) as image:
            stored = image.size
            if shorter_side is not None:
                image.draft(None, (shorter_side, shorter_side))
            decoded = stored if picture.is_held_whole else image.size
            pixels = max(decoded[0] * decoded[1], picture.tile_pixels)
            limit, orientation = MAX_PIXELS, picture.orientation
            if image.format == "WEBP":
                exif, xmp = (image.info.get(name, b"") for name in ("exif", "xmp"))
                limit, orientation = MAX_WEBP_PIXELS, orientation_of(exif, xmp)
            elif image.tile[0][0] in Image.DECODERS:
                limit, reader.left = MAX_SLOW_PIXELS, 4 * MAX_SLOW_PIXELS
            _check(stored, pixels, limit)
            yield _Opened(image, orientation, pixels, _greys(image))
    except Exception as error:
        raise UnreadableImage(
            f"{_name(file)} is not a readable image ({_reason(error)})"
        ) from error


def _check(stored: tuple[int, int], pixels: int, limit: int) -> None:
    """Check the bounds on sides and pixels, before anything is decoded.

    Raises:
        ValueError: the image is larger than allowed.
    """
    width, height = stored
    if max(stored) > MAX_SIDE or width * height > MAX_JPEG_PIXELS:
        raise ValueError(
            f"{width}x{height} pixels; at most {MAX_SIDE} a side and {MAX_JPEG_PIXELS} are read"
        )
    if pixels > limit:
        raise ValueError(f"{pixels} pixels to decode; at most {limit} are; make it smaller")


def _content(file: str | PathLike[str] | BinaryIO) -> bytes:
    if isinstance(file, str | PathLike):
        with open(file, "rb") as stream:
            # A pipe has no size; that of a file spares making room for the largest one.
            size = os.fstat(stream.fileno()).st_size or MAX_FILE_BYTES
            content = stream.read(min(size, MAX_FILE_BYTES) + 1)
    else:
        file.seek(0)
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"more than {MAX_FILE_BYTES} bytes")
    return content


class _Reader(BytesIO):
    """A file that stops a decoder after `left` reads."""

    left = MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise ValueError("a file of too many parts")
        return super().read(size)


def _name(file: str | PathLike[str] | BinaryIO) -> str:
    if isinstance(file, str | PathLike):
        return os.fspath(file)
    return str(getattr(file, "name", "the file"))


def _reason(error: Exception) -> str:
    """Word a decoder's error for the user."""
    if isinstance(error, UnidentifiedImageError):
        return f"allowed are {FORMATS_IN_WORDS}"
    return str(error)[:200] or type(error).__name__


_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    method = _UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


class _Greys(NamedTuple):
    """The range of the samples of a greyscale image deeper than 8 bits."""

    bits: int
    white_is_zero: bool


def _greys(image: ImageFile) -> _Greys | None:
    """Read the depth of a greyscale image from its header; return None for 8 bits a channel.

    Raises:
        ValueError: the samples are signed or have no known range.
    """
    tags = getattr(image, "tag_v2", {})
    is_ranged = image.mode not in ("I", "F") or (image.mode, image.format) == ("I", "PPM")
    if not is_ranged or set(tags.get(_SAMPLE_FORMAT, ())) - {_UNSIGNED}:
        raise ValueError(
            "signed, 32-bit or floating-point samples, of which nobody knows which are black and "
            "white; save the image with 8 or 16 bits"
        )
    if not image.mode.startswith("I"):
        return None
    return _Greys(12 if _packing(image) == "I;12" else 16, tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)


def _packing(image: ImageFile) -> str:
    """Find Pillow's name for the layout of a file's samples, before the file is loaded."""
    arguments = image.tile[0][3] if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _decoded(image: ImageFile, greys: _Greys | None) -> Image.Image:
    """Decode an image to RGB, a large one strip by strip to save memory."""
    transparent = image.info.get("transparency")
    # Pillow scales samples of 2, 4 and 16 bits to 8 bits, but not the transparent colour.
    if (scale := {"L;2": 85, "L;4": 17}.get(_packing(image))) and transparent is not None:
        image.info["transparency"] = transparent * scale
    elif _packing(image) == "RGB;16B" and transparent is not None:
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    image.load()
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    rows = max(STRIP_PIXELS // image.width, 1)
    if rows >= image.height:
        return _to_rgb(image, greys)
    whole = Image.new("RGB", image.size)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        whole.paste(_to_rgb(strip, greys), (0, top))
    return whole


def _to_rgb(image: Image.Image, greys: _Greys | None) -> Image.Image:
    if greys:
        # Pillow clips deep greys at 255 where it should scale.
        samples = np.asarray(image)
        eight_bits = (samples >> (greys.bits - 8)).astype(np.uint8)
        if greys.white_is_zero:
            eight_bits = 255 - eight_bits
        if "transparency" in image.info:
            eight_bits[samples == image.info["transparency"]] = 255
        return Image.fromarray(eight_bits).convert("RGB")
    if image.has_transparency_data:
        # Pillow converts grey with premultiplied transparency only by way of LA.
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


@dataclass(frozen=True)
class Preprocessing:
    """Resize the shorter side to `resize_size`, cut the central square of `input_size`, normalise.

    Sizes are in pixels; `mean` and `std` are per RGB channel of images in [0, 1].

    Args:
        interpolation: a name in INTERPOLATIONS, of the resizing.

    Raises:
        EennError: the sizes do not satisfy 32 <= `input_size` <= `resize_size`, or an unknown
            interpolation.
    """

    input_size: int
    resize_size: int
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if not 32 <= self.input_size <= self.resize_size:
            raise EennError(
                f"input_size={self.input_size}, resize_size={self.resize_size}: "
                "allowed is 32 <= input_size <= resize_size"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise EennError(
                f"interpolation={self.interpolation}: allowed are {', '.join(INTERPOLATIONS)}"
            )

    def read(self, file: str | PathLike[str] | BinaryIO) -> Image.Image:
        """Decode `file` to RGB, a JPEG at a reduced scale that leaves `resize_size` pixels.

        The reduced scale takes less time and memory, but changes pixels: those of crops differ from
        crops of the whole image by 3 of 255 grey levels on average, those at sharp edges by up to
        150 (300 photographs of Caltech-101 at 32, 64 and 128 pixels).
        """
        return read_image(file, self.resize_size)

    def crop(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize an image and cut its centre: uint8 (input_size, input_size, 3)."""
        # Resizing only the box that is kept costs less than resizing all and cutting after.
        side = min(image.size) * self.input_size / self.resize_size
        left, top = (image.width - side) / 2, (image.height - side) / 2
        size = (self.input_size, self.input_size)
        box = (left, top, left + side, top + side)
        return np.asarray(image.resize(size, INTERPOLATIONS[self.interpolation], box=box))

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Normalise the channels by `mean` and `std`: uint8 (H, W, 3) -> float32 (3, H, W)."""
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
        planes /= 255
        planes -= np.array(self.mean, np.float32)[:, None, None]
        planes /= np.array(self.std, np.float32)[:, None, None]
        return planes

    def __call__(self, image: Image.Image) -> NDArray[np.float32]:
        """Make the network's input from an RGB image: float32 (3, input_size, input_size)."""
        return self.normalise(self.crop(image))
