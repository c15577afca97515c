"""What a profile counts, on parts that take known times."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eenn.models.early_exit import EarlyExitNet
from eenn.records import profiling

SEGMENTS_MS, HEADS_MS = (2.0, 3.0, 5.0), (0.25, 0.5, 1.0)


class Taking(nn.Module):
    """A part of a network that takes so many milliseconds on a clock."""

    def __init__(self, clock: list[float], ms: float) -> None:
        super().__init__()
        self._clock, self._ms = clock, ms

    def forward(self, x: Tensor) -> Tensor:
        self._clock[0] += self._ms / 1e3
        return x


def test_the_time_to_an_exit_is_that_of_all_segments_and_heads_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(profiling.time, "perf_counter", lambda: clock[0])
    parts = [[Taking(clock, ms) for ms in own] for own in (SEGMENTS_MS, HEADS_MS)]
    threads = torch.get_num_threads()
    found = profiling.profile(
        EarlyExitNet(*parts), "a1b2", 32, "CPU", Taking(clock, 0.125), repeats=6
    )
    for percentile in ("p5", "p50", "p95"):
        assert found.segments[percentile] == pytest.approx(SEGMENTS_MS)
        assert found.heads[percentile] == pytest.approx(HEADS_MS)
        every = np.cumsum(np.add(SEGMENTS_MS, HEADS_MS))
        assert found.to_exit[percentile] == pytest.approx(every.tolist())
        assert found.classifier[percentile] == pytest.approx(0.125)
    assert (found.threads, found.repeats) == (1, 6)
    assert torch.get_num_threads() == threads
