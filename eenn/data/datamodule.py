"""The data module: one source, one split, and a loader for each part and each distortion."""

import os
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from eenn.data.augmentation import Augmentation
from eenn.data.datasets import ImageSource
from eenn.data.distortions import Pixels, seed_of
from eenn.data.splits import SPLIT_NAMES, Split, split_samples
from eenn.errors import EennError, require_numbers
from eenn.preprocess import Preprocessing

# Distorts pixels, by a seed of its randomness; a `Distortion` or a `DrawnDistortion`.
Distort = Callable[[Pixels, int], Pixels]
BATCH_SIZE = 32


class TrainingImages(Dataset[tuple[Tensor, int]]):
    """Augmented samples, optionally distorted, indexed by (index, seed).

    The same pair gives the same image.
    """

    def __init__(
        self,
        source: ImageSource,
        indices: NDArray[np.int64],
        preprocessing: Preprocessing,
        augmentation: Augmentation,
        distortion: Distort | None = None,
    ) -> None:
        self.source, self.indices, self.distortion = source, indices, distortion
        self.preprocessing, self.augmentation = preprocessing, augmentation

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index_and_seed: tuple[int, int]) -> tuple[Tensor, int]:
        index, seed = index_and_seed
        sample = int(self.indices[index])
        image = self.source.read(sample, self.preprocessing.resize_size)
        pixels = self.augmentation(image, self.preprocessing.input_size, seed)
        if self.distortion is not None:
            pixels = self.distortion(pixels, seed)
        return torch.from_numpy(self.preprocessing.normalise(pixels)), int(
            self.source.labels[sample]
        )


class EvaluationImages(Dataset[tuple[Tensor, int]]):
    """Samples after the preprocessing, optionally distorted, the same every time."""

    def __init__(
        self,
        source: ImageSource,
        indices: NDArray[np.int64],
        preprocessing: Preprocessing,
        distortion: Distort | None = None,
    ) -> None:
        self.source, self.indices = source, indices
        self.preprocessing, self.distortion = preprocessing, distortion

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        sample = int(self.indices[index])
        pixels = self._pixels(self.source.read(sample, self.preprocessing.resize_size), sample)
        return torch.from_numpy(self.preprocessing.normalise(pixels)), int(
            self.source.labels[sample]
        )

    def _pixels(self, image: Image.Image, sample: int) -> NDArray[np.uint8]:
        pixels = self.preprocessing.crop(image)
        if self.distortion is None:
            return pixels
        return self.distortion(pixels, seed_of(self.source.content_hashes[sample]))


class EpochSampler(Sampler[tuple[int, int]]):
    """Pairs (index, seed) in an order that depends on the seed and the epoch alone.

    An epoch is therefore the same with or without an interruption before it, and for any number of
    loader workers. Lightning calls `set_epoch`. With several processes each takes every n-th pair.
    """

    def __init__(self, size: int, seed: int, rank: int = 0, processes: int = 1) -> None:
        self.size, self.seed, self.rank, self.processes = size, seed, rank, processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size // self.processes

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(self.size)
        seeds = generator.integers(2**63, size=self.size)
        mine = slice(self.rank, len(self) * self.processes, self.processes)
        return iter(zip(order[mine].tolist(), seeds[mine].tolist(), strict=True))


