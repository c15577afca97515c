"""A small artifact with exported graphs, made once for all tests that run them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import nn

from eenn.artifact import store
from eenn.data.splits import Split
from eenn.models.architecture import Architecture
from eenn.models.building import build
from eenn.models.early_exit import EarlyExitNet
from eenn.offload.export import write as export_room
from eenn.offload.export.write import whole_graph
from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.pieces import cut_behind
from eenn.offload.protocol.wire import Cut
from eenn.preprocess import Preprocessing
from eenn.statistics.calibration import Temperatures

CLASSES = ("ant", "bee", "cat", "dog", "eel")
PREPROCESSING = Preprocessing(32, 36)
TEMPERATURES = (1.3, 0.8, 1.1, 0.9)


@dataclass(frozen=True)
class Exported:
    """An artifact with three branches, its network, its images, and the whole graph."""

    path: Path
    network: EarlyExitNet
    files: list[Path]
    images: NDArray[np.float32]
    graphs: Graphs
    id_before: str
    whole: ModelProto

    def cut(self, exits: int) -> Cut:
        """The cut behind so many exits."""
        return cut_behind(self.graphs.manifest, exits)

    @cached_property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the image and of the features behind every block, from PyTorch."""
        features, found = torch.from_numpy(self.images[:1]), []
        with torch.inference_mode():
            for block in (block for blocks in self.network.blocks for block in blocks):
                found.append(tuple(features.shape[1:]))
                features = block(features)
        return [*found, tuple(features.shape[1:])]

    @property
    def models(self) -> list[str]:
        """Names of the cloud's models for features."""
        values = [math.prod(shape) for shape in self.shapes]
        ends = [0, 3, 7, 14]  # the image, and behind the branches
        found = {end: f"eenn-cloud-{exit}" for exit, end in enumerate(ends)}
        for end in ends:
            least = values[end]
            for cut in range(end + 1, len(values) - 1):
                if values[cut] <= 0.9 * least:
                    least = values[cut]
                    found.setdefault(cut, f"eenn-cloud-b{cut}")
        return list(found.values())


@cache
def export_once(root: Path, write_images: Callable[..., Path]) -> Exported:
    """The artifact of this test session, below its temporary directory `root`."""
    root = root / "exported"
    files = sorted(write_images(root / "images", all=48).rglob("*.jpg"))
    images = np.stack([PREPROCESSING(PREPROCESSING.read(file)) for file in files])
    path = root / "artifact"
    save_artifact(path, images)
    before = store.load(path)
    whole: list[ModelProto] = []
    with pytest.MonkeyPatch.context() as patch:
        keep = lambda *given: whole.append(whole_graph(*given)) or whole[0]  # noqa: E731
        patch.setattr(export_room, "whole_graph", keep)
        graphs = export_room.export(path, np.split(images[:32], 4), images)
    return Exported(path, before.network, files, images, graphs, before.manifest.id, whole[0])


@cache
def upstream_once(root: Path, write_images: Callable[..., Path]) -> tuple[Path, EarlyExitNet]:
    """Another artifact of the same classes, exported, and its network."""
    images = export_once(root, write_images).images
    path = root / "exported" / "upstream"
    save_artifact(path, images, seed=5)
    network = store.load(path).network
    export_room.export(path, np.split(images[:32], 4), images)
    return path, network


def save_artifact(path: Path, images: NDArray[np.float32], seed: int = 13) -> None:
    """Random weights, whose logits spread over the images, so that exits are taken."""
    architecture = Architecture(len(CLASSES), (2, 6, 13), "conv", 0.35, 32)
    # Of several seeds one whose answers lie so far from ties that rounding features changes none.
    torch.manual_seed(seed)
    network = build(architecture)
    without_neighbours(network)
    off_their_start(network, torch.from_numpy(images))
    with torch.inference_mode():
        logits = network(torch.from_numpy(images))
    for head, own in zip(network.heads, logits, strict=True):
        linear = [module for module in head.modules() if isinstance(module, nn.Linear)]
        scale = 2 / own.std(dim=0).mean()
        linear[-1].bias.data = scale * (linear[-1].bias.data - own.mean(dim=0))
        for layer in linear:
            layer.weight.data *= scale
    store.save(
        path,
        network,
        architecture=architecture,
        classes=CLASSES,
        preprocessing=PREPROCESSING,
        temperatures=Temperatures(TEMPERATURES, 1.0),
        fitted="not at all",
        validation_accuracy=(0.2, 0.3, 0.4, 0.5),
        split=Split(0, ("a",), ("b",), ("c",)),
    )


def without_neighbours(network: nn.Module) -> None:
    """Clear every other weight that is summed over channels.

    CPUs without instructions for int8 add two neighbouring products in 16 bits, which large weights
    overflow: what int8 answers would depend on the CPU.
    """
    for layer in network.modules():
        is_pointwise = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)
        if is_pointwise or isinstance(layer, nn.Linear):
            layer.weight.data[:, 1::2] = 0


def off_their_start(network: nn.Module, images: torch.Tensor) -> None:
    """Scales and statistics of batch norms as after training on `images`: folding them counts, and
    random layers do not make all images alike."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.data.uniform_(0.8, 1.6)
        norm.bias.data.uniform_(-0.2, 0.4)
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(images)
    network.eval()
