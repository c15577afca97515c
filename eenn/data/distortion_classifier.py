"""Images for the distortion classifier: every photograph untouched and with every kind."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from eenn.data.datamodule import EpochSampler, ImageDataModule
from eenn.data.distortions import DrawnDistortion, seed_of


class KindImages(Dataset[tuple[Tensor, Tensor]]):
    """Stacks (1 + kinds, 3, H, W) of one photograph: untouched, then distorted in every kind.

    The labels are 0 and, counted from 1, the kind. Indexed by (index, seed): the same pair gives
    the same images. They are cropped as in an evaluation, because the resampling of an augmentation
    would blur all of them; only flips are random.
    """

    def __init__(
        self, data: ImageDataModule, indices: NDArray[np.int64], kinds: Sequence[DrawnDistortion]
    ) -> None:
        self.source, self.preprocessing = data.source, data.preprocessing
        self.indices, self.kinds = indices, kinds

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index_and_seed: tuple[int, int]) -> tuple[Tensor, Tensor]:
        index, seed = index_and_seed
        image = self.source.read(int(self.indices[index]), self.preprocessing.resize_size)
        pixels = self.preprocessing.crop(image)
        if seed % 2:
            pixels = pixels[:, ::-1]
        versions = [pixels, *(distort(pixels, seed) for distort in self.kinds)]
        images = np.stack([self.preprocessing.normalise(version) for version in versions])
        return torch.from_numpy(images), torch.arange(len(versions))


def kind_dataloader(
    data: ImageDataModule, part: str, kinds: Sequence[DrawnDistortion]
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Load images (batch, 1 + kinds, 3, H, W) and labels (batch, 1 + kinds) of one part.

    Training images come in another order and with other levels in every epoch, those of other parts
    always the same.
    """
    indices, hashes = data.indices[part], data.source.content_hashes
    order: Iterable[tuple[int, int]] = EpochSampler(len(indices), data.seed)
    if part != "train":
        order = [(i, seed_of(hashes[sample])) for i, sample in enumerate(indices)]
    return DataLoader(
        KindImages(data, indices, kinds),
        data.batch_size,
        sampler=order,
        num_workers=data.num_workers,
        persistent_workers=data.num_workers > 0,
        generator=torch.Generator(),
        pin_memory=torch.cuda.is_available(),
    )
