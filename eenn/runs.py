"""Run directories: where a run writes, which is the newest, and what a sweep's runs came to.

outputs/SCRIPT/NAME/TIMESTAMP/         a single run
outputs/SCRIPT/NAME/TIMESTAMP/JOB/     a job of a sweep
"""

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from tabulate import tabulate

from eenn.errors import EennError
from eenn.files import write_file

OUTPUTS = Path("outputs")
CONFIG, METRICS, LAST_CHECKPOINT = "config.yaml", "metrics.json", Path("checkpoints/last.ckpt")


def run_directory(script: str, name: str, resume: str | None = None) -> str:
    """A new directory for a run, or the one of the run to go on with.

    Args:
        resume: a run directory, `latest` for the newest run with a checkpoint, or None.

    Raises:
        EennError: there is no such run, or it has no checkpoint yet.
    """
    if resume is None:
        return str(OUTPUTS / script / name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
    if resume == "latest":
        return str(latest(OUTPUTS / script, LAST_CHECKPOINT))
    if not (Path(resume) / LAST_CHECKPOINT).is_file():
        raise EennError(
            f"resume={resume} has no {LAST_CHECKPOINT}; allowed are latest or the directory of a "
            "run that finished an epoch"
        )
    return resume


def claim(directory: Path, config: str, resume: str | None, overrides: list[str]) -> None:
    """Write the run's configuration into its directory, or check that resuming it is meant.

    Raises:
        EennError: the directory holds a run and is not resumed, is finished, or is resumed with
            other settings than its own.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        # A further process of one run; the first has done this.
        return
    if resume is None:
        if (directory / CONFIG).exists():
            raise EennError(
                f"{directory} holds a run; go on with resume={directory}, or choose another"
            )
        write_file(directory / CONFIG, config)
        return
    settings = [o for o in overrides if not o.startswith(("resume=", "hydra."))]
    if settings:
        raise EennError(
            f"resume goes on with the run's own settings; leave out {' '.join(settings)}"
        )
    if (directory / METRICS).exists():
        raise EennError(f"resume={resume}: {directory} is finished; start a new run")


def latest(root: Path, containing: str | Path) -> Path:
    """The directory under `root` whose file `containing` is the newest.

    Raises:
        EennError: there is none.
    """
    found = sorted(root.glob(f"**/{containing}"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise EennError(
            f"no {containing} under {root}; run `python train.py` first, or give a path"
        )
    return found[-1].parents[len(Path(containing).parts) - 1]


def provenance(seed: int, data: str) -> dict[str, Any]:
    """What a result has to say of itself: data, seed, hardware, versions and date."""
    # Imported here because torch is slow to import and a wrong key should not wait for it.
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return {
        "data": data,
        "seed": seed,
        "hardware": f"{device}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "git_commit": git_commit(),
        "date": datetime.now().date().isoformat(),
    }


def git_commit() -> str | None:
    """The commit that the program is run from, or None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def comparison(sweep: Path) -> str:
    """One table over the finished runs below `sweep`: what was varied, test accuracy, rate."""
    rows = []
    for file in sorted(sweep.glob(f"*/{METRICS}"), key=lambda f: (len(f.parent.name), f)):
        metrics = json.loads(file.read_text())
        accuracy = metrics["test"]["accuracy"]
        row = {"run": file.parent.name, "varied": " ".join(metrics["overrides"])}
        row |= {f"exit {k}": f"{100 * a:.1f}" for k, a in enumerate(accuracy[:-1], 1)}
        row |= {"final": f"{100 * accuracy[-1]:.1f}", "images/s": f"{metrics['images_per_s']:.0f}"}
        rows.append(row)
    columns = dict.fromkeys(key for row in rows for key in row)
    # The final exit comes last whatever run has the most branches.
    order = sorted(
        columns, key=lambda c: (c in ("final", "images/s"), not c.startswith(("run", "var")))
    )
    return table([{column: row.get(column, "") for column in order} for row in rows])


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Rows as an aligned text table that is Markdown as well; values are printed as given."""
    return str(
        tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True, stralign="right")
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ", 1)[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
