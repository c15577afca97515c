"""Photographs of a stream: files that the preprocessing turns into exactly a distorted crop."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eenn.data.datasets import Photo
from eenn.data.distortions import Distortion
from eenn.errors import EennError
from eenn.preprocess import Preprocessing


def distorted_file(preprocessing: Preprocessing, photo: Photo, distortion: Distortion) -> bytes:
    """Encode a photograph, as the network would see it distorted, as a PNG file.

    The noise is that of the photograph's records, so the exits are those of the records too.

    Args:
        preprocessing: of sizes that `check_sizes` allows.
    """
    pixels = preprocessing.crop(preprocessing.read(BytesIO(photo.file)))
    return exact_file(preprocessing, distortion(pixels, photo.noise_seed))


def exact_file(preprocessing: Preprocessing, pixels: NDArray[np.uint8]) -> bytes:
    """Encode a crop as a PNG file from which the preprocessing makes the same crop, bit by bit.

    The crop is the centre of an image of `resize_size`, with a border that mirrors the crop: such
    an image is not resized.

    Args:
        preprocessing: of sizes that `check_sizes` allows.
        pixels: uint8 (input_size, input_size, 3).
    """
    border = (preprocessing.resize_size - preprocessing.input_size) // 2
    framed = np.pad(pixels, ((border, border), (border, border), (0, 0)), mode="reflect")
    file = BytesIO()
    Image.fromarray(framed).save(file, "png", compress_level=1)
    return file.getvalue()


def check_sizes(preprocessing: Preprocessing) -> None:
    """Check that a crop can be the centre of an image of `resize_size`.

    Raises:
        EennError: the borders on both sides would have to differ.
    """
    if (preprocessing.resize_size - preprocessing.input_size) % 2:
        raise EennError(
            f"stream at input_size={preprocessing.input_size} and "
            f"resize_size={preprocessing.resize_size}: allowed is an even difference, as other "
            "photographs are cut between pixels; take an artifact of other sizes"
        )
