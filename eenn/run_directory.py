"""Run directories: where a run writes, and which is the newest.

outputs/SCRIPT/NAME/TIMESTAMP/         a single run
outputs/SCRIPT/NAME/TIMESTAMP/JOB/     a job of a sweep
"""

import os
from datetime import datetime
from pathlib import Path

from eenn.errors import EennError
from eenn.files import write_file

OUTPUTS = Path("outputs")
CONFIG, ARTIFACT = "config.yaml", "artifact"
MANIFEST = "manifest.json"
# What a training and an evaluation write last.
RESULTS = METRICS, SUMMARY = "metrics.json", "summary.json"
# What a run goes on from: a training from its last epoch, one of experts from what was finished.
LAST_CHECKPOINT, FINISHED = RESUMABLE = Path("checkpoints/last.ckpt"), Path("finished")

# How torchrun, SLURM, LSF and Lightning's own launcher number processes.
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def is_first_process() -> bool:
    """Whether this is the one process of a run that writes."""
    return all(os.environ.get(rank, "0") == "0" for rank in RANKS)


def run_directory(script: str, name: str, resume: str | None = None) -> str:
    """A new directory for a run, or the one of the run to go on with.

    Args:
        resume: a run directory, `latest` for the newest unfinished run, or None.

    Raises:
        EennError: there is no such run, or it has no checkpoint yet.
    """
    if resume is None:
        timestamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S.%f")[:-3]
        return str(OUTPUTS / script / name / timestamp)
    if resume == "latest":
        unfinished = [
            run for run in with_file(OUTPUTS / script, *RESUMABLE) if not is_finished(run)
        ]
        if not unfinished:
            raise EennError(
                f"resume=latest: no unfinished run with a checkpoint under {OUTPUTS / script}; "
                "start one with `python train.py`"
            )
        return str(unfinished[-1])
    if not any((Path(resume) / name).exists() for name in RESUMABLE):
        raise EennError(
            f"resume={resume} has no {LAST_CHECKPOINT}; allowed are latest or the directory of a "
            "run that finished an epoch, or one expert"
        )
    return resume


def claim(directory: Path, config: str, resume: str | None, overrides: list[str]) -> None:
    """Write the run's configuration into its directory, or check that resuming it is meant.

    Raises:
        EennError: the directory holds a run and is not resumed, is finished, or is resumed with
            other settings than its own.
    """
    if not is_first_process():
        return
    if resume is None:
        kept = (*RESUMABLE, ARTIFACT, *RESULTS)
        if any((directory / name).exists() for name in kept):
            raise EennError(
                f"{directory} holds a run; go on with resume={directory}, or choose another"
            )
        write_file(directory / CONFIG, config)
        return
    settings = [o for o in overrides if not o.startswith(("resume=", "hydra."))]
    if settings:
        raise EennError(f"resume keeps the run's own settings; leave out {' '.join(settings)}")
    if is_finished(directory):
        raise EennError(f"resume={resume}: {directory} is finished; start a new run")


def with_file(root: Path, *files: Path) -> list[Path]:
    """The directories under `root` that hold one of `files`, the one with the newest last."""
    found = [
        (path.stat().st_mtime, path.parents[len(file.parts) - 1])
        for file in files
        for path in root.glob(f"**/{file}")
    ]
    return [directory for _, directory in sorted(found)]


def find_artifact(given: str) -> Path:
    """The directory of an artifact: `latest` for the newest that a training run wrote, or a path.

    A run's own directory stands for its artifact.

    Raises:
        EennError: there is none.
    """
    if given == "latest":
        found = with_file(OUTPUTS / "train", Path(ARTIFACT) / MANIFEST)
        if not found:
            raise EennError(
                f"artifact=latest: none under {OUTPUTS / 'train'}; train one with `python train.py`"
            )
        return found[-1] / ARTIFACT
    path = Path(given)
    return path / ARTIFACT if (path / ARTIFACT / MANIFEST).exists() else path


def is_finished(directory: Path) -> bool:
    """Whether a run wrote its results."""
    return any((directory / name).exists() for name in RESULTS)
