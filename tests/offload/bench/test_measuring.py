"""What a device and its cloud take, measured on a cloud whose times are known."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest

from eenn.data.datasets import Photo
from eenn.errors import EennError
from eenn.exits.head_sets import PLAIN_HEADS
from eenn.exits.rests import PHOTOGRAPH
from eenn.offload.bench.measuring import Meter, Passage, times_of
from eenn.offload.client.http_cloud import Exchange
from eenn.offload.protocol.errors import CloudUnreachable
from eenn.offload.protocol.wire import Cut
from eenn.planning.costs import Link
from tests.offload.exported import Exported

LINK = Link(bandwidth_mbps=12, rtt_ms=50)
HEADER_BYTES, CLASSES, BRANCHES = 400, 5, 3
CUTS, BORDERS = range(BRANCHES + 1), (0, 3, 7, 14)
# The image has 3,072 values, the features after 2, 3, 5, 8 and 15 blocks 2,048, 512, 256, 96, 56.
FURTHER = {
    *(((), cut) for cut in (2, 3, 5, 8, 15)),
    *(((1,), cut) for cut in (5, 8, 15)),
    *(((1, 2), cut) for cut in (8, 15)),
    ((1, 2, 3), 15),
}


class Known:
    """A cloud behind LINK that says it takes 3 ms, whatever it really does.

    Args:
        bytes_per_value: of features.
    """

    def __init__(self, bytes_per_value: int = 4, failing: bool = False) -> None:
        self._bytes_per_value, self._failing = bytes_per_value, failing

    def infer(self, features: Any, cut: Cut, deadline: None, heads: str) -> Any:
        return self._exchange(self._bytes_per_value * features.size)

    def infer_files(self, files: Sequence[bytes], deadline: None) -> Any:
        return self._exchange(sum(map(len, files)))

    def _exchange(self, payload_bytes: int) -> Any:
        if self._failing:
            raise CloudUnreachable("reset", "reset")
        sent_bytes = HEADER_BYTES + payload_bytes
        self.last = Exchange(
            sent_bytes=sent_bytes,
            # More than really passes: what is left, packing and deciding, is less than nothing.
            wait_ms=LINK.latency_ms(sent_bytes) + 3,
            server_parts_ms={"queue": 1, "model": 2},
        )
        return np.zeros((1, CLASSES), np.float32)


def photos(exported: Exported, count: int) -> Iterator[Photo]:
    for number, file in enumerate(exported.files[:count]):
        yield Photo(file.name, 0, file.read_bytes(), number)


def behind(passage: Passage) -> int:
    return passage.ends[-1] if passage.ends else 0


def meter(exported: Exported, clouds: Any, upstream: Any = None) -> Meter:
    return Meter(exported.graphs, clouds, "fp32", PLAIN_HEADS, 1.0, upstream, lambda: None)


def test_every_part_is_measured_behind_all_that_can_come_before_it(exported: Exported) -> None:
    clouds = {"fp32": Known(4), "uint8": Known(1)}
    own = list(photos(exported, 30))
    passages = meter(exported, clouds).passages(own)
    steps = {step for p in passages for step in pairwise((0, *p.ends))}
    assert steps == set(combinations(CUTS, 2))
    further = [p for p in passages if p.cut is not None]
    assert {(p.ends, p.cut) for p in further if not p.payload} == FURTHER
    assert {p.cut for p in further if p.payload} == {2, 5, 8, 15}
    assert {len(p.stages_ms) - len(p.ends) for p in further} == {1}
    chained = [p for p in passages if p.payload != PHOTOGRAPH and p.cut is None]
    rests = {(behind(p), p.payload) for p in chained}
    assert rests == {(cut, payload) for cut in CUTS for payload in ("", *clouds)}
    on_device = [p for p in passages if not p.payload]
    assert {p.image for p in on_device} == {photo.sample_id for photo in own}
    assert [p.image for p in passages if p.payload == PHOTOGRAPH] == [p.sample_id for p in own]
    for passage in chained:
        assert len(passage.stages_ms) == len(passage.ends)
        assert passage.preprocess_ms > 0
        # The chain ends with the last of its stages; before it there is every one of the first.
        *before, last = (0, *passage.ends)
        assert before == list(range(len(before)))
        assert not before or last > before[-1]


def test_the_link_and_the_requests_of_every_cut_are_found(exported: Exported) -> None:
    clouds = {"fp32": Known(4), "uint8": Known(1)}
    own = list(photos(exported, 4))
    passages = meter(exported, clouds, (exported.path, Known())).passages(own)
    times = times_of(passages, 1.0, BORDERS)
    assert times.link.bandwidth_mbps == pytest.approx(LINK.bandwidth_mbps, rel=1e-3)
    assert times.link.rtt_ms == pytest.approx(LINK.rtt_ms, rel=1e-3)
    assert set(times.stage_ms) == {(BORDERS[a], b) for a, b in combinations(CUTS, 2)}
    assert set(times.rest_ms) == set(BORDERS)
    assert set(times.further_ms) == {(BORDERS[len(ends)], cut) for ends, cut in FURTHER}
    cuts = {*BORDERS, *(cut for _, cut in FURTHER)}
    requests = {(cut, name) for cut in cuts for name in clouds}
    assert set(times.requests) == requests | {(0, PHOTOGRAPH)}
    values = 3 * 32 * 32
    assert times.requests[0, "fp32"].sent_bytes == HEADER_BYTES + 4 * values
    assert times.requests[0, "uint8"].sent_bytes == HEADER_BYTES + values
    mean = np.mean([len(photo.file) for photo in own])
    assert times.requests[0, PHOTOGRAPH].sent_bytes == pytest.approx(HEADER_BYTES + mean)
    assert {request.cloud_ms for request in times.requests.values()} == {3}
    assert times.upstream is not None
    assert times.upstream.request.sent_bytes == times.requests[0, PHOTOGRAPH].sent_bytes
    assert times.upstream.device_ms > 0


def passage(
    image: str, ends: tuple[int, ...], payload: str, *, late: float = 1.0, upstream: bool = False
) -> Passage:
    """Make a passage in which stage (a, b) takes 10 (b - a) ms and the rest 100 ms."""
    stages = tuple(late * 10.0 * (b - a) for a, b in pairwise((0, *ends)))
    size = {"a": 1000, "b": 3000}[image] if payload == PHOTOGRAPH else 500 * (1 + sum(ends))
    wait_ms = LINK.latency_ms(size) + 4 if payload else 0.0
    before_ms = 0.0 if payload == PHOTOGRAPH else {"a": 20.0, "b": 40.0}[image]
    return Passage(
        image, ends, payload, upstream, before_ms, 0.0, stages,
        wait_ms + 1.5 if payload else 100.0, size if payload else 0, 4.0 if payload else 0.0,
        wait_ms,
    )  # fmt: skip


def all_passages(late: float = 1.0) -> list[Passage]:
    """Two stages, two photographs, every rest; one of three samples of a stage may be late."""
    found = [passage(image, (), PHOTOGRAPH) for image in "ab"]
    for payload in ("", "fp32"):
        for ends in ((), (1,), (2,), (1, 2)):
            found += [passage(image, ends, payload) for image in "ab"]
            found.append(passage("a", ends, payload, late=late))
    return found


def test_times_are_medians_of_stages_and_means_of_what_differs_by_photograph() -> None:
    times = times_of(all_passages(), 1.0)
    assert times.stage_ms == {(0, 1): 10, (0, 2): 20, (1, 2): 10}
    assert times.rest_ms == {0: 100, 1: 100, 2: 100}
    assert times.preprocess_ms == 30
    assert times.requests[0, PHOTOGRAPH].sent_bytes == 2000
    assert times.requests[1, "fp32"].cloud_ms == 4
    assert times.requests[1, "fp32"].codec_ms == pytest.approx(1.5)
    assert times.link.bandwidth_mbps == pytest.approx(LINK.bandwidth_mbps)
    assert times.upstream is None
    slow = times_of(all_passages(), 5.0)
    assert slow.with_edge(5).stage_ms == pytest.approx(times.stage_ms)
    assert slow.requests == times.requests


def test_late_samples_make_every_part_late_alike_and_totals_right() -> None:
    """A third of all stages are 40 times late; means over many runs are what they add up to."""
    passages = all_passages(late=40.0)
    times, punctual = times_of(passages, 1.0), times_of(all_passages(), 1.0)
    factor = times.stage_ms[0, 1] / 10
    assert factor > 2
    assert times.stage_ms == pytest.approx({(0, 1): 10 * factor, (0, 2): 20 * factor,
                                            (1, 2): 10 * factor})  # fmt: skip
    assert times.preprocess_ms == pytest.approx(factor * punctual.preprocess_ms)
    on_device = [p for p in passages if not p.payload]
    total = sum(p.preprocess_ms + sum(p.stages_ms) + p.rest_ms for p in on_device)
    medians = {"a": 20.0, "b": 40.0}
    expected = sum(
        factor * medians[p.image]
        + sum(times.stage_ms[step] for step in pairwise((0, *p.ends)))
        + times.rest_ms[behind(p)]
        for p in on_device
    )
    assert expected == pytest.approx(total)


def test_stages_before_a_request_are_not_samples_of_a_stage() -> None:
    """They follow the wait for the last reply, which photographs that stay do not."""
    passages = all_passages()
    cold = [
        replace(p, preprocess_ms=2 * p.preprocess_ms, stages_ms=tuple(2 * s for s in p.stages_ms))
        if p.payload
        else p
        for p in passages
    ]
    assert times_of(cold, 1.0) == times_of(passages, 1.0)


def test_an_upstream_network_counts_with_its_preprocessing() -> None:
    there = [passage(image, (), payload, upstream=True) for image in "ab"
             for payload in ("", PHOTOGRAPH)]  # fmt: skip
    times = times_of([*all_passages(), *there], 2.0)
    assert times.upstream is not None
    assert times.upstream.device_ms == pytest.approx((120 + 140) / 2 / 2)
    assert times.upstream.request.sent_bytes == 2000
    assert times.rest_ms[0] == pytest.approx(50)  # not mixed up with the network's own


def test_a_cloud_that_never_answers_is_an_error_and_one_that_is_gone_ends_it(
    exported: Exported,
) -> None:
    own = list(photos(exported, 2))
    clouds: Any = {"fp32": Known(failing=True)}
    passages = meter(exported, clouds).passages(own)
    assert {p.payload for p in passages} == {""}
    without = [p for p in all_passages() if p.payload != PHOTOGRAPH]
    with pytest.raises(EennError, match="never answered some of the requests"):
        times_of(without, 1.0)
    without = [p for p in all_passages() if (behind(p), p.payload) != (2, "fp32")]
    with pytest.raises(EennError, match="never answered some of the requests"):
        times_of(without, 1.0)

    def gone() -> None:
        raise CloudUnreachable("refused", "refused")

    ending = Meter(exported.graphs, clouds, "fp32", PLAIN_HEADS, 1.0, None, gone)
    with pytest.raises(CloudUnreachable):
        ending.passages(own)
