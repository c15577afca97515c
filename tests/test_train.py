"""train.py as its users run it: what a run leaves behind, sweeps, resuming, and mistakes."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import train
from eenn import artifact
from eenn.cli import one_line_errors
from tests.wandb_file import items, records

ROOT = Path(__file__).parents[1]
# Ten classes of ten images, a narrow net, two epochs: seconds, and every step of a real run.
TINY = (
    "data.source.images_per_class=10",
    "data.batch_size=16",
    "model.width_mult=0.35",
    "branches=2",
    "trainer.max_epochs=2",
    "+trainer.enable_progress_bar=false",
)

pytestmark = pytest.mark.filterwarnings(
    # Lightning itself uses what torch deprecates.
    "ignore:.*LeafSpec:FutureWarning",
    "ignore:.*does not have many workers",
    "ignore:The number of training batches",
)

Run = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs train.py in this process with the given overrides; returns the run directory."""

    def run_with(*overrides: str, directory: str = "run") -> Path:
        path = tmp_path / directory
        monkeypatch.setattr(sys, "argv", ["train.py", *overrides, f"hydra.run.dir={path}"])
        with one_line_errors():
            train.main()
        return path

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    return run_with


def weights(directory: Path) -> dict[str, torch.Tensor]:
    content = (directory / "artifact" / "weights.safetensors").read_bytes()
    return safetensors.torch.load(content)


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_leaves_what_the_contract_says(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    directory = run(*TINY)
    printed = capsys.readouterr().out
    metrics = json.loads((directory / "metrics.json").read_text())
    for name in ("accuracy", "nll", "ece", "nll_calibrated", "ece_calibrated"):
        assert len(metrics["test"][name]) == 3
    assert metrics["images_per_s"] > 0
    assert metrics["seconds"] > 0
    saved = artifact.load(directory / "artifact")
    assert saved.manifest["split"]["sizes"] == {"train": 80, "val": 10, "test": 10}
    assert saved.manifest["temperatures"]["per_exit"] == metrics["temperatures"]["per_exit"]
    assert (directory / "config.yaml").is_file()
    assert (directory / "checkpoints" / "last.ckpt").is_file()
    for part in ("val", "test"):
        with Image.open(directory / "figures" / f"reliability_{part}.png") as figure:
            assert min(figure.size) > 200
    table = (directory / "tables" / "exits.md").read_text()
    assert table in printed
    assert len(table.splitlines()) == 2 + 3


def test_offline_wandb_holds_the_metrics(run: Run) -> None:
    directory = run(*TINY)
    (file,) = directory.glob("wandb/offline-run-*/*.wandb")
    history: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    kinds = set()
    config = {}
    for record in records(file):
        kinds.add(record.WhichOneof("record_type"))
        history |= items(record.history.item)
        summary |= items(record.summary.update)
        config |= items(record.config.update) | items(record.run.config.update)
    metrics = json.loads((directory / "metrics.json").read_text())
    for k in range(1, 4):
        assert 0 <= history[f"val/exit{k}/acc"] <= 1
        assert summary[f"test/exit{k}/acc"] == pytest.approx(metrics["test"]["accuracy"][k - 1])
    assert {"train/loss", "val/loss", "train/images_per_s", "exits"} <= history.keys()
    assert any(key.startswith("lr-") for key in history)
    assert "reliability_test" in history
    assert config["branches"] == 2
    assert "artifact" in kinds


def test_csv_logger_does_without_wandb(run: Run) -> None:
    directory = run(*TINY, "logger=csv")
    assert not (directory / "wandb").exists()
    with (directory / "logs" / "metrics.csv").open() as file:
        columns = {column for row in csv.DictReader(file) for column, value in row.items() if value}
    assert {"train/loss", "val/loss", "val/exit1/acc", "val/exit3/acc"} <= columns


def test_same_seed_same_weights_and_another_seed_others(run: Run) -> None:
    first = run(*TINY, "logger=csv", "trainer.max_epochs=1", directory="a")
    again = run(*TINY, "logger=csv", "trainer.max_epochs=1", directory="b")
    other = run(*TINY, "logger=csv", "trainer.max_epochs=1", "seed=1", directory="c")
    assert_same_weights(first, again)
    name = "segments.0.0.0.weight"
    assert not torch.equal(weights(first)[name], weights(other)[name])


def class_folders(root: Path, counts: dict[str, int]) -> Path:
    generator = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = generator.integers(0, 256, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


FOLDER = ("data=folder", "model.weights=null")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("branches=99",), "branches=99: allowed are 0 to 18"),
        (("branches=[7,3]",), "must ascend"),
        (("model.head=dense",), "allowed are linear, pool2, conv"),
        (("loss_weights=twos",), "allowed are ones, linspace"),
        (("optimiser.schedule=linear",), "allowed are onecycle, cosine, constant"),
        (("data.augmentation.rotation=400",), "rotation in"),
        (("data.batch_size=1",), "allowed is 2 or more"),
        (("data.input_size=8",), "allowed is 32"),
        (("model.weights=absent.pth",), "allowed are imagenet, null"),
        (("brnches=3",), "Allowed here are"),
        (("model.heads=conv",), "head, width_mult, weights"),
        (("data=imagenet",), "caltech256"),
        (("resume=latest",), r"python train\.py"),
        (("resume=nowhere",), "allowed are latest or"),
        ((*FOLDER, "data.root=nowhere"), "one folder per class"),
        ((*FOLDER, "data.root=empty"), "no class folders"),
        ((*FOLDER, "data.root=one_empty"), r"void/.*data\.on_error=skip"),
        ((*FOLDER, "data.root=one_image"), r"lonely \(1\).*remove the folder"),
        ((*FOLDER, "data.root=one_broken"), r"1 unreadable images.*torn\.png"),
        ((*FOLDER,), "data.root"),
    ],
)
def test_a_mistake_is_one_clear_line(
    overrides: tuple[str, ...],
    said: str,
    run: Run,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    class_folders(tmp_path / "one_empty", {"full": 4})
    (tmp_path / "one_empty" / "void").mkdir()
    class_folders(tmp_path / "one_image", {"full": 4, "lonely": 1})
    class_folders(tmp_path / "one_broken", {"full": 4})
    (tmp_path / "one_broken" / "full" / "torn.png").write_bytes(b"\x89PNG torn")
    with pytest.raises(SystemExit) as ended:
        run(*TINY, "logger=csv", *overrides)
    assert ended.value.code == 1
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert re.search(said, line), line


def test_a_place_that_cannot_be_written_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(SystemExit, match="1"):
        run(*TINY, directory="taken/run")


def test_a_finished_run_is_neither_overwritten_nor_resumed(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = run(*TINY, "logger=csv", "trainer.max_epochs=1")
    before = {file: file.read_bytes() for file in directory.rglob("*.*") if file.suffix != ".log"}
    for overrides in (TINY, (f"resume={directory}",)):
        with pytest.raises(SystemExit):
            run(*overrides)
    with pytest.raises(SystemExit):
        run(f"resume={directory}", "branches=3")
    said = capfd.readouterr().err
    assert "holds a run" in said
    assert "is finished" in said
    assert "leave out branches=3" in said
    assert all(file.read_bytes() == content for file, content in before.items())


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_result_of_an_uninterrupted_one(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_DATA_DIR": str(tmp_path)}
    settings = (*TINY, "trainer.max_epochs=3", "data.source.images_per_class=40")

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(ROOT / "train.py"), *arguments]
        return subprocess.Popen(command, cwd=tmp_path, env=environment)

    assert start(*settings, "hydra.run.dir=whole").wait(timeout=300) == 0
    killed = start(*settings, "name=killed")
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("outputs/train/killed/*/checkpoints/last.ckpt")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    (directory,) = tmp_path.glob("outputs/train/killed/*")
    assert not (directory / "artifact").exists()
    assert start("resume=latest").wait(timeout=300) == 0
    assert_same_weights(directory, tmp_path / "whole")
    one, other = (
        json.loads((d / "metrics.json").read_text()) for d in (directory, tmp_path / "whole")
    )
    assert one["test"] == other["test"]
    assert list(tmp_path.glob("outputs/train/killed/*")) == [directory]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_sweep_is_one_tracked_run_each_and_one_table(launcher: str, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_DATA_DIR": str(tmp_path)}
    command = [sys.executable, str(ROOT / "train.py"), "-m", "branches=0,3", *TINY[:3], *TINY[4:]]
    done = subprocess.run(
        [*command, f"hydra/launcher={launcher}"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (sweep,) = tmp_path.glob("outputs/train/demo/*")
    table = [line for line in done.stdout.splitlines() if "branches=" in line and "|" in line]
    assert ["branches=0" in table[0], "branches=3" in table[1], len(table)] == [True, True, 2]
    groups, runs = set(), set()
    for file in sweep.glob("*/wandb/offline-run-*/*.wandb"):
        run = next(r.run for r in records(file) if r.WhichOneof("record_type") == "run")
        groups.add(run.run_group)
        runs.add(run.run_id)
    assert groups == {sweep.name}
    assert len(runs) == 2


@pytest.mark.slow
def test_with_ddp_one_process_writes(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_DATA_DIR": str(tmp_path)}
    ddp = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *ddp, *TINY],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (directory,) = tmp_path.glob("outputs/train/demo/*")
    artifact.load(directory / "artifact")
    assert done.stdout.count("Test split") == 1
    assert len(list(directory.glob("wandb/offline-run-*"))) == 1
