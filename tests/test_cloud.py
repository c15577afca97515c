"""The cloud as a process: every split point and payload, and what it says of itself."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eenn.offload.client import HttpCloud
from eenn.offload.serve import RunningCloud, running
from eenn.offload.wire import pack, unpack
from tests.exported import Exported, export_once

Floats = NDArray[np.float32]
SPLIT_POINTS = range(4)
PRECISIONS = ("fp32", "fp16", "uint8")


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]
) -> Exported:
    return export_once(tmp_path_factory.getbasetemp(), write_images)


@pytest.fixture(scope="module")
def server(exported: Exported) -> Iterator[RunningCloud]:
    with running([exported.path]) as server:
        yield server


def edge_part(exported: Exported, split_point: int) -> Floats:
    """Features of all images after the segments before `split_point`, from PyTorch."""
    with torch.inference_mode():
        _, features = exported.network.edge(torch.from_numpy(exported.images), split_point)
    return np.ascontiguousarray(features.numpy())


def cloud_part(exported: Exported, features: Floats, split_point: int) -> Floats:
    """Logits of the last exit from such features, from PyTorch."""
    with torch.inference_mode():
        logits: Floats = exported.network.cloud(torch.from_numpy(features), split_point)[-1].numpy()
    return logits


def assert_equal(logits: Floats, expected: Floats) -> None:
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * float(np.abs(expected).max()))


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("split_point", SPLIT_POINTS)
def test_edge_and_cloud_are_the_whole_network(
    split_point: int, precision: str, compress: bool, exported: Exported, server: RunningCloud
) -> None:
    features = edge_part(exported, split_point)
    received = unpack(*pack(features, precision))
    with HttpCloud(server.url, exported.id_before, precision=precision, compress=compress) as cloud:
        logits = cloud.infer(features, split_point, None)
    assert_equal(logits, cloud_part(exported, received, split_point))
    if precision == "fp32":
        with torch.inference_mode():
            assert_equal(logits, exported.network(torch.from_numpy(exported.images))[-1].numpy())
