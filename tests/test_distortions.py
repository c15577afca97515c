"""Distortions against torchvision's, and their contract."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms.v2.functional import gaussian_blur as reference_blur

from eenn.data.distortions import DISTORTIONS, Distortion, Pixels, gaussian_blur
from eenn.errors import EennError


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


@pytest.mark.parametrize("kind", DISTORTIONS)
def test_level_zero_is_the_image_itself(noise: Pixels, kind: str) -> None:
    np.testing.assert_array_equal(Distortion(kind, 0)(noise, 7), noise)


@pytest.mark.parametrize("kind", DISTORTIONS)
def test_the_same_seed_gives_the_same_pixels_and_leaves_the_input(noise: Pixels, kind: str) -> None:
    original = noise.copy()
    first, second = (Distortion(kind, 1.5)(noise, 7) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(noise, original)


def test_noise_is_drawn_from_the_samples_seed(
    noise: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def random_levels(pixels: Pixels, level: float, generator: np.random.Generator) -> Pixels:
        return generator.integers(0, 256, pixels.shape, np.uint8)

    monkeypatch.setitem(DISTORTIONS, "random_levels", random_levels)
    distort = Distortion("random_levels", 1)
    np.testing.assert_array_equal(distort(noise, 3), distort(noise, 3))
    assert (distort(noise, 3) != distort(noise, 4)).any()


def test_an_unknown_kind_names_the_allowed_ones() -> None:
    with pytest.raises(EennError, match=r"'fog': allowed are .*gaussian_blur"):
        Distortion("fog", 1)


@pytest.mark.parametrize("level", [-0.1, -math.inf])
def test_a_negative_level_is_refused(level: float) -> None:
    with pytest.raises(EennError, match=f"level {level}: allowed is 0"):
        Distortion("gaussian_blur", level)
