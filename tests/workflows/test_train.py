"""train.py as its users run it: what a run leaves behind, sweeps, resuming, and mistakes."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.wandb_runs import runs
from eenn.artifact import store
from eenn.data.demo import DemoImages
from eenn.data.splits import Split
from tests.workflows.evaluating import rows
from tests.workflows.evaluating import run_in as evaluate_in
from tests.workflows.training import TINY, run_in, weights

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings(
    # Lightning itself uses what torch deprecates.
    "ignore:.*LeafSpec:FutureWarning",
    "ignore:.*does not have many workers",
    "ignore:The number of training batches",
)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, tracked by W&B."""
    return run_in(tmp_path_factory.mktemp("tracked") / "run", *TINY)


@pytest.fixture(scope="module")
def untracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, with the CSV logger."""
    return run_in(tmp_path_factory.mktemp("untracked") / "run", *TINY, "logger=csv")


@dataclass(frozen=True)
class Swept:
    """A sweep of three trainings, of which the second cannot run, as a program did it."""

    directory: Path
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module", params=["basic", "joblib"])
def swept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    place = tmp_path_factory.mktemp("swept")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_DATA_DIR": str(place)}
    command = [sys.executable, str(ROOT / "train.py"), "-m", "branches=2,99,3", *TINY[:3]]
    done = subprocess.run(
        [*command, *TINY[4:], f"hydra/launcher={request.param}"],
        cwd=place, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    (directory,) = place.glob("outputs/train/demo/*")
    return Swept(directory, done)


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_leaves_what_the_contract_says(tracked: Path) -> None:
    metrics = json.loads((tracked / "metrics.json").read_text())
    for name in ("accuracy", "nll", "ece", "nll_calibrated", "ece_calibrated"):
        assert len(metrics["test"][name]) == 3
    assert metrics["images_per_s"] > 0
    assert metrics["seconds"] > 0
    page = (tracked / "report.html").read_text()
    opening = page[page.index('id="headline"') : page.index("Origin and settings")]
    for accuracy in metrics["test"]["accuracy"][-2:]:
        assert f"<b>{100 * accuracy:.1f} %</b>" in opening
    assert f"python evaluate.py artifact={tracked / 'artifact'}" in opening
    assert metrics["weight_bytes"] == sum(tensor.nbytes for tensor in weights(tracked).values())
    saved = store.load(tracked / "artifact")
    assert saved.manifest.content["split"]["sizes"] == {"train": 80, "val": 10, "test": 10}
    assert list(saved.manifest.temperatures.per_exit) == metrics["temperatures"]["per_exit"]
    assert (tracked / "config.yaml").is_file()
    assert (tracked / "checkpoints" / "last.ckpt").is_file()
    for part in ("val", "test"):
        with Image.open(tracked / "figures" / f"reliability_{part}.png") as figure:
            assert min(figure.size) > 200
    with (tracked / "tables" / "exits.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["accuracy %"]) for row in rows] == pytest.approx(
        [100 * a for a in metrics["test"]["accuracy"]], abs=0.05
    )


def test_the_artifact_holds_the_best_checkpoint(tracked: Path) -> None:
    best = torch.load(tracked / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    saved = weights(tracked)
    assert saved
    assert all(torch.equal(tensor, best[f"network.{name}"]) for name, tensor in saved.items())


def test_metrics_are_those_of_the_artifact_on_the_test_split(tracked: Path) -> None:
    saved = store.load(tracked / "artifact")
    source = DemoImages(10)
    index = {sample_id: i for i, sample_id in enumerate(source.sample_ids)}
    tested = [index[sample_id] for sample_id in Split.load(saved.manifest.split_file).test]
    right = np.zeros(3)
    for i in tested:
        x = torch.from_numpy(saved.manifest.preprocessing(source.read(i, 64)))
        right += (saved.network(x[None])[:, 0].argmax(-1) == source.labels[i]).numpy()
    accuracy = json.loads((tracked / "metrics.json").read_text())["test"]["accuracy"]
    assert accuracy == pytest.approx(right / len(tested))


def test_offline_wandb_holds_the_metrics(tracked: Path) -> None:
    (run,) = runs(tracked)
    assert (run.name, run.group, run.kind, run.tags) == ("demo", "", "train", ())
    assert run.exit_code == 0
    metrics = json.loads((tracked / "metrics.json").read_text())
    accuracy, exits = metrics["test"]["accuracy"], metrics["exits"]
    for k in range(1, 4):
        assert f"val/exit{k}/acc" in run.history
        assert run.summary[f"test/exit{k}/acc"] == pytest.approx(accuracy[k - 1])
    assert run.summary["test/final/acc"] == pytest.approx(accuracy[2])
    assert run.summary["test/edge/acc"] == pytest.approx(accuracy[1])
    heads = [own["head_macs"] for own in exits]
    whole, edge = exits[2]["macs"] + sum(heads), exits[1]["macs"] + sum(heads[:2])
    assert run.summary["mmacs"] == pytest.approx(whole / 1e6)
    assert run.summary["macs_share"] == pytest.approx(edge / whole)
    assert {"train/loss", "val/loss", "train/images_per_s"} <= run.history
    assert {"lr-AdamW/backbone", "lr-AdamW/heads"} <= run.history
    for start in ("exits/", "reliability_val/", "reliability_test/"):
        assert any(key.startswith(start) for key in run.history)
    assert run.config["branches"] == 2
    assert run.models == [f"eenn-{run.id}"]


def test_an_evaluation_sweep_is_compared_by_columns_of_its_runs(
    tracked: Path, tmp_path: Path
) -> None:
    """Edge probability over p_tar by active branches, accuracy over MMACs, and the model's link."""
    sweep = evaluate_in(
        tmp_path, "-m", f"artifact={tracked}", "p_tar=0.05,0.105", "active=[1],[1,2]"
    )
    found = runs(sweep)
    (training,) = runs(tracked)
    told = [(p_tar, active) for p_tar in ("0.05", "0.105") for active in ("[1]", "[1, 2]")]
    assert {run.name for run in found} == {f"grid p_tar={p} active={a}" for p, a in told}
    assert {run.tags for run in found} == {(f"p_tar={p}", f"active={a}") for p, a in told}
    assert {(run.group, run.kind) for run in found} == {(f"grid {sweep.name}", "evaluate")}
    lines: dict[str, dict[float, float]] = {}
    for run in found:
        config, summary = run.config, run.summary
        lines.setdefault(config["active"], {})[config["p_tar"]] = summary["edge_probability"]
        job = {"0.05": 0, "0.105": 2}[str(config["p_tar"])] + (config["active"] == "1 2")
        (point,) = (
            row for row in rows(sweep / str(job), "points") if row["policy"] == "confidence"
        )
        for name in ("accuracy", "edge_probability", "latency_ms", "sent_bytes"):
            for end in ("", "_low", "_high"):
                assert summary[name + end] == pytest.approx(float(point[name + end]), rel=1e-5)
        assert summary["mmacs"] == pytest.approx(float(point["macs"]) / 1e6, rel=1e-5)
        assert (config["policy"], config["level"], config["branches"]) == ("confidence", 0, 2)
        assert config["deployment"] is None
        assert config["link"] == f"{config['bandwidth_mbps']:g} Mbps, {config['rtt_ms']:g} ms"
        # Its tables hold all points; no number of theirs has a key of its own.
        numbers = {key for key, value in summary.items() if isinstance(value, float)}
        assert len(numbers) < 30
        assert config["model_id"] == store.load(tracked / "artifact").manifest.id
        assert [config["model_artifact"]] == training.models
        assert config["model_run"] == training.id
    assert set(lines) == {"1", "1 2"}
    for line in lines.values():
        # Ten classes: every confidence reaches 0.05.
        assert line[0.05] == 1 >= line[0.105]


