"""An edge with a guard whose cloud is in this process, and what its field log says."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from eenn.artifact.deployment import Deployment, Promise
from eenn.artifact.guard_settings import GuardSettings
from eenn.exits.policies.threshold import Confidence
from eenn.offload.adaptation.field_log import FieldEntry, FieldLog, read_field_log
from eenn.offload.client.http_cloud import Exchange
from eenn.offload.edge.batch import Result
from eenn.offload.edge.clouds import LocalCloud
from eenn.offload.edge.guarding import open_guarding
from eenn.offload.edge.kept_audits import KeptAudits
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.edge.watching import EdgeWatcher
from eenn.offload.graphs.index import Graphs
from tests.offload.patience import wait_until

ACTIVE = (0, 1, 2)
# Bursts of few images, and as many audits as images that leave.
SETTINGS = GuardSettings(risk=0.5, delta=0.5, audit=1)


class Near(LocalCloud):
    """A cloud in this process that stands for one over HTTP."""

    last = Exchange()


@dataclass
class GuardedEdge:
    runtime: EdgeRuntime
    log: Path
    said: list[str]

    def classify(self, files: Sequence[Path]) -> list[tuple[Result, FieldEntry]]:
        """Answers and log entries; the next image waits until the log has the one before."""
        found = []
        for file in files:
            before = len(self.entries())
            result = self.runtime.classify_file(file)
            wait_until(lambda: len(self.entries()) > before)  # noqa: B023 (called at once)
            found.append((result, self.entries()[-1]))
        return found

    def entries(self) -> list[FieldEntry]:
        return [entry for entry in read_field_log(self.log) if entry]

    def status(self) -> dict[str, Any]:
        assert self.runtime.watcher
        return cast(dict[str, Any], self.runtime.watcher.status())


@contextmanager
def guarded_edge(
    path: Path,
    scratch: Path,
    p_tar: float = 0.6,
    edge_share: float = 0.5,
    kept: KeptAudits | None = None,
) -> Iterator[GuardedEdge]:
    """An edge of which this share of the images is expected to leave."""
    policy, said = Confidence(p_tar=p_tar), list[str]()
    manifest = Graphs.read(path).manifest
    means = {"edge_probability": (edge_share, edge_share, edge_share)}
    deployment = Deployment(
        artifact_id=manifest.id,
        policy=policy,
        active=ACTIVE,
        promise=Promise("test images", 48, "by hand", means, 94, 12.8),
        guard=SETTINGS,
    )
    cloud: Any = Near(path)
    runtime = EdgeRuntime(path, policy, ACTIVE, cloud)
    state = scratch / "guard.json"
    with (
        FieldLog(scratch / "field.jsonl") as log,
        open_guarding(manifest, deployment, runtime, cloud, state, said.append, kept) as guarding,
    ):
        runtime.watcher = EdgeWatcher(policy, guarding, log, manifest.id, None)
        yield GuardedEdge(runtime, scratch / "field.jsonl", said)
