"""Images that lie in memory as pixels."""

import hashlib
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


class ImagesInMemory:
    """Images as pixels, uint8 (height, width, 3) each; an `ImageSource`.

    Args:
        classes: class names, by label.
        sample_ids: of each sample, unique.
        labels: int64 (samples,), indices into `classes`.
        parts: part of the split of each sample; None where the split is drawn.

    Attributes:
        content_hashes: SHA-256 of the pixels of each sample, in hexadecimal.
    """

    def __init__(
        self,
        classes: Sequence[str],
        sample_ids: Sequence[str],
        labels: NDArray[np.int64],
        pixels: Sequence[Pixels] | Pixels,
        parts: Sequence[str] | None = None,
    ) -> None:
        self.classes, self.sample_ids = tuple(classes), tuple(sample_ids)
        self.labels, self._pixels = labels, pixels
        self.parts = None if parts is None else tuple(parts)
        self.content_hashes = tuple(hashlib.sha256(one.tobytes()).hexdigest() for one in pixels)

    def read(self, index: int, shorter_side: int) -> Image.Image:
        """Return the image of a sample: RGB, in its own size for any `shorter_side`."""
        return Image.fromarray(self._pixels[index])

    def file(self, index: int) -> bytes:
        """Encode the image as a PNG file, without loss."""
        file = io.BytesIO()
        self.read(index, 0).save(file, "png")
        return file.getvalue()
