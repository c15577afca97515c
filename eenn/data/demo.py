"""The demo data: small photograph-like images drawn by the program, the same for the same seed.

A class is a shape and its surface. Some images show the shape in its habitat, a background whose
colour gives the class away to shallow features. The others put it among clutter in random colours,
so only its outline tells the shape. The woven surface differs from the matte one by a texture of
single pixels, which blur destroys.
"""

import colorsys
import hashlib
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Pixels = NDArray[np.uint8]
Outline = NDArray[np.float64]

HABITAT_SHARE = 0.4  # of the images; the rest are hard
OVERSAMPLING = 3  # of outlines: smooth edges, while the texture stays crisp at pixel level
WEAVE = {"matte": (0.0, 8.0), "woven": (26.0, 42.0)}  # texture amplitude range in grey levels
DARK, LIGHT = (0.25, 0.4), (0.65, 0.85)  # ranges of colour value, for shape against background


def _spokes(radii: tuple[float, ...], points: int) -> Outline:
    """Outline (points, 2) around the origin, one point upwards, corners at the `radii` in turn."""
    angles = np.arange(points) * 2 * np.pi / points
    return np.resize(radii, points)[:, None] * np.stack([np.sin(angles), -np.cos(angles)], axis=1)


# Outlines by shape: the first is filled, the second cut out of it.
SHAPES = {
    "ring": (_spokes((1.0,), 32), _spokes((0.55,), 32)),
    "triangle": (_spokes((1.2,), 3),),
    "square": (_spokes((1.1,), 4),),
    "star": (_spokes((1.2, 0.5), 10),),
    "cross": (_spokes((0.45, 1.1, 1.1), 12),),
}
CLASSES = tuple(product(SHAPES, WEAVE))


def _paint(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    """RGB levels of a hue in turns and a saturation and value in 0..1."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


class _Canvas:
    """Colours and texture amplitudes of one image, drawn oversampled."""

    def __init__(self, size: int, background: tuple[int, int, int]) -> None:
        extent = (size * OVERSAMPLING, size * OVERSAMPLING)
        self.layers = Image.new("RGB", extent, background), Image.new("L", extent)

    def fill(self, outline: Outline, paint: tuple[int, int, int], amplitude: float) -> None:
        """Fill an outline in pixels with a paint and a weave of the amplitude in grey levels."""
        corners = (outline * OVERSAMPLING).ravel().tolist()
        for layer, ink in zip(self.layers, (paint, round(amplitude)), strict=True):
            ImageDraw.Draw(layer).polygon(corners, fill=ink)

    def render(self) -> NDArray[np.float32]:
        """Grey levels (size, size, 3), the weave added."""
        colours, amplitudes = (
            np.asarray(layer.reduce(OVERSAMPLING), dtype=np.float32) for layer in self.layers
        )
        checker = np.indices(amplitudes.shape).sum(axis=0) % 2 * 2 - 1
        return colours + (amplitudes * checker)[..., None].astype(np.float32)


def _draw(label: int, size: int, rng: np.random.Generator) -> Pixels:
    """One image (size, size, 3) of a class."""
    shape, surface = CLASSES[label]
    near, far = (DARK, LIGHT) if rng.random() < 0.5 else (LIGHT, DARK)
    if rng.random() < HABITAT_SHARE:
        hue = (label + rng.uniform(-0.25, 0.25)) / len(CLASSES)
        background = _paint(hue, rng.uniform(0.6, 0.9), rng.uniform(*far))
        canvas = _Canvas(size, background)
    else:
        background = _paint(rng.random(), rng.uniform(0, 0.2), rng.uniform(*far))
        canvas = _Canvas(size, background)
        for _ in range(rng.integers(2, 6)):
            scrap = _spokes((1.0,), 3) + rng.normal(0, 0.3, (3, 2))
            scrap = rng.uniform(0, size, 2) + size * rng.uniform(0.05, 0.12) * scrap
            paint = _paint(rng.random(), rng.uniform(0, 0.5), rng.uniform(0.2, 0.9))
            canvas.fill(scrap, paint, rng.uniform(0, 40))

    angle = rng.uniform(-0.35, 0.35)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    placed = [
        size * rng.uniform(0.4, 0.6, 2), size * rng.uniform(0.26, 0.36)
    ]
    paint = _paint(rng.random(), rng.uniform(0, 0.5), rng.uniform(*near))
    body, *holes = (placed[0] + placed[1] * outline @ turn for outline in SHAPES[shape])
    canvas.fill(body, paint, rng.uniform(*WEAVE[surface]))
    for hole in holes:
        canvas.fill(hole, background, 0)

    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    down, across = rng.uniform(-0.15, 0.15, 2)
    light = rng.uniform(0.9, 1.1) * (1 + down * ramp[:, None] + across * ramp)
    image = canvas.render() * light[..., None]
    image += 3 * rng.standard_normal((size, size, 1), dtype=np.float32)
    return np.rint(image).clip(0, 255).astype(np.uint8)


class DemoImages:
    """The demo images, drawn at construction and kept in memory.

    Attributes:
        classes: readable class names, by label.
        sample_ids: "class/number" of each sample, unique.
        labels: int64 (samples,), indices into `classes`.
        content_hashes: SHA-256 of the pixels of each sample, in hexadecimal.
    """

    def __init__(self, images_per_class: int = 250, size: int = 64, seed: int = 0) -> None:
        self.classes = tuple(f"{shape}-{surface}" for shape, surface in CLASSES)
        self.labels = np.repeat(np.arange(len(CLASSES), dtype=np.int64), images_per_class)
        numbers = np.tile(np.arange(images_per_class), len(CLASSES))
        self.sample_ids = tuple(
            f"{self.classes[label]}/{number:04d}"
            for label, number in zip(self.labels, numbers, strict=True)
        )
        # One generator per image: no image depends on how many others are drawn.
        self._pixels = [
            _draw(int(label), size, np.random.default_rng([seed, int(label), int(number)]))
            for label, number in zip(self.labels, numbers, strict=True)
        ]
        self.content_hashes = tuple(hashlib.sha256(pixels).hexdigest() for pixels in self._pixels)

    def read(self, index: int) -> Image.Image:
        """The image of a sample: RGB, size x size."""
        return Image.fromarray(self._pixels[index])
