"""What a device and its cloud take, measured on a cloud whose times are known."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import pytest

from eenn.data.datasets import Photo
from eenn.exits.head_sets import PLAIN_HEADS
from eenn.offload.bench.measuring import measure
from eenn.offload.client.http_cloud import Exchange
from eenn.planning.costs import Link
from tests.offload.exported import Exported

LINK = Link(bandwidth_mbps=12, rtt_ms=50)
HEADER_BYTES = 400


class Known:
    """A cloud behind LINK that says it takes 3 ms, whatever it really does.

    Args:
        bytes_per_value: of features.
    """

    def __init__(self, bytes_per_value: int) -> None:
        self._bytes_per_value = bytes_per_value

    def infer(self, features: Any, split_point: int, deadline: None) -> None:
        self._exchange(self._bytes_per_value * features.size)

    def infer_files(self, files: Sequence[bytes], deadline: None) -> None:
        self._exchange(sum(map(len, files)))

    def _exchange(self, payload_bytes: int) -> None:
        sent_bytes = HEADER_BYTES + payload_bytes
        self.last = Exchange(
            sent_bytes=sent_bytes,
            encode_ms=0.5,
            decode_ms=0.25,
            wait_ms=LINK.latency_ms(sent_bytes) + 3,
            server_parts_ms={"queue": 1, "model": 2},
        )


def photos(exported: Exported) -> Iterator[Photo]:
    for number, file in enumerate(exported.files[:3]):
        yield Photo(file.name, 0, file.read_bytes(), number)


def test_the_link_and_the_requests_of_every_cut_are_found(exported: Exported) -> None:
    clouds: Any = {"fp32": Known(4), "uint8": Known(1)}
    times = measure(exported.graphs, list(photos(exported)), clouds, "fp32", PLAIN_HEADS)
    assert times.link.bandwidth_mbps == pytest.approx(LINK.bandwidth_mbps)
    assert times.link.rtt_ms == pytest.approx(LINK.rtt_ms)
    cuts = range(4)
    assert set(times.stage_ms) == set(combinations(cuts, 2))
    assert set(times.requests) == {(cut, name) for cut in cuts for name in clouds} | {(0, "image")}
    values = 3 * 32 * 32
    assert times.requests[0, "fp32"].sent_bytes == HEADER_BYTES + 4 * values
    assert times.requests[0, "uint8"].sent_bytes == HEADER_BYTES + values
    assert {request.cloud_ms for request in times.requests.values()} == {3}
    assert {request.codec_ms for request in times.requests.values()} == {0.75}