@pytest.mark.slow
def test_jobs_of_a_training_sweep_are_compared_by_columns_of_their_runs(swept: Swept) -> None:
    """Final accuracy over branches, and over MMACs."""
    found = runs(swept.directory)
    assert [run.name for run in found] == ["demo branches=2", "demo branches=3"]
    assert [run.tags for run in found] == [("branches=2",), ("branches=3",)]
    group = f"demo {swept.directory.name}"
    assert {(run.group, run.kind, run.exit_code) for run in found} == {(group, "train", 0)}
    over_branches = {run.config["branches"]: run.summary["test/final/acc"] for run in found}
    metrics = {
        branches: json.loads((swept.directory / job / "metrics.json").read_text())
        for branches, job in ((2, "0"), (3, "2"))
    }
    assert over_branches == {
        branches: pytest.approx(own["test"]["accuracy"][-1]) for branches, own in metrics.items()
    }
    # Another branch has a head more.
    over_mmacs = sorted((run.summary["mmacs"], run.summary["test/final/acc"]) for run in found)
    assert [accuracy for _, accuracy in over_mmacs] == [*over_branches.values()]


def test_csv_logger_does_without_wandb(untracked: Path) -> None:
    assert not (untracked / "wandb").exists()
    with (untracked / "logs" / "version_0" / "metrics.csv").open() as file:
        columns = {column for row in csv.DictReader(file) for column, value in row.items() if value}
    assert {"train/loss", "val/loss", "val/exit1/acc", "val/exit3/acc"} <= columns


