"""The distortion classifier: finds the kind of distortion of an image from its spectrum.

Blur removes the high frequencies, noise raises all of them, and motion cuts stripes into the
spectrum. Tiles are compared because the photographed scene differs between tiles, while a
distortion leaves a trace in all: noise even in the smoothest tile, blur even in the most detailed.

A spectrum does not distinguish noise in all pixels from a few pixels that are far off. So a
distortion is accepted only where neighbouring pixels differ as they do in images that have it.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from eenn.models.placement import measure

TILE = 32  # pixels, the side of a tile
CELL = 2  # frequencies to either side that are averaged
CELLS = (TILE // CELL) * (TILE // 2 // CELL)
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in Pillow's greyscale
TYPICAL = 0.995  # share of the images of a kind that count as typical of the kind
DOUBT = 10.0  # subtracted from a kind's logit per 1 of squared distance beyond the typical


class DistortionClassifier(nn.Module):
    """A small network on the log-magnitude spectra of an image's tiles.

    Args:
        kinds: number of kinds of distortion, without "none".
        std: the standard deviation that the preprocessing divided every channel by.
    """

    weights: Tensor
    window: Tensor
    across: Tensor
    down: Tensor
    centre: Tensor
    metric: Tensor

    def __init__(self, kinds: int, std: Sequence[float]) -> None:
        super().__init__()
        # From normalised channels to grey levels of 0 to 255, but for a constant.
        self.register_buffer("weights", 255 * torch.tensor(LUMA) * torch.tensor(std), False)
        # Without a window the borders of a tile would look like detail.
        window = torch.hann_window(TILE)
        self.register_buffer("window", window[:, None] * window, False)
        angles = 2 * math.pi / TILE * torch.arange(TILE)[:, None] * torch.arange(TILE)
        cos, sin = angles.cos(), angles.sin()
        across = torch.cat((cos[:, : TILE // 2], -sin[:, : TILE // 2]), 1)
        down = torch.cat((torch.cat((cos, -sin), 1), torch.cat((sin, cos), 1)))
        self.register_buffer("across", across, False)
        self.register_buffer("down", down, False)
        self.layers = nn.Sequential(
            nn.BatchNorm1d(3 * CELLS),
            nn.Linear(3 * CELLS, 64),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(64, 32),
            nn.ReLU(),
            nn.Linear(32, 1 + kinds),
        )
        # Centre and metric of every kind's roughness; until `fit_typical` every image is typical.
        self.register_buffer("centre", torch.zeros(kinds, 2))
        self.register_buffer("metric", torch.zeros(kinds, 2, 2))

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (batch, 1 + kinds); the first one is for no distortion.

        Args:
            images: preprocessed, (batch, 3, H, W), at least TILE pixels high and wide.
        """
        spectra = self.spectra(images)
        over_tiles = (spectra.mean(1), spectra.amin(1), spectra.amax(1))
        logits: Tensor = self.layers(torch.cat(over_tiles, 1))
        beyond = functional.relu(self._distances(self.roughness(images)) - 1)
        return torch.cat((logits[:, :1], logits[:, 1:] - DOUBT * beyond), 1)

    def fit_typical(self, roughness: Tensor, kinds: Tensor) -> None:
        """Fit the typical roughness of every kind, by which `forward` doubts atypical images.

        Args:
            roughness: of images of all kinds, (samples, 2); see `roughness`.
            kinds: the kind of every image, counted from 1, (samples,).
        """
        for at in range(len(self.centre)):
            own = roughness[kinds == at + 1]
            # Ridge and bound keep the metric finite, and not too narrow, where images are few or
            # alike.
            covariance = own.T.cov(correction=0) + 1e-4 * torch.eye(2)
            self.centre[at] = own.mean(0)
            self.metric[at] = covariance.inverse()
            furthest = self._distances(own)[:, at].quantile(TYPICAL)
            self.metric[at] /= furthest.clamp(min=1)

    def roughness(self, images: Tensor) -> Tensor:
        """Measure the difference of neighbouring pixels, (batch, 2).

        The columns are the logarithm of the mean magnitude in grey levels, and of the power mean
        with exponent 1/4, in which small differences count for more.
        """
        grey = self._grey(images)
        rows = grey[:, 1:] - grey[:, :-1]
        sizes = (rows[:, :, 1:] - rows[:, :, :-1]).flatten(1).abs() / 2
        means = torch.stack((sizes.mean(1), sizes.sqrt().sqrt().mean(1) ** 4), 1)
        return torch.log(means + 0.1)

    def spectra(self, images: Tensor) -> Tensor:
        """Compute the log-magnitude spectra of all whole tiles, float32 (batch, tiles, CELLS).

        The mean of log(1 + magnitude in grey levels) over CELL x CELL neighbouring frequencies;
        vertical frequencies ascend from the most negative, horizontal ones from 0. The highest
        horizontal one is left out.
        """
        grey = self._grey(images)
        down, across = grey.shape[1] // TILE, grey.shape[2] // TILE
        whole = grey[:, : down * TILE, : across * TILE]
        tiles = whole.reshape(-1, down, TILE, across, TILE).transpose(2, 3).flatten(1, 2)
        tiles = (tiles - tiles.mean((-2, -1), keepdim=True)) * self.window
        magnitude = self._magnitudes(tiles).roll(TILE // 2, -2)
        return functional.avg_pool2d(torch.log1p(magnitude), CELL).flatten(-2)

    def macs(self, input_size: int) -> int:
        """Count the multiply-accumulates for an image, Fourier transforms included."""
        counted, _ = measure(self, torch.zeros(1, 3, input_size, input_size))
        across, down = TILE * self.across.numel(), TILE // 2 * self.down.numel()
        return counted + (input_size // TILE) ** 2 * (across + down)

    def _magnitudes(self, tiles: Tensor) -> Tensor:
        """Compute magnitudes of the tiles' Fourier transforms, (..., TILE, TILE // 2)."""
        magnitudes: Tensor
        if not torch.compiler.is_exporting():
            # Unlike matrix products, the FFT is not rounded to bf16 or TF32 on a GPU.
            magnitudes = torch.fft.rfft2(tiles).abs()
            return magnitudes[..., : TILE // 2]
        # ONNX Runtime computes matrix products in a quarter of the time of its transforms.
        rows = (tiles @ self.across).reshape(*tiles.shape[:-1], 2, TILE // 2)
        both = rows.transpose(-3, -1).flatten(-2) @ self.down
        real, imaginary = both[..., :TILE], both[..., TILE:]
        magnitudes = (real.square() + imaginary.square()).sqrt()
        return magnitudes.transpose(-2, -1)

    def _grey(self, images: Tensor) -> Tensor:
        red, green, blue = images.float().unbind(1)
        return red * self.weights[0] + green * self.weights[1] + blue * self.weights[2]

    def _distances(self, roughness: Tensor) -> Tensor:
        """Compute squared distances from every kind's centre, (batch, kinds); up to 1 is typical.

        Source: Mahalanobis, "On the generalised distance in statistics", 1936.
        """
        away = roughness[:, None] - self.centre
        return torch.einsum("bki,kij,bkj->bk", away, self.metric, away)
