"""W&B's record of a run: its label, its models, its end; nothing is sent anywhere."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb

from benchmarks.wandb_runs import runs
from eenn.artifact.manifest import Manifest
from eenn.workflows import tracking
from eenn.workflows.run import MAX_NAME, MAX_TAG, Job, Label, Run


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    yield
    tracking.finish()


def job(place: Path, varied: dict[str, str]) -> Job[None]:
    return Job(None, place / "grid" / "2026" / "7", "2026", [], {}, varied)


def test_long_values_stay_within_what_wandb_takes_and_different(tmp_path: Path) -> None:
    """Names of artifacts are long, and differ in their middle."""
    labels = [
        job(tmp_path, {"artifact": f"/somewhere/{'a' * 60}{n}/{'b' * 60}", "p_tar": "0.8"}).label(
            "grid", "evaluate"
        )
        for n in range(3)
    ]
    assert {len(label.name) for label in labels} == {MAX_NAME}
    assert len({label.name for label in labels}) == 3
    assert len({label.tags[0] for label in labels}) == 3
    assert {label.tags[1] for label in labels} == {"p_tar=0.8"}
    assert {label.group for label in labels} == {"grid 2026"}
    opened = wandb.init(dir=tmp_path, name=labels[0].name, tags=labels[0].tags)
    assert max(map(len, opened.tags or ())) == MAX_TAG


def test_a_single_run_keeps_its_name() -> None:
    alone = Job(None, Path("outputs/train/demo/2026"), None, ["branches=3"], {})
    assert alone.label("demo", "train") == Label("demo", "train")


@pytest.mark.parametrize(
    ("error", "exit_code"),
    # Lightning makes an exit of Ctrl-C and of SIGTERM.
    [(RuntimeError, 1), (KeyboardInterrupt, 255), (SystemExit, 255)],
)
def test_a_run_says_how_it_ended(
    error: type[BaseException], exit_code: int, tmp_path: Path
) -> None:
    run = Run(tmp_path, "grid", Label("grid p_tar=0.8", "evaluate"), "eenn", {"seed": 3}, {}, [])
    with pytest.raises(error), tracking.tracked_if_it_fails(run):
        raise error
    (found,) = runs(tmp_path)
    assert (found.name, found.exit_code, found.config["seed"]) == ("grid p_tar=0.8", exit_code, 3)


def test_without_a_project_a_failure_is_not_tracked(tmp_path: Path) -> None:
    run = Run(tmp_path, "grid", Label("grid", "evaluate"), None, {}, {}, [])
    with pytest.raises(RuntimeError), tracking.tracked_if_it_fails(run):
        raise RuntimeError
    assert runs(tmp_path) == []


@pytest.mark.parametrize("known", [True, False])
def test_online_the_model_is_linked_and_a_missing_one_stops_nothing(
    known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = tmp_path / "moved"
    (training / "wandb" / "run-20261127_120000-demo-2026-0").mkdir(parents=True)
    used, opened = list[str](), dict[str, Any]()

    def use_artifact(name: str) -> None:
        if not known:
            raise wandb.errors.CommError("not found")
        used.append(name)

    def init(**given: Any) -> Any:
        opened.update(given)
        return SimpleNamespace(offline=False, use_artifact=use_artifact, log=lambda _: None,
                               summary={})  # fmt: skip

    monkeypatch.setattr(wandb, "init", init)
    models = [Manifest(training / "artifact", {"id": "abc"}), Manifest(tmp_path, {"id": "def"})]
    run = Run(tmp_path, "grid", Label("grid", "evaluate"), "eenn", {}, {}, models)
    tracking.run_tracker(run)({}, tracking.SummedUp({"accuracy": 0.5}), [])
    assert used == (["eenn-demo-2026-0:latest"] if known else [])
    assert opened["config"]["model_id"] == "abc, def"
    assert opened["config"]["model_run"] == "demo-2026-0"
