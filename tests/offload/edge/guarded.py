"""A guarded edge, and clouds that its audits ask."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eenn.artifact.deployment import Deployment, Promise
from eenn.artifact.guard_settings import GuardSettings
from eenn.exits.policies.base import Policy
from eenn.exits.policies.threshold import Confidence
from eenn.offload.edge.answers import as_json
from eenn.offload.edge.clouds import Cloud, PhotographCloud, Rest
from eenn.offload.edge.guarding import Guarding, open_guarding
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.edge.watching import EdgeWatcher
from eenn.offload.protocol.wire import Cut
from tests.offload.exported import Exported

P_TAR = 0.65
OWN = Confidence(p_tar=P_TAR)
ALL = (0, 1, 2)
WITHOUT_AUDITS = GuardSettings(risk=0.3, delta=0.5, audit=0)
# All images that leave are audited, and a few disagreements are no alarm.
ALWAYS = GuardSettings(risk=0.5, delta=0.5, audit=1)


@dataclass
class Edge:
    """A runtime that a guard watches.

    Args:
        said: lines for the user.
    """

    runtime: EdgeRuntime
    guarding: Guarding
    said: list[str] = field(default_factory=list)

    def answers(self, files: Sequence[Path]) -> list[dict[str, Any]]:
        return [without_times(as_json(self.runtime.classify_file(file))) for file in files]

    @property
    def status(self) -> Any:
        return self.guarding.status()

    @property
    def totals(self) -> Any:
        return self.status["totals"]


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if not key.endswith("_ms")}


def deployment_of(exported: Exported, settings: GuardSettings, **given: Any) -> Deployment:
    """A deployment with a guard.

    Args:
        given: fields of the deployment; `share` is the promised edge share.
    """
    share = given.pop("share", None)
    promise = None
    if share is not None:
        means = {"edge_probability": (share, share, share)}
        promise = Promise("test", 48, "test", means, bandwidth_mbps=1.0, rtt_ms=1.0)
    fields = {"policy": OWN, "active": ALL, "guard": settings, "promise": promise} | given
    return Deployment(artifact_id=exported.graphs.manifest.id, **fields)


@contextmanager
def guarded(
    exported: Exported,
    deployment: Deployment,
    state: Path,
    cloud: Cloud | PhotographCloud,
    audits: Any = None,
    path: Path | None = None,
) -> Iterator[Edge]:
    """An edge with a guard.

    Args:
        cloud: of answers.
        audits: the cloud of audits; None for the same.
        path: of the artifact, if another than the session's.
    """
    photographs = deployment.features is None
    temperature = deployment.upstream.temperature if deployment.upstream else None
    given: Any = (
        {"photographs": cloud, "temperature": temperature} if photographs else {"features": cloud}
    )
    rest = Rest(**given)
    runtime = EdgeRuntime(
        path or exported.path, deployment.policy, deployment.active, rest,
        experts=deployment.experts,
    )  # fmt: skip
    said: list[str] = []
    manifest, asked = runtime.manifest, audits or cloud
    with open_guarding(manifest, deployment, runtime, asked, state, said.append) as guarding:
        runtime.watcher = EdgeWatcher(deployment.policy, guarding, None, manifest.id, None)
        yield Edge(runtime, guarding, said)


class Fake:
    """A cloud for audits that does as the test says.

    Args:
        answer: called with the features or the files of an image; returns its logits.
    """

    last = None

    def __init__(self, answer: Callable[[Any], NDArray[np.float32]]) -> None:
        self._answer = answer

    def infer(
        self,
        features: NDArray[np.float32],
        cut: Cut,
        deadline: float | None,
        heads: str = "plain",
    ) -> NDArray[np.float32]:
        return self._answer(features)

    def infer_files(self, files: Sequence[bytes], deadline: float | None) -> NDArray[np.float32]:
        return self._answer(files)


def policy_at(own: Policy, threshold: float) -> Policy:
    """The policy at another value of its threshold."""
    return own.of({**vars(own), "p_tar": threshold})
