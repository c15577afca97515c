"""The watcher of an edge's images: the guard decides about each, and the field log notes it."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial

from eenn.artifact.deployment import Deployment
from eenn.artifact.manifest import Manifest
from eenn.exits.policies.base import Policy
from eenn.files import JsonObject
from eenn.offload.client.http_cloud import Exchange, HttpCloud
from eenn.offload.edge.batch import Batch, Result
from eenn.offload.edge.guarding import Guarded, Guarding, open_guarding
from eenn.offload.edge.rests import open_in_background
from eenn.offload.edge.runtime import EdgeRuntime

# Notes an image: its result, the exchange with the cloud if there was one, and the guard's part.
Note = Callable[[Result, Exchange | None, Guarded | None], None]


class EdgeWatcher:
    """Watches every image of a runtime; an `eenn.offload.edge.batch.Watcher`.

    Args:
        policy: in force where no guard decides.
        guarding: the guard; None without one.
        note: called once for every image; for an audited one when the audit has a result.
        cloud: the client that answers use; None without a cloud.
    """

    def __init__(
        self, policy: Policy, guarding: Guarding | None, note: Note, cloud: HttpCloud | None
    ) -> None:
        self.policy, self.guarding, self.note, self.cloud = policy, guarding, note, cloud

    def begin(self) -> "Watched":
        """Begin to watch the next image, before anything of it is seen."""
        return Watched(self, None if self.guarding is None else self.guarding.begin())

    def status(self) -> JsonObject | None:
        """Describe the guard; None without one."""
        return None if self.guarding is None else self.guarding.status()


class Watched:
    """One image of an `EdgeWatcher`; an `eenn.offload.edge.batch.Watch`."""

    def __init__(self, watcher: EdgeWatcher, guarded: Guarded | None) -> None:
        self._watcher, self._guarded = watcher, guarded
        self.policy = watcher.policy if guarded is None else guarded.policy

    def asking(self) -> AbstractContextManager[None]:
        """Return a context in which the cloud is asked about the image."""
        guarding = self._watcher.guarding
        return nullcontext() if guarding is None else guarding.asking()

    def answered(self, batch: Batch) -> None:
        """Take note of the image's answer."""
        result = batch.results[int(batch.left[0])]
        cloud, asked = self._watcher.cloud, batch.cloud_ms > 0
        exchange = cloud.last if cloud is not None and asked else None
        note = partial(self._watcher.note, result, exchange)
        if self._watcher.guarding is None or self._guarded is None:
            note(None)
        else:
            self._watcher.guarding.answered(self._guarded, batch, note)


@contextmanager
def open_watcher(
    given: argparse.Namespace,
    manifest: Manifest,
    deployment: Deployment,
    runtime: EdgeRuntime,
    say: Callable[[str], None],
) -> Iterator[EdgeWatcher]:
    """Open the guard and the field log of a deployment.

    Raises:
        EennError: see `open_guarding`.
    """
    guarding = None
    with ExitStack() as opened:
        if deployment.guard is not None:
            audited = opened.enter_context(open_in_background(given, manifest, deployment))
            guarding = opened.enter_context(
                open_guarding(manifest, deployment, runtime, audited, given.guard_state, say)
            )
        cloud = runtime.rest.features or runtime.rest.photographs
        client = cloud if isinstance(cloud, HttpCloud) else None
        yield EdgeWatcher(runtime.policy, guarding, lambda *_: None, client)
