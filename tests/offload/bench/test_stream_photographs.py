"""Files of a stream: the preprocessing of an edge gives back the distorted crop, bit by bit."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from eenn.data.datamodule import EvaluationImages
from eenn.data.datasets import FolderImages, Photo
from eenn.data.distortions import Distortion, seed_of
from eenn.errors import EennError
from eenn.offload.bench.stream_photographs import check_sizes, distorted_file, exact_file
from eenn.preprocess import Preprocessing


@pytest.mark.parametrize(
    ("input_size", "resize_size"), [(160, 184), (64, 64), (32, 36), (224, 256), (33, 35), (40, 200)]
)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_preprocessing_gives_back_every_pixel(
    input_size: int, resize_size: int, interpolation: str
) -> None:
    preprocessing = Preprocessing(input_size, resize_size, interpolation=interpolation)
    check_sizes(preprocessing)
    random = np.random.default_rng(input_size)
    pixels = random.integers(256, size=(input_size, input_size, 3), dtype=np.uint8)
    file = BytesIO(exact_file(preprocessing, pixels))
    np.testing.assert_array_equal(preprocessing.crop(preprocessing.read(file)), pixels)


@pytest.mark.parametrize("distortion", [Distortion("gaussian_noise", 20), Distortion("jpeg", 0)])
def test_an_edge_sees_what_the_records_are_of(
    tmp_path: Path, write_images: Callable[..., Path], distortion: Distortion
) -> None:
    preprocessing = Preprocessing(32, 36)
    source = FolderImages(write_images(tmp_path / "all", ant=3, bee=2))
    recorded = EvaluationImages(source, np.arange(5), preprocessing, distortion)
    for sample in range(5):
        noise_seed = seed_of(source.content_hashes[sample])
        photo = Photo(source.sample_ids[sample], 0, source.file(sample), noise_seed)
        file = BytesIO(distorted_file(preprocessing, photo, distortion))
        seen = preprocessing(preprocessing.read(file))
        np.testing.assert_array_equal(seen, recorded[sample][0].numpy())


def test_sizes_that_cut_between_pixels_are_an_error() -> None:
    with pytest.raises(EennError, match="resize_size=147: allowed is an even difference"):
        check_sizes(Preprocessing(128, 147))
