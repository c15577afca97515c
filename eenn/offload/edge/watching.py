"""The watcher of an edge's images: the guard decides about each, and the field log notes it."""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial

from eenn.artifact.deployment import Deployment
from eenn.artifact.manifest import Manifest
from eenn.exits.policies.base import Policy
from eenn.files import JsonObject
from eenn.offload.adaptation.field_log import FieldEntry, FieldGuard, FieldLink, FieldLog
from eenn.offload.client.http_cloud import Exchange, HttpCloud
from eenn.offload.edge.answers import place_of
from eenn.offload.edge.batch import Batch, Result
from eenn.offload.edge.guarding import Guarded, Guarding, open_guarding
from eenn.offload.edge.kept_audits import KeptAudits
from eenn.offload.edge.rests import open_client
from eenn.offload.edge.runtime import EdgeRuntime


class EdgeWatcher:
    """Watches every image of a runtime; an `eenn.offload.edge.batch.Watcher`.

    Args:
        policy: in force where no guard decides.
        guarding: the guard; None without one.
        log: the field log; None without one.
        artifact_id: of the runtime's artifact, for the log.
        cloud: the client that answers use; None without a cloud.
    """

    def __init__(
        self,
        policy: Policy,
        guarding: Guarding | None,
        log: FieldLog | None,
        artifact_id: str,
        cloud: HttpCloud | None,
    ) -> None:
        self._policy, self._guarding, self._cloud = policy, guarding, cloud
        self._log, self._artifact_id = log, artifact_id

    def begin(self) -> "_Watched":
        """Begin to watch the next image, before anything of it is seen."""
        if self._guarding is None:
            return _Watched(self, self._policy, None)
        guarded = self._guarding.begin()
        return _Watched(self, guarded.policy, guarded)

    def retire(self) -> None:
        """Write the guard's state no more, because another guard goes on from it."""
        if self._guarding is not None:
            self._guarding.retire()

    def status(self) -> JsonObject | None:
        """Describe the guard; None without one."""
        return None if self._guarding is None else self._guarding.status()

    def save(self) -> None:
        """Write the guard's state, if there is a guard."""
        if self._guarding is not None:
            self._guarding.save()

    def asking(self) -> AbstractContextManager[None]:
        """Return a context in which the cloud is asked about an image."""
        return nullcontext() if self._guarding is None else self._guarding.asking()

    def answered(self, batch: Batch, guarded: Guarded | None) -> None:
        """Take note of an image's answer."""
        result = batch.results[int(batch.left[0])]
        asked = self._cloud is not None and batch.cloud_ms > 0
        exchange = self._cloud.last if self._cloud is not None and asked else None
        note = partial(self._note, time.time(), result, exchange)
        if self._guarding is None or guarded is None:
            note(None)
        else:
            self._guarding.answered(guarded, batch, note)

    def _note(
        self, at: float, result: Result, exchange: Exchange | None, guarded: Guarded | None
    ) -> None:
        """Write an image to the field log, once its audit has a result."""
        if self._log is None:
            return
        link, guard = exchange, None
        if guarded is not None:
            link = exchange or guarded.exchange
            guard = FieldGuard(
                knob=guarded.knob,
                threshold=guarded.threshold,
                state=guarded.state,
                alarm=guarded.alarm,
                rate=guarded.turn.rate,
                reference=guarded.reference,
            )
        entry = FieldEntry(
            time=at,
            artifact_id=self._artifact_id,
            exit=result.exit + 1,
            answered_by=result.answered_by + 1,
            place=place_of(result),
            exits=tuple(exit + 1 for exit in result.exits),
            confidences=result.confidences,
            heads=result.heads,
            latency_ms=result.latency_ms,
            cloud_ms=result.cloud_ms,
            failure=result.failure,
            link=None if link is None else _link(link),
            audit=None if guarded is None else guarded.audit,
            agrees=None if guarded is None else guarded.agrees,
            guard=guard,
            looks_like=None if guarded is None else guarded.looks_like,
        )
        self._log.append(entry)


class _Watched:
    """One image of a watcher; an `eenn.offload.edge.batch.Watch`."""

    def __init__(self, watcher: EdgeWatcher, policy: Policy, guarded: Guarded | None) -> None:
        self._watcher, self.policy, self._guarded = watcher, policy, guarded

    def asking(self) -> AbstractContextManager[None]:
        return self._watcher.asking()

    def answered(self, batch: Batch) -> None:
        self._watcher.answered(batch, self._guarded)


def _link(exchange: Exchange) -> FieldLink:
    server_ms = None if math.isnan(exchange.server_ms) else exchange.server_ms
    return FieldLink(exchange.sent_bytes, exchange.received_bytes, exchange.wait_ms, server_ms)


@contextmanager
def open_watcher(
    given: argparse.Namespace,
    manifest: Manifest,
    deployment: Deployment,
    runtime: EdgeRuntime,
    log: FieldLog | None,
    kept: KeptAudits | None,
    say: Callable[[str], None],
) -> Iterator[EdgeWatcher]:
    """Open the guard of a deployment, if it has one, and the watcher of its runtime.

    Raises:
        EennError: see `open_guarding`.
    """
    guarding = None
    with ExitStack() as opened:
        if deployment.guard is not None:
            client = opened.enter_context(open_client(given, manifest, deployment, background=True))
            guarding = opened.enter_context(
                open_guarding(manifest, deployment, runtime, client, given.guard_state, say, kept)
            )
        cloud = runtime.rest.features or runtime.rest.photographs
        own = cloud if isinstance(cloud, HttpCloud) else None
        yield EdgeWatcher(runtime.policy, guarding, log, manifest.id, own)
