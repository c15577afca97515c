"""The jobs of a sweep in its directory: their varied settings, states and numbers."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eenn.exits.settings import Baseline
from eenn.files import JsonObject
from eenn.reports.headline import WHOLE
from eenn.run_directory import CONFIG, ERROR, RESULTS, Sweep, read_config
from eenn.statistics.intervals import Estimate, share

FINISHED, FAILED, MISSING = "finished", "failed", "missing"
BASELINES = tuple(baseline.value for baseline in Baseline)
REFERENCES = tuple(baseline.value for baseline in WHOLE)


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep.

    Args:
        varied: settings that differ between the jobs, as users write them.
        state: MISSING for a job that never began, or was interrupted.
        error: the reason of a failure.
        points: the job's results, flat: a training has one, an evaluation its headline or every
            policy, each with numbers under the names of `summary.json`.
        references: the job's points of the whole network, for comparison with policies.
        curve: of a training MACs and share of right answers by exit.
        backbone: of the trained network.
    """

    number: int
    varied: Mapping[str, str]
    state: str
    error: str = ""
    points: Sequence[JsonObject] = ()
    references: Sequence[JsonObject] = ()
    curve: Sequence[tuple[float, Estimate]] = ()
    backbone: str = ""


def read_jobs(directory: Path, sweep: Sweep) -> list[SweepJob]:
    """Read the jobs of a sweep, by number; jobs that never began are among them."""
    begun = {int(job.name) for job in directory.iterdir() if job.name.isdigit() and job.is_dir()}
    jobs = []
    for number in sorted(begun | set(range(len(sweep.jobs)))):
        known = dict(sweep.jobs[number]) if number < len(sweep.jobs) else {}
        if (config := directory / str(number) / CONFIG).exists():
            recorded: Any = read_config(config).get("varied")
            known |= recorded or {}
        varied = {key: known[key] for key in sweep.varied if key in known}
        jobs.append(_read(directory / str(number), number, varied))
    return jobs


def number_of(text: str) -> float | None:
    """Parse a setting as a number; None for other settings."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _read(job: Path, number: int, varied: Mapping[str, str]) -> SweepJob:
    file = next((job / name for name in RESULTS if (job / name).exists()), None)
    if file is not None:
        result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return SweepJob(number, varied, FINISHED, **_results(result))
    if (job / ERROR).exists():
        error = (job / ERROR).read_text(encoding="utf-8").strip()
        return SweepJob(number, varied, FAILED, error)
    return SweepJob(number, varied, MISSING)


def _results(result: Mapping[str, Any]) -> dict[str, Any]:
    if "test" in result:
        return _trained(result)
    # Training experts has no points.
    points = [_without_null(point) for point in result.get("points", result["table"])]
    policies = [point for point in points if point.get("policy") not in BASELINES]
    if isinstance(headline := result.get("headline"), Mapping):
        policies = [_without_null(headline)]
    references = [point for point in points if point.get("policy") in REFERENCES]
    return {"points": policies, "references": references}


def _trained(result: Mapping[str, Any]) -> dict[str, Any]:
    accuracies, n, exits = result["test"]["accuracy"], result["test_samples"], result["exits"]
    heads = [sum(row["head_macs"] for row in exits[: k + 1]) for k in range(len(exits))]
    macs = [row["macs"] + own for row, own in zip(exits, heads, strict=True)]
    right = [share(round(value * n), n) for value in accuracies]
    point = {
        **{f"exit{k}_accuracy": value for k, value in enumerate(accuracies[:-1], 1)},
        "accuracy": right[-1].value,
        "accuracy_low": right[-1].low,
        "accuracy_high": right[-1].high,
        "macs": macs[-1],
        "epochs": result["epochs"],
        "images_per_s": result["images_per_s"],
    }
    # Trainings of earlier versions do not state it.
    if "weight_bytes" in result:
        point["weight_bytes"] = result["weight_bytes"]
    curve = list(zip(macs, right, strict=True))
    backbone = result.get("backbone", "")
    return {"points": [point], "curve": curve, "backbone": backbone}


def _without_null(point: Mapping[str, Any]) -> dict[str, Any]:
    return {key: math.nan if value is None else value for key, value in point.items()}
