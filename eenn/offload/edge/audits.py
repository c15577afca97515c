"""Audits: images that left on the edge are sent to the cloud all the same, in the background.

An audit never delays an answer: it runs in a thread of low priority, waits while an answer uses the
link, has a connection of its own on which the cloud puts it last, and is dropped where that takes
too long. Whether an image is audited is decided before it is seen.
"""

import math
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, Full, Queue
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from eenn.offload.client.breaker import CAUSES_OF_A_WORKING_CLOUD
from eenn.offload.client.http_cloud import Exchange, HttpCloud
from eenn.offload.edge.batch import check_logits
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.graphs.parts import Names
from eenn.offload.protocol.errors import OffloadError

Floats = NDArray[np.float32]

ROOM = 8  # audits that wait; no further ones are begun
NICENESS = 10
FREE_LINK_S = 1.0  # an audit that does not find the link free for so long is dropped
REPLY_S = 5.0
EVERY_S = 5.0
ENDING_S = 2.0  # for audits that wait when the program ends


@dataclass(frozen=True)
class Audit:
    """An image that left on the edge.

    Args:
        features: those behind the branch at which the image left, (1, C, H, W); `heads` is the
            image's head set, (1,).
        photograph: the image's file, where the cloud needs it.
        done: called with the outcome.
    """

    features: Floats
    branch: int
    heads: Names
    photograph: bytes
    done: "Callable[[Audited], None]"


class Audited(NamedTuple):
    """The outcome of an audit.

    Args:
        label: the cloud's answer; None where there is none.
        offline: whether the cloud could not be asked.
        exchange: the exchange with the cloud; None if it was not asked.
    """

    label: int | None
    offline: bool = False
    exchange: Exchange | None = None


class Audits:
    """Asks the cloud about images that left, while its block lasts.

    Args:
        runtime: the edge, which computes the features at the cut.
        cloud: the cloud, by a client in the background.
        sends_photographs: whether the cloud answers from photographs.
        every: called every `EVERY_S` seconds, and at the end.
    """

    def __init__(
        self,
        runtime: EdgeRuntime,
        cloud: HttpCloud,
        sends_photographs: bool,
        every: Callable[[], None],
    ) -> None:
        self._runtime, self._cloud, self._every = runtime, cloud, every
        self.sends_photographs = sends_photographs
        self._waiting: Queue[Callable[[], None] | None] = Queue(ROOM)
        self._answers_asking, self._changed = 0, threading.Condition()
        self._until = math.inf
        self._thread = threading.Thread(target=self._follow, name="audits", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._until = time.monotonic() + ENDING_S
        while self._thread.is_alive():
            with suppress(Full):
                self._waiting.put(None, timeout=ENDING_S)
                self._thread.join()

    @property
    def has_room(self) -> bool:
        """Tell whether another audit may be begun."""
        return not self._waiting.full()

    def begin(self, audit: Audit) -> None:
        """Begin an audit; it is dropped where there is no room after all."""
        if not self._put(partial(self._ask, audit)):
            audit.done(Audited(None))

    def do_if_idle(self, work: Callable[[], None]) -> bool:
        """Do other work in the thread of audits, unless some waits there already.

        Returns:
            Whether the work will be done.
        """
        return self._waiting.empty() and self._put(work)

    @contextmanager
    def yielding(self) -> Iterator[None]:
        """Keep audits off the link while an answer uses it."""
        with self._changed:
            self._answers_asking += 1
        try:
            yield
        finally:
            with self._changed:
                self._answers_asking -= 1
                self._changed.notify()

    def _follow(self) -> None:
        with suppress(OSError):  # Linux has a niceness for every thread, other systems may not
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        due = time.monotonic() + EVERY_S
        while True:
            with suppress(Empty):
                work = self._waiting.get(timeout=max(due - time.monotonic(), 0))
                if work is None:
                    break
                self._do(work)
            if time.monotonic() >= due:
                self._do(self._every)
                due = time.monotonic() + EVERY_S
        self._do(self._every)

    def _put(self, work: Callable[[], None]) -> bool:
        try:
            self._waiting.put_nowait(work)
        except Full:
            return False
        return True

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            # A bug must not end the thread, which keeps the guard's state as well.
            with suppress(OSError):
                traceback.print_exc()

    def _ask(self, audit: Audit) -> None:
        audited = Audited(None)
        try:
            audited = self._asked(audit)
        finally:
            audit.done(audited)

    def _asked(self, audit: Audit) -> Audited:
        """Ask the cloud about an image."""
        try:
            features = audit.features
            if not self.sends_photographs:
                features = self._runtime.ahead(features, audit.branch, audit.heads)
            with self._changed:
                if not self._changed.wait_for(lambda: not self._answers_asking, FREE_LINK_S):
                    return Audited(None)
            deadline = min(time.monotonic() + REPLY_S, self._until)
            if self.sends_photographs:
                logits = self._cloud.infer_files([audit.photograph], deadline)
            else:
                heads = str(audit.heads[0])
                logits = self._cloud.infer(features, self._runtime.cut, deadline, heads)
            (one,) = check_logits(logits, 1, len(self._runtime.manifest.classes))
            return Audited(int(one.argmax()), False, self._cloud.last)
        except OffloadError as error:
            offline = error.cause not in CAUSES_OF_A_WORKING_CLOUD
            return Audited(None, offline, self._cloud.last)
