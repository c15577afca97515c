"""The distortion classifier: its spectra, what it costs, the images it learns from, and what of."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import mahalanobis

from eenn.data.augmentation import Augmentation
from eenn.data.datamodule import EpochSampler, ImageDataModule
from eenn.data.demo import DemoImages
from eenn.data.distortion_classifier import kind_dataloader
from eenn.data.distortions import Distortion, DrawnDistortion, seed_of
from eenn.errors import EennError
from eenn.exits.head_sets import choose_head_sets
from eenn.models.architecture import Architecture
from eenn.models.building import measure_network
from eenn.models.distortion_classifier import DistortionClassifier
from eenn.preprocess import Preprocessing
from eenn.statistics.calibration import fit_temperature, probabilities
from eenn.training.distortion_classifier import fit_classifier

PREPROCESSING = Preprocessing(64, 64)
BLUR, NOISE = (
    DrawnDistortion("gaussian_blur", 0.8, 5),
    DrawnDistortion("gaussian_noise", 4, 40),
)
TRAINER = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec:FutureWarning", "ignore:.*does not have many workers"
)


def demo(images_per_class: int) -> ImageDataModule:
    return ImageDataModule(
        DemoImages(images_per_class), PREPROCESSING, Augmentation(), 0, num_workers=0
    )


def test_spectra_are_those_of_a_loop_over_tiles_of_grey_levels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 100, 3), np.uint8)
    image = torch.from_numpy(PREPROCESSING.normalise(pixels))
    found = DistortionClassifier(2, PREPROCESSING.std).spectra(image[None])
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    hann = np.sin(np.pi * np.arange(32) / 32) ** 2
    expected = []
    for top in (0, 32):
        for left in (0, 32, 64):
            tile = grey[top : top + 32, left : left + 32]
            spectrum = np.fft.fft2((tile - tile.mean()) * hann[:, None] * hann)
            log = np.log(1 + np.abs(np.fft.fftshift(spectrum, axes=0)[:, :16]))
            cells = [
                log[y : y + 2, x : x + 2].mean() for y in range(0, 32, 2) for x in range(0, 16, 2)
            ]
            expected.append(cells)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-3)


def test_spectra_do_not_depend_on_brightness() -> None:
    pixels = np.random.default_rng(0).integers(0, 200, (64, 64, 3), np.uint8)
    dark, bright = (
        torch.from_numpy(PREPROCESSING.normalise(image))[None] for image in (pixels, pixels + 50)
    )
    classifier = DistortionClassifier(2, PREPROCESSING.std)
    torch.testing.assert_close(
        classifier.spectra(dark), classifier.spectra(bright), atol=1e-3, rtol=0
    )


def test_spectra_are_not_rounded_where_training_rounds() -> None:
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    classifier = DistortionClassifier(2, PREPROCESSING.std)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = classifier.spectra(images)
    assert torch.equal(rounded, classifier.spectra(images))


def test_roughness_is_that_of_a_loop_over_grey_levels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    image = torch.from_numpy(PREPROCESSING.normalise(pixels))[None]
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    differences = [
        (grey[y + 1, x + 1] - grey[y, x + 1] - grey[y + 1, x] + grey[y, x]) / 2
        for y in range(39)
        for x in range(49)
    ]
    sizes = np.abs(differences)
    expected = np.log([sizes.mean() + 0.1, (sizes**0.25).mean() ** 4 + 0.1])
    found = DistortionClassifier(2, PREPROCESSING.std).roughness(image)[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_a_kind_is_doubted_beyond_nearly_all_of_its_images() -> None:
    generator = np.random.default_rng(0)
    cloud = generator.multivariate_normal([1, 2], [[0.5, 0.4], [0.4, 0.6]], 4000)
    kinds = np.repeat([0, 1], 2000)
    classifier = DistortionClassifier(1, PREPROCESSING.std)
    roughness = torch.from_numpy(cloud).float()
    classifier.fit_typical(roughness, torch.from_numpy(kinds))
    own = cloud[kinds == 1]
    inverse = np.linalg.inv(np.cov(own.T))
    far = np.array([mahalanobis(each, own.mean(0), inverse) for each in cloud])
    limit = np.quantile(far[kinds == 1], 0.995)
    # Its logits without a doubt are those at the centre.
    roughness_of = {"asked": roughness.new_tensor(own.mean(0))[None]}
    classifier.eval().roughness = lambda images: roughness_of["asked"].expand(len(images), 2)
    image = torch.zeros(1, 3, 32, 32)
    with torch.inference_mode():
        sure = classifier(image)
        for at in (*np.argsort(far)[-5:], *np.argsort(abs(far - limit))[:20]):
            roughness_of["asked"] = roughness[at][None]
            beyond = max(0.0, (far[at] / limit) ** 2 - 1)
            expected = sure - torch.tensor([[0, 10 * beyond]], dtype=torch.float32)
            torch.testing.assert_close(classifier(image), expected, atol=0.05, rtol=0.01)


@pytest.mark.parametrize("input_size", [96, 160, 224, 300])
def test_the_classifier_costs_next_to_nothing(input_size: int) -> None:
    classifier = DistortionClassifier(4, PREPROCESSING.std)
    assert sum(p.numel() for p in classifier.parameters()) < 50_000
    _, (backbone,) = measure_network(Architecture(10, (), input_size=input_size))
    layers = 384 * 64 + 64 * 32 + 32 * 5
    # Real rows to 16 complex frequencies, and those, column by column, to 32.
    transforms = (input_size // 32) ** 2 * (32 * 32 * 16 * 2 + 16 * 32 * 32 * 4)
    assert layers + transforms <= classifier.macs(input_size) < 0.02 * backbone.macs


def test_levels_are_drawn_evenly_from_the_range_and_by_the_seed() -> None:
    drawn = DrawnDistortion("gaussian_noise", 5, 40)
    grey = np.full((64, 64, 3), 128, np.uint8)
    sigmas = np.array([drawn(grey, seed).std() for seed in range(400)])
    assert 4.5 < sigmas.min() < 7
    assert 38 < sigmas.max() < 42
    assert np.histogram(sigmas, [0, 13.75, 22.5, 31.25, 50])[0].min() > 70
    np.testing.assert_array_equal(drawn(grey, 3), drawn(grey, 3))


def test_a_range_has_allowed_ends() -> None:
    assert DrawnDistortion("jpeg", 60, 5)(np.zeros((8, 8, 3), np.uint8), 0).shape == (8, 8, 3)
    with pytest.raises(EennError, match="of jpeg from 1 to 100"):
        DrawnDistortion("jpeg", 0.5, 60)
    with pytest.raises(EennError, match="allowed are gaussian_blur"):
        DrawnDistortion("fog", 1, 2)


def test_every_photograph_comes_untouched_and_with_every_kind() -> None:
    data = demo(10)
    (images, kinds), *_ = kind_dataloader(data, "val", [BLUR, NOISE])
    assert images.shape == (10, 3, 3, 64, 64)
    assert kinds.tolist() == [[0, 1, 2]] * 10
    sample = data.indices["val"][4]
    seed = seed_of(data.source.content_hashes[sample])
    pixels = np.asarray(data.source.read(sample, 64))
    pixels = pixels[:, ::-1] if seed % 2 else pixels
    for image, version in zip(
        images[4], [pixels, BLUR(pixels, seed), NOISE(pixels, seed)], strict=True
    ):
        np.testing.assert_array_equal(image.numpy(), PREPROCESSING.normalise(version))


def test_training_images_are_new_in_every_epoch_and_others_are_not() -> None:
    data = demo(10)
    train, val = (kind_dataloader(data, part, [NOISE]) for part in ("train", "val"))
    first, again = next(iter(train))[0], next(iter(train))[0]
    assert isinstance(train.sampler, EpochSampler)
    train.sampler.set_epoch(1)
    assert torch.equal(first, again)
    assert not torch.equal(first, next(iter(train))[0])
    assert torch.equal(next(iter(val))[0], next(iter(val))[0])


def test_it_learns_to_tell_distortions_of_the_demo_images_within_seconds() -> None:
    data = demo(50)
    torch.manual_seed(0)
    classifier = DistortionClassifier(2, PREPROCESSING.std)
    train, val = (kind_dataloader(data, part, [BLUR, NOISE]) for part in ("train", "val"))
    logits, kinds = fit_classifier(classifier, train, val, 3e-3, max_epochs=5, **TRAINER)
    assert logits.shape == (150, 3)
    assert (logits.argmax(-1) == kinds).mean() >= 0.95
    # The logits are those of the classifier as it is left.
    batch = next(iter(val))[0].flatten(0, 1)
    np.testing.assert_allclose(
        classifier(batch).detach().numpy(), logits[: len(batch)], atol=1e-4, rtol=1e-4
    )

    temperature = fit_temperature(logits, kinds)
    source = DemoImages(5, seed=1)

    def chosen(distortion: Distortion) -> NDArray[np.int64]:
        unseen = np.stack(
            [
                PREPROCESSING.normalise(distortion(np.asarray(source.read(i, 64)), i))
                for i in range(50)
            ]
        )
        with torch.inference_mode():
            z = classifier(torch.from_numpy(unseen)).numpy()
        return choose_head_sets(probabilities(z, temperature), 0.7)

    assert (chosen(Distortion("gaussian_blur", 2)) == 1).mean() >= 0.9
    assert (chosen(Distortion("gaussian_noise", 20)) == 2).mean() >= 0.9
    assert (chosen(Distortion("gaussian_noise", 0)) == 0).mean() >= 0.9
    # Nobody showed it these. Their spectra are those of noise, but only some drawings are so rough.
    speckled = Distortion("salt_and_pepper", 0.02)
    doubting = (chosen(speckled) == 2).mean()
    classifier.metric.zero_()
    assert (chosen(speckled) == 2).mean() >= 0.9
    assert doubting <= 0.7


def test_where_the_classifier_is_unsure_the_plain_heads_answer() -> None:
    probs = np.array([[0.1, 0.8, 0.1], [0.35, 0.05, 0.6], [0.9, 0.05, 0.05], [0.0, 0.3, 0.7]])
    assert choose_head_sets(probs, 0.7).tolist() == [1, 0, 0, 2]
    assert choose_head_sets(probs, 0.0).tolist() == [1, 2, 0, 2]
