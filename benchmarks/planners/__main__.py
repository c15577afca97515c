"""Named planners on problems whose answers are known.

    python -m benchmarks.planners FILE

FILE is a JSON list of {name, system, problem, answer}: chains of blocks, graphs of layers, exits
with the confidences of samples. Values have to equal the known ones up to a relative 1e-9, those of
minimum cuts up to 1e-6, and choices have to be among the known ones. The slowest part of a graph of
more than 20 layers (`dads_heavy`) is searched for, and may be up to three times the known one.
Prints the problems of every system; the exit status is 1 if an answer differs, and each that does
is named.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.planners.problems import Differs, check
from eenn.errors import EennError

Instance = Mapping[str, Any]


def instances_of(file: Path) -> Sequence[Instance]:
    """Read the problems of a file.

    Raises:
        EennError: the file cannot be read, or does not hold problems.
    """
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise EennError(f"{file}: {error}; give a JSON list of problems") from error
    keys = {"name", "system", "problem", "answer"}
    if not isinstance(found, list) or not all(
        isinstance(own, dict) and own.keys() >= keys for own in found
    ):
        raise EennError(f"{file}: allowed is a JSON list of objects with {', '.join(sorted(keys))}")
    return found


def difference(instance: Instance) -> str:
    """Check an instance; gives the difference from its answer, empty if there is none."""
    try:
        check(instance["system"], instance["problem"], instance["answer"])
    except (Differs, EennError) as error:
        return str(error)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        return f"not a problem of that kind: {error!r}"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description="named planners on problems with known answers")
    parser.add_argument("file", type=Path, help="JSON list of {name, system, problem, answer}")
    try:
        instances = instances_of(parser.parse_args().file)
    except EennError as error:
        parser.error(str(error))
    solved, wrong = Counter[str](), 0
    for instance in instances:
        if found := difference(instance):
            wrong += 1
            print(f"{instance['system']}, {instance['name']}: {found}")
        solved[str(instance["system"])] += not found
    for system, count in solved.items():
        print(f"{system}: {count} as known")
    print(f"{len(instances)} problems, {wrong} differ")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
