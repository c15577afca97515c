"""A workflow's run: where its results go and where they come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eenn.files import Json


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
