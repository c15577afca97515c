"""Sources, the order of an epoch, augmentation, and the loaders over a split."""

import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2.functional import resize

from eenn.data.augmentation import Augmentation
from eenn.data.datamodule import EpochSampler, ImageDataModule, TrainingImages
from eenn.data.datasets import FolderImages
from eenn.data.distortions import DISTORTIONS, Distortion, Kind, Pixels
from eenn.data.splits import Split
from eenn.errors import EennError
from eenn.preprocess import Preprocessing, read_image

WriteImages = Callable[..., Path]

PREPROCESSING = Preprocessing(32, 36)
VARIED = Augmentation(crop_area=0.3, rotation=20, colour=0.4, greyscale=0.2, blur_sigma=2)


@pytest.fixture
def source(tmp_path: Path, write_images: WriteImages) -> FolderImages:
    return FolderImages(write_images(tmp_path / "images", cat=10, dog=12, emu=10))


def data_module(source: FolderImages, **options: object) -> ImageDataModule:
    arguments = {"seed": 3, "batch_size": 8, "num_workers": 0} | options
    return ImageDataModule(source, PREPROCESSING, VARIED, **arguments)


def epoch_of(module: ImageDataModule, epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


# Image folders


def test_samples_are_listed_by_class_and_name(tmp_path: Path, write_images: WriteImages) -> None:
    source = FolderImages(write_images(tmp_path, emu=1, cat=2, dog=1))
    assert source.classes == ("cat", "dog", "emu")
    assert source.sample_ids == ("cat/0.jpg", "cat/1.jpg", "dog/0.jpg", "emu/0.jpg")
    assert source.labels.tolist() == [0, 0, 1, 2]
    assert source.skipped == ()


def test_nested_files_belong_to_the_outer_folder(tmp_path: Path, write_images: WriteImages) -> None:
    write_images(tmp_path, cat=1, dog=1)
    write_images(tmp_path / "cat" / "a", b=1)
    source = FolderImages(tmp_path)
    assert source.classes == ("cat", "dog")
    assert source.sample_ids == ("cat/0.jpg", "cat/a/b/0.jpg", "dog/0.jpg")
    assert source.labels.tolist() == [0, 0, 1]


def test_hidden_folders_are_no_classes(tmp_path: Path, write_images: WriteImages) -> None:
    source = FolderImages(write_images(tmp_path, **{".thumbnails": 2}, cat=1))
    assert source.classes == ("cat",)
    assert source.sample_ids == ("cat/0.jpg",)


def test_files_that_are_no_images_by_name_are_no_samples(
    tmp_path: Path, write_images: WriteImages
) -> None:
    write_images(tmp_path, cat=1)
    for stray in ("README.txt", "cat/notes.txt", "cat/RENAME2"):
        (tmp_path / stray).write_text("text")
    source = FolderImages(tmp_path)
    assert source.classes == ("cat",)
    assert source.sample_ids == ("cat/0.jpg",)


def test_images_are_known_by_how_they_begin_and_others_are_counted(
    tmp_path: Path, write_images: WriteImages, caplog: pytest.LogCaptureFixture
) -> None:
    cat = write_images(tmp_path, cat=5, dog=1) / "cat"
    for number, name in enumerate(("a.jfif", "b.jpe", "c.2024-05-01", "d", "e.txt")):
        (cat / f"{number}.jpg").rename(cat / name)
    for name in ("f.ppm", "f.pgm"):
        Image.new("RGB" if name == "f.ppm" else "L", (9, 9)).save(cat / name)
    for name in ("g.heic", "h.heic", "i.avif", "README", ".hidden"):
        (cat / name).write_bytes(b"\0\0\0 ftyp")
    os.mkfifo(cat / "pipe.jpg")
    with caplog.at_level(logging.WARNING):
        source = FolderImages(tmp_path)
    names = ["a.jfif", "b.jpe", "c.2024-05-01", "d", "e.txt", "f.pgm", "f.ppm"]
    assert source.sample_ids == (*(f"cat/{name}" for name in names), "dog/0.jpg")
    counted = "not images, and left out: 2 .heic, 1 without a suffix, 1 .avif, 1 .jpg"
    assert [record.message for record in caplog.records] == [counted]


def test_links_are_as_good_as_what_they_lead_to_and_loops_end(
    tmp_path: Path, write_images: WriteImages
) -> None:
    elsewhere = write_images(tmp_path / "elsewhere", more=2, other=1)
    root = write_images(tmp_path / "root", cat=1)
    (root / "cat" / "within").symlink_to(elsewhere / "more")
    (root / "dog").symlink_to(elsewhere / "other")
    (root / "cat" / "linked.jpg").symlink_to(elsewhere / "other" / "0.jpg")
    for name, target in (("itself", root / "cat"), ("above", root), ("again", root / "cat/within")):
        (root / "cat" / name).symlink_to(target)
    (elsewhere / "more" / "back").symlink_to(root / "cat")
    names = ["again/0.jpg", "again/1.jpg", "0.jpg", "linked.jpg"]
    assert set(FolderImages(root).sample_ids) == {*(f"cat/{name}" for name in names), "dog/0.jpg"}


def test_a_folder_that_is_called_like_an_image_is_a_folder(
    tmp_path: Path, write_images: WriteImages
) -> None:
    write_images(tmp_path / "cat", **{"x.jpg": 1})
    source = FolderImages(tmp_path)
    assert (source.sample_ids, source.skipped) == (("cat/x.jpg/0.jpg",), ())


def test_files_that_nobody_can_reach_are_named(tmp_path: Path, write_images: WriteImages) -> None:
    cat = write_images(tmp_path, cat=1) / "cat"
    (cat / "gone.jpg").symlink_to("nowhere")
    (cat / "loop.jpg").symlink_to("loop.jpg")
    source = FolderImages(tmp_path, on_error="skip")
    assert source.skipped == ("cat/gone.jpg", "cat/loop.jpg")
    assert source.sample_ids == ("cat/0.jpg",)


def test_the_suffix_may_be_in_capitals(tmp_path: Path, write_images: WriteImages) -> None:
    (write_images(tmp_path, cat=1) / "cat" / "0.jpg").rename(tmp_path / "cat" / "0.JPG")
    assert FolderImages(tmp_path).sample_ids == ("cat/0.JPG",)


def test_images_are_read_from_their_own_file(source: FolderImages) -> None:
    for index in (0, 15, 31):
        file = source.root / source.sample_ids[index]
        expected = np.asarray(Image.open(file).convert("RGB"))
        np.testing.assert_array_equal(np.asarray(source.read(index, 40)), expected)


def test_only_equal_content_has_equal_hashes(tmp_path: Path, write_images: WriteImages) -> None:
    write_images(tmp_path, cat=2, dog=1)
    shutil.copy(tmp_path / "cat" / "0.jpg", tmp_path / "dog" / "copy.jpg")
    source = FolderImages(tmp_path)
    hashes = dict(zip(source.sample_ids, source.content_hashes, strict=True))
    assert hashes["cat/0.jpg"] == hashes["dog/copy.jpg"]
    assert len(set(hashes.values())) == 3


@pytest.fixture
def damaged(tmp_path: Path, write_images: WriteImages) -> Path:
    """Two good images, a truncated one, a text named .jpg, and classes without a usable image."""
    root = write_images(tmp_path / "damaged", cat=2, dog=1, emu=1)
    (root / "cat" / "1.jpg").write_bytes((root / "cat" / "1.jpg").read_bytes()[:600])
    (root / "dog" / "text.jpg").write_text("not an image")
    (root / "emu" / "0.jpg").write_bytes(b"")
    (root / "stray").mkdir()
    return root


def test_everything_unusable_is_named_in_one_error(damaged: Path) -> None:
    with pytest.raises(EennError) as caught:
        FolderImages(damaged)
    message = str(caught.value)
    for name in ("cat/1.jpg", "dog/text.jpg", "emu/0.jpg", "emu/", "stray/", "data.on_error=skip"):
        assert name in message
    assert "cat/0.jpg" not in message
    assert message.startswith("3 unreadable images and 2 class folders without images")


def test_what_is_unusable_can_be_left_out(damaged: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = FolderImages(damaged, on_error="skip")
    assert source.classes == ("cat", "dog")
    assert source.sample_ids == ("cat/0.jpg", "dog/0.jpg")
    assert source.labels.tolist() == [0, 1]
    assert len(source.content_hashes) == 2
    unusable = {"cat/1.jpg", "dog/text.jpg", "emu/0.jpg", "emu/", "stray/"}
    assert set(source.skipped) == unusable
    assert all(name in caplog.text for name in unusable)


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(EennError, match=rf"{tmp_path}/none is not a folder"):
        FolderImages(tmp_path / "none")


def test_a_root_without_class_folders_is_refused(tmp_path: Path) -> None:
    (tmp_path / "image.jpg").write_text("")
    (tmp_path / ".hidden").mkdir()
    with pytest.raises(EennError, match="holds no class folders"):
        FolderImages(tmp_path)


def test_a_misspelt_on_error_names_the_choices(tmp_path: Path) -> None:
    with pytest.raises(EennError, match="on_error=ignore: allowed are raise, skip"):
        FolderImages(tmp_path, on_error="ignore")


# The order of an epoch

epochs = st.tuples(st.integers(0, 100), st.integers(0, 1000), st.integers(0, 50))


@settings(max_examples=50)
@given(epochs)
def test_an_epoch_is_a_permutation_that_seed_and_number_determine(
    drawn: tuple[int, int, int],
) -> None:
    size, seed, epoch = drawn
    resumed, worn = EpochSampler(size, seed), EpochSampler(size, seed)
    resumed.set_epoch(epoch)
    for earlier in range(epoch % 3):
        worn.set_epoch(earlier)
        list(worn)
    worn.set_epoch(epoch)
    pairs = list(resumed)
    assert sorted(index for index, _ in pairs) == list(range(size))
    assert list(worn) == list(resumed) == pairs
    assert len(resumed) == size


def test_another_epoch_or_seed_gives_other_pairs() -> None:
    def pairs(seed: int, epoch: int) -> tuple[tuple[int, int], ...]:
        sampler = EpochSampler(20, seed)
        sampler.set_epoch(epoch)
        return tuple(sampler)

    assert len({pairs(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9
    assert len({seed for _, seed in pairs(0, 0) + pairs(0, 1)}) == 40


@settings(max_examples=50)
@given(epochs, st.integers(1, 4))
def test_processes_share_an_epoch_evenly_and_disjointly(
    drawn: tuple[int, int, int], processes: int
) -> None:
    size, seed, epoch = drawn
    samplers = [EpochSampler(size, seed, rank, processes) for rank in range(processes)]
    alone = EpochSampler(size, seed)
    for sampler in (*samplers, alone):
        sampler.set_epoch(epoch)
    shares = [list(sampler) for sampler in samplers]
    assert {len(share) for share in shares} == {size // processes}
    assert [len(sampler) for sampler in samplers] == [size // processes] * processes
    together = [pair for share in shares for pair in share]
    assert len(set(together)) == len(together)
    assert set(together) <= set(alone)


# Augmentation


def photograph(width: int = 60, height: int = 50) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("size", [(60, 50), (33, 200), (20, 20)])
def test_augmented_images_have_the_input_size(size: tuple[int, int]) -> None:
    pixels = VARIED(photograph(*size), 32, 0)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (32, 32, 3)


def test_the_seed_alone_determines_the_augmentation() -> None:
    first = VARIED(photograph(), 32, 2**63 - 1)
    torch.rand(5)
    np.testing.assert_array_equal(VARIED(photograph(), 32, 2**63 - 1), first)
    assert len({VARIED(photograph(), 32, seed).tobytes() for seed in range(20)}) == 20


def test_augmentation_leaves_the_global_generators_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    VARIED(photograph(), 32, 0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


def test_augmentation_leaves_the_gpus_generator_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    VARIED(photograph(), 32, 0)
    assert seeds == []


def test_without_blur_sigma_nothing_is_blurred() -> None:
    image = photograph(50, 50)
    expected = np.asarray(resize(image, [32, 32]))
    for seed in range(10):
        pixels = Augmentation(flip=False)(image, 32, seed)
        np.testing.assert_array_equal(pixels, expected)


def test_blur_is_drawn_between_none_and_its_sigma() -> None:
    image, seeds = photograph(50, 50), range(40)
    sharp = Augmentation(flip=False)(image, 32, 0)
    spreads = [Augmentation(flip=False, blur_sigma=2)(image, 32, seed).std() for seed in seeds]
    limit = Distortion("gaussian_blur", 2)(sharp, 0).std()
    assert limit <= min(spreads) < 1.2 * limit
    assert 0.9 * sharp.std() < max(spreads) <= sharp.std()


def test_half_of_the_images_are_flipped() -> None:
    image = photograph(32, 32)
    swept_once, flipped = np.asarray(image), np.asarray(image)[:, ::-1]
    flips = 0
    for seed in range(100):
        pixels = Augmentation()(image, 32, seed)
        turned = (pixels == flipped).all()
        assert turned or (pixels == swept_once).all()
        flips += turned
    assert 30 <= flips <= 70


def test_greyscale_comes_as_often_as_asked_and_colour_otherwise() -> None:
    augment = Augmentation(flip=False, colour=0.3, greyscale=0.25)
    results = [augment(photograph(32, 32), 32, seed) for seed in range(200)]
    grey = sum((pixels == pixels[..., :1]).all() for pixels in results)
    assert 30 <= grey <= 70
    assert len({pixels.tobytes() for pixels in results}) == 200 - grey + 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crop_area", 0),
        ("crop_area", 1.1),
        ("rotation", -1),
        ("rotation", 181),
        ("colour", 1),
        ("colour", -0.1),
        ("greyscale", 1.01),
        ("greyscale", -0.1),
        ("blur_sigma", -0.5),
        ("blur_sigma", float("nan")),
    ],
)
def test_augmentation_out_of_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(EennError, match=re.escape(f"augmentation.{name}={value}: allowed are")):
        Augmentation(**{name: value})


# Loaders


def test_an_index_and_seed_name_one_image(source: FolderImages) -> None:
    images = TrainingImages(source, np.array([4, 25]), PREPROCESSING, VARIED)
    first, label = images[1, 77]
    again, _ = images[1, 77]
    other, _ = images[1, 78]
    assert len(images) == 2
    assert label == source.labels[25]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    expected = VARIED(source.read(25, 36), 32, 77)
    np.testing.assert_array_equal(first.numpy(), PREPROCESSING.normalise(expected))


def test_workers_change_no_training_image(source: FolderImages) -> None:
    alone, helped = (epoch_of(data_module(source, num_workers=n), 1) for n in (0, 2))
    assert len(alone) == len(helped) > 1
    for (images, labels), (same_images, same_labels) in zip(alone, helped, strict=True):
        assert torch.equal(images, same_images)
        assert torch.equal(labels, same_labels)


def test_the_next_epoch_brings_other_images(source: FolderImages) -> None:
    module = data_module(source)
    (first, _), (second, _) = epoch_of(module, 0)[0], epoch_of(module, 1)[0]
    assert not torch.equal(first, second)


def test_training_batches_are_full_and_of_the_training_part(source: FolderImages) -> None:
    module = data_module(source)
    batches = epoch_of(module, 0)
    assert len(batches) == len(module.split.train) // 8
    for images, labels in batches:
        assert images.shape == (8, 3, 32, 32)
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
    sampler = module.train_dataloader().sampler
    trained = module.indices["train"][[index for index, _ in sampler]]
    assert {source.sample_ids[i] for i in trained} == set(module.split.train)


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_evaluation_is_the_preprocessing_of_each_file_in_order(
    source: FolderImages, part: str
) -> None:
    module = data_module(source)
    sample_ids = getattr(module.split, part)
    loaded = [
        pair for batch in module.evaluation_dataloader(part) for pair in zip(*batch, strict=True)
    ]
    for sample_id, (image, label) in zip(sample_ids, loaded, strict=True):
        expected = PREPROCESSING(read_image(source.root / sample_id, 36))
        np.testing.assert_array_equal(image.numpy(), expected)
        assert source.classes[label] == sample_id.split("/")[0]


def test_validation_and_test_loaders_are_their_own_parts(source: FolderImages) -> None:
    module = data_module(source)
    for part, loader in (("val", module.val_dataloader()), ("test", module.test_dataloader())):
        expected = torch.cat([images for images, _ in module.evaluation_dataloader(part)])
        assert torch.equal(torch.cat([images for images, _ in loader]), expected)


def test_a_distorted_loader_distorts_the_crop(source: FolderImages) -> None:
    module, blur = data_module(source), Distortion("gaussian_blur", 1.5)
    images = torch.cat([batch for batch, _ in module.evaluation_dataloader("test", blur)])
    for sample_id, image in zip(module.split.test, images, strict=True):
        crop = PREPROCESSING.crop(read_image(source.root / sample_id, 36))
        np.testing.assert_array_equal(image.numpy(), PREPROCESSING.normalise(blur(crop, 0)))


def test_the_noise_of_an_image_follows_its_content_and_not_its_place(
    source: FolderImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_noise(pixels: Pixels, level: float, generator: np.random.Generator) -> Pixels:
        return generator.integers(0, 256, pixels.shape, np.uint8)

    monkeypatch.setitem(DISTORTIONS, "only_noise", Kind(only_noise))
    one, another = (data_module(source, seed=seed) for seed in (0, 1))
    noise_of: dict[str, set[bytes]] = {}
    for module in (one, one, another):
        loader = module.evaluation_dataloader("train", Distortion("only_noise", 1))
        images = torch.cat([batch for batch, _ in loader])
        for sample_id, image in zip(module.split.train, images, strict=True):
            noise_of.setdefault(sample_id, set()).add(image.numpy().tobytes())
    assert all(len(noises) == 1 for noises in noise_of.values())
    assert len(set.union(*noise_of.values())) == len(noise_of)


def test_the_seed_draws_the_split_and_a_given_one_is_kept(source: FolderImages) -> None:
    drawn = data_module(source, seed=5).split
    assert drawn == data_module(source, seed=5).split
    assert drawn != data_module(source, seed=6).split
    assert data_module(source, seed=6, split=drawn).split == drawn


def test_a_split_of_other_data_is_refused(source: FolderImages) -> None:
    other = Split(0, train=("cat/0.jpg", "fox/0.jpg"), val=("cat/1.jpg",), test=("fox/1.jpg",))
    with pytest.raises(EennError, match=r"2 samples of the split .* such as fox/0\.jpg"):
        data_module(source, split=other)


@pytest.mark.parametrize("batch_size", [1, 0, -4])
def test_batches_without_a_variance_are_refused(source: FolderImages, batch_size: int) -> None:
    with pytest.raises(EennError, match=f"batch_size={batch_size}: allowed is 2 or more"):
        data_module(source, batch_size=batch_size)
