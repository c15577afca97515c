"""The script for a GPU: what travels is small and whole, and every step runs here on the CPU."""

import hashlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision.models import mobilenet_v2

from benchmarks.gpu import Trained, Trainings, compared, in_full_precision, main, name_of
from benchmarks.package import MIB, Package
from eenn.errors import EennError

SIDE = 36
# A narrow network on tiny images; the weights are those of `inputs`.
TINY = ("model.width_mult=0.35", "data.input_size=32", "data.batch_size=8")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]) -> Path:
    """A folder with `images` of two classes, one of them with a duplicate, and `weights.pth`."""
    folder = tmp_path_factory.mktemp("inputs")
    images = write_images(folder / "images", size=(90, 72), few=9, many=14)
    (images / "many" / "again.jpg").write_bytes((images / "many" / "3.jpg").read_bytes())
    Image.new("RGB", (30, 20)).save(images / "few" / "small.png")
    torch.save(mobilenet_v2(width_mult=0.35).state_dict(), folder / "weights.pth")
    return folder


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run the script's main in this process, and its trainings as they are, with one thread."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def call(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["gpu", *map(str, arguments)])
        main()

    return call


@pytest.fixture
def pack(call: Callable[..., None], inputs: Path) -> Callable[..., Path]:
    """Pack the inputs into a folder, and return it."""

    def pack(package: Path, *options: object) -> Path:
        own = ("--per-class", 12, "--shorter-side", SIDE)
        call("pack", inputs / "images", inputs / "weights.pth", package, *own, *options)
        return package

    return pack


def content(package: Path) -> dict[str, bytes]:
    return {
        file.relative_to(package).as_posix(): file.read_bytes()
        for file in package.rglob("*")
        if file.is_file()
    }


def test_a_package_holds_small_photographs_of_every_class_once(
    pack: Callable[..., Path], inputs: Path, tmp_path: Path
) -> None:
    package = pack(tmp_path / "package")
    files = content(package)
    assert files["weights.pth"] == (inputs / "weights.pth").read_bytes()
    originals = {
        hashlib.sha256(file.read_bytes()).hexdigest(): file
        for file in (inputs / "images").rglob("*.*")
    }
    packed = {Path(name).stem: Path(name) for name in files if name.endswith(".jpg")}
    assert len(packed) == 10 + 12
    for stem, place in packed.items():
        (found,) = (file for content, file in originals.items() if content.startswith(stem))
        assert place.parts[:2] == ("photographs", found.parent.name)
        with Image.open(package / place) as own, Image.open(found) as original:
            smaller = original.size if found.suffix == ".png" else (SIDE * 90 // 72, SIDE)
            assert (own.format, own.size) == ("JPEG", smaller)
    # Of the larger class those with the least hashes.
    many = sorted(stem for stem, place in packed.items() if place.parent.name == "many")
    hashes = sorted(own for own, file in originals.items() if file.parent.name == "many")
    assert many == [own[:16] for own in hashes[:12]]


def test_a_package_is_the_best_that_fits(pack: Callable[..., Path], tmp_path: Path) -> None:
    large = pack(tmp_path / "large")
    again = pack(tmp_path / "again")
    assert {**content(large), "package.json": b""} == {**content(again), "package.json": b""}
    assert Package.read(large).jpeg_quality == 95
    size = sum(map(len, content(large).values()))
    limit_mib = (size - 100) / MIB
    small = pack(tmp_path / "small", "--limit-mib", limit_mib)
    assert Package.read(small).jpeg_quality == 90
    assert sum(map(len, content(small).values())) <= limit_mib * MIB
    assert content(small).keys() == content(large).keys()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--limit-mib", 1), "22 photographs and weights .* allowed are 1 MiB.*--per-class"),
        (("--per-class", 2), r"few \(2\), many \(2\)"),
        (("--shorter-side", 0), "shorter_side=0: allowed is 1 or more"),
    ],
)
def test_what_cannot_be_packed_is_said_and_leaves_nothing(
    pack: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[object, ...],
    said: str,
) -> None:
    with pytest.raises(SystemExit, match="1"):
        pack(tmp_path / "package", *options)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: ")
    assert re.search(said, lines[-1]), lines[-1]
    assert list(tmp_path.iterdir()) == []


