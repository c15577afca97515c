"""Reading images of every kind, and the crop and normalisation against torchvision's."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import v2

from eenn.errors import EennError
from eenn.preprocess import INTERPOLATIONS, Preprocessing, UnreadableImage, read_image

Pixels = NDArray[np.uint8]

# EXIF orientation -> the upright array, from the stored one; EXIF 2.32, tag 274.
UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: np.rot90(a, 1),
}


def noise(*shape: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def waves(width: int, height: int) -> Image.Image:
    """A smooth image: a period of sixty pixels and a slope below eleven levels per pixel."""
    y, x = np.mgrid[:height, :width] * (2 * np.pi / 60)
    planes = [np.sin(x), np.cos(y), np.sin(x + y) / 2]
    return Image.fromarray((128 + 100 * np.stack(planes, -1)).astype(np.uint8))


def saved(image: Image.Image, file_format: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    file.seek(0)
    return file


def test_greyscale_becomes_three_equal_channels() -> None:
    grey = noise(20, 30)
    image = read_image(saved(Image.fromarray(grey), "PNG"))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), np.stack([grey] * 3, -1))


def test_sixteen_bit_greyscale_is_scaled_and_not_clipped() -> None:
    deep = np.random.default_rng(0).integers(0, 2**16, (20, 30), np.uint16)
    image = np.asarray(read_image(saved(Image.fromarray(deep), "PNG"))).astype(float)
    assert np.abs(image - (deep / 257)[..., None]).max() <= 1


@pytest.mark.parametrize("ink", [(0, 0, 0, 0), (255, 0, 0, 0), (30, 90, 200, 60), (0, 0, 0, 255)])
def test_cmyk_jpeg_has_the_colours_of_its_inks(ink: tuple[int, int, int, int]) -> None:
    cyan, magenta, yellow, black = ink
    expected = [(255 - i) * (255 - black) / 255 for i in (cyan, magenta, yellow)]
    file = saved(Image.new("CMYK", (16, 16), ink), "JPEG", quality=95)
    np.testing.assert_allclose(np.asarray(read_image(file)), np.tile(expected, (16, 16, 1)), atol=3)


def palette_image(indices: Pixels, colours: Pixels) -> Image.Image:
    image = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    image.putpalette(colours.ravel().tolist())
    return image


def test_palette_colours_are_looked_up() -> None:
    indices, colours = noise(20, 30) % 8, noise(8, 3)
    image = read_image(saved(palette_image(indices, colours), "PNG"))
    np.testing.assert_array_equal(np.asarray(image), colours[indices])


@pytest.mark.parametrize("file_format", ["PNG", "GIF"])
def test_the_transparent_palette_entry_is_white(file_format: str) -> None:
    indices, colours = noise(20, 30) % 8, noise(8, 3)
    image = read_image(saved(palette_image(indices, colours), file_format, transparency=5))
    colours[5] = 255
    np.testing.assert_array_equal(np.asarray(image), colours[indices])


def test_palette_entries_can_be_half_transparent() -> None:
    indices, colours = noise(20, 30) % 4, noise(4, 3)
    alpha = np.array([0, 100, 200, 255], np.uint8)
    file = saved(palette_image(indices, colours), "PNG", transparency=alpha.tobytes())
    share = alpha[:, None] / 255
    expected = (colours * share + 255 * (1 - share))[indices]
    np.testing.assert_allclose(np.asarray(read_image(file)), expected, atol=1)


def test_rgba_is_laid_on_white() -> None:
    pixels = noise(20, 30, 4)
    colour, share = pixels[..., :3], pixels[..., 3:] / 255
    image = read_image(saved(Image.fromarray(pixels), "PNG"))
    assert image.mode == "RGB"
    np.testing.assert_allclose(np.asarray(image), colour * share + 255 * (1 - share), atol=1)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_the_camera_orientation_is_undone(orientation: int, file_format: str) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    file = saved(Image.fromarray(noise(20, 30, 3)), file_format, exif=exif)
    stored = np.asarray(Image.open(file))
    assert stored.shape == (20, 30, 3)
    np.testing.assert_array_equal(np.asarray(read_image(file)), UPRIGHT[orientation](stored))


def test_a_rotated_image_may_be_decoded_smaller() -> None:
    exif = Image.Exif()
    exif[274] = 6
    assert read_image(saved(waves(320, 240), "JPEG", exif=exif), 60).size == (60, 80)


def test_a_truncated_jpeg_is_named(tmp_path: Path) -> None:
    data = saved(Image.fromarray(noise(64, 64, 3)), "JPEG").getvalue()
    file = tmp_path / "half.jpg"
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableImage, match=r"half\.jpg is not a readable image"):
        read_image(file)


@pytest.mark.parametrize("content", [b"", b"<html>404 Not Found</html>", b"\xff\xd8\xff"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "text.jpg"
    file.write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"text\.jpg"):
        read_image(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match=r"none\.jpg"):
        read_image(tmp_path / "none.jpg")


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")  # Pillow's
def test_damage_is_read_or_refused_but_never_another_error(
    file_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A damaged size would otherwise take gigabytes to decode.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    data = saved(Image.fromarray(noise(16, 16, 3)), file_format).getvalue()
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(data[: generator.integers(1, len(data) + 1)])
        for position in generator.integers(0, min(len(damaged), 100), 3):
            damaged[position] = generator.integers(256)
        try:
            read_image(io.BytesIO(damaged), 16)
        except UnreadableImage:
            refused += 1
    assert refused > 0


def torchvision_crop(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.int64]:
    interpolation = v2.InterpolationMode(preprocessing.interpolation)
    resize = v2.Resize(preprocessing.resize_size, interpolation, antialias=True)
    crop = v2.Compose([resize, v2.CenterCrop(preprocessing.input_size)])
    return np.asarray(crop(image)).astype(int)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("side", [40, 60, 100, 33, 20])
def test_the_crop_of_a_square_is_torchvisions(side: int, interpolation: str) -> None:
    # Both grids coincide, as the margin of four pixels is whole; what is left is rounding.
    preprocessing = Preprocessing(32, 40, interpolation=interpolation)
    image = Image.fromarray(noise(side, side, 3))
    difference = preprocessing.crop(image) - torchvision_crop(image, preprocessing)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("size", [(150, 100), (100, 173), (61, 200), (97, 89)])
def test_the_crop_of_a_rectangle_is_torchvisions_up_to_half_a_pixel(size: tuple[int, int]) -> None:
    # torchvision rounds the longer side and the margin to whole pixels, which moves its crop by up
    # to half a pixel at each; a pixel here is up to 2.5 of the original, of slope below 11.
    preprocessing, image = Preprocessing(32, 40), waves(*size)
    difference = preprocessing.crop(image) - torchvision_crop(image, preprocessing)
    assert np.abs(difference).max() <= 11 * min(size) / 40
    assert np.abs(difference).mean() <= 5


@settings(max_examples=60)
@given(
    st.tuples(st.integers(1, 90), st.integers(1, 900)),
    st.booleans(),
    st.integers(32, 50),
    st.integers(0, 30),
)
def test_every_shape_is_cropped_to_the_exact_size(
    size: tuple[int, int], turned: bool, input_size: int, margin: int
) -> None:
    image = Image.new("RGB", size[::-1] if turned else size, (9, 99, 199))
    pixels = Preprocessing(input_size, input_size + margin).crop(image)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (input_size, input_size, 3)
    assert (pixels == (9, 99, 199)).all()


def test_the_crop_is_central() -> None:
    centre = np.zeros((64, 128, 3), np.uint8)
    centre[:, 32:96] = 255
    # The filter reaches a pixel over the edge of the box, as it would in the whole image.
    assert (Preprocessing(32, 32).crop(Image.fromarray(centre)) == 255)[:, 1:-1].all()
    spot = np.zeros((64, 64, 3), np.uint8)
    spot[31:33, 31:33] = 255
    found = Preprocessing(32, 64).crop(Image.fromarray(spot))
    np.testing.assert_array_equal(found, spot[16:48, 16:48])


def test_normalising_is_torchvisions() -> None:
    preprocessing, pixels = Preprocessing(32, 36, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)), noise(9, 7, 3)
    steps = [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5, 0.4, 0.3], [0.2, 0.25, 0.3])]
    expected = v2.Compose(steps)(torch.from_numpy(pixels).permute(2, 0, 1)).numpy()
    found = preprocessing.normalise(pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_default_statistics_are_those_of_torchvisions_weights() -> None:
    preset = v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    pixels = noise(9, 7, 3)
    planes = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    np.testing.assert_allclose(
        Preprocessing(32, 32).normalise(pixels), preset(planes).numpy(), atol=1e-6
    )


def test_the_whole_is_crop_then_normalise() -> None:
    preprocessing, image = Preprocessing(32, 40), waves(90, 70)
    whole = preprocessing(image)
    assert whole.shape == (3, 32, 32)
    np.testing.assert_array_equal(whole, preprocessing.normalise(preprocessing.crop(image)))


@pytest.mark.parametrize("shorter_side", [1, 37, 38, 74, 75, 76, 150, 151, 299, 300, 301, 1000])
@pytest.mark.parametrize("size", [(400, 300), (300, 417)])
def test_reduced_decoding_never_gives_less_than_asked(
    size: tuple[int, int], shorter_side: int
) -> None:
    image = read_image(saved(waves(*size), "JPEG"), shorter_side)
    assert min(image.size) >= min(shorter_side, 300)
    assert image.width / image.height == pytest.approx(size[0] / size[1], rel=0.02)


def test_reduced_decoding_saves_work_and_changes_little() -> None:
    file, preprocessing = saved(waves(400, 320), "JPEG", quality=95), Preprocessing(32, 40)
    assert preprocessing.read(file).size == (50, 40)
    reduced = preprocessing.crop(preprocessing.read(file)).astype(int)
    assert np.abs(reduced - preprocessing.crop(read_image(file))).max() <= 8


@pytest.mark.parametrize("sizes", [(0, 0), (-1, 40), (31, 31), (64, 63)])
def test_sizes_that_leave_no_crop_are_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(EennError, match="32 <= input_size <= resize_size"):
        Preprocessing(*sizes)


def test_an_unknown_interpolation_names_the_known_ones() -> None:
    with pytest.raises(EennError, match="interpolation=nearest: allowed are bilinear, bicubic"):
        Preprocessing(32, 40, interpolation="nearest")
