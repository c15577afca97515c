"""The contract of every kind of distortion, by its name: for tests of old kinds and new ones."""

import numpy as np

from eenn.data.distortions import DISTORTIONS, Distortion


def check_distortion(
    kind: str, at: float, shape: tuple[int, int], grey: int, sample_seed: int
) -> None:
    """Hold a kind against all of the contract, on one image.

    Args:
        at: share of the way from the lowest level to the highest, or to 40.
    """
    _, lowest, highest = DISTORTIONS[kind]
    distort = Distortion(kind, lowest + at * (min(highest, 40) - lowest))
    image = np.full((*shape, 3), grey, np.uint8)
    image[::3, ::2] = np.random.default_rng(sample_seed).integers(0, 256, 3)
    original = image.copy()
    result = distort(image, sample_seed)
    assert (result.shape, result.dtype) == (image.shape, np.uint8)
    np.testing.assert_array_equal(distort(image, sample_seed), result)
    np.testing.assert_array_equal(image, original)
    np.testing.assert_array_equal(Distortion(kind, 0)(image, sample_seed), original)
