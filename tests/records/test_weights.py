"""The sizes of weights against those of the loaded network."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from torch import nn

from eenn.artifact import store
from eenn.artifact.manifest import ArtifactTruncated, manifest_id, read_manifest
from eenn.data.splits import Split
from eenn.models.building import build, place
from eenn.preprocess import Preprocessing
from eenn.records.weights import weight_bytes
from eenn.statistics.calibration import Temperatures


def saved(path: Path, backbone: str) -> nn.Module:
    architecture = place(3, 2, "conv", 1.0, 64, backbone)
    network = build(architecture)
    store.save(
        path,
        network,
        architecture=architecture,
        classes=("ant", "bee", "cat"),
        preprocessing=Preprocessing(64, 64),
        temperatures=Temperatures((1.0, 1.0, 1.0), 1.0),
        fitted="not at all",
        validation_accuracy=(0.3, 0.3, 0.3),
        split=Split(0, ("a",), ("b",), ("c",)),
    )
    return network


def bytes_of(module: nn.Module) -> int:
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("backbone", ["mobilenet_v3_small", "alexnet"])
def test_sizes_are_those_of_the_loaded_network(backbone: str, tmp_path: Path) -> None:
    network = saved(tmp_path / "artifact", backbone)
    found = weight_bytes(read_manifest(tmp_path / "artifact"))
    segments, heads = network.get_submodule("segments"), network.get_submodule("heads")
    assert found.segments == tuple(map(bytes_of, segments.children()))
    assert found.heads == tuple(map(bytes_of, heads.children()))
    assert found.held((0, 1), rest_on_device=True) == bytes_of(network)
    if backbone == "alexnet":  # whose classifier holds nine tenths of the weights
        assert found.held((0, 1), rest_on_device=False) < 0.05 * bytes_of(network)


def test_a_file_of_other_tensors_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "artifact"
    saved(path, "mobilenet_v3_small")
    content = safetensors.numpy.save({"head": np.zeros(3, np.float32)})
    (path / "weights.safetensors").write_bytes(content)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["id"]
    stated = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["files"]["weights.safetensors"] = stated
    manifest["id"] = manifest_id(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactTruncated, match="segments and heads of 3 exits") as caught:
        weight_bytes(read_manifest(path))
    assert "\n" not in str(caught.value)
