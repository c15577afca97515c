"""eenn-export as its users run it: graphs, what the report says, and a repository for Triton."""

import io
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from google.protobuf import text_format
from onnxruntime import InferenceSession
from tritonclient.grpc import model_config_pb2

from eenn.artifact import store
from eenn.data.datasets import FolderImages
from eenn.data.splits import Split
from eenn.offload.export import command
from eenn.offload.export.report import ExportReport, Replay, export_artifact
from eenn.offload.graphs.index import Graphs
from eenn.records.evaluated_artifact import open_artifact
from tests.artifact.trained_run import PREPROCESSING, make_run

BRANCHES, P_TAR = 3, 0.8


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "all", ant=60, bee=60, cat=60, dog=60)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """The directory of a training run."""
    return make_run(tmp_path_factory.mktemp("run") / "noise", images, BRANCHES)


@pytest.fixture(scope="module")
def read_by(run: Path) -> tuple[str, list[str]]:
    """What `eenn-export` prints, and the images that it reads, in order."""
    read: list[str] = []
    real = FolderImages.file

    def noted(source: FolderImages, index: int) -> bytes:
        read.append(source.sample_ids[index])
        return real(source, index)

    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(FolderImages, "file", noted)
        command.main([str(run), "--calibration", "32", "--checked", "8"])
    return printed.getvalue(), read


@pytest.fixture(scope="module")
def report(run: Path, read_by: object) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "artifact" / "onnx" / "report.json").read_text())
    return content


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        command.main(arguments)
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def alone(run: Path, images: Path) -> list[tuple[int, int, int]]:
    """Of every validation image in PyTorch, one by one: exit from 1, answer, truth."""
    saved = store.load(run / "artifact")
    found = []
    for sample_id in Split.load(saved.manifest.split_file).val:
        x = PREPROCESSING(PREPROCESSING.read(images / sample_id))
        with torch.inference_mode():
            logits = saved.network(torch.from_numpy(x)[None])[:, 0].double()
        temperatures = torch.tensor(saved.manifest.temperatures.per_exit)[:, None]
        confidence, answer = torch.softmax(logits / temperatures, -1).max(-1)
        sure = (confidence >= P_TAR).nonzero()
        exit = int(sure[0]) if len(sure) else BRANCHES
        truth = saved.manifest.classes.index(sample_id.split("/")[0])
        found.append((exit + 1, int(answer[exit]), truth))
    return found


def test_the_replay_of_the_report_is_what_single_images_come_to(
    report: dict[str, Any], run: Path, images: Path
) -> None:
    expected = np.array(alone(run, images))
    exits, answers, truth = expected.T
    assert set(exits) == {1, 2, 3, 4}
    assert report["images"] == len(expected)
    for replay in report["replays"][:2]:
        assert replay["accuracy"] == pytest.approx((answers == truth).mean())
        assert replay["edge_probability"] == pytest.approx((exits <= BRANCHES).mean())
        assert (replay["exits_changed"], replay["answers_changed"]) == (0, 0)
    assert [replay["precision"] for replay in report["replays"]] == ["PyTorch", "fp32", "int8"]


@pytest.mark.parametrize(("changed", "is_said"), [(0, False), (2, False), (3, True)])
def test_a_precision_that_changes_many_answers_is_said_aloud(changed: int, is_said: bool) -> None:
    replays = [Replay("fp32", 0.9, 0.5, 0, 0), Replay("int8", 0.89, 0.5, 9, changed)]
    shown = str(ExportReport((), 32, 200, tuple(replays), ()))
    assert ("int8 changes 1.5 % of the answers, more than 1 %." in shown) == is_said
    assert "fp32 changes" not in shown


def test_every_image_that_int8_changes_is_listed(
    report: dict[str, Any], run: Path, images: Path
) -> None:
    manifest = store.load(run / "artifact").manifest
    val = Split.load(manifest.split_file).val
    in_pytorch = dict(zip(val, alone(run, images), strict=True))
    (int8,) = (replay for replay in report["replays"] if replay["precision"] == "int8")
    changes = report["changes"]
    assert {change["precision"] for change in changes} <= {"int8"}
    assert sum(len(set(change["exits"])) == 2 for change in changes) == int8["exits_changed"]
    assert sum(len(set(change["answers"])) == 2 for change in changes) == int8["answers_changed"]
    for change in changes:
        exit, answer, _ = in_pytorch[change["sample_id"]]
        assert (change["exits"][0], change["answers"][0]) == (exit, manifest.classes[answer])


def test_every_block_and_head_is_compared(report: dict[str, Any], run: Path) -> None:
    compared = [row for row in Graphs.read(run / "artifact").rows if row.images is not None]
    assert len(compared) == 2 * (19 + BRANCHES + 1)
    for row in compared:
        assert row.images == 8
        assert row.max_relative_difference is not None
        if row.precision == "fp32":
            assert row.max_relative_difference <= 1e-4
    assert report["calibration_images"] == 32
    assert report["data"] == "noise"
    assert {"seed", "hardware", "git_commit", "date", "artifact_id"} <= set(report)


