"""A script's job: its settings, where its results go and where they come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from eenn.files import Json

Settings = TypeVar("Settings", covariant=True)


@dataclass(frozen=True)
class Job(Generic[Settings]):
    """One job of a script, alone or in a sweep.

    Args:
        directory: of the run, where its config.yaml lies.
        group: of the sweep that the job belongs to.
        overrides: what was given on the command line.
        recorded: what config.yaml says, for W&B.
        varied: settings that differ between the jobs of its sweep, as users write their values.
    """

    settings: Settings
    directory: Path
    group: str | None
    overrides: Sequence[str]
    recorded: Mapping[str, Json]
    varied: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """Where the results of a run go and what it is called.

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
    settings: Mapping[str, Json]
    provenance: Mapping[str, Json]
