"""The entry points of the programs: `--version`, missing extras, and only then what they run."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from eenn.programs import BENCH, CLOUD, CONFIGURED, EVALUATE, EXPORT, PLAN, TRAIN, Program


def train() -> None:
    """Run `eenn-train`, which is `python train.py` in a checkout."""
    with _begun(TRAIN):
        from eenn.workflows import hydra_job, scripts

        hydra_job.run_script(scripts.train, TRAIN)


def evaluate() -> None:
    """Run `eenn-evaluate`, which is `python evaluate.py` in a checkout."""
    with _begun(EVALUATE):
        from eenn.workflows import hydra_job, scripts

        hydra_job.run_script(scripts.evaluate, EVALUATE)


def offload_bench() -> None:
    """Run `eenn-bench`, which is `python offload_bench.py` in a checkout."""
    with _begun(BENCH):
        from eenn.workflows import hydra_job, scripts

        hydra_job.run_script(scripts.offload_bench, BENCH)


def export() -> None:
    """Run `eenn-export`."""
    with _begun(EXPORT):
        from eenn.offload.export.command import main

        main()


def plan() -> None:
    """Run `eenn-plan`."""
    with _begun(PLAN):
        from eenn.workflows.plan import main

        main()


def cloud() -> None:
    """Run `eenn-cloud`."""
    with _begun(CLOUD):
        from eenn.offload.cloud.command import main

        main()


@contextmanager
def _begun(program: Program) -> Iterator[None]:
    """Answer `--version`, and end the program with one line where a package is missing."""
    if "--version" in sys.argv[1:]:
        print(program.version)
        raise SystemExit
    try:
        if program.imports and find_spec(program.imports) is None:
            raise ModuleNotFoundError(name=program.imports)
        if program.script and not {"-h", "--help"}.isdisjoint(sys.argv[1:]):
            _help(program)
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "eenn"):
            raise
        raise SystemExit(
            f"error: {program.name} needs {missing}; install it with: "
            f"pip install 'eenn[{program.extra}]'"
        ) from None


def _help(program: Program) -> None:
    """Print the help of the configuration that the command line names, and end the program."""
    from eenn.workflows.keys import help_of

    own = [name for name, reader in CONFIGURED.items() if reader == program]
    named = [name for name in own for one in sys.argv[1:] if one.endswith(name)]
    print(help_of((named or own)[-1 if named else 0]))
    raise SystemExit
