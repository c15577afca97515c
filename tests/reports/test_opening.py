"""The opening of a page: conventional networks that are as good are named as such."""

from dataclasses import replace

import pytest

from eenn.exits.settings import Baseline, Setting
from eenn.reports.opening import Answer, answer_section
from tests.reports.points import confident, exactly, point

LAST = Setting(None, (), Baseline.LAST_EXIT_ONLY)


@pytest.mark.parametrize(
    ("accuracy", "macs", "wins"),
    [(0.9, 5e7, True), (0.91, 4e7, True), (0.89, 4e7, False), (0.95, 6e7, False)],
)
def test_a_page_says_where_a_conventional_network_is_as_good(
    accuracy: float, macs: float, wins: bool
) -> None:
    known = {"latency_ms": exactly(2), "sent_bytes": exactly(0), "edge_probability": exactly(1)}
    own = replace(
        point(confident(2, 0.8), 2, accuracy=exactly(0.9), macs=exactly(5e7), **known),
        most_active=True,
    )
    plain = point(LAST, 0, accuracy=exactly(accuracy), macs=exactly(macs), **known)
    section = answer_section([own, plain], Answer(own, "", [], "", ""), [])
    assert ("at least as accurate as these early exits and no dearer" in section.text) == wins
    assert f"{100 * accuracy:.1f} % right at {macs / 1e6:.1f} MMACs" in section.text
