"""The demo data: small photograph-like images drawn by the program, the same for the same seed.

A class is a shape and its surface. Some images show the shape in its habitat, a background whose
colour gives the class away to shallow features. The others put it among scraps in random colours,
so only its outline tells the shape, at any angle. The woven surface differs from the matte one by
a texture of single pixels, which blur destroys.
"""

import colorsys
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from eenn.data.in_memory import ImagesInMemory, Pixels
from eenn.errors import EennError

Values = NDArray[np.float32]
Outline = NDArray[np.float64]
Paint = tuple[int, int, int]

HABITAT_SHARE = 0.25  # of the images; the rest are hard
OVERSAMPLING = 3  # of outlines: smooth edges, while the texture stays crisp at pixel level
WEAVE = {"matte": (0.0, 8.0), "woven": (26.0, 42.0)}  # texture amplitude range in grey levels
DARK, LIGHT = (0.25, 0.4), (0.65, 0.85)  # colour values of a shape and its background, either way


def _spokes(radii: tuple[float, ...], points: int) -> Outline:
    """Make an outline (points, 2) around the origin whose corners take the `radii` in turn."""
    angles = np.arange(points) * 2 * np.pi / points
    directions = np.stack([np.sin(angles), -np.cos(angles)], axis=1)
    outline: Outline = np.resize(radii, points)[:, None] * directions
    return outline


# Outlines by shape, of radius about 1: the first is filled, the second cut out of it.
SHAPES = {
    "ring": (_spokes((1.0,), 32), _spokes((0.55,), 32)),
    "triangle": (_spokes((1.2,), 3),),
    "square": (_spokes((1.1,), 4),),
    "star": (_spokes((1.2, 0.5), 10),),
    "cross": (_spokes((0.45, 1.1, 1.1), 12),),
}
CLASSES = tuple(product(SHAPES, WEAVE))


def _paint(hue: float, saturation: float, value: float) -> Paint:
    """Convert a hue in turns and a saturation and value in 0..1 to RGB levels."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


class _Canvas:
    """Colours and texture amplitudes of one image, drawn oversampled."""

    def __init__(self, size: int, background: Paint) -> None:
        extent = (size * OVERSAMPLING, size * OVERSAMPLING)
        self.colours = Image.new("RGB", extent, background)
        self.amplitudes = Image.new("L", extent)

    def fill(self, outline: Outline, paint: Paint, amplitude: float) -> None:
        """Fill an outline in pixels with a paint and a weave of an amplitude in grey levels."""
        corners = (outline * OVERSAMPLING).ravel().tolist()
        ImageDraw.Draw(self.colours).polygon(corners, fill=paint)
        ImageDraw.Draw(self.amplitudes).polygon(corners, fill=round(amplitude))

    def render(self) -> Values:
        """Compute grey levels (size, size, 3), the weave added."""
        colours, amplitudes = (
            np.asarray(layer.reduce(OVERSAMPLING), dtype=np.float32)
            for layer in (self.colours, self.amplitudes)
        )
        amplitudes[::2, ::2] *= -1  # a checkerboard of single pixels
        amplitudes[1::2, 1::2] *= -1
        return colours + amplitudes[..., None]


def _draw(label: int, size: int, rng: np.random.Generator) -> Pixels:
    """Draw one image (size, size, 3) of a class."""
    shape, surface = CLASSES[label]
    near, far = (DARK, LIGHT) if rng.random() < 0.5 else (LIGHT, DARK)
    if rng.random() < HABITAT_SHARE:
        hue, scraps = (label + rng.uniform(-0.25, 0.25)) / len(CLASSES), 0
        background = _paint(hue, rng.uniform(0.6, 0.9), rng.uniform(*far))
    else:
        scraps = int(rng.integers(2, 6))
        background = _paint(rng.random(), rng.uniform(0, 0.2), rng.uniform(*far))
    canvas = _Canvas(size, background)

    for _ in range(scraps):
        corners = SHAPES["triangle"][0] + rng.normal(0, 0.3, (3, 2))
        paint = _paint(rng.random(), rng.uniform(0, 0.5), rng.uniform(0.2, 0.9))
        place = rng.uniform(0, size, 2) + size * rng.uniform(0.05, 0.12) * corners
        canvas.fill(place, paint, rng.uniform(0, 40))

    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre, radius = size * rng.uniform(0.4, 0.6, 2), size * rng.uniform(0.26, 0.36)
    body, *holes = (centre + radius * outline @ turn for outline in SHAPES[shape])
    paint = _paint(rng.random(), rng.uniform(0, 0.5), rng.uniform(*near))
    canvas.fill(body, paint, rng.uniform(*WEAVE[surface]))
    for hole in holes:
        canvas.fill(hole, background, 0)

    ramp = np.linspace(-1, 1, size, dtype=np.float32)[:, None]
    down, across = rng.uniform(-0.15, 0.15, 2)
    light = rng.uniform(0.9, 1.1) * (1 + down * ramp + across * ramp.T)
    noise = 3 * rng.standard_normal((size, size), dtype=np.float32)
    image = canvas.render() * light[..., None] + noise[..., None]
    pixels: Pixels = np.rint(image).clip(0, 255).astype(np.uint8)
    return pixels


class DemoImages(ImagesInMemory):
    """The demo images, drawn at construction; sample ids are "class/number".

    Raises:
        EennError: a negative seed.
    """

    def __init__(self, images_per_class: int = 250, size: int = 64, seed: int = 0) -> None:
        if seed < 0:
            raise EennError(f"seed={seed}: allowed is 0 or more")
        classes = [f"{shape}-{surface}" for shape, surface in CLASSES]
        drawn = list(product(range(len(CLASSES)), range(images_per_class)))
        super().__init__(
            classes,
            [f"{classes[label]}/{number:04d}" for label, number in drawn],
            np.array([label for label, _ in drawn], dtype=np.int64),
            # One generator per image: no image depends on how many others are drawn.
            [
                _draw(label, size, np.random.default_rng([seed, label, number]))
                for label, number in drawn
            ],
        )
