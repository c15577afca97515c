"""A script's job: its settings, what it is called, where its results go and come from."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, TypeVar

from eenn.artifact.manifest import Manifest
from eenn.files import Json

Settings = TypeVar("Settings", covariant=True)
# What W&B takes.
MAX_NAME, MAX_TAG = 128, 64


@dataclass(frozen=True)
class Label:
    """What a run is called where runs are compared.

    Args:
        group: of the sweep that it is a job of: the experiment and its time.
        tags: one for each setting that varies in its sweep.
    """

    name: str
    kind: Literal["train", "evaluate", "offload"]
    group: str | None = None
    tags: tuple[str, ...] = ()


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

    def label(self, name: str, kind: Literal["train", "evaluate", "offload"]) -> Label:
        """Call the job by its name and what varies in its sweep.

        Args:
            name: of the job, without what varies.
        """
        told = [f"{key}={value}" for key, value in self.varied.items()]
        group = None if self.group is None else f"{self.directory.parents[1].name} {self.group}"
        return Label(
            _shortened(" ".join([name, *told]), MAX_NAME),
            kind,
            group and _shortened(group.strip(), MAX_NAME),
            tuple(_shortened(each, MAX_TAG) for each in told),
        )


@dataclass(frozen=True)
class Run:
    """Where the results of a run go and what it is called.

    Args:
        name: as its reports have it.
        project: W&B's; None leaves W&B out.
        settings: the configuration, for W&B.
        provenance: put into the summary and on the page as it is.
        models: that the run asks.
    """

    directory: Path
    name: str
    label: Label
    project: str | None
    settings: Mapping[str, Json]
    provenance: Mapping[str, Json]
    models: Sequence[Manifest]


def _shortened(text: str, limit: int) -> str:
    """Shorten a text in its middle, so that different texts stay different."""
    if len(text) <= limit:
        return text
    digest = f"~{hashlib.sha256(text.encode()).hexdigest()[:8]}~"
    kept = limit - len(digest)
    return text[: kept // 2] + digest + text[-(kept - kept // 2) :]
