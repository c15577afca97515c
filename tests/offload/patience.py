"""How long tests wait for what is there at once: longer than any machine stalls."""

import time
from collections.abc import Callable

import pytest

from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.client.transport import Timeouts

PATIENCE_S = 60.0
# Limits of an HttpCloud; that of a question is given with it.
PATIENT = {"timeouts": Timeouts(1e3 * PATIENCE_S, 1e3 * PATIENCE_S)}


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread or process is about to bring about."""
    limit = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.005)


def make_patient(patch: pytest.MonkeyPatch) -> None:
    """Let programs that set no limits of their HttpCloud wait as long."""
    for name, limit in PATIENT.items():
        patch.setitem(HttpCloud.__init__.__kwdefaults__, name, limit)
