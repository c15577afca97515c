"""Exported graphs against PyTorch on both sides of every cut, and what failed exports leave."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from torch import nn

from eenn.artifact import store
from eenn.artifact.manifest import ArtifactEdited, ArtifactMissing, ArtifactVersion
from eenn.errors import EennError
from eenn.models.early_exit import EarlyExitNet
from eenn.models.heads import HEADS, make_head
from eenn.offload.export import write as export_room
from eenn.offload.export.write import export, whole_graph
from eenn.offload.graphs.index import Graphs, open_session
from tests.offload.exported import CLASSES, Exported, off_their_start

Floats = NDArray[np.float32]
BRANCHES = 3


def run(session: InferenceSession, features: Floats, output: str = "logits") -> Floats:
    (value,) = session.run([output], {"features": features})
    return np.asarray(value)


def difference(own: Floats, truth: Floats) -> float:
    return float(np.abs(own - truth).max() / np.abs(truth).max())


def copied(exported: Exported, place: Path) -> Path:
    return Path(shutil.copytree(exported.path, place / "artifact"))


def test_there_is_a_graph_for_every_run_of_segments_and_every_cut(exported: Exported) -> None:
    stages = {f"stage_{i}_{k}" for k in range(1, BRANCHES + 1) for i in range(k)}
    clouds = {f"cloud_{k}" for k in range(BRANCHES + 1)}
    folder = exported.path / "onnx"
    files = {f"{name}{kind}" for name in stages | clouds for kind in (".onnx", ".int8.onnx")}
    assert {file.name for file in folder.iterdir()} == files | {"index.json"}
    index = json.loads((folder / "index.json").read_text())
    assert index["artifact_id"] == exported.id_before
    for row in index["graphs"]:
        kind = "" if row["precision"] == "fp32" else ".int8"
        content = (folder / f"{row['name']}{kind}.onnx").read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (row["bytes"], row["sha256"])
        assert row["outputs"]["logits"] == [len(CLASSES)]
        assert row["images"] == len(exported.images)
    assert Graphs.read(exported.path).rows == exported.graphs.rows


def test_the_artifact_stays_the_same(exported: Exported) -> None:
    assert store.load(exported.path).manifest.id == exported.id_before


@pytest.mark.parametrize("split_point", range(BRANCHES + 1))
def test_any_edge_part_and_its_cloud_part_are_the_whole_network(
    exported: Exported, split_point: int
) -> None:
    x = torch.from_numpy(exported.images)
    with torch.inference_mode():
        logits = exported.network(x).numpy()
        _, features = exported.network.edge(x, split_point)
    ours = exported.images
    for k in range(split_point):
        stage = exported.graphs.session(f"stage_{k}_{k + 1}", "fp32", 1)
        assert difference(run(stage, ours), logits[k]) < 1e-4
        ours = run(stage, ours, "next_features")
    assert difference(ours, features.numpy()) < 1e-4
    cloud = exported.graphs.session(f"cloud_{split_point}", "fp32", 1)
    assert difference(run(cloud, ours), logits[-1]) < 1e-4


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_stages_in_a_chain_are_the_merged_stage(exported: Exported, precision: str) -> None:
    def session(name: str) -> InferenceSession:
        return exported.graphs.session(name, precision, 1)

    features = exported.images
    for k in range(BRANCHES):
        stage = session(f"stage_{k}_{k + 1}")
        merged = session(f"stage_0_{k + 1}")
        for output in ("logits", "next_features"):
            chained = run(stage, features, output)
            assert difference(chained, run(merged, exported.images, output)) < 1e-4
        features = run(stage, features, "next_features")
        assert difference(
            run(session(f"cloud_{k + 1}"), features), run(session("cloud_0"), exported.images)
        ) < 1e-4  # fmt: skip


def test_the_batch_is_free_and_images_in_it_do_not_see_each_other(exported: Exported) -> None:
    session = exported.graphs.session("cloud_0", "fp32", 1)
    together = run(session, exported.images)
    for batch in (1, 5):
        apart = [run(session, exported.images[i : i + batch]) for i in range(0, 48, batch)]
        np.testing.assert_allclose(np.concatenate(apart), together, rtol=0, atol=1e-5)


def test_no_batch_norm_and_no_path_of_this_machine_is_left(exported: Exported) -> None:
    for row in exported.graphs.rows:
        content = (exported.path / "onnx" / row.file).read_bytes()
        operations = {node.op_type for node in onnx.load_from_string(content).graph.node}
        assert not operations & {"BatchNormalization", "ReduceMean"}
        assert b"eenn/" not in content
        assert b"torch" not in content
        assert b"site-packages" not in content


def test_int8_is_int8(exported: Exported) -> None:
    for name in ("stage_0_3", "cloud_0"):
        model = onnx.load(exported.path / "onnx" / f"{name}.int8.onnx")
        weights = {tensor.name: tensor for tensor in model.graph.initializer}
        # Of every convolution but the first two, one scale for each of its channels.
        dequantised = {
            node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"
        }
        convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
        for convolution in convolutions[2:]:
            weight, scale, _ = (weights[i] for i in dequantised[convolution.input[1]].input)
            assert weight.data_type == onnx.TensorProto.INT8
            assert list(scale.dims) == [weight.dims[0]]
        fp32, int8 = (exported.graphs.row(name, kind).bytes for kind in ("fp32", "int8"))
        assert int8 < 0.6 * fp32


def test_what_is_reported_of_int8_is_what_a_loop_over_images_finds(exported: Exported) -> None:
    x = torch.from_numpy(exported.images)
    with torch.inference_mode():
        truth = exported.network(x).argmax(-1).numpy()
    for name, exit in (("stage_0_1", 0), ("stage_0_3", 2), ("cloud_0", 3)):
        session = exported.graphs.session(name, "int8", 1)
        same = sum(
            int(run(session, image[None]).argmax()) == truth[exit, i]
            for i, image in enumerate(exported.images)
        )
        row = exported.graphs.row(name, "int8")
        assert row.same_answers == pytest.approx(same / len(exported.images))
        assert same / len(exported.images) > 0.4
        assert row.max_relative_difference > 1e-4
        assert exported.graphs.row(name, "fp32").same_answers == 1


@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("kind", HEADS)
def test_every_head_is_exported(kind: str, side: int) -> None:
    torch.manual_seed(0)
    segments = [nn.Conv2d(3, 8, 3, padding=1), nn.Sequential(nn.ReLU(), nn.Conv2d(8, 6, 1))]
    heads = [make_head(kind, 8, side, 4, 5), make_head(kind, 6, side, side, 5)]
    network = EarlyExitNet(segments, heads)
    x = torch.randn(3, 3, side, side)
    off_their_start(network, x)
    with torch.inference_mode():
        truth = network(x).numpy()
    model = whole_graph(network, side)
    own = open_session(model.SerializeToString(), 1).run(
        ["logits_1", "logits_2"], {"features_0": x.numpy()}
    )
    assert difference(np.stack(own), truth) < 1e-5


def not_the_truth(network: EarlyExitNet, images: Floats) -> Any:
    values = real_outputs(network, images)
    values["logits_2"] = values["logits_2"] * (1 + 3e-3)
    return values


def without_numbers(network: EarlyExitNet, images: Floats) -> Any:
    values = real_outputs(network, images)
    values["logits_2"] = np.full_like(values["logits_2"], np.nan)
    return values


real_outputs = export_room._outputs


def test_rounding_that_a_deep_network_amplified_is_no_difference(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rounded(*arguments: Any) -> Any:
        values = real_outputs(*arguments)
        largest = np.abs(values["logits_2"]).max()
        return values | {"logits_2": values["logits_2"] + np.float32(3e-4 * largest)}

    directory = copied(exported, tmp_path)
    shutil.rmtree(directory / "onnx")
    monkeypatch.setattr(export_room, "whole_graph", lambda *_: exported.whole)
    monkeypatch.setattr(export_room, "_outputs", rounded)
    export(directory, [exported.images[:4]], exported.images)
    assert (directory / "onnx").exists()


@pytest.mark.parametrize("outputs", [not_the_truth, without_numbers])
def test_a_graph_that_differs_from_pytorch_is_never_written(
    outputs: Callable[..., Any],
    exported: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory = copied(exported, tmp_path)
    shutil.rmtree(directory / "onnx")
    before = sorted(directory.iterdir())
    monkeypatch.setattr(export_room, "whole_graph", lambda *_: exported.whole)
    monkeypatch.setattr(export_room, "_outputs", outputs)
    with pytest.raises(EennError, match=r"stage_0_2 differs from PyTorch .* nothing was written"):
        export(directory, [exported.images[:4]], exported.images)
    assert sorted(directory.iterdir()) == before


@pytest.mark.parametrize(
    ("calibration", "images", "said"),
    [
        ([], np.zeros((1, 3, 32, 32), np.float32), "no images to calibrate"),
        ([np.zeros((1, 3, 32, 32))], np.zeros((1, 3, 32, 32), np.float32), "float64"),
        ([np.zeros((1, 3, 32, 32), np.float32)], np.zeros((0, 3, 32, 32), np.float32), "at least"),
        ([np.zeros((1, 3, 32, 32), np.float32)], np.zeros((1, 3, 64, 64), np.float32), "3, 32, 32"),
    ],
)
def test_images_that_do_not_fit_are_refused(
    calibration: Any, images: Any, said: str, exported: Exported, tmp_path: Path
) -> None:
    directory = copied(exported, tmp_path)
    shutil.rmtree(directory / "onnx")
    with pytest.raises(EennError, match=said):
        export(directory, calibration, images)
    assert not (directory / "onnx").exists()


def test_graphs_are_never_overwritten(exported: Exported) -> None:
    with pytest.raises(EennError, match="never overwritten"):
        export(exported.path, [exported.images], exported.images)
    Graphs.read(exported.path).session("cloud_0", "fp32", 1)


def edit_index(directory: Path, **changes: Any) -> None:
    file = directory / "onnx" / "index.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda d: shutil.rmtree(d / "onnx"), ArtifactMissing),
        (lambda d: (d / "onnx" / "cloud_0.onnx").unlink(), ArtifactMissing),
        (lambda d: (d / "onnx" / "cloud_0.onnx").write_bytes(b"onnx"), ArtifactEdited),
        (lambda d: (d / "onnx" / "index.json").write_text("{"), ArtifactEdited),
        (lambda d: (d / "onnx" / "index.json").write_text("[]"), ArtifactEdited),
        (lambda d: edit_index(d, graphs=[{"name": "cloud_0"}]), ArtifactEdited),
        (lambda d: edit_index(d, artifact_id="0" * 64), ArtifactEdited),
        (lambda d: edit_index(d, schema_version=99, graphs=None), ArtifactVersion),
    ],
)
def test_damage_has_its_own_error(
    damage: Callable[[Path], None], error: type[EennError], exported: Exported, tmp_path: Path
) -> None:
    directory = copied(exported, tmp_path)
    damage(directory)
    with pytest.raises(error, match="eenn-export") as caught:
        Graphs.read(directory).session("cloud_0", "fp32", 1)
    assert str(directory) in str(caught.value)


def truncated(graph: bytes) -> bytes:
    return graph[: len(graph) // 2]


def of_unknown_operators(graph: bytes) -> bytes:
    return graph.replace(b"Conv", b"Kong")


@pytest.mark.parametrize(
    "damage", [lambda _: b"", lambda _: b"garbage", truncated, of_unknown_operators]
)
def test_a_graph_that_fits_its_hash_but_does_not_run_is_one_line(
    damage: Callable[[bytes], bytes], exported: Exported, tmp_path: Path
) -> None:
    directory = copied(exported, tmp_path)
    file = directory / "onnx" / "cloud_0.onnx"
    content = damage(file.read_bytes())
    file.write_bytes(content)
    rows = json.loads((directory / "onnx" / "index.json").read_text())["graphs"]
    (row,) = (row for row in rows if (row["name"], row["precision"]) == ("cloud_0", "fp32"))
    row |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit_index(directory, graphs=rows)
    with pytest.raises(
        ArtifactEdited, match=r"cloud_0\.onnx is not a graph for ONNX Runtime"
    ) as caught:
        Graphs.read(directory).session("cloud_0", "fp32", 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("index", ["[" * 100_000, '{"schema_version": [[[', "null", "5"])
def test_an_odd_index_is_one_line(index: str, exported: Exported, tmp_path: Path) -> None:
    directory = copied(exported, tmp_path)
    (directory / "onnx" / "index.json").write_text(index)
    with pytest.raises(ArtifactEdited, match="not a whole index"):
        Graphs.read(directory)


@pytest.mark.parametrize(("name", "precision"), [("cloud_9", "fp32"), ("cloud_0", "fp16")])
def test_a_graph_that_is_not_there_is_named_with_those_that_are(
    name: str, precision: str, exported: Exported
) -> None:
    with pytest.raises(
        EennError, match=f"graph {name} in {precision} does not exist.*int8.*cloud_3"
    ):
        exported.graphs.session(name, precision, 1)
