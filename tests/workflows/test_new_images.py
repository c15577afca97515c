"""evaluate.py on folders that no training saw, labelled and not, and fits to them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from eenn.artifact.deployment import Deployment
from eenn.artifact.manifest import read_manifest
from eenn.data.splits import Split
from tests.artifact.trained_run import make_run
from tests.workflows.answered import answered
from tests.workflows.evaluating import rows, run_in

FEW = ("p_tar=0.8", "first=2", "logger=csv")
CLASSES = ["ant", "bee", "cat", "dog"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "all", ant=30, bee=30, cat=30, dog=30)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A folder in which a network with three branches was trained."""
    root = tmp_path_factory.mktemp("trained")
    make_run(root / "outputs" / "train" / "noise" / "1", images, branches=3)
    return root


@pytest.fixture(scope="module")
def artifact(place: Path) -> Path:
    return place / "outputs" / "train" / "noise" / "1" / "artifact"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """New images of two classes and an unknown one."""
    root = tmp_path_factory.mktemp("new") / "photos"
    generator = np.random.default_rng(7)
    for name in ("bee", "dog", "fog"):
        (root / name).mkdir(parents=True)
        for number in range(12):
            pixels = generator.integers(0, 256, (40, 48, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"new_{number:02}.jpg")
    (root / "bee" / "torn.jpg").write_bytes(b"\xff\xd8\xffnothing")
    return root


@pytest.fixture(scope="module")
def loose(photos: Path) -> Path:
    """The same images of the two classes, without labels."""
    root = photos.parent / "loose"
    root.mkdir()
    for file in sorted(photos.glob("[bd]*/new*")):
        shutil.copy(file, root / f"{file.parent.name}_{file.name}")
    return root


def summary(directory: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / "summary.json").read_text())
    return content


def policy_row(directory: Path) -> dict[str, str]:
    (row,) = (row for row in rows(directory, "points") if row["policy"] == "confidence")
    return row


