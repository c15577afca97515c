"""An edge that serves HTTP in a thread, and clouds for it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Lock, Thread

import numpy as np
from numpy.typing import NDArray

from eenn.exits.policies.threshold import Confidence
from eenn.offload.edge.clouds import Cloud
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.edge.server import EdgeServer
from eenn.offload.protocol.errors import CloudTimeout
from eenn.offload.protocol.wire import Cut
from tests.offload.exported import Exported
from tests.offload.patience import PATIENCE_S

Floats = NDArray[np.float32]
P_TAR = 0.65
SETTINGS = {"policy": "confidence", "p_tar": P_TAR, "precision": "fp32", "deadline_ms": 500.0}


class Failing:
    """A cloud that never answers in time."""

    def infer(
        self, features: Floats, cut: Cut, deadline: float | None, heads: str = "plain"
    ) -> Floats:
        raise CloudTimeout("the cloud took too long", "read")


class Held:
    """A cloud that answers once it is released, and says when it is asked."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud, self.asked, self.released = cloud, Event(), Event()
        self.at_once, self.most_at_once, self._lock = 0, 0, Lock()

    def infer(
        self, features: Floats, cut: Cut, deadline: float | None, heads: str = "plain"
    ) -> Floats:
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.asked.set()
        assert self.released.wait(PATIENCE_S)
        with self._lock:
            self.at_once -= 1
        return self.cloud.infer(features, cut, deadline, heads)


def runtime_of(
    exported: Exported,
    cloud: Cloud | None,
    p_tar: float = P_TAR,
    active: Sequence[int] = (0, 1, 2),
) -> EdgeRuntime:
    return EdgeRuntime(exported.path, Confidence(p_tar=p_tar), active, cloud)


@contextmanager
def serving(runtime: EdgeRuntime) -> Iterator[EdgeServer]:
    """The server, on a free port; stopped and closed in the end."""
    with EdgeServer("127.0.0.1", 0, runtime, SETTINGS) as server:
        thread = Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