class ImageDataModule(LightningDataModule):
    """Loaders over one source and its split.

    Args:
        num_workers: loader processes; None takes none on machines of up to two cores, where they
            only take compute from the training, and half of the cores elsewhere (at most 8).
        split: an earlier split of the same source; None takes the source's own, or draws one from
            `seed`.
        distortion: of training images, after their augmentation, and of validation images.

    Raises:
        EennError: one class alone, a class too small to split or without training images, a split
            whose samples the source does not have, or a batch size or seed that is too small.
    """

    def __init__(
        self,
        source: ImageSource,
        preprocessing: Preprocessing,
        augmentation: Augmentation,
        seed: int,
        batch_size: int = BATCH_SIZE,
        num_workers: int | None = None,
        split: Split | None = None,
        distortion: Distort | None = None,
    ) -> None:
        super().__init__()
        require_numbers(batch_size=batch_size, seed=seed)
        if batch_size < 2:
            raise EennError(f"data.batch_size={batch_size}: allowed is 2 or more (BatchNorm)")
        if seed < 0:
            raise EennError(f"seed={seed}: allowed is 0 or more")
        if len(source.classes) < 2:
            raise EennError(
                f"the images have one class alone, {source.classes[0]}; allowed are two or more: "
                "data.root must hold a folder for each class"
            )
        self.source, self.preprocessing, self.augmentation = source, preprocessing, augmentation
        self.seed, self.batch_size, self._first_epoch = seed, batch_size, 0
        self.distortion = distortion
        self.num_workers = default_workers() if num_workers is None else num_workers
        self.split = split or split_samples(
            source.sample_ids,
            [source.classes[label] for label in source.labels],
            source.content_hashes,
            seed,
            source.parts,
        )
        index_of = {sample_id: index for index, sample_id in enumerate(source.sample_ids)}
        missing = [
            s for name in SPLIT_NAMES for s in getattr(self.split, name) if s not in index_of
        ]
        if missing:
            raise EennError(
                f"{len(missing)} samples of the split are not in the data, such as {missing[0]}; "
                "point data.root to the images that the split was drawn from"
            )
        self.indices = {
            name: np.array([index_of[s] for s in getattr(self.split, name)], np.int64)
            for name in SPLIT_NAMES
        }

    def state_dict(self) -> dict[str, int]:
        """Return a checkpoint's state at the end of an epoch: the number of the next epoch."""
        return {"next_epoch": self.trainer.current_epoch + 1 if self.trainer else 0}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._first_epoch = state_dict["next_epoch"]

    def train_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Load augmented training batches, float32 (batch, 3, H, W) and int64 (batch,)."""
        indices = self.indices["train"]
        rank = self.trainer.global_rank if self.trainer else 0
        processes = self.trainer.world_size if self.trainer else 1
        sampler = EpochSampler(len(indices), self.seed, rank, processes)
        # Lightning asks a resumed run's loader for batches before it tells the sampler the epoch.
        sampler.set_epoch(self._first_epoch)
        return DataLoader(
            TrainingImages(
                self.source, indices, self.preprocessing, self.augmentation, self.distortion
            ),
            self.batch_size,
            sampler=sampler,
            # A last batch of one image would leave BatchNorm without a variance.
            drop_last=len(sampler) >= self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            # Starting an epoch draws a number; from the global generator it would shift dropout.
            generator=torch.Generator(),
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Load all validation samples in every process, so that metrics are the same in each."""
        return self.evaluation_dataloader("val", self.distortion)

    def test_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Load all test samples, in the split's order."""
        return self.evaluation_dataloader("test")

    def evaluation_dataloader(
        self, part: str, distortion: Distort | None = None
    ) -> DataLoader[tuple[Tensor, int]]:
        """Load one part of the split in its order, at a distortion; never shuffled."""
        images = EvaluationImages(self.source, self.indices[part], self.preprocessing, distortion)
        return evaluation_batches(images, self.batch_size, self.num_workers)


def evaluation_batches(
    images: EvaluationImages, batch_size: int = BATCH_SIZE, num_workers: int | None = None
) -> DataLoader[tuple[Tensor, int]]:
    """Load images in their order, in batches.

    Args:
        num_workers: as of `ImageDataModule`.
    """
    return DataLoader(
        images,
        batch_size,
        num_workers=default_workers() if num_workers is None else num_workers,
        pin_memory=torch.cuda.is_available(),
    )


def default_workers() -> int:
    """Count the loader processes that save time on this machine."""
    cores = os.cpu_count() or 1
    return 0 if cores <= 2 else min(cores // 2, 8)