def result_of(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.mark.slow
def test_every_step_runs_and_training_keeps_its_promises(
    call: Callable[..., None], pack: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "gpu.json"
    package = pack(tmp_path / "package")
    call("run", package, "--seeds", 3, "--epochs", 2, "--out", out, "--settings", *TINY)
    result = result_of(out)
    assert result["not_done"] == {}
    (row,) = result["rows"]
    assert (row["seed"], row["epochs"], row["n"]) == (3, 2, 2)
    assert row["images_per_s"] > 0
    assert row["accuracy"] == result["mean_accuracy"]
    assert len(row["accuracy"]) == 6
    for check in ("repeated", "resumed"):
        found = result[check]
        assert (found["same_weights"], found["largest_difference"]) == (True, 0), check
        assert found["same_test"], check
    # A CPU trains in full precision as it is.
    assert (result["precision"], "fp32" in result) == ("32-true", False)
    assert result["package"]["photographs"] == 22
    assert result["data"].startswith("images, 22 photographs, at most 12 a class")
    assert {*TINY, "trainer.max_epochs=2", "branches=5"} <= set(result["settings"])
    assert {"seed", "hardware", "date", "git_commit", "driver", "cuda", "torch"} <= result.keys()


def test_steps_beyond_the_budget_are_named_and_not_begun(
    call: Callable[..., None], pack: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "gpu.json"
    call("run", pack(tmp_path / "package"), "--budget-s", 0, "--out", out)
    result = result_of(out)
    assert (result["rows"], result["mean_accuracy"], result["seed"]) == ([], None, "0, 1, 2")
    assert list(result["not_done"]) == ["seed 0", "seed 1", "seed 2", "repeated", "resumed"]
    assert "not begun" in result["not_done"]["resumed"]
    assert "no training of seed 0" in result["not_done"]["repeated"]


@pytest.mark.parametrize(
    ("options", "description", "said"),
    [
        (("--epochs", 1), None, "allowed is 2 or more"),
        (("--out", Path("nowhere") / "gpu.json"), None, "nowhere is not a folder"),
        ((), "{}", "pack it again"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_trained(
    call: Callable[..., None],
    pack: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[object, ...],
    description: str | None,
    said: str,
) -> None:
    package, out = pack(tmp_path / "package"), tmp_path / "gpu.json"
    if description is not None:
        (package / "package.json").write_text(description)
    with pytest.raises(SystemExit, match="1"):
        call("run", package, "--out", out, *options)
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not out.exists()


def test_a_training_that_fails_is_an_error_of_its_step(tmp_path: Path) -> None:
    trainings = Trainings(tmp_path, ["brnches=5"], float("inf"))
    with pytest.raises(EennError, match="ended with 1"):
        trainings.train("wrong")
    assert trainings.finished == {}


def finished(folder: Path, weight: float, accuracy: list[float]) -> Trained:
    """Write what is read of a finished training."""
    (folder / "checkpoints").mkdir(parents=True)
    state = {"network.w": torch.tensor([1.0, weight]), "network.batches": torch.tensor(3)}
    torch.save({"state_dict": state}, folder / "checkpoints" / "last.ckpt")
    metrics = {"test": {"accuracy": accuracy}, "images_per_s": 9.0, "seconds": 2.0}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return Trained(folder, 5.0)


def test_trainings_are_compared_weight_by_weight(tmp_path: Path) -> None:
    one, same, other = (
        finished(tmp_path / name, weight, [0.5, accuracy])
        for name, weight, accuracy in (("a", 0.25, 0.5), ("b", 0.25, 0.5), ("c", 1.0, 0.75))
    )
    names = ("same_weights", "largest_difference", "same_test")
    assert compared(one, same) == dict(zip(names, (True, 0, True), strict=True))
    assert compared(one, other) == dict(zip(names, (False, 0.75, False), strict=True))


def test_full_precision_is_set_against_the_first_training_of_its_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = Trainings(tmp_path, [], 0)
    trainings.finished[name_of(4)] = finished(tmp_path / "first", 0.25, [0.5, 0.75])

    def train(name: str, *settings: str) -> Trained:
        assert settings == ("seed=4", "+trainer.precision=32-true")
        return finished(tmp_path / name, 0.5, [0.25, 1.0])

    monkeypatch.setattr(trainings, "train", train)
    found = in_full_precision(trainings, 4)
    assert (found["accuracy"], found["difference"]) == ([0.25, 1.0], [0.25, -0.25])
    assert (found["images_per_s"], found["fit_s"], found["wall_s"]) == (9, 2, 5)
