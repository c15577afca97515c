"""A script's job: its settings, its name, its results' place and origin."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, TypeVar

from eenn.artifact.manifest import Manifest
from eenn.files import Json

Settings = TypeVar("Settings", covariant=True)
# The longest names and tags that W&B takes.
MAX_NAME, MAX_TAG = 128, 64


@dataclass(frozen=True)
class Label:
    """The name of a run where runs are compared.

    Args:
        group: of the sweep that the run belongs to: the experiment and its time.
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
        overrides: the settings of the command line.
        recorded: the content of config.yaml, for W&B.
        varied: settings that differ between the jobs of its sweep, as users write their values.
    """

    settings: Settings
    directory: Path
    group: str | None
    overrides: Sequence[str]
    recorded: Mapping[str, Json]
    varied: Mapping[str, str] = field(default_factory=dict)

    def label(self, name: str, kind: Literal["train", "evaluate", "offload"]) -> Label:
        """Label the job with its name and the settings that vary in its sweep.

        Args:
            name: of the job, without the varying settings.
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
    """The place of a run's results, and its names.

    Args:
        name: as its reports have it.
        project: W&B's; None leaves W&B out.
        settings: the configuration, for W&B.
        provenance: put into the summary and on the page as it is.
        models: the manifests of the networks that the run evaluates.
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
