"""Decoding of the image files of requests, one by one and within a budget of pixels."""

import asyncio
from collections.abc import Mapping
from functools import partial
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from eenn.offload.cloud.batching import QueuedTooLong, run_slowed
from eenn.offload.cloud.settings import (
    DECODING_THREADS,
    MAX_LIGHT_PIXELS,
    MAX_REQUEST_PIXELS,
)
from eenn.offload.cloud.sharing import Amount, PriorityThreads
from eenn.offload.protocol.errors import BadRequest
from eenn.offload.protocol.wire import CROPPED, Parameter, Tensor
from eenn.preprocess import Preprocessing, UnreadableImage, decoded_pixels, read_image

Floats = NDArray[np.float32]


class NamedFile(BytesIO):
    """A file's bytes with a name for error messages."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


class ImageDecoder:
    """Decodes the images of requests, which share threads and places.

    Large images have their own thread, so that small images never wait for them.

    Args:
        places: largest number of images of all requests that wait or are held decoded.
        timeout_s: time limit for decoding a request's images.
        slowdown: factor by which decoding is slowed down, as an emulation.
    """

    def __init__(self, places: int, timeout_s: float, slowdown: float) -> None:
        self._timeout_s, self._slowdown = timeout_s, slowdown
        self._places = Amount(
            places, f"{places} images are being decoded, the most that is allowed"
        )
        self._light, self._heavy = (
            PriorityThreads(DECODING_THREADS, "decoder"),
            PriorityThreads(1, "large images"),
        )
        self._headers = PriorityThreads(1, "headers")

    async def decode(
        self,
        tensor: Tensor,
        preprocessing: Preprocessing,
        parameters: Mapping[str, Parameter],
        is_background: bool,
    ) -> tuple[Floats, float]:
        """Decode files to the network's input, float32 (N, 3, H, W), and time it in ms.

        A cancelled request ends after the image that is being decoded.

        Raises:
            BadRequest: an image cannot be read, or all images together have too many pixels.
            NoRoom: too many images wait.
            QueuedTooLong: the time limit was reached before all images were decoded.
        """
        side = None if parameters.get(CROPPED) is True else preprocessing.resize_size
        count = len(tensor)
        files = [
            NamedFile(file, f"image {number} of {count}")
            for number, file in enumerate(tensor.tolist(), 1)
        ]
        late = QueuedTooLong("no time was left to decode it")
        async with self._places.share(is_background) as places:
            places.until(asyncio.get_running_loop().time() + self._timeout_s, late)
            work_on_headers = partial(_pixels, files, side)
            pixels = await self._headers.run(count, work_on_headers, is_background)
            left = sum(pixels)
            places.take(count, left)
            images, decode_ms = [], 0.0
            for file, own in zip(files, pixels, strict=True):
                turns = self._light if own <= MAX_LIGHT_PIXELS else self._heavy
                work = partial(_decoded, file, preprocessing, is_cropped=side is None)
                slowed = partial(run_slowed, self._slowdown, work)
                image, ms = await turns.run(left, slowed, is_background)
                images.append(image)
                decode_ms += ms
                left -= own
        return np.stack(images), decode_ms

    def close(self) -> None:
        """Wait for the images that are being decoded."""
        for turns in (self._headers, self._light, self._heavy):
            turns.close()


def _pixels(files: list[NamedFile], shorter_side: int | None) -> list[int]:
    """Count the pixels to decode of every file, and check the budget of a request.

    Raises:
        BadRequest: a file is not an image, or the files have more pixels than MAX_REQUEST_PIXELS.
    """
    pixels: list[int] = []
    for file in files:
        try:
            pixels.append(decoded_pixels(file, shorter_side))
        except UnreadableImage as error:
            raise BadRequest(str(error)) from error
        if sum(pixels) > MAX_REQUEST_PIXELS:
            raise BadRequest(
                f"{file.name}: {sum(pixels)} pixels to decode up to here; at most "
                f"{MAX_REQUEST_PIXELS} are decoded for one request; send fewer or smaller images"
            )
    return pixels


def _decoded(file: NamedFile, preprocessing: Preprocessing, is_cropped: bool) -> Floats:
    try:
        if not is_cropped:
            return preprocessing(preprocessing.read(file))
        image = read_image(file)
    except UnreadableImage as error:
        raise BadRequest(str(error)) from error
    side = preprocessing.input_size
    if image.size != (side, side):
        raise BadRequest(
            f"{file.name} has {image.width}x{image.height} pixels; allowed for a crop are "
            f"{side}x{side}"
        )
    return preprocessing.normalise(np.asarray(image))
