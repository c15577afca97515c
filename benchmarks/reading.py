"""The cost of reading photographs, against the same function of an earlier commit.

    python -m benchmarks.reading --against COMMIT ../shared/data/caltech101

CPU time of this process, the two versions taken in turn at every file, so that both have the
machine alike; the median of the ratios of all rounds. Every photograph's pixels are compared, too.
"""

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from statistics import median
from types import ModuleType

import numpy as np

from eenn import preprocess
from eenn.errors import EennError

SIDES = (None, 72, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description="the cost of reading photographs")
    parser.add_argument("folder", type=Path, help="photographs in folders below this one")
    parser.add_argument("--against", required=True, help="commit whose preprocess.py is compared")
    parser.add_argument("--photographs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--shorter-side", type=int, default=256)
    given = parser.parse_args()
    files = sorted(given.folder.rglob("*.jpg"))
    if not files:
        raise EennError(f"{given.folder} holds no .jpg files; give a folder of photographs")
    files = Random(0).sample(files, min(given.photographs, len(files)))
    before = module_of(given.against)
    differing = sum(not all(same(before, file, side) for side in SIDES) for file in files)
    ratios = []
    for number in range(given.rounds):
        spent = {before: 0.0, preprocess: 0.0}
        for file in files:
            for module in list(spent)[:: -1 if number % 2 else 1]:
                spent[module] += cpu_s(module, file, given.shorter_side)
        ratios.append(spent[preprocess] / spent[before])
    print(f"{len(files)} photographs, {differing} of them with other pixels at any of {SIDES}")
    print(f"{1e3 * spent[before] / len(files):.3f} ms a photograph before, in the last round")
    print(f"CPU time now / before: median {median(ratios):.3f} of {len(ratios)} rounds, ", end="")
    print(f"{min(ratios):.3f} to {max(ratios):.3f}")


def module_of(commit: str) -> ModuleType:
    """Load `eenn/preprocess.py` of a commit beside today's."""
    command = ["git", "show", f"{commit}:eenn/preprocess.py"]
    source = subprocess.run(command, check=True, capture_output=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "before.py"
        file.write_bytes(source)
        spec = importlib.util.spec_from_file_location("before", file)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules["before"] = module  # dataclasses look their module up here
        spec.loader.exec_module(module)
    return module


def same(before: ModuleType, file: Path, shorter_side: int | None) -> bool:
    """Compare the pixels of both versions."""
    old, new = (module.read_image(file, shorter_side) for module in (before, preprocess))
    return np.array_equal(np.asarray(old), np.asarray(new))


def cpu_s(module: ModuleType, file: Path, shorter_side: int) -> float:
    """Measure the CPU seconds of reading a file."""
    start = time.process_time()
    module.read_image(file, shorter_side)
    return time.process_time() - start


if __name__ == "__main__":
    main()
