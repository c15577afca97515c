"""Distortions against other libraries, plain loops and statistics, and their contract."""

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from torchvision.transforms.v2.functional import gaussian_blur as reference_blur

from eenn.data.distortions import DISTORTIONS, Distortion, Pixels, gaussian_blur
from eenn.errors import EennError
from tests.data.distortion_contract import check_distortion


@pytest.fixture
def noise() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (60, 45, 3), np.uint8)


def torchvision_blur(pixels: Pixels, sigma: float) -> Pixels:
    size = 2 * math.ceil(4 * sigma) + 1
    planes = torch.from_numpy(pixels).permute(2, 0, 1)
    return reference_blur(planes, [size, size], [sigma, sigma]).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("sigma", [0.4, 1, 1.8, 3, 5])
def test_blur_is_torchvisions_within_a_grey_level(noise: Pixels, sigma: float) -> None:
    blurred = Distortion("gaussian_blur", sigma)(noise, 0)
    assert blurred.dtype == np.uint8
    difference = blurred.astype(int) - torchvision_blur(noise, sigma)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("sigma", [0.5, 2, 4, 30])
@pytest.mark.parametrize("grey", [0, 1, 128, 255])
def test_blur_has_no_dark_or_bright_border(sigma: float, grey: int) -> None:
    constant = np.full((20, 30, 3), grey, np.uint8)
    assert (Distortion("gaussian_blur", sigma)(constant, 0) == grey).all()


def test_blur_has_the_variance_that_its_sigma_says() -> None:
    dot = np.zeros((41, 41, 3), np.uint8)
    dot[18:23, 18:23] = 255
    blurred = gaussian_blur(dot, 2.0, np.random.default_rng())[:, :, 0].astype(float)
    offsets = np.arange(41) - 20.0
    weights = blurred.sum(axis=0) / blurred.sum()
    # A box of five has variance 2; independent variances add.
    assert (weights * offsets**2).sum() == pytest.approx(2 + 2.0**2, rel=0.03)


@pytest.mark.parametrize("sigma", [1, 5, 20, 40])
def test_noise_has_no_mean_the_sigma_that_its_level_says_and_the_normal_distributions_tails(
    sigma: float,
) -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    added = Distortion("gaussian_noise", sigma)(grey, 5).astype(float) - 128
    # Independent values: four standard errors; rounding adds the variance of a uniform grey level.
    assert abs(added.mean()) < 4 * sigma / math.sqrt(added.size)
    assert added.var() == pytest.approx(sigma**2 + 1 / 12, rel=4 * math.sqrt(2 / added.size))
    # The share within a sigma, where rounding moves the edge least.
    if sigma >= 20:
        assert (abs(added) < sigma).mean() == pytest.approx(math.erf(math.sqrt(0.5)), abs=0.02)


def test_noise_is_independent_between_neighbours_and_channels() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    noise = Distortion("gaussian_noise", 20)(grey, 5).astype(float) - 128
    limit = 4 / math.sqrt(200 * 200)
    pairs = [(noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1]), (noise[..., 0], noise[..., 1])]
    for one, other in pairs:
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < limit


@pytest.mark.parametrize("grey", [0, 255])
def test_noise_is_clipped_where_uint8_would_wrap_around(grey: int) -> None:
    extreme = np.full((100, 100, 3), grey, np.uint8)
    added = abs(Distortion("gaussian_noise", 30)(extreme, 5).astype(int) - grey)
    assert added.max() < 200
    # One half of the noise points outwards and is clipped.
    assert (added == 0).mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("quality", [1, 10, 75, 100])
def test_jpeg_is_pillows_at_that_quality(noise: Pixels, quality: int) -> None:
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "jpeg", quality=quality)
    expected = np.asarray(Image.open(file).convert("RGB"))
    np.testing.assert_array_equal(Distortion("jpeg", quality)(noise, 0), expected)


@pytest.mark.parametrize("level", [0.5, 101])
def test_jpeg_has_qualities_from_1_to_100(level: float) -> None:
    with pytest.raises(EennError, match=r"of jpeg from 1 to 100"):
        Distortion("jpeg", level)


@pytest.mark.parametrize("length", [1, 2, 5, 8.5, 15])
@pytest.mark.parametrize("seed", range(4))
def test_motion_blur_is_the_mean_of_the_image_moved_along_a_line(
    noise: Pixels, length: float, seed: int
) -> None:
    angle = np.random.default_rng(seed).uniform(0, math.pi)
    points = math.ceil(2 * length)
    moved = []
    for i in range(points):
        along = (length - 1) * (i / max(points - 1, 1) - 0.5)
        offset = (along * math.sin(angle), along * math.cos(angle), 0)
        moved.append(ndimage.shift(noise.astype(float), offset, order=1, mode="mirror"))
    blurred = Distortion("motion_blur", length)(noise, seed)
    assert np.abs(blurred - np.mean(moved, axis=0)).max() <= 0.51


def test_motion_blur_of_one_pixel_is_the_image_itself(noise: Pixels) -> None:
    np.testing.assert_array_equal(Distortion("motion_blur", 1)(noise, 3), noise)


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_box_blur_is_the_mean_over_a_square(noise: Pixels, radius: int) -> None:
    size = (2 * radius + 1, 2 * radius + 1, 1)
    expected = ndimage.uniform_filter(noise.astype(float), size, mode="nearest")
    # Pillow rounds after each of the two directions.
    assert np.abs(Distortion("box_blur", radius)(noise, 0) - expected).max() <= 1.1


@pytest.mark.parametrize("share", [0.02, 0.3, 1])
def test_salt_and_pepper_turns_its_share_of_the_pixels_black_or_white(share: float) -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    result = Distortion("salt_and_pepper", share)(grey, 5)
    assert set(np.unique(result)) <= {0, 128, 255}
    assert (result == result[..., :1]).all()
    for value in (0, 255):
        error = 4 * math.sqrt(share / 2 / (200 * 200))
        assert (result[..., 0] == value).mean() == pytest.approx(share / 2, abs=error)


@given(
    kind=st.sampled_from([*DISTORTIONS]),
    at=st.floats(0, 1),
    shape=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    grey=st.integers(0, 255),
    seed=st.integers(0, 2**60),
)
def test_every_kind_keeps_the_contract(
    kind: str, at: float, shape: tuple[int, int], grey: int, seed: int
) -> None:
    check_distortion(kind, at, shape, grey, seed)


@pytest.mark.parametrize("kind", ["gaussian_noise", "motion_blur", "salt_and_pepper"])
def test_what_is_random_differs_between_samples(noise: Pixels, kind: str) -> None:
    distort = Distortion(kind, min(8, DISTORTIONS[kind].highest / 2))
    assert (distort(noise, 3) != distort(noise, 4)).any()


def test_an_unknown_kind_names_the_allowed_ones() -> None:
    with pytest.raises(EennError, match=r"'fog': allowed are .*gaussian_blur"):
        Distortion("fog", 1)


@pytest.mark.parametrize("level", [-0.1, -math.inf, math.inf, math.nan])
def test_a_level_that_is_none_is_refused(level: float) -> None:
    with pytest.raises(EennError, match=f"level {level}: allowed is 0"):
        Distortion("gaussian_blur", level)