def test_same_seed_same_weights(tracked: Path, untracked: Path) -> None:
    assert_same_weights(tracked, untracked)


def class_folders(root: Path, counts: dict[str, int]) -> Path:
    generator = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = generator.integers(0, 256, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


FEW = ("logger=csv", "data.source.images_per_class=3")
FOLDER = ("logger=csv", "data=folder", "model.weights=null")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            (
                *FEW,
                "branches=99",
            ),
            "branches=99: allowed are 0 to 18",
        ),
        (
            (
                *FEW,
                "branches=[7,3]",
            ),
            "must ascend",
        ),
        (
            (
                *FEW,
                "model.head=dense",
            ),
            "allowed are linear, pool2, conv, pooled_conv",
        ),
        (
            (
                *FEW,
                "loss_weights=twos",
            ),
            "allowed are ones, linspace",
        ),
        (
            (
                *FEW,
                "optimiser.schedule=linear",
            ),
            "allowed are onecycle, cosine, constant",
        ),
        (
            (
                *FEW,
                "augmentation.rotation=400",
            ),
            "rotation in",
        ),
        (
            (
                *FEW,
                "data.batch_size=1",
            ),
            "allowed is 2 or more",
        ),
        (
            (
                *FEW,
                "data.input_size=8",
            ),
            "allowed is 32",
        ),
        (
            (
                *FEW,
                "model.weights=absent.pth",
            ),
            "allowed are imagenet, null",
        ),
        ((*FEW, "branches=abc"), "branches=abc: allowed is a whole number or a list"),
        ((*FEW, "loss_weights=[0.5]"), "allowed are ones, linspace"),
        ((*FEW, "seed=-1"), "allowed is 0 or more"),
        ((*FEW, "trainer.max_epochs=-5"), "trainer: .*max_epochs"),
        ((*FEW, "optimiser.lr_heads=abc"), "lr_heads=abc: allowed is a number"),
        ((*FEW, "data.batch_size=abc"), "batch_size=abc: allowed is a whole number"),
        (("brnches=3",), "allowed are .*branches"),
        (("model.heads=conv",), "head, width_mult, weights"),
        (("data=imagenet",), "caltech256"),
        (("resume=latest",), r"python train\.py"),
        (("resume=nowhere",), "allowed are latest, the directory of a run"),
        ((*FOLDER, "data.root=nowhere"), "one folder per class"),
        ((*FOLDER, "data.root=empty"), "no class folders"),
        ((*FOLDER, "data.root=one_empty"), r"void/.*data\.on_error=skip"),
        ((*FOLDER, "data.root=one_image"), r"lonely \(1\).*remove the folder"),
        ((*FOLDER, "data.root=one_broken"), r"1 unreadable images.*torn\.png"),
        ((*FOLDER,), "data.root"),
    ],
)
def test_a_mistake_is_one_clear_line(
    overrides: tuple[str, ...], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    class_folders(tmp_path / "one_empty", {"full": 4})
    (tmp_path / "one_empty" / "void").mkdir()
    class_folders(tmp_path / "one_image", {"full": 4, "lonely": 1})
    class_folders(tmp_path / "one_broken", {"full": 4})
    (tmp_path / "one_broken" / "full" / "torn.png").write_bytes(b"\x89PNG torn")
    with pytest.raises(SystemExit) as ended:
        run_in(tmp_path / "run", *overrides)
    assert ended.value.code == 1
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert re.search(said, line), line


def test_a_place_that_cannot_be_written_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(SystemExit, match="1"):
        run_in(tmp_path / "run", "hydra.run.dir=taken/run")
    assert "taken" in capfd.readouterr().err.strip().splitlines()[-1]


def test_a_finished_run_is_neither_overwritten_nor_resumed(
    untracked: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.read_bytes() for file in untracked.rglob("*") if file.is_file()}
    for overrides, said in (
        (TINY, "holds a run"),
        ((f"resume={untracked}",), "is finished"),
        ((f"resume={untracked}", "branches=3"), "leave out branches=3"),
    ):
        with pytest.raises(SystemExit, match="1"):
            run_in(untracked, *overrides)
        assert said in capfd.readouterr().err
    assert all(file.read_bytes() == content for file, content in before.items())


def test_settings_are_checked_before_anything_is_written(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for overrides, said in (
        (("patience=soon",), "patience=soon: allowed is a whole number"),
        (("+trainer.epochs=3",), "trainer.epochs is not a setting here"),
        (("experiment=distortion_experts",), "--config-name train_experts"),
    ):
        with pytest.raises(SystemExit, match="1"):
            run_in(tmp_path / "run", *FEW, *overrides)
        assert said in capfd.readouterr().err
    # Hydra's own log is opened before.
    assert {file.name for file in tmp_path.rglob("*") if file.is_file()} <= {"train.log"}


def test_a_resumed_run_keeps_its_own_settings(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Find settings beside `resume` by their effect, not by their spelling."""
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").touch()
    for overrides, said in (
        (("branches=3",), "leave out branches=3"),
        (("+trainer.precision=64", "seed=1"), "leave out seed=1 trainer.precision=64"),
        (("~patience",), "leave out ~patience"),
        (("data=folder",), "leave out augmentation.colour=0.2"),
    ):
        with pytest.raises(SystemExit, match="1"):
            run_in(run, f"resume={run}", *overrides)
        line = capfd.readouterr().err
        assert "resume keeps the run's own settings" in line
        assert said in line, line


# Runs a script that is killed amid its second epoch.
KILLED = """
import os, runpy, signal, sys
from eenn.training.module import EarlyExitModule

step = EarlyExitModule.training_step

def training_step(self, batch, batch_index):
    if (self.current_epoch, batch_index) == (1, 3):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_index)

EarlyExitModule.training_step = training_step
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_result_of_an_uninterrupted_one(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_DATA_DIR": str(tmp_path)}
    settings = (*TINY, "data.source.images_per_class=40", "data.num_workers=1", "logger=csv")
    settings += ("trainer.max_epochs=3",)

    def code_of(*command: str) -> int:
        run = [sys.executable, *command]
        return subprocess.run(run, cwd=tmp_path, env=environment, timeout=600).returncode

    script = str(ROOT / "train.py")
    assert code_of(script, *settings, "hydra.run.dir=whole") == 0
    assert code_of("-c", KILLED, script, *settings, "name=killed") == -signal.SIGKILL
    (directory,) = tmp_path.glob("outputs/train/killed/*")
    assert (directory / "checkpoints" / "last.ckpt").exists()
    assert not (directory / "artifact").exists()
    assert code_of(script, "resume=latest") == 0
    assert_same_weights(directory, tmp_path / "whole")
    one, other = (
        json.loads((d / "metrics.json").read_text()) for d in (directory, tmp_path / "whole")
    )
    assert one["test"] == other["test"]
    assert list(tmp_path.glob("outputs/train/killed/*")) == [directory]


@pytest.mark.parametrize("stop", ["after the fit", "after the artifact"])
def test_a_run_killed_after_an_early_stop_resumes_without_training_on(
    stop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So large a rate never improves, and the fit stops after its second or third epoch.
    settings = (*TINY, "patience=1", "optimiser.lr_heads=100", "name=stopped")
    settings += ("trainer.max_epochs=30",)
    killed = "exit_metrics" if stop == "after the artifact" else "store.save"
    with monkeypatch.context() as patch:
        patch.setattr(f"eenn.workflows.train.{killed}", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_in(tmp_path / "run", *settings)
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=False)
    run_in(tmp_path / "run", f"resume={tmp_path / 'run'}")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["epochs"] == last["epoch"] + 1 < 30
    # One run to W&B, which failed and then went on.
    failed_and_resumed = runs(tmp_path / "run")
    assert len({run.id for run in failed_and_resumed}) == 1
    assert sorted(run.exit_code for run in failed_and_resumed if run.exit_code is not None) == [
        0,
        1,
    ]
    assert "patience=1" in metrics["overrides"]
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    saved = weights(tmp_path / "run")
    assert all(torch.equal(t, best["state_dict"][f"network.{n}"]) for n, t in saved.items())


@pytest.mark.slow
def test_a_sweep_is_one_tracked_run_each_and_one_table(swept: Swept) -> None:
    done = swept.done
    # The job in the middle cannot run, and says so; the others are not held up.
    assert done.returncode == 1
    assert "error in job 1" in done.stderr
    assert "branches=99: allowed are 0 to 18" in done.stderr
    assert "job 1 (branches=99) failed: branches=99: allowed are 0 to 18" in done.stderr
    assert "Traceback" not in done.stderr
    sweep = swept.directory
    with (sweep / "comparison.csv").open() as file:
        table = [(row["job"], row["state"], row["branches"]) for row in csv.DictReader(file)]
    assert table == [("0", "finished", "2"), ("1", "failed", "99"), ("2", "finished", "3")]
    page = (sweep / "report.html").read_text()
    assert [f'<a href="{job}/report.html">' in page for job in range(3)] == [True, False, True]
    assert len({run.id for run in runs(sweep)}) == 2


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
    store.load(directory / "artifact")
    assert done.stdout.count("Test split") == 1
    assert len(list(directory.glob("wandb/offline-run-*"))) == 1
