"""Five branches trained on a GPU with bf16, and the claims about resuming and determinism there.

    python -m benchmarks.gpu pack ../shared/data/caltech101 WEIGHTS PACKAGE
    python -m benchmarks.gpu run PACKAGE

`pack` writes a folder of photographs and of the backbone's weights at the start, small enough to
travel to a machine that has a GPU for some minutes and no internet. `run` needs a checkout and the
extra `train` there, without wandb. It writes results/gpu.json anew after each of these steps:

* a training for each of `--seeds`, in the precision that train.py chooses, bf16 on a GPU;
* `repeated`: the first seed once more, compared with its first training;
* `resumed`: the first seed with deterministic algorithms, without a break and with a break in the
  second epoch, compared; the weights have to be the same, bit for bit;
* `fp32`: the first seed in full precision.

`not_done` names steps that failed, or were left out because they might end after `--budget-s`.
Without a GPU the same command runs on the CPU.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.package import MIB, PHOTOGRAPHS, WEIGHTS, Package, pack
from benchmarks.readme.results import ROOT, Content
from eenn.cli import one_line_errors, quoted_for_hydra
from eenn.errors import EennError
from eenn.files import Json, JsonObject, write_json
from eenn.hardware import prepare
from eenn.provenance import provenance
from eenn.run_directory import LAST_CHECKPOINT, METRICS
from eenn.training.checkpoints import WholeCheckpoints
from eenn.workflows.interrupted import INTERRUPTED

FULL_PRECISION = "32-true"
# Not `true`, so that an operation without a deterministic algorithm does not end the training.
DETERMINISTIC = "+trainer.deterministic=warn"
BUDGET_S = 465  # eight minutes with the start of this program
RESULT = Path("results/gpu.json")


class Trained(NamedTuple):
    """A finished training."""

    directory: Path
    wall_s: float

    @property
    def metrics(self) -> Content:
        """Read the run's metrics.json."""
        content: Content = json.loads((self.directory / METRICS).read_text())
        return content

    @property
    def speed(self) -> JsonObject:
        """Return images per second and seconds of the fit, and seconds of the whole program."""
        metrics = self.metrics
        return {
            "images_per_s": metrics["images_per_s"],
            "fit_s": metrics["seconds"],
            "wall_s": self.wall_s,
        }


class Trainings:
    """Trainings that end before a time, each of them a process of its own.

    Args:
        folder: of the run directories.
        settings: of all trainings.
        ends_at: on the clock `time.monotonic`.
    """

    def __init__(self, folder: Path, settings: Sequence[str], ends_at: float) -> None:
        self.folder, self.settings, self.ends_at = folder, settings, ends_at
        self.finished: dict[str, Trained] = {}
        self.longest_s = 0.0  # of the processes so far

    def train(self, name: str, *settings: str) -> Trained:
        """Train without a break.

        Raises:
            EennError: the training would end too late, or failed.
        """
        wall_s = self._run("train.py", *self._settings(name, *settings))
        self.finished[name] = Trained(self.folder / name, wall_s)
        return self.finished[name]

    def train_with_a_break(self, name: str, *settings: str) -> Trained:
        """Train until the second epoch, and resume; raises as `train`."""
        before_s = self._run(
            "-m", "benchmarks.interrupted", *self._settings(name, *settings), code=INTERRUPTED
        )
        after_s = self._run("train.py", quoted_for_hydra("resume", str(self.folder / name)))
        return Trained(self.folder / name, before_s + after_s)

    def first(self, seed: int) -> Trained:
        """Return the training of a seed that others are compared with.

        Raises:
            EennError: it is not finished.
        """
        if (name := name_of(seed)) not in self.finished:
            raise EennError(f"there is no training of {name} to compare with")
        return self.finished[name]

    def _settings(self, name: str, *settings: str) -> list[str]:
        place = quoted_for_hydra("hydra.run.dir", str(self.folder / name))
        return [*self.settings, *settings, place]

    def _run(self, *arguments: str, code: int = 0) -> float:
        """Run a Python program that has to end with `code`, and measure its seconds."""
        start = time.monotonic()
        left_s = self.ends_at - start
        if left_s <= self.longest_s:
            raise EennError(
                f"not begun: {max(left_s, 0):.0f} s are left, and a training takes up to "
                f"{self.longest_s:.0f} s; give a larger --budget-s"
            )
        command = [sys.executable, *arguments]
        try:
            ended_with = subprocess.run(command, cwd=ROOT, timeout=left_s).returncode
        except subprocess.TimeoutExpired:
            raise EennError("stopped at the end of the budget; give a larger --budget-s") from None
        if ended_with != code:
            raise EennError(f"ended with {ended_with}, as its own lines say; mend that first")
        wall_s = time.monotonic() - start
        self.longest_s = max(self.longest_s, wall_s)
        return wall_s


def name_of(seed: int) -> str:
    """Name the training of a seed."""
    return f"seed {seed}"


def trained(trainings: Trainings, seed: int) -> JsonObject:
    """Train with a seed: accuracy of every exit on the test images, and speed."""
    own = trainings.train(name_of(seed), f"seed={seed}")
    metrics = own.metrics
    return {
        "seed": seed,
        "accuracy": metrics["test"]["accuracy"],
        "n": metrics["test_samples"],
        "epochs": metrics["epochs"],
        **own.speed,
    }


def repeated(trainings: Trainings, seed: int) -> JsonObject:
    """Train with a seed once more, and compare."""
    first = trainings.first(seed)
    return compared(first, trainings.train("repeated", f"seed={seed}"))


