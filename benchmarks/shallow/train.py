"""Trains the variants, each as `train.py experiment=caltech101_128` with one thing changed.

    python -m benchmarks.shallow.train [--seeds 0 1] [--variants ones ...] [SETTING ...]

Run directories are outputs/train/shallow-VARIANT/seed-SEED; finished ones are left as they are, and
further settings are those of train.py.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.shallow.variants import VARIANTS
from eenn.run_directory import METRICS, OUTPUTS
from eenn.workflows import train
from eenn.workflows.console import train as console


def run_of(variant: str, seed: int) -> Path:
    """Name the run directory of a variant and seed."""
    return OUTPUTS / "train" / f"shallow-{variant}" / f"seed-{seed}"


def train_one(variant: str, seed: int, settings: list[str]) -> None:
    """Train one variant in this process."""
    own, module = VARIANTS[variant]
    vars(train)["EarlyExitModule"] = module
    sys.argv = [
        "train.py",
        *("experiment=caltech101_128", "branches=5", "logger=csv", f"seed={seed}"),
        *(f"name=shallow-{variant}", f"hydra.run.dir={run_of(variant, seed)}"),
        *own,
        *settings,
    ]
    console()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[*VARIANTS])
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        train_one(options.variants[0], options.seeds[0], options.settings)
        return
    for seed in options.seeds:
        for variant in options.variants:
            if not (run_of(variant, seed) / METRICS).exists():
                one = ["--seeds", str(seed), "--variants", variant]
                command = [sys.executable, "-m", "benchmarks.shallow.train", "--here", *one]
                subprocess.run([*command, "--", *options.settings], check=True)


if __name__ == "__main__":
    main()
