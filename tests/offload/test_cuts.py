"""Cuts between the branches: the device computes on, and the cloud goes on from there."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from eenn.artifact.deployment import Deployment
from eenn.errors import EennError
from eenn.exits.decide import decide
from eenn.exits.policies.base import ExitProbs, Policy
from eenn.exits.policies.registry import make_policy
from eenn.exits.rests import DEVICE, PHOTOGRAPH
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.cloud.command import running
from eenn.offload.edge.clouds import LocalCloud, Rest
from eenn.offload.edge.needed import needed_pieces
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.parts import Headless
from eenn.offload.graphs.pieces import cut_at, cut_of
from eenn.offload.protocol.errors import CloudTimeout
from eenn.offload.protocol.wire import Cut
from eenn.statistics.calibration import probabilities
from tests.offload.exported import TEMPERATURES, Exported

Floats = NDArray[np.float32]
INPUT = ("input_5", "fp32")
BLOCKS, LAST_OF = 19, {(): 0, (0,): 3, (1,): 7, (0, 2): 14}


def policy(p_tar: float) -> Policy:
    return make_policy("confidence", {"p_tar": p_tar})


@pytest.fixture(scope="module")
def outputs(exported: Exported) -> list[ExitProbs]:
    with torch.inference_mode():
        logits = exported.network(torch.from_numpy(exported.images)).numpy()
    return [
        ExitProbs(exit, probabilities(own, TEMPERATURES[exit])) for exit, own in enumerate(logits)
    ]


def deployment(exported: Exported, **given: object) -> Deployment:
    own = {"artifact_id": exported.graphs.manifest.id, "policy": policy(0.65), "active": (0,)}
    return Deployment(**{**own, **given})


def test_the_cloud_serves_the_cuts_that_send_clearly_less(exported: Exported) -> None:
    assert {f"eenn-cloud-{cut.name}" for cut in exported.graphs.cuts} == set(exported.models)
    for cut, shape in enumerate(exported.shapes[:-1]):
        assert exported.graphs.features_shape(cut) == shape


def test_an_index_of_an_earlier_version_has_the_cuts_behind_branches(exported: Exported) -> None:
    rows = tuple(replace(row, shape=None) for row in exported.graphs.rows)
    earlier = Graphs(exported.graphs.manifest, rows)
    assert {"0", "1", "2", "3"} == {cut.name for cut in earlier.cuts}
    assert earlier.id == exported.graphs.id
    with pytest.raises(EennError, match="run `eenn-export` again"):
        earlier.features_shape(5)


@pytest.mark.parametrize("shape", [[2**20, 2**20, 2**20], [-1, 8, 8], [0, 8, 8]])
def test_an_index_with_impossible_features_is_refused(
    shape: list[int], exported: Exported, tmp_path: Path
) -> None:
    shutil.copytree(exported.path, tmp_path / "artifact")
    index = tmp_path / "artifact" / "onnx" / "index.json"
    content = json.loads(index.read_text())
    (row,) = (row for row in content["pieces"] if (row["name"], row["precision"]) == INPUT)
    row["shape"] = shape
    index.write_text(json.dumps(content))
    with pytest.raises(EennError, match="sides of 1 or more"):
        Graphs.read(tmp_path / "artifact")


@pytest.mark.parametrize("first", range(0, BLOCKS, 5))
@pytest.mark.parametrize("count", [1, 4])
def test_blocks_without_a_head_are_those_of_the_network(
    exported: Exported, first: int, count: int
) -> None:
    blocks = [block for own in exported.network.blocks for block in own]
    last = min(first + count, BLOCKS)
    features = torch.from_numpy(exported.images[:3])
    with torch.inference_mode():
        for block in blocks[:first]:
            features = block(features)
        expected = features
        for block in blocks[first:last]:
            expected = block(expected)
    own = Headless(exported.graphs, first, last, "fp32", 1).features(features.numpy())
    assert_allclose(own, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("active", LAST_OF)
@pytest.mark.parametrize("further", [0, 1, 3])
def test_answers_are_those_of_the_decisions_wherever_the_cut_is(
    active: tuple[int, ...], further: int, exported: Exported, outputs: list[ExitProbs]
) -> None:
    cut = LAST_OF[active] + further
    seen: list[tuple[object, ...]] = []

    class Noting(LocalCloud):
        def infer(self, features: Floats, cut: Cut, *others: object) -> Floats:
            seen.append((features, cut))
            return super().infer(features, cut, *others)

    rule = policy(0.65)
    runtime = EdgeRuntime(exported.path, rule, active, Rest(Noting(exported.path), cut=cut))
    results = runtime.classify(exported.images)
    decided = decide(rule, outputs, active)
    assert [result.label for result in results] == decided.label.tolist()
    assert [result.exit for result in results] == decided.taken.tolist()
    ((features, asked),) = seen
    assert asked == cut_at(exported.graphs.manifest, cut)
    left = torch.from_numpy(exported.images[~decided.on_edge])
    with torch.inference_mode():
        for block in [block for own in exported.network.blocks for block in own][:cut]:
            left = block(left)
    assert_allclose(features, left, rtol=0, atol=1e-4 * float(left.abs().max()))
    offloaded = next(result for result in results if not result.on_edge)
    assert len(offloaded.stages_ms) == len(active) + (further > 0)


def test_a_cloud_goes_on_from_any_of_its_cuts(exported: Exported) -> None:
    alone = LocalCloud(exported.path)
    with (
        running([exported.path]) as server,
        HttpCloud(server.url, exported.graphs.id) as cloud,
    ):
        for cut in exported.graphs.cuts:
            features = torch.from_numpy(exported.images[:2])
            with torch.inference_mode():
                for block in [b for own in exported.network.blocks for b in own][: cut.blocks]:
                    features = block(features)
            own = cloud.infer(features.numpy(), cut, None)
            assert_allclose(own, alone.infer(features.numpy(), cut, None), rtol=1e-4, atol=1e-4)


def test_standing_by_goes_on_from_the_cut(exported: Exported, outputs: list[ExitProbs]) -> None:
    class Down:
        def infer(self, *_: object) -> Floats:
            raise CloudTimeout("down", "timeout")

    rest = Rest(Down(), standby=LocalCloud(exported.path), cut=9)
    rule = policy(1.0)
    runtime = EdgeRuntime(exported.path, rule, (1,), rest)
    results = runtime.classify(exported.images[:8])
    assert [result.label for result in results] == outputs[-1].prediction[:8].tolist()
    assert all(result.on_edge and result.failure for result in results)


def test_a_folder_for_a_device_has_the_blocks_up_to_the_cut(exported: Exported) -> None:
    needed = needed_pieces(exported.graphs.manifest, deployment(exported, cut=9))
    blocks = {name for name, _ in needed if name.startswith("block_")}
    assert blocks == {f"block_{block}" for block in range(9)}
    assert ("output_9", "fp32") in needed
    whole = deployment(exported, cut=9, on_failure="continue")
    blocks = {name for name, _ in needed_pieces(exported.graphs.manifest, whole)}
    assert {f"block_{block}" for block in range(19)} | {"head_4_plain"} <= blocks


def test_a_deployment_keeps_its_cut(exported: Exported, tmp_path: Path) -> None:
    own = deployment(exported, cut=9)
    own.save(tmp_path / "deployment.json")
    assert Deployment.load(tmp_path / "deployment.json") == own


@pytest.mark.parametrize("given", [{"rest": DEVICE}, {"payload": PHOTOGRAPH}])
def test_a_cut_needs_features_for_a_cloud(given: dict[str, str], exported: Exported) -> None:
    with pytest.raises(EennError, match="or leave the cut out"):
        deployment(exported, cut=9, **given)


@pytest.mark.parametrize("cut", [-1, 0, 6, 19, 10**9])
def test_a_cut_is_between_the_last_active_branch_and_the_last_block(
    cut: int, exported: Exported
) -> None:
    with pytest.raises(EennError, match=f"cut={cut}: allowed are 7 blocks, .* to 18"):
        cut_of(exported.graphs.manifest, (0, 1), cut)
    with pytest.raises(EennError, match="leave it out"):
        needed_pieces(exported.graphs.manifest, deployment(exported, active=(0, 1), cut=cut))
