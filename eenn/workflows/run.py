"""A script's job: its settings, where its results go and where they come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from eenn.provenance import processor, provenance
from eenn.records.evaluated_artifact import Subject
from eenn.workflows.settings import MeasuringSettings

Settings = TypeVar("Settings", covariant=True)


@dataclass(frozen=True)
class Job(Generic[Settings]):
    """One job of a script, alone or in a sweep.

    Args:
        directory: of the run, where its config.yaml lies.
        group: of the sweep that the job belongs to.
        overrides: what was given on the command line.
        recorded: what config.yaml says, for W&B.
    """

    settings: Settings
    directory: Path
    group: str | None
    overrides: Sequence[str]
    recorded: Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """Where an evaluation goes and what it is called.

    Args:
        group: of the sweep that the run is a job of.
        project: W&B's; None leaves W&B out.
        settings: the configuration, for W&B.
        provenance: put into the summary and on the page as it is.
    """

    directory: Path
    name: str
    group: str | None
    project: str | None
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]


def run_of(job: Job[MeasuringSettings], subjects: Sequence[Subject]) -> Run:
    """Where the job's results go, and their origin."""
    titles = dict.fromkeys(subject.title for subject in subjects)
    seeds = dict.fromkeys(str(subject.split.seed) for subject in subjects)
    origin = provenance(", ".join(seeds), ", ".join(titles), f"{processor()}, 1 thread")
    return Run(
        job.directory,
        job.settings.name,
        job.group,
        job.settings.logger.get("project"),
        job.recorded,
        {**origin, "overrides": list(job.overrides)},
    )
