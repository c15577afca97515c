"""Run directories: what is kept of them, what is set aside or removed, and sweeps written down."""

import os
from pathlib import Path

import pytest

from eenn.errors import EennError
from eenn.run_directory import Sweep, can_resume, remove_empty, run_directory, set_aside

LOG = "train.log"


def filled(directory: Path, *files: str) -> Path:
    """A directory with these files, each with its own name as its content."""
    for name in files:
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("" if name == LOG else name)
    return directory


def names(directory: Path) -> set[str]:
    return {file.name for file in directory.iterdir()}


@pytest.mark.parametrize("others", [(), ("tables/exits.csv",), ("metrics.json",)])
def test_only_a_run_that_did_nothing_is_removed(others: tuple[str, ...], tmp_path: Path) -> None:
    run = filled(tmp_path / "run", "config.yaml", LOG, *others)
    remove_empty(run, LOG)
    assert run.exists() is bool(others)
    said = filled(tmp_path / "said", "config.yaml", LOG)
    (said / LOG).write_text("a warning that may tell why")
    remove_empty(said, LOG)
    assert names(said) == {"config.yaml", LOG}
    remove_empty(tmp_path / "absent", LOG)


def test_what_an_attempt_left_is_set_aside_and_nothing_of_it_lost(tmp_path: Path) -> None:
    job = filled(tmp_path / "3", "config.yaml", "error.txt", LOG)
    assert set_aside(job, LOG) is None
    assert names(job) == {LOG}
    for attempt in (1, 2):
        filled(job, "config.yaml", "tables/points.csv")
        aside = set_aside(job, LOG)
        assert aside == tmp_path / f"3.{attempt}"
        assert (aside / "tables" / "points.csv").read_text() == "tables/points.csv"
        assert names(job) == {LOG}


@pytest.mark.parametrize("progress", ["checkpoints/last.ckpt", "finished/jpeg", "measured.jsonl"])
def test_a_job_goes_on_from_what_it_reached(progress: str, tmp_path: Path) -> None:
    job = filled(tmp_path / "0", progress)
    # Without its settings, nobody knows what it was.
    assert not can_resume(job)
    assert can_resume(filled(job, "config.yaml"))
    assert not can_resume(filled(tmp_path / "1", "config.yaml", "report.html"))


def test_latest_is_the_newest_single_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for age, run in enumerate(("sweep/0", "single", "older")):
        filled(Path("outputs/train/demo") / run, "checkpoints/last.ckpt")
        os.utime(Path("outputs/train/demo") / run / "checkpoints/last.ckpt", (1e9, 1e9 - age))
    Sweep("train", ("branches=1,2",), ("branches",)).write(Path("outputs/train/demo/sweep"))
    assert run_directory("train", "demo", "latest") == "outputs/train/demo/single"
    for run in ("single", "older"):
        filled(Path("outputs/train/demo") / run, "metrics.json")
    with pytest.raises(EennError, match=r"python train\.py.*resume=SWEEP_DIR"):
        run_directory("train", "demo", "latest")


def test_a_directory_holds_one_sweep(tmp_path: Path) -> None:
    sweep = Sweep("train", ("branches=1,2",), ("branches",), (), ({"branches": "1"},))
    sweep.write(tmp_path)
    assert Sweep.read(tmp_path) == sweep
    sweep.write(tmp_path)
    with pytest.raises(EennError, match="another sweep"):
        Sweep("train", ("branches=1,3",), ("branches",)).write(tmp_path)
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(EennError, match="does not describe a sweep"):
        Sweep.read(tmp_path)
