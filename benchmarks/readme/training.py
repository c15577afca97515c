"""Tables of trainings: accuracy of the exits by head and number of branches, and speed."""

from benchmarks.readme.results import RESULTS, Content, distinct, interval, run_of, where
from eenn.files import from_json
from eenn.models.architecture import Exit
from eenn.reports.tables import table
from eenn.reports.training import exit_rows
from eenn.statistics.calibration import Temperatures


def headline() -> str:
    """Tabulate the exits of a network with five branches on Caltech-101 at 160 px."""
    run = run_of("fallback-last_exit")
    rows = [
        {
            "exit": str(row["exit"]),
            "accuracy %": interval(row, "accuracy", 100),
            "NLL": f"{row['nll_raw']:.3f}",
            "NLL cal.": f"{row['nll']:.3f}",
            "ECE %": f"{100 * row['ece_raw']:.1f}",
            "ECE % cal.": f"{100 * row['ece']:.1f}",
            "T": f"{row['temperature']:.3f}",
            "ECE % if calibrated": f"{100 * row['ece_if_calibrated']:.1f}",
        }
        for row in run["exit_metrics"]
    ]
    return f"{table(rows)}\n\nTest split, {run['points'][0]['n']} images. {where(run)}"


def heads() -> str:
    """Tabulate `conv` against `linear` heads, five branches, 96 px."""
    runs = {head: run_of(f"caltech101-96-branches5-{head}") for head in ("linear", "conv")}
    rows = [
        _accuracies(f"`{head}`", run) | {"MMACs": _total_mmacs(run)} for head, run in runs.items()
    ]
    return f"{table(rows)}\n\n{_origin(*runs.values())}"


def branches() -> str:
    """Tabulate the final exit by number of branches, 96 px, `conv` heads."""
    files = sorted(RESULTS.glob("caltech101-96-branches*-conv.json"))
    runs = [run_of(file.stem) for file in files]
    rows = [
        {
            "branches": str(len(run["test"]["accuracy"]) - 1),
            "final exit, accuracy %": f"{100 * run['test']['accuracy'][-1]:.1f}",
            "MMACs": _total_mmacs(run),
        }
        for run in runs
    ]
    return f"{table(rows)}\n\n{_origin(*runs)}"


def demo() -> str:
    """Tabulate the exits of the default run on the demo data."""
    run = run_of("demo")
    return f"{table(_exit_rows(run))}\n\n{_origin(run)}"


def speed() -> str:
    """Tabulate the training rate against a bare loop."""
    run = run_of("training_speed")
    ours = run["images_per_s"]["ours"]
    rows = [
        {"": name, "images/s": f"{rate:.1f}", "ours is": f"{ours / rate:.2f} of it"}
        for name, rate in run["images_per_s"].items()
    ]
    return f"{table(rows)}\n\nBatch {run['batch']} at {run['input_size']} px. {where(run)}"


def _exit_rows(run: Content) -> list[dict[str, str]]:
    temperatures = from_json(Temperatures, run["temperatures"])
    return exit_rows(run["test"], temperatures, from_json(tuple[Exit, ...], run["exits"]))


def _accuracies(name: str, run: Content) -> dict[str, str]:
    return {"heads": name} | {
        f"exit {k}": f"{100 * a:.1f}" for k, a in enumerate(run["test"]["accuracy"], 1)
    }


def _total_mmacs(run: Content) -> str:
    total = run["exits"][-1]["macs"] + sum(row["head_macs"] for row in run["exits"])
    return f"{total / 1e6:.1f}"


def _origin(*runs: Content) -> str:
    """Print data, seed, epochs, hardware and date, for a line under a table."""
    samples, epochs, size = (
        distinct(runs, key) for key in ("test_samples", "epochs", "input_size")
    )
    return f"Test split, {samples} images; {epochs} epochs at {size} px. {where(*runs)}"
