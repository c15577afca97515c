"""Drawn input against every reader of strangers' data: crashes and hangs, counted.

    python -m benchmarks.fuzz --minutes 10
    python -m benchmarks.fuzz --target manifests.manifests --first 4711    one input again

The time is shared evenly by the targets in benchmarks/fuzzing/. Each runs in a process of its own,
so that an end of the interpreter counts as a crash too; 10 s of CPU time for one input are a
hang. An input is identified by the seed, its target and its number. Writes results/fuzz.json.
"""

import argparse
import importlib
import multiprocessing
import pkgutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from inspect import get_annotations, isfunction
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from benchmarks import fuzzing
from eenn.files import JsonObject, write_json
from eenn.provenance import processor, provenance

Target = Callable[[Random], None]
HANG_S = 10
SHOWN = 5  # faults that the result describes, of every target
RESULT = Path("results/fuzz.json")


@dataclass
class Tried:
    """The outcome of one target's inputs; `faults` describes the first few."""

    inputs: int = 0
    crashes: int = 0
    hangs: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, number: int, fault: str) -> None:
        """Count one input; without a fault the text is empty."""
        self.inputs += 1
        self.hangs += fault == "hang"
        self.crashes += fault not in ("", "hang")
        if fault and len(self.faults) < SHOWN:
            self.faults.append(f"input {number}: {fault}")


def main() -> None:
    parser = argparse.ArgumentParser(description="drawn input against its readers")
    parser.add_argument("--minutes", type=float, default=10, help="for all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", help="one alone, such as manifests.manifests, without a result")
    parser.add_argument("--first", type=int, help="with --target: run this input here, and no more")
    given, targets = parser.parse_args(), found_targets()
    if given.target is not None:
        if given.target not in targets:
            parser.error(f"--target {given.target}: allowed are {', '.join(targets)}")
        if given.first is not None:
            targets[given.target](drawn(given.seed, given.target, given.first))
            return
        targets = {given.target: targets[given.target]}
    seconds = 60 * given.minutes / len(targets)
    found = {name: attacked(name, given.seed, seconds) for name in targets}
    print(f"{'target':32} {'inputs':>10} {'crashes':>8} {'hangs':>6}")
    for name, tried in found.items():
        print(f"{name:32} {tried.inputs:10,} {tried.crashes:8} {tried.hangs:6}")
        print("".join(f"    {fault}\n" for fault in tried.faults), end="")
    if given.target is None:
        result: JsonObject = {
            "minutes": given.minutes,
            "targets": {name: asdict(tried) for name, tried in found.items()},
            **provenance(given.seed, "drawn input", processor()),
        }
        write_json(RESULT, result)
        print(f"wrote {RESULT}")
    sys.exit(any(tried.faults for tried in found.values()))


def found_targets() -> dict[str, Target]:
    """Find the targets of all modules, by names such as manifests.manifests."""
    targets: dict[str, Target] = {}
    for module in pkgutil.iter_modules(fuzzing.__path__):
        loaded = importlib.import_module(f"{fuzzing.__name__}.{module.name}")
        for name, value in vars(loaded).items():
            if isfunction(value) and value.__module__ == loaded.__name__ and name[0] != "_":
                types = get_annotations(value, eval_str=True)
                if list(types.values()) == [Random, None]:
                    targets[f"{module.name}.{name}"] = value
    return targets


def drawn(seed: int, target: str, number: int) -> Random:
    """Make the generator that an input is drawn from."""
    return Random(f"{seed} {target} {number}")


def attacked(target: str, seed: int, seconds: float) -> Tried:
    """Run inputs for some seconds, in processes that may end."""
    tried, end, number = Tried(), time.monotonic() + seconds, 0
    # A fork has imported everything already.
    context = multiprocessing.get_context("fork")
    while time.monotonic() < end:
        ours, theirs = context.Pipe(duplex=False)
        worker = context.Process(target=_run, args=(theirs, target, seed, number, end), daemon=True)
        worker.start()
        theirs.close()
        try:
            while True:
                fault: str = ours.recv()
                tried.add(number, fault)
                number += 1
        except EOFError:
            worker.join()
        if worker.exitcode:
            is_hang = worker.exitcode == -signal.SIGPROF
            tried.add(number, "hang" if is_hang else f"the process ended with {worker.exitcode}")
            number += 1
    return tried


def _run(results: Connection, target: str, seed: int, first: int, end: float) -> None:
    """Run inputs from the first on until the time is over, and report the outcome of each."""
    call, number = found_targets()[target], first
    while time.monotonic() < end:
        signal.setitimer(signal.ITIMER_PROF, HANG_S)
        try:
            call(drawn(seed, target, number))
            fault = ""
        except BaseException as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            fault = f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
        signal.setitimer(signal.ITIMER_PROF, 0)
        results.send(fault)
        number += 1


if __name__ == "__main__":
    main()