def test_the_tables_are_printed(read_by: tuple[str, list[str]], report: dict[str, Any]) -> None:
    printed, _ = read_by
    for name in ("block_0", "block_18", "head_1_plain"):
        assert f" {name} |" in printed
    for replay in report["replays"]:
        assert f"{100 * replay['accuracy']:.1f}" in printed


def test_int8_is_calibrated_on_training_images_of_all_classes_and_test_images_stay_unread(
    read_by: tuple[str, list[str]], run: Path
) -> None:
    _, read = read_by
    split = Split.load(run / "artifact" / "split.json")
    training = [sample for sample in read if sample in split.train]
    assert len(set(training)) == 32
    assert {sample.split("/")[0] for sample in training} == {"ant", "bee", "cat", "dog"}
    assert set(read) == {*training, *split.val}


def test_graphs_that_are_there_are_never_overwritten(
    run: Path, report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run / "artifact" / "onnx"
    before = {file: file.read_bytes() for file in folder.rglob("*.*")}
    assert "remove it to export again" in error_of(capsys, str(run))
    assert {file: file.read_bytes() for file in folder.rglob("*.*")} == before


@pytest.fixture(scope="module")
def repository(run: Path, read_by: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("triton") / "models"
    command.main([str(run), "--triton", str(path)])
    return path


@pytest.mark.parametrize("split_point", range(BRANCHES + 1))
def test_triton_is_told_what_each_model_takes_and_gives(
    split_point: int, repository: Path, run: Path
) -> None:
    name = f"eenn-cloud-{split_point}"
    text = (repository / name / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    model = onnx.load(repository / name / "1" / "model.onnx")
    assert (config.name, config.platform) == (name, "onnxruntime_onnx")
    assert config.max_batch_size > 1
    assert config.HasField("dynamic_batching")
    own = Graphs.read(run / "artifact").id
    assert config.parameters["eenn_artifact"].string_value == own
    for given, own in ((config.input, model.graph.input), (config.output, model.graph.output)):
        assert [tensor.name for tensor in given] == [value.name for value in own]
        (tensor,), (value,) = given, own
        batch, *shape = value.type.tensor_type.shape.dim
        assert batch.dim_param, "the batch is free"
        assert list(tensor.dims) == [dimension.dim_value for dimension in shape]
        assert tensor.data_type == model_config_pb2.TYPE_FP32
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert [tensor.name for tensor in config.input] == ["features"]
    assert [tensor.name for tensor in config.output] == ["logits"]


@pytest.mark.parametrize("split_point", range(BRANCHES + 1))
def test_the_models_in_the_repository_are_the_rest_of_the_network(
    split_point: int, repository: Path, run: Path, images: Path
) -> None:
    network = store.load(run / "artifact").network
    files = sorted(images.rglob("*.jpg"))[:: 60 // 4]
    x = torch.from_numpy(np.stack([PREPROCESSING(PREPROCESSING.read(file)) for file in files]))
    with torch.inference_mode():
        _, features = network.edge(x, split_point)
        expected = network(x)[-1].numpy()
    model = repository / f"eenn-cloud-{split_point}" / "1" / "model.onnx"
    session = InferenceSession(model, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"features": features.numpy()})
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_a_repository_that_is_there_is_never_overwritten(
    run: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "choose another" in error_of(capsys, str(run), "--triton", str(repository))


def test_a_conventional_network_is_exported_too(tmp_path: Path, images: Path) -> None:
    run = make_run(tmp_path / "run", images, branches=0)
    report = export_artifact(open_artifact(str(run)), calibration=8, checked=4)
    assert {row.name for row in report.pieces if "head" in row.name} == {"head_1_plain"}
    assert [replay.edge_probability for replay in report.replays] == [0, 0, 0]
    assert Graphs.read(run / "artifact").rows == report.pieces


def test_an_artifact_that_was_moved_is_told_where_its_images_are(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", images, branches=0)
    moved = (run / "artifact").rename(tmp_path / "moved")
    assert "--images PATH" in error_of(capsys, str(moved))
    error = error_of(capsys, str(moved), "--images", str(images.parent))
    assert "none of its class folders is a class of the artifact" in error
    assert not (moved / "onnx").exists()
    command.main([str(moved), "--images", str(images), "--calibration", "8", "--checked", "4"])
    assert (moved / "onnx" / "report.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "nowhere holds no artifact"),
        (("RUN", "--calibration", "0"), "allowed is 1 or more"),
        (("RUN", "--checked", "-1"), "allowed is 1 or more"),
        (("RUN", "--images", "nowhere"), "nowhere is not a folder"),
    ],
)
def test_a_mistake_is_one_clear_line_and_leaves_nothing(
    arguments: tuple[str, ...],
    said: str,
    tmp_path: Path,
    images: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = make_run(tmp_path / "run", images, branches=0)
    given = [str(run) if argument == "RUN" else argument for argument in arguments]
    assert said in error_of(capsys, *given)
    assert not (run / "artifact" / "onnx").exists()


def test_help_comes_without_torch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SystemExit) as stop:
        command.main(["--help"])
    assert stop.value.code == 0
    assert "--triton" in capsys.readouterr().out
