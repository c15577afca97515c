"""Photographs or features: what the table says holds on every link."""

import re

from hypothesis import given
from hypothesis import strategies as st

from eenn.planning.costs import Link
from eenn.planning.times import RequestCost
from eenn.reports.offload import wins

requests = st.builds(
    RequestCost,
    st.integers(0, 10).map(lambda n: 1e4 * n),
    st.integers(0, 4).map(float),
    st.integers(0, 4).map(float),
)


def total_ms(request: RequestCost, link: Link) -> float:
    return link.latency_ms(request.sent_bytes) + request.cloud_ms + request.codec_ms


@given(requests, requests, st.floats(0.1, 1e4))
def test_who_is_said_to_win_is_the_faster_one_whatever_the_bandwidth(
    one: RequestCost, other: RequestCost, mbps: float
) -> None:
    said = wins(one, other)
    link = Link(mbps, 5.0)
    ahead_ms = total_ms(other, link) - total_ms(one, link)
    if abs(ahead_ms) < 1e-6 * total_ms(one, link):
        return
    if said in ("always", "never"):
        assert (ahead_ms > 0) is (said == "always")
        return
    match = re.fullmatch(r"(above|below) (\S+) Mbps", said)
    assert match is not None
    limit = float(match[2])
    # The limit is printed with three digits.
    if abs(mbps - limit) > 0.01 * limit:
        assert (ahead_ms > 0) is ((mbps > limit) is (match[1] == "above"))
