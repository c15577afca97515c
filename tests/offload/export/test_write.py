"""Graphs joined from pieces against PyTorch at every border, and what failed exports leave."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
import torch
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from torch import nn

from eenn.artifact import store
from eenn.errors import EennError
from eenn.models.early_exit import EarlyExitNet
from eenn.models.heads import HEADS, make_head
from eenn.offload.export import write as export_room
from eenn.offload.export.write import export, whole_graph
from eenn.offload.graphs.index import Graphs, open_session
from eenn.offload.graphs.pieces import features_name, segments
from tests.offload.exported import Exported, off_their_start

Floats = NDArray[np.float32]
BRANCHES, BLOCKS = 3, 19
ENDS = (0, 3, 7, 14, 19)


def run(session: InferenceSession, features: Floats, output: str = "logits") -> Floats:
    (value,) = session.run([output], {"features": features})
    return np.asarray(value)


def graph(exported: Exported, start: int, stop: int, precision: str = "fp32") -> InferenceSession:
    """The segments between two split points, with the head and the features behind them."""
    return exported.graphs.session(
        segments(exported.graphs.manifest, exported.cut(start).blocks, stop), precision, 1
    )


def after(stop: int) -> str:
    return features_name(ENDS[stop])


def difference(own: Floats, truth: Floats) -> float:
    return float(np.abs(own - truth).max() / np.abs(truth).max())


def copied(exported: Exported, place: Path) -> Path:
    return Path(shutil.copytree(exported.path, place / "artifact"))


def test_every_block_and_head_is_a_file_of_each_precision(exported: Exported) -> None:
    names = {f"block_{block}" for block in range(BLOCKS)}
    names |= {f"head_{exit}_plain" for exit in range(1, BRANCHES + 2)}
    names |= {f"input_{border}" for border in range(BLOCKS + 1)}
    names |= {f"output_{border}" for border in range(1, BLOCKS + 1)}
    folder = exported.path / "onnx"
    files = {f"{precision}/{name}.onnx" for name in names for precision in ("fp32", "int8")}
    found = {str(file.relative_to(folder)) for file in folder.rglob("*.*")}
    assert found == files | {"index.json"}
    index = json.loads((folder / "index.json").read_text())
    assert index["artifact_id"] == exported.id_before
    for row in index["pieces"]:
        content = (folder / row["precision"] / f"{row['name']}.onnx").read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (row["bytes"], row["sha256"])
        assert row["images"] == (len(exported.images) if row["name"][0] in "bh" else None)
    assert Graphs.read(exported.path).rows == exported.graphs.rows


def test_weights_are_stored_once(exported: Exported) -> None:
    """In both precisions together in less than 1.6 times the bytes of the network in fp32."""
    kept = sum(tensor.nbytes for tensor in exported.network.state_dict().values())
    stored = dict.fromkeys(("fp32", "int8"), 0)
    for row in exported.graphs.rows:
        model = onnx.load_from_string((exported.path / "onnx" / row.file).read_bytes())
        stored[row.precision] += sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    assert stored["fp32"] < 1.01 * kept  # batch norms are folded
    assert stored["int8"] < 0.5 * kept


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("stop", range(1, BRANCHES + 2))
def test_pieces_in_a_row_are_a_valid_model(exported: Exported, stop: int, precision: str) -> None:
    for start in range(stop):
        pieces = segments(exported.graphs.manifest, exported.cut(start).blocks, stop)
        model = onnx.load_from_string(exported.graphs.joined(pieces, precision))
        onnx.checker.check_model(model, full_check=True)
        assert [value.name for value in model.graph.input] == ["features"]
        assert [value.name for value in model.graph.output] == ["logits", after(stop)]


@pytest.mark.parametrize("border", range(1, BLOCKS))
def test_what_is_before_any_block_and_what_is_behind_it_are_the_whole(
    exported: Exported, border: int
) -> None:
    x = torch.from_numpy(exported.images)
    with torch.inference_mode():
        truth = exported.network(x)[-1].numpy()
        blocks = [block for segment in exported.network.segments for block in segment.children()]
        features = nn.Sequential(*blocks[:border])(x).numpy()
    names = [f"block_{block}" for block in range(BLOCKS)]
    for precision in ("fp32", "int8"):

        def session(*pieces: str, precision: str = precision) -> InferenceSession:
            return exported.graphs.session(pieces, precision, 1)

        edge = session("input_0", *names[:border], f"output_{border}")
        ours = run(edge, exported.images, f"features_{border}")
        if precision == "fp32":
            assert difference(ours, features) < 1e-4
        cloud = session(f"input_{border}", *names[border:], f"head_{BRANCHES + 1}_plain")
        logits = run(cloud, ours)
        if precision == "fp32":
            assert difference(logits, truth) < 1e-4
        whole = session("input_0", *names, f"head_{BRANCHES + 1}_plain")
        assert difference(logits, run(whole, exported.images)) < 1e-4


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
        stage = graph(exported, k, k + 1)
        assert difference(run(stage, ours), logits[k]) < 1e-4
        ours = run(stage, ours, after(k + 1))
    assert difference(ours, features.numpy()) < 1e-4
    cloud = graph(exported, split_point, BRANCHES + 1)
    assert difference(run(cloud, ours), logits[-1]) < 1e-4


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_stages_in_a_chain_are_the_merged_stage(exported: Exported, precision: str) -> None:
    features = exported.images
    for k in range(BRANCHES + 1):
        stage = graph(exported, k, k + 1, precision)
        merged = graph(exported, 0, k + 1, precision)
        for output in ("logits", after(k + 1)):
            chained = run(stage, features, output)
            assert difference(chained, run(merged, exported.images, output)) < 1e-4
        features = run(stage, features, after(k + 1))


def test_the_batch_is_free_and_images_in_it_do_not_see_each_other(exported: Exported) -> None:
    session = graph(exported, 0, BRANCHES + 1)
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
    for stop in (BRANCHES, BRANCHES + 1):
        pieces = segments(exported.graphs.manifest, 0, stop)
        model = onnx.load_from_string(exported.graphs.joined(pieces, "int8"))
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
        fp32, int8 = (len(exported.graphs.joined(pieces, kind)) for kind in ("fp32", "int8"))
        assert int8 < 0.7 * fp32


def test_what_is_reported_of_a_piece_is_what_a_loop_over_images_finds(exported: Exported) -> None:
    features, rows = torch.from_numpy(exported.images), {}
    for row in exported.graphs.rows:
        rows[row.name, row.precision] = row
    blocks = [block for segment in exported.network.segments for block in segment.children()]
    for number, block in enumerate(blocks[:4]):
        with torch.inference_mode():
            truth = block(features).numpy()
        for precision in ("fp32", "int8"):
            session = exported.graphs.session(
                (f"input_{number}", f"block_{number}", f"output_{number + 1}"), precision, 1
            )
            one_by_one = [
                run(session, image[None], features_name(number + 1)) for image in features.numpy()
            ]
            found = difference(np.concatenate(one_by_one), truth)
            row = rows[f"block_{number}", precision]
            assert row.max_relative_difference == pytest.approx(found, abs=1e-6)
        features = torch.from_numpy(truth)


@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("kind", HEADS)
def test_every_head_is_exported(kind: str, side: int) -> None:
    torch.manual_seed(0)
    blocks = [nn.Conv2d(3, 8, 3, padding=1), nn.Sequential(nn.ReLU(), nn.Conv2d(8, 6, 1))]
    heads = [make_head(kind, 8, side, 4, 5), make_head(kind, 6, side, side, 5)]
    network = EarlyExitNet([nn.Sequential(block) for block in blocks], heads)
    x = torch.randn(3, 3, side, side)
    off_their_start(network, x)
    with torch.inference_mode():
        truth = network(x).numpy()
    model = whole_graph(network, side)
    own = open_session(model.SerializeToString(), 1).run(
        ["logits_1", "logits_2"], {"features_0": x.numpy()}
    )
    assert difference(np.stack(own), truth) < 1e-5


real_checks = export_room._checks


def disturbed(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., Any]:
    """The checks of the pieces, with another truth for the head of exit 2."""

    def checks(*arguments: Any) -> Any:
        for check in real_checks(*arguments):
            is_head = check.piece == "head_2_plain"
            yield check._replace(truth=change(check.truth)) if is_head else check

    return checks


def test_rounding_that_a_deep_network_amplified_is_no_difference(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = copied(exported, tmp_path)
    shutil.rmtree(directory / "onnx")
    monkeypatch.setattr(export_room, "whole_graph", lambda *_: exported.whole)
    rounded = disturbed(lambda truth: truth + 3e-4 * truth.abs().max())
    monkeypatch.setattr(export_room, "_checks", rounded)
    export(directory, [exported.images[:4]], exported.images)
    assert (directory / "onnx").exists()


@pytest.mark.parametrize(
    "change", [lambda truth: truth * (1 + 3e-3), lambda truth: torch.full_like(truth, torch.nan)]
)
def test_a_piece_that_differs_from_pytorch_is_never_written(
    change: Callable[[torch.Tensor], torch.Tensor],
    exported: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory = copied(exported, tmp_path)
    shutil.rmtree(directory / "onnx")
    before = sorted(directory.iterdir())
    monkeypatch.setattr(export_room, "whole_graph", lambda *_: exported.whole)
    monkeypatch.setattr(export_room, "_checks", disturbed(change))
    said = r"head_2_plain differs from PyTorch .* nothing was written"
    with pytest.raises(EennError, match=said):
        export(directory, [exported.images[:4]], exported.images)
    assert sorted(directory.iterdir()) == before


def test_features_that_are_all_zero_have_to_be_zero() -> None:
    """As of a network that died in training."""
    zero, one = np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)
    assert export_room._relative_difference(zero, zero) == 0
    assert export_room._relative_difference(one, zero) == np.inf
    assert export_room._relative_difference(one, 2 * one) == 0.5


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
    graph(exported, 0, BRANCHES + 1)
