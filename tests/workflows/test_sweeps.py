"""Sweeps that were cut short: what is said, and that they are completed to the same results."""

import json
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eenn.run_directory import Sweep
from eenn.training.module import EarlyExitModule
from eenn.workflows import jobs
from eenn.workflows.console import evaluate, train
from tests.artifact.trained_run import make_run
from tests.workflows.training import TINY, weights

pytestmark = pytest.mark.filterwarnings(
    # Lightning itself uses what torch deprecates.
    "ignore:.*LeafSpec:FutureWarning",
    "ignore:.*does not have many workers",
    "ignore:The number of training batches",
)


def called(place: Path, script: Any, *arguments: str) -> None:
    """Call a script in `place` and in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{script.__name__}.py", *arguments])
        patch.chdir(place)
        script()


def content(directory: Path) -> dict[Path, bytes]:
    files = (file for file in directory.rglob("*") if file.is_file())
    return {file.relative_to(directory): file.read_bytes() for file in files}


def results(job: Path, name: str) -> dict[str, Any]:
    """Read what a job came to, without the times of its run."""
    found = json.loads((job / name).read_text())
    return {k: v for k, v in found.items() if k not in ("date", "seconds", "images_per_s")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]) -> Path:
    """A folder with a sweep of three evaluations, `swept`, which nothing interrupted."""
    place = tmp_path_factory.mktemp("whole")
    images = write_images(place / "images", ant=40, bee=40)
    make_run(place / "outputs" / "train" / "noise" / "1", images, branches=2)
    given = ("p_tar=0.5,0.7,0.9", "first=2", "logger=csv", "hydra.sweep.dir=swept")
    called(place, evaluate, "-m", *given)
    return place


def test_a_sweep_is_written_down_with_its_jobs_and_what_varies(whole: Path) -> None:
    sweep = Sweep.read(whole / "swept")
    artifact = 'artifact="outputs/train/noise/1/artifact"'
    # The newest artifact may be another one when the sweep goes on.
    assert sweep.overrides == ("p_tar=0.5,0.7,0.9", "first=2", "logger=csv", artifact)
    assert (sweep.config_name, sweep.varied, sweep.launching) == ("evaluate", ("p_tar",), ())
    assert sweep.jobs == tuple({"p_tar": value} for value in ("0.5", "0.7", "0.9"))
    compared = json.loads((whole / "swept" / "comparison.json").read_text())
    assert [job["varied"] for job in compared["jobs"]] == [{"p_tar": v} for v in (0.5, 0.7, 0.9)]
    assert {job["points"][0]["p_tar"] for job in compared["jobs"]} == {0.5, 0.7, 0.9}


@pytest.mark.parametrize("twice", ["p_tar=0.5,0.50", "p_tar=[0.5],[0.7],[ 0.5 ]"])
def test_two_jobs_alike_are_refused_before_any_runs(
    twice: str, whole: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = f"hydra.sweep.dir={whole / 'alike'}"
    with pytest.raises(SystemExit):
        called(whole, evaluate, "-m", twice, "first=2", "logger=csv", place)
    assert "error: two jobs with p_tar=" in capfd.readouterr().err
    assert not (whole / "alike").exists()


def test_another_sweep_does_not_go_where_there_is_one(
    whole: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = content(whole / "swept")
    given = ("p_tar=0.6,0.7", "first=2", "logger=csv", "hydra.sweep.dir=swept")
    with pytest.raises(SystemExit):
        called(whole, evaluate, "-m", *given)
    assert "holds another sweep" in capfd.readouterr().err
    assert content(whole / "swept") == before


def test_a_sweep_that_was_cut_short_is_completed(whole: Path, capfd: Any) -> None:
    cut = whole / "cut"
    shutil.copytree(whole / "swept", cut)
    # One job is finished, one was killed amid its report, and one never began.
    for file in ("1/summary.json", "comparison.csv", "comparison.json", "report.html"):
        (cut / file).unlink()
    shutil.rmtree(cut / "2")
    # A newer artifact, which is not that of the sweep.
    newer = whole / "outputs" / "train" / "noise" / "2"
    shutil.copytree(whole / "outputs" / "train" / "noise" / "1", newer)
    finished, left = content(cut / "0"), content(cut / "1")
    try:
        called(whole, evaluate, "resume=cut")
    finally:
        shutil.rmtree(newer)
    assert content(cut / "0") == finished
    assert {f: c for f, c in left.items() if f.name != "evaluate.log"} == content(cut / "1.1")
    for job in "012":
        assert results(cut / job, "summary.json") == results(whole / "swept" / job, "summary.json")
    for file in ("comparison.csv", "comparison.json"):
        assert (cut / file).read_bytes() == (whole / "swept" / file).read_bytes()
    assert "cut/1.1" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("script", "beside", "said"),
    [
        (evaluate, ("p_tar=0.3",), "leave out p_tar=0.3"),
        (evaluate, ("-m", "hydra/launcher=joblib"), "leave out hydra/launcher=joblib"),
        (evaluate, ("--config-name", "train"), "leave out train"),
        (train, (), "`python evaluate.py resume="),
    ],
)
def test_a_sweep_goes_on_with_its_own_settings_and_script(
    script: Any, beside: tuple[str, ...], said: str, whole: Path, capfd: Any
) -> None:
    before = content(whole / "swept")
    with pytest.raises(SystemExit, match="1"):
        called(whole, script, *beside, "resume=swept")
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert said in line
    assert content(whole / "swept") == before


def test_a_bug_in_a_job_keeps_its_traceback_and_the_others_are_compared(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = jobs.evaluate_job, []

    def breaking(job: Any, **given: Any) -> None:
        calls.append(job)
        if len(calls) == 1:
            raise ZeroDivisionError("a bug")
        real(job, **given)

    monkeypatch.setattr(jobs, "evaluate_job", breaking)
    given = ("p_tar=0.5,0.7", "first=2", "logger=csv", "hydra.sweep.dir=broken")
    with pytest.raises(ZeroDivisionError):
        called(whole, evaluate, "-m", *given)
    compared = json.loads((whole / "broken" / "comparison.json").read_text())
    assert [job["state"] for job in compared["jobs"]] == ["failed", "finished"]
    assert compared["jobs"][0]["error"] == "ZeroDivisionError: a bug"
    monkeypatch.undo()
    called(whole, evaluate, "resume=broken")
    compared = json.loads((whole / "broken" / "comparison.json").read_text())
    assert [job["state"] for job in compared["jobs"]] == ["finished", "finished"]
    assert not list((whole / "broken").rglob("error.txt"))


def test_an_interrupted_sweep_tells_what_of_hydras_own_settings_to_type_again(
    whole: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    def interrupted(job: Any, **given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "evaluate_job", interrupted)
    given = ("p_tar=0.5,0.7", "first=2", "logger=csv", "hydra.sweep.dir=left")
    with pytest.raises(SystemExit):
        called(whole, evaluate, "-m", *given, "hydra.job.chdir=false", "hydra.launcher={}")
    line = capfd.readouterr().err.strip().splitlines()[-1]
    command = "python evaluate.py resume=left hydra.job.chdir=false 'hydra.launcher={}'"
    assert line == f"interrupted: 0 of 2 jobs are finished; go on with `{command}`"
    monkeypatch.undo()
    called(whole, evaluate, *shlex.split(command)[2:])
    assert all((whole / "left" / job / "summary.json").exists() for job in "01")


@pytest.mark.slow
def test_an_interrupted_training_goes_on_from_its_checkpoint_and_later_jobs_are_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    given = ("-m", "branches=1,2", *TINY[:3], *TINY[4:], "logger=csv")
    called(tmp_path, train, *given, "hydra.sweep.dir=whole")
    real, steps = EarlyExitModule.training_step, []

    def interrupted(self: EarlyExitModule, *arguments: Any) -> Any:
        steps.append(self.current_epoch)
        if len(self.network.heads) == 3 and self.current_epoch == 1:
            raise KeyboardInterrupt
        return real(self, *arguments)

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(EarlyExitModule, "training_step", interrupted)
    with pytest.raises(SystemExit):
        called(tmp_path, train, *given, "hydra.sweep.dir=cut")
    # Lightning ignores further ones.
    signal.signal(signal.SIGINT, handler)
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert line == (
        "interrupted: 1 of 2 jobs are finished (0); go on with `python train.py resume=cut`"
    )
    assert (tmp_path / "cut" / "1" / "checkpoints" / "last.ckpt").exists()
    finished = content(tmp_path / "cut" / "0")
    monkeypatch.setattr(EarlyExitModule, "training_step", real)
    called(tmp_path, train, "resume=cut")
    assert content(tmp_path / "cut" / "0") == finished
    for job in "01":
        one, other = (tmp_path / sweep / job for sweep in ("cut", "whole"))
        assert results(one, "metrics.json") == results(other, "metrics.json")
        found, expected = weights(one), weights(other)
        assert found.keys() == expected.keys()
        assert all(bool((found[name] == expected[name]).all()) for name in found)
