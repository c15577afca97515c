"""evaluate.py experiment=distortion_experts as its users run it, and what its numbers are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.wandb_runs import runs
from eenn.exits.head_sets import CLASSIFIER
from eenn.records.evaluated_artifact import open_artifact
from eenn.records.records import ExitRecords
from eenn.statistics.calibration import probabilities
from tests.artifact.expert_artifact import add_fine_tuned, run_with_experts
from tests.artifact.trained_run import make_run
from tests.workflows.evaluating import rows, run_in

RUN = Path("outputs/train/noise/1")
STUDY = (
    "experiment=distortion_experts", "logger=csv", "p_tar=0.95",
    "distortions.gaussian_blur=[0,2]", "distortions.gaussian_noise=[20]", "distortions.jpeg=[30]",
    *(f"~distortions.{kind}" for kind in ("box_blur", "motion_blur", "salt_and_pepper")),
)  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]) -> Path:
    return write_images(tmp_path_factory.mktemp("photos") / "all", ant=60, bee=60, cat=60, dog=60)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A folder in which a network with three branches and two experts was trained.

    For blur there is a whole network, too.
    """
    root = run_with_experts(tmp_path_factory.mktemp("experts"), images)
    add_fine_tuned(root / RUN, "gaussian_blur")
    return root


@pytest.fixture(scope="module")
def studied(trained: Path) -> Path:
    return run_in(trained, *STUDY, "logger=wandb", drawn=True)


def key(row: Any) -> tuple[str, float, str]:
    return row["distortion"], float(row["level"]), row["experts"]


def test_every_kind_level_and_way_has_its_point(studied: Path) -> None:
    found = [key(row) for row in rows(studied, "points")]
    modes = ("plain", "matching", "auto", "soft")
    at = (("gaussian_blur", 0), ("gaussian_blur", 2), ("gaussian_noise", 20))
    expected = {(kind, level, mode) for kind, level in at for mode in modes}
    # Nothing matches a kind without an expert.
    expected |= {("jpeg", 30, mode) for mode in ("plain", "auto", "soft")}
    expected |= {("gaussian_blur", level, "fine_tuned") for level in (0, 2)}
    assert len(found) == len(expected)
    assert set(found) == expected
    assert {row["p_tar"] for row in rows(studied, "points")} == {"0.95"}


def test_wandb_is_told_of_the_experts_that_a_device_chooses(studied: Path) -> None:
    (run,) = runs(studied)
    (point,) = (row for row in rows(studied, "points") if key(row) == ("gaussian_blur", 0, "auto"))
    assert (run.config["experts"], run.config["kind"]) == ("auto", "gaussian_blur")
    for name in ("accuracy", "edge_probability", "edge_accuracy"):
        if point[name] != "nan":
            assert run.summary[name] == pytest.approx(float(point[name]), rel=1e-5)
    assert run.summary["mmacs"] == pytest.approx(float(point["macs"]) / 1e6, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "level", "mode", "same_as"),
    [
        ("gaussian_blur", 2, "plain", "plain"),
        ("gaussian_blur", 2, "auto", "auto"),
        ("gaussian_blur", 2, "matching", "gaussian_blur"),
        ("gaussian_blur", 0, "matching", "plain"),
        ("gaussian_noise", 20, "matching", "gaussian_noise"),
        ("jpeg", 30, "soft", "soft"),
        ("gaussian_blur", 2, "fine_tuned", "fine_tuned"),
        ("gaussian_blur", 0, "fine_tuned", "plain"),
    ],
)
def test_its_points_are_those_of_a_plain_evaluation(
    kind: str,
    level: float,
    mode: str,
    same_as: str,
    studied: Path,
    trained: Path,
) -> None:
    alone = run_in(
        trained, "p_tar=0.95", f"experts={same_as}", f"distortion.kind={kind}",
        f"distortion.level={level}", "logger=csv",
    )  # fmt: skip
    (expected,) = (
        row
        for row in rows(alone, "points")
        if row["policy"] == "confidence" and row["active"] == "1 2 3"
    )
    (found,) = (row for row in rows(studied, "points") if key(row) == (kind, level, mode))
    assert {k: found[k] for k in expected} == expected
    (last,) = (row for row in rows(alone, "points") if row["policy"] == "last exit only")
    assert found["last_exit_accuracy"] == last["accuracy"]