def test_a_labelled_folder_is_answered_as_image_by_image(
    place: Path, artifact: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = run_in(place, *FEW, f"images={photos}")
    printed, page = capsys.readouterr().out, (directory / "report.html").read_text()
    files = sorted(photos.glob("[bd]*/new*"))
    temperatures = read_manifest(artifact).temperatures.per_exit
    found = answered(artifact, files, (0.8, 0.8), temperatures)
    right = [
        one.answer == CLASSES.index(f.parent.name) for one, f in zip(found, files, strict=True)
    ]
    row = policy_row(directory)
    assert sum(right) > 0
    assert int(row["n"]) == len(files) == 24
    assert float(row["accuracy"]) == pytest.approx(np.mean(right), rel=1e-5)
    edge = np.mean([one.exit < 3 for one in found])
    assert 0 < edge < 1
    assert float(row["edge_probability"]) == pytest.approx(edge, rel=1e-5)
    assert float(row["macs"]) == pytest.approx(np.mean([one.macs for one in found]), rel=1e-5)
    for said in ("missing classes", "ant, cat", "fog (12)", "bee/torn.jpg"):
        assert said in printed
        assert said in page
    assert summary(directory)["images"]["unknown"] == {"fog": 12}
    assert summary(directory)["split"] == "folder"
    assert summary(directory)["data"] == str(photos)
    assert "beware" not in printed
    # Read again from its records, wherever it lies.
    moved = photos.rename(photos.with_name("moved"))
    try:
        before = set(place.glob("outputs/records/*/folder-*"))
        again = run_in(place, *FEW, f"images={moved}")
        assert set(place.glob("outputs/records/*/folder-*")) == before
        assert policy_row(again) == row
    finally:
        moved.rename(photos)


def test_without_labels_there_is_all_but_what_they_tell(
    place: Path, artifact: Path, loose: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = run_in(place, "p_tar=[0.7,0.8]", "first=2", "logger=csv", f"images={loose}")
    printed = capsys.readouterr().out
    temperatures = read_manifest(artifact).temperatures.per_exit
    found = answered(artifact, sorted(loose.iterdir()), (0.8, 0.8), temperatures)
    row = next(row for row in rows(directory, "points") if row["p_tar"] == "0.8")
    same = np.mean([one.answer == one.last for one in found])
    assert float(row["same_as_last"]) == pytest.approx(same, rel=1e-5)
    edge = np.mean([one.exit < 3 for one in found])
    assert float(row["edge_probability"]) == pytest.approx(edge, rel=1e-5)
    for table in ("points", "exits"):
        for each in rows(directory, table):
            unknown = [value for key, value in each.items() if "accuracy" in key]
            assert set(unknown) == {"nan"}
    for first in range(4):
        (of_exit,) = (r for r in rows(directory, "agreement") if r["exit"] == str(first + 1))
        for second in range(4):
            share = np.mean([one.said[first] == one.said[second] for one in found])
            assert float(of_exit[f"same_{second + 1}"]) == pytest.approx(share, abs=1e-5)
    assert not {"quality.csv", "tradeoff.csv"} & {f.name for f in (directory / "tables").iterdir()}
    figures = {file.stem for file in (directory / "figures").iterdir()}
    assert "edge_probability" in figures
    assert not any(name.startswith(("accuracy", "reliab", "trade", "outage")) for name in figures)
    points = summary(directory)["points"]
    assert all(point["accuracy"] is None and point["outage"] is None for point in points)
    assert not any("oracle" in row["policy"] for row in rows(directory, "points"))
    assert "accuracy" not in printed
    assert "accuracy %" not in (directory / "report.html").read_text()


def test_the_images_of_the_split_are_known_wherever_they_lie(
    place: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = policy_row(run_in(place, *FEW))
    copied = Path(shutil.copytree(images, tmp_path / "copy"))
    assert policy_row(run_in(place, *FEW, f"images={copied}")) == usual
    # With other contents under the same names it is another folder.
    (copied / "ant" / "0.jpg").write_bytes((copied / "ant" / "1.jpg").read_bytes())
    capsys.readouterr()
    assert policy_row(run_in(place, *FEW, f"images={copied}"))["n"] == "120"
    printed = capsys.readouterr().out
    parts = Split.load(place / "outputs/train/noise/1/artifact/split.json")
    trained = sum(
        {"ant/0.jpg": "ant/1.jpg"}.get(name, name) in parts.train
        for part in (parts.train, parts.val, parts.test)
        for name in part
    )
    assert f"{trained} of the 120 images are images that the network was trained on" in printed


def test_without_the_images_of_the_training_the_rest_is_done(
    place: Path, photos: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(place / "outputs/train/noise/1", tmp_path / "run"))
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["data"]["source"]["root"] = str(tmp_path / "gone")
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    given = (f"artifact={run}", "fit.goal=accuracy_drop", "fit.limit=0.1", f"images={photos}")
    directory = run_in(tmp_path, *FEW, *given)
    assert policy_row(directory)["n"] == "24"
    assert not (directory / "tables" / "drift.csv").exists()
    assert not (directory / "deployment.json").exists()
    page = (directory / "report.html").read_text()
    assert "no fit without validation images" in page
    assert "no drift without validation images" in page
    assert "with the training images is not known" in page


def test_a_fit_to_other_images_promises_what_it_did_there(
    place: Path, artifact: Path, photos: Path
) -> None:
    directory = run_in(
        place, *FEW, "fit.goal=edge_probability", "fit.limit=0.5", f"fit.images={photos}"
    )
    deployment = Deployment.load(directory / "deployment.json")
    assert deployment.promise is not None
    assert deployment.promise.images == f"images of {photos}"
    assert deployment.promise.n == 24
    (fitted,) = summary(directory)["thresholds"]
    needed = [1 - (1 - fitted["p_tar"]) / getattr(deployment.policy, "strict", 1), fitted["p_tar"]]
    files = sorted(photos.glob("[bd]*/new*"))
    found = answered(artifact, files, needed, read_manifest(artifact).temperatures.per_exit)
    edge = np.mean([one.exit < 3 for one in found])
    assert deployment.promise.means["edge_probability"][0] == pytest.approx(edge)
    # Reported on the test split of the training.
    assert policy_row(directory)["n"] != "24"


def test_a_fit_against_the_last_exit_needs_no_labels(
    place: Path, artifact: Path, loose: Path
) -> None:
    goal = ("fit.goal=accuracy_drop", "fit.limit=0.1", "fit.strict=null", "fit.against=last_exit")
    plain = ("fit.one_standard_error=false", f"fit.images={loose}")
    directory = run_in(place, *FEW, *goal, *plain)
    deployment = Deployment.load(directory / "deployment.json")
    assert deployment.promise is not None
    assert "accuracy" not in deployment.promise.means
    assert "against the last exit" in deployment.promise.goal
    p_tar = deployment.setting.number
    temperatures = read_manifest(artifact).temperatures.per_exit

    def agreement_and_macs(needed: float) -> tuple[float, float]:
        found = answered(artifact, sorted(loose.iterdir()), (needed, needed), temperatures)
        same = np.mean([one.answer == one.last for one in found])
        return float(same), float(np.mean([one.macs for one in found]))

    same, macs = agreement_and_macs(p_tar)
    assert deployment.promise.means["same_as_last"][0] == pytest.approx(same)
    assert same >= 0.9
    # Of a few other thresholds none keeps the limit at fewer MACs.
    for other in (0.3, 0.5, 0.7, 0.9):
        other_same, other_macs = agreement_and_macs(other)
        assert other_same < 0.9 or other_macs >= macs - 1e-6


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("images={loose}/..",), "none of its class folders is a class"),
        (("images={photos}", "split=train"), "split=train: "),
        (("fit.images={photos}",), "without fit.goal"),
        (("fit.goal=macs", "fit.limit=1e6", "fit.images={loose}"), "fit.against=last_exit"),
        (
            ("fit.goal=macs", "fit.limit=1e6", "images={photos}", "fit.images={photos}"),
            "these images are the evaluated ones",
        ),
        (("fit.goal=macs", "fit.limit=1e6", "fit.against=luck"), "allowed are labels, last_exit"),
    ],
)
def test_a_mistake_with_folders_is_one_clear_line(
    given: tuple[str, ...],
    said: str,
    place: Path,
    photos: Path,
    loose: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        run_in(place, *FEW, *(one.format(photos=photos, loose=loose) for one in given))
    *_, line = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert said in line, line