def resumed(trainings: Trainings, seed: int) -> JsonObject:
    """Train with deterministic algorithms, without a break and with one, and compare.

    The speed is that of the training without a break.
    """
    settings = (f"seed={seed}", DETERMINISTIC)
    whole = trainings.train("without a break", *settings)
    return {**compared(whole, trainings.train_with_a_break("resumed", *settings)), **whole.speed}


def in_full_precision(trainings: Trainings, seed: int) -> JsonObject:
    """Train in full precision; `difference` is the accuracy of the first training less this."""
    first = trainings.first(seed)
    own = trainings.train("fp32", f"seed={seed}", f"+trainer.precision={FULL_PRECISION}")
    accuracy, before = (np.array(run.metrics["test"]["accuracy"]) for run in (own, first))
    return {
        "accuracy": accuracy.tolist(),
        "difference": (before - accuracy).tolist(),
        **own.speed,
    }


def compared(one: Trained, other: Trained) -> JsonObject:
    """Compare two trainings: the weights after the last epoch, bit for bit, and the test results.

    The artifact has the weights of the best epoch, which may lie before a break.
    """
    weights, others = (last_weights(run.directory) for run in (one, other))
    gaps = [(own.double() - others[name].double()).abs().max() for name, own in weights.items()]
    return {
        "same_weights": all(torch.equal(own, others[name]) for name, own in weights.items()),
        "largest_difference": float(max(gaps)),
        "same_test": one.metrics["test"] == other.metrics["test"],
    }


def last_weights(directory: Path) -> dict[str, torch.Tensor]:
    """Read the weights and batch norm statistics after the last epoch of a run, by name."""
    state = WholeCheckpoints().load_checkpoint(directory / LAST_CHECKPOINT)["state_dict"]
    return {name: own for name, own in state.items() if isinstance(own, torch.Tensor)}


def driver() -> str | None:
    """Ask for the version of NVIDIA's driver; return None where there is none."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.splitlines()[0]


def run(given: argparse.Namespace) -> None:
    """Run all steps within the budget, and write the result."""
    if given.epochs < 2:
        raise EennError(
            f"--epochs={given.epochs}: allowed is 2 or more, as a training breaks off in the second"
        )
    if not given.out.parent.is_dir():
        raise EennError(f"--out={given.out}: {given.out.parent} is not a folder; make it first")
    start = time.monotonic()
    package = given.package.resolve()
    about = Package.read(package)
    machine = prepare("auto")
    settings = [
        *("experiment=caltech101_160", "branches=5", "logger=csv"),
        f"data.resize_size={about.shorter_side}",
        # Trainings of as many epochs compare.
        *(f"trainer.max_epochs={given.epochs}", f"patience={given.epochs}"),
        *given.settings,
    ]
    files = [
        quoted_for_hydra("data.root", str(package / PHOTOGRAPHS)),
        quoted_for_hydra("model.weights", str(package / WEIGHTS)),
    ]
    seed = given.seeds[0]
    steps = {name_of(one): partial(trained, seed=one) for one in given.seeds}
    steps |= {"repeated": partial(repeated, seed=seed), "resumed": partial(resumed, seed=seed)}
    if machine.precision != FULL_PRECISION:
        steps["fp32"] = partial(in_full_precision, seed=seed)
    done: dict[str, JsonObject] = {}
    not_done: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        trainings = Trainings(Path(folder), [*settings, *files], start + given.budget_s)
        for name, step in steps.items():
            try:
                done[name] = step(trainings)
            except EennError as error:
                not_done[name] = str(error)
                print(f"{name}: {error}", file=sys.stderr)
            result: JsonObject = {
                **summed_up(done, given.seeds),
                "not_done": not_done,
                "precision": machine.precision,
                "settings": settings,
                "budget_s": given.budget_s,
                "seconds": time.monotonic() - start,
                "package": asdict(about),
                "driver": driver(),
                "cuda": torch.version.cuda,
                **provenance(", ".join(map(str, given.seeds)), about.title, machine.hardware),
            }
            write_json(given.out, result)
    print(f"wrote {given.out}")


def summed_up(done: Mapping[str, JsonObject], seeds: Sequence[int]) -> dict[str, Json]:
    """Put the finished seeds into rows with their mean, beside the other finished steps."""
    names = [name_of(seed) for seed in seeds]
    rows = [done[name] for name in names if name in done]
    accuracy = np.array([row["accuracy"] for row in rows], np.float64)
    mean = accuracy.mean(axis=0).tolist() if rows else None
    others = {name: found for name, found in done.items() if name not in names}
    return {"rows": rows, "mean_accuracy": mean, **others}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="write the package that travels")
    packing.add_argument("root", type=Path, help="folder of class folders")
    packing.add_argument("weights", type=Path, help="state dict of the backbone, at the start")
    packing.add_argument("package", type=Path, help="folder to write")
    packing.add_argument("--per-class", type=int, default=50, help="photographs of a class at most")
    packing.add_argument("--shorter-side", type=int, default=176, help="of photographs, in pixels")
    packing.add_argument("--limit-mib", type=float, default=44, help="of all files together")
    running = commands.add_parser("run", help="train and check, on the GPU if there is one")
    running.add_argument("package", type=Path)
    running.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    running.add_argument("--epochs", type=int, default=5)
    running.add_argument("--budget-s", type=float, default=BUDGET_S, help="for all trainings")
    running.add_argument("--out", type=Path, default=RESULT)
    running.add_argument("--settings", nargs="+", default=[], help="more settings of train.py")
    given = parser.parse_args()
    with one_line_errors():
        if given.command == "run":
            run(given)
            return
        size = pack(
            given.root,
            given.weights,
            given.package,
            given.per_class,
            given.shorter_side,
            given.limit_mib,
        )
        print(f"wrote {given.package}, {size / MIB:.1f} MiB: {Package.read(given.package).title}")


if __name__ == "__main__":
    main()
