"""Measurements are kept as they come: none is lost, none is made twice, whatever ends a run."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eenn.data.datasets import Photo
from eenn.data.distortions import Distortion
from eenn.errors import EennError
from eenn.exits.rests import NOBODY as NOBODY_ELSE
from eenn.exits.settings import Baseline, Setting
from eenn.offload.bench.contenders import (
    NO_TRAFFIC,
    NOBODY,
    CloudContender,
    Contender,
    Outcome,
    Request,
)
from eenn.offload.bench.kept import KeptMeasurements
from eenn.offload.bench.measuring import Passage
from eenn.offload.bench.rows import summarise
from eenn.offload.bench.turns import WARM_UP, measure
from eenn.offload.client.http_cloud import Exchange
from eenn.offload.protocol.errors import CloudUnreachable
from eenn.planning.times import Route
from tests.offload.exported import Exported

NETWORKS = ("a" * 64, "b" * 64)
PHOTOS = [Photo(f"cat/{n}.jpg", n % 2, b"", n) for n in range(60)]
PRISTINE = Distortion("gaussian_blur", 0)
PASSAGES = [
    Passage("cat/1.jpg", (1, 3), "uint8", False, 1.5, 0.0, (0.1, 1 / 3), 7.0, 900, 2.5, 1e-9),
    Passage("cat/2.jpg", (), "photograph", True, 0.0, 0.0, (), 7.5, 40, 0.25, 3.0),
]


class Counting(Contender):
    """Answers in its own way, and stops the run at one of its answers."""

    def __init__(self, number: int, stop_at: int = 0, failing: bool = False) -> None:
        super().__init__(Setting(None, (), Baseline.EDGE_ONLY), Route(NOBODY_ELSE))
        self.number, self.stop_at, self.failing = number, stop_at, failing
        self.answered: Counter[str] = Counter()

    def answer(self, photo: Photo, distortion: Distortion) -> Outcome:
        self.answered[photo.sample_id] += 1
        if self.answered.total() == self.stop_at:
            raise KeyboardInterrupt
        ms = self.number + len(photo.sample_id) / 3 + distortion.level
        failure = "refused" if self.failing else ""
        return Outcome(0, 0.5, 1, True, failure, "plain", ms, 0.0, NO_TRAFFIC)


def rows_of(
    ways: list[Contender], kept: KeptMeasurements, levels: tuple[float, ...]
) -> list[Request]:
    blocks = (
        measure(ways, PHOTOS, Distortion("gaussian_blur", level), kept, lambda: None)
        for level in levels
    )
    return [row for level in blocks for block in level for _, row in block]


def opened(file: Path) -> KeptMeasurements:
    kept = KeptMeasurements(file, NETWORKS)
    kept.passages(0, lambda: PASSAGES)
    return kept


@pytest.mark.parametrize("stop_at", [1, WARM_UP + 1, 40, 70, 120])
def test_a_run_that_is_cut_short_ends_with_the_rows_of_one_that_is_not(
    stop_at: int, tmp_path: Path
) -> None:
    levels = (0.0, 1.5)
    whole = rows_of([Counting(n) for n in range(3)], opened(tmp_path / "whole"), levels)
    first: list[Contender] = [Counting(0), Counting(1, stop_at), Counting(2)]
    with pytest.raises(KeyboardInterrupt):
        rows_of(first, opened(tmp_path / "cut"), levels)
    kept = KeptMeasurements(tmp_path / "cut", NETWORKS)
    before, second = len(kept), [Counting(n) for n in range(3)]
    again = rows_of([*second], kept, levels)
    assert again == whole
    warm_up = sum(way.answered.total() for way in second) - (len(whole) - before)
    assert 0 <= warm_up <= 2 * 3 * WARM_UP
    # Everything is there now.
    third = [Counting(n) for n in range(3)]
    assert rows_of([*third], KeptMeasurements(tmp_path / "cut", NETWORKS), levels) == whole
    assert [way.answered.total() for way in third] == [0, 0, 0]


def test_what_the_parts_took_is_kept_exactly(tmp_path: Path) -> None:
    assert [*opened(tmp_path / "file").passages(0, list)] == PASSAGES
    again = KeptMeasurements(tmp_path / "file", NETWORKS)
    assert [*again.passages(0, lambda: pytest.fail("measured again"))] == PASSAGES
    assert [*again.passages(1, lambda: PASSAGES[:1])] == PASSAGES[:1]
    assert [*KeptMeasurements(tmp_path / "file", NETWORKS).passages(1, list)] == PASSAGES[:1]


@pytest.mark.parametrize("tail", [b"\0" * 40, b'{"place": {"way": 0', b"\xff\n", b"[[[\n", b"{}\n"])
def test_what_is_torn_or_odd_is_measured_again(tail: bytes, tmp_path: Path) -> None:
    file = tmp_path / "file"
    rows = rows_of([Counting(0)], opened(file), (0.0,))
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:20]) + tail)
    way = Counting(0)
    assert rows_of([way], KeptMeasurements(file, NETWORKS), (0.0,)) == rows
    # The first two lines are the networks and the parts.
    assert way.answered.total() == len(PHOTOS) - 18 + WARM_UP
    for line in file.read_bytes().splitlines()[20 + tail.endswith(b"\n") :]:
        json.loads(line)


@pytest.mark.parametrize("content", [b"", b"\n", b"{}\n", b"[" * 10_000 + b"\n"])
def test_measurements_of_other_networks_are_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "file"
    if content:
        file.write_bytes(content)
    else:
        opened(file)
    with pytest.raises(EennError, match="start a new run"):
        KeptMeasurements(file, ("c" * 64,))


def test_a_cloud_that_is_gone_ends_the_run_before_that_is_kept(tmp_path: Path) -> None:
    kept = opened(tmp_path / "file")

    def gone() -> None:
        raise CloudUnreachable("refused", "refused")

    with pytest.raises(CloudUnreachable):
        list(measure([Counting(0), Counting(1, failing=True)], PHOTOS, PRISTINE, kept, gone))
    assert len(KeptMeasurements(tmp_path / "file", NETWORKS)) == 25


class Failing:
    """A cloud that answers every other photograph."""

    def __init__(self) -> None:
        self._replies: Iterator[Any] = iter([True, False] * 100)
        self.last = Exchange(sent_bytes=10, received_bytes=0)

    def infer_files(self, files: object, deadline: None, cropped: bool) -> Any:
        import numpy as np

        if not next(self._replies):
            raise CloudUnreachable("reset", "reset")
        return np.array([[5.0, 0.0, 0.0, 0.0]], np.float32)


def test_photographs_that_the_cloud_failed_count_as_degraded(
    exported: Exported, tmp_path: Path
) -> None:
    cloud: Any = Failing()
    setting = Setting(None, (), Baseline.CLOUD_ONLY)
    way = CloudContender(setting, exported.graphs.manifest, False, cloud, crop=False, slowdown=1.0)
    kept, photos = opened(tmp_path / "file"), [photo._replace(label=0) for photo in PHOTOS]
    blocks = measure([way], photos, PRISTINE, kept, lambda: None)
    rows = [row for block in blocks for _, row in block]
    found = summarise(rows, rows)
    assert (found.n, found.degraded, found.accuracy.value) == (60, 30, 0.5)
    assert {row.outcome.label for row in rows if row.outcome.failure} == {NOBODY}