def test_a_whole_network_answers_as_it_does_by_itself(studied: Path, trained: Path) -> None:
    alone = run_in(
        trained, f"artifact={RUN / 'fine_tuned_gaussian_blur'}", "p_tar=0.95", "logger=csv",
        "distortion.level=2",
    )  # fmt: skip
    (expected,) = (
        row
        for row in rows(alone, "points")
        if row["policy"] == "confidence" and row["active"] == "1 2 3"
    )
    at = ("gaussian_blur", 2, "fine_tuned")
    (found,) = (row for row in rows(studied, "points") if key(row) == at)
    # Times are measured for every artifact, and those of the study are its own's.
    same = [name for name in expected if "latency" not in name and "deadline" not in name]
    assert {name: found[name] for name in same} == {name: expected[name] for name in same}
    (plain,) = (row for row in rows(studied, "points") if key(row) == (*at[:2], "plain"))
    assert found["confidence"] != plain["confidence"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("experts=fine_tuned", "distortion.kind=gaussian_noise"), "fine-tuned networks"),
        (
            (*STUDY, "experts=[fine_tuned]", "~distortions.gaussian_blur"),
            "the artifacts have none for",
        ),
    ],
)
def test_where_nothing_was_fine_tuned_it_says_how_to(
    overrides: tuple[str, ...], said: str, trained: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run_in(trained, *overrides)
    *_, line = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("error: experts=")
    assert said in line, line
    assert "--config-name train_experts" in line


def test_the_confusion_counts_whom_the_classifier_chooses(studied: Path, trained: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained)
        subject = open_artifact("latest")
        records: dict[tuple[str, float], ExitRecords] = {
            (kind, level): subject.records("test", kind, level, CLASSIFIER)
            for kind, level in (("gaussian_blur", 0), ("gaussian_noise", 20), ("jpeg", 30))
        }
    confusion = json.loads((studied / "summary.json").read_text())["confusion"]
    for row in confusion:
        own = records.get((row["distortion"], row["level"]))
        if own is None:
            continue
        p = probabilities(own.logits[0], subject.manifest.classifier.temperature)
        chosen = [int(np.argmax(q)) if max(q) >= 0.6 else 0 for q in p]
        for number, heads in enumerate(("plain", "gaussian_blur", "gaussian_noise")):
            assert row[f"chosen_{heads}"] == pytest.approx(chosen.count(number) / len(chosen))
        right = 2 if row["distortion"] == "gaussian_noise" else 0
        assert set(own.labels.tolist()) == {right}
        assert row["recognised"] == row[f"chosen_{subject.heads[right]}"]
        assert row["unsure"] == pytest.approx(np.mean(p.max(1) < 0.6))


def test_it_leaves_a_page_figures_and_a_summary(studied: Path) -> None:
    summary = json.loads((studied / "summary.json").read_text())
    assert {"data", "seed", "hardware", "git_commit", "date", "networks"} <= set(summary)
    (network,) = summary["networks"].values()
    assert network["classifier"]["macs"] > 0
    assert network["classifier_ms"]["p50"] > 0
    assert set(network["expert_bytes"]) == {"gaussian_blur", "gaussian_noise"}
    assert set(network["fine_tuned"]) == {"gaussian_blur"}
    # A single level makes no curve.
    drawn = {file.name for file in (studied / "figures").glob("*.png")}
    assert drawn == {
        f"gaussian_blur-{quantity}.png"
        for quantity in ("accuracy", "edge_probability", "edge_accuracy")
    }
    page = (studied / "report.html").read_text()
    assert page.count("<img") == 3
    opening = page[page.index('id="headline"') : page.index("Origin and settings")]
    first = rows(studied, "points")[0]
    for experts in dict.fromkeys(row["experts"] for row in rows(studied, "points")):
        right = [
            float(row["accuracy"])
            for row in rows(studied, "points")
            if row["experts"] == experts
            and float(row["level"])
            and (row["p_tar"], row["active"]) == (first["p_tar"], first["active"])
        ]
        assert f"{experts.replace('_', ' ')} <b>{100 * np.mean(right):.1f} %</b>" in opening
    assert "eenn-edge --artifact" in opening
    assert {row["exit"] for row in rows(studied, "quality")} == {"1", "2", "3", "4"}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("distortion.level=1",), "distortions.KIND=[LEVEL,LEVEL]"),
        (("experts=auto",), "a list of experts"),
        (("experts=[auto,luck]",), "experts=luck"),
        (("+distortions.fog=[1]",), "'fog': allowed are"),
        (("distortions.jpeg=[0.5]",), "of jpeg from 1 to 100"),
        (("fit.goal=macs", "fit.limit=1e6"), "no fit.goal"),
    ],
)
def test_a_mistake_is_one_clear_line(
    overrides: tuple[str, ...],
    said: str,
    trained: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_in(trained, *STUDY, *overrides)
    assert ended.value.code == 1
    *_, line = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert said in line, line


def test_an_artifact_without_experts_is_refused(
    images: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    make_run(tmp_path / "outputs" / "train" / "noise" / "1", images, branches=1)
    with pytest.raises(SystemExit):
        run_in(tmp_path, *STUDY)
    assert "--config-name train_experts" in capfd.readouterr().err
