"""What a sweep's jobs came to, in one table."""

import json
from pathlib import Path
from typing import Any

from eenn.reports.tables import table
from eenn.run_directory import RESULTS, is_finished


def comparison(sweep: Path) -> tuple[str, list[str]]:
    """One table over the finished jobs below `sweep`, and the names of the unfinished ones.

    The table says what was varied, and of a training test accuracy of every exit in % and the
    training rate, of an evaluation the table it printed.
    """
    jobs = sorted((d for d in sweep.iterdir() if d.name.isdigit()), key=lambda d: int(d.name))
    finished = {job.name: _result(job) for job in jobs if is_finished(job)}
    exits = max(
        (len(run["test"]["accuracy"]) for run in finished.values() if "test" in run), default=0
    )
    rows = [
        {"job": name, "varied": " ".join(run["overrides"]), **columns}
        for name, run in finished.items()
        for columns in ([_trained(run, exits)] if "test" in run else run["table"])
    ]
    return table(rows), [job.name for job in jobs if job.name not in finished]


def _trained(run: dict[str, Any], exits: int) -> dict[str, str]:
    *inner, final = (f"{100 * accuracy:.1f}" for accuracy in run["test"]["accuracy"])
    inner += [""] * (exits - 1 - len(inner))
    columns = {f"exit {k}": accuracy for k, accuracy in enumerate(inner, 1)}
    return {**columns, "final": final, "images/s": f"{run['images_per_s']:.0f}"}


def _result(directory: Path) -> dict[str, Any]:
    file = next(directory / name for name in RESULTS if (directory / name).exists())
    content: dict[str, Any] = json.loads(file.read_text())
    return content
