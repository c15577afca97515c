"""Fixtures of tests of the HTTP client."""

import pytest

from eenn.offload.client import http_cloud, sockets
from tests.offload.simulated_clock import SimulatedClock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimulatedClock:
    """The client's clock, simulated."""
    clock = SimulatedClock()
    for module in (http_cloud, sockets):
        monkeypatch.setattr(module, "time", clock)
    return clock
