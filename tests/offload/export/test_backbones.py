"""Every backbone through the export: graphs against PyTorch at every cut, the edge, int8."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eenn.artifact import store
from eenn.data.splits import Split
from eenn.exits.decide import decide
from eenn.exits.policies.base import ExitProbs
from eenn.exits.policies.registry import make_policy
from eenn.models.building import build, place
from eenn.offload.edge.clouds import LocalCloud
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.export.quantise import sensitive_nodes
from eenn.offload.export.write import export, whole_graph
from eenn.preprocess import Preprocessing
from eenn.statistics.calibration import Temperatures, probabilities
from tests.offload.exported import off_their_start

CLASSES = ("ant", "bee", "cat")
SIZE = 64
# The others take a minute and more.
LIGHT = (
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "resnet18",
    "regnet_y_400mf",
    "shufflenet_v2_x1_0",
    "mnasnet1_0",
    "timm/tf_efficientnet_lite0",
    "timm/edgenext_xx_small",  # measures the batch of the images in the middle of the network
    "timm/convnext_atto",  # whose features are channels last
)


def saved(name: str, path: Path, images: NDArray[np.float32]) -> store.Artifact:
    architecture = place(len(CLASSES), 2, "conv", 1.0, SIZE, name)
    torch.manual_seed(0)
    network = build(architecture)
    off_their_start(network, torch.from_numpy(images))
    store.save(
        path,
        network,
        architecture=architecture,
        classes=CLASSES,
        preprocessing=Preprocessing(SIZE, SIZE),
        temperatures=Temperatures((1.0, 1.0, 1.0), 1.0),
        fitted="not at all",
        validation_accuracy=(0.3, 0.3, 0.3),
        split=Split(0, ("a",), ("b",), ("c",)),
    )
    return store.load(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", LIGHT)
def test_what_the_edge_and_the_cloud_answer_is_what_the_network_says(
    name: str, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).standard_normal((16, 3, SIZE, SIZE)).astype(np.float32)
    artifact = saved(name, tmp_path / "artifact", images)
    assert artifact.manifest.architecture.backbone == name
    # The export itself compares every graph with PyTorch, and refuses one that differs.
    export(artifact.manifest.path, [images], images)
    with torch.inference_mode():
        logits = artifact.network(torch.from_numpy(images)).numpy()
    outputs = [ExitProbs(exit, probabilities(own, 1.0)) for exit, own in enumerate(logits)]
    policy = make_policy("confidence", {"p_tar": float(np.median(outputs[0].confidence))})
    active = (0, 1)
    expected = decide(policy, outputs, active)
    assert len({*expected.taken}) > 1
    runtime = EdgeRuntime(
        artifact.manifest.path, policy, active, LocalCloud(artifact.manifest.path)
    )
    for result, taken, label in zip(
        runtime.classify(images), expected.taken, expected.label, strict=True
    ):
        assert (result.exit, result.label) == (taken, label)


@pytest.mark.parametrize(
    ("name", "count"), [("mobilenet_v2", 2), ("resnet18", 1), ("efficientnet_b0", 2)]
)
def test_the_stem_stays_in_fp32(name: str, count: int) -> None:
    whole = whole_graph(build(place(3, 0, input_size=SIZE, backbone=name)), SIZE)
    convolutions = [node.name for node in whole.graph.node if node.op_type == "Conv"]
    assert sensitive_nodes(whole) == convolutions[:count]
