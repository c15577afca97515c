"""A sweep's directory made by hand: what its jobs would have left, and no run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from eenn.run_directory import CONFIG, ERROR, METRICS, SUMMARY, Sweep


def write_sweep(directory: Path, name: str, jobs: Sequence[Mapping[str, str]]) -> None:
    """Write down a sweep over the settings of these jobs."""
    overrides = tuple(f"{key}={','.join({job[key]: 0 for job in jobs})}" for key in jobs[0])
    Sweep(name, overrides, tuple(jobs[0]), (), tuple(map(dict, jobs))).write(directory)


def write_job(
    directory: Path, varied: Mapping[str, str], result: Mapping[str, Any] | None, error: str = ""
) -> None:
    """Write a job that has this result, or failed for this reason, or was cut short."""
    directory.mkdir()
    (directory / CONFIG).write_text(yaml.safe_dump({"varied": dict(varied)}))
    if error:
        (directory / ERROR).write_text(f"{error}\n")
    if result is not None:
        (directory / (METRICS if "test" in result else SUMMARY)).write_text(json.dumps(result))


def trained(
    accuracies: Sequence[float], samples: int = 200, scale: float = 1.0, **others: Any
) -> dict[str, Any]:
    """Give the result of a training with exits of these accuracies, each of 10 million MACs.

    Args:
        scale: multiplies the MACs.
    """
    return {
        "test": {"accuracy": list(accuracies)},
        "test_samples": samples,
        "exits": [
            {"macs": 10e6 * scale * k, "head_macs": 1e6 * scale}
            for k in range(1, 1 + len(accuracies))
        ],
        "epochs": 2,
        "images_per_s": 100.0,
        **others,
    }


def point(policy: str, accuracy: float, edge: float, **others: Any) -> dict[str, Any]:
    """Give a point of an evaluation."""
    return {
        "network": "3 branches", "seed": 0, "level": 0.0, "policy": policy, "p_tar": None,
        "active": "", "n": 100, "accuracy": accuracy, "accuracy_low": accuracy - 0.05,
        "accuracy_high": accuracy + 0.05, "edge_probability": edge, "macs": 5e7 - 4e7 * edge,
        "latency_ms": 20.0 - 10 * edge, "sent_bytes": 2e4 * (1 - edge), **others,
    }  # fmt: skip


def evaluated(p_tar: float, active: str, whole: float = 0.9) -> dict[str, Any]:
    """Give the result of an evaluation of one policy, the accuracy of the whole network beside."""
    own = point("confidence", 0.8 + p_tar / 10, 1 - p_tar / len(active), p_tar=p_tar, active=active)
    return {"points": [own, point("last exit only", whole, 0.0)], "table": []}
