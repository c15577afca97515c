"""The watcher of an edge's images: the guard decides about each, and the field log notes it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from eenn.exits.policies.base import Policy
from eenn.offload.client.http_cloud import Exchange, HttpCloud
from eenn.offload.edge.batch import Batch, Result
from eenn.offload.edge.guarding import Guarded, Guarding

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
