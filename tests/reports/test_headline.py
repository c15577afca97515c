"""The point that a run is summed up by, against a search by hand."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eenn.evaluation.rows import Network
from eenn.exits.policies.threshold import ByConfidence
from eenn.exits.settings import Baseline, Setting
from eenn.reports.headline import headline_point

NETWORK = Network("5 branches", 5, 0)
LAST = Setting(None, (), Baseline.LAST_EXIT_ONLY)


@dataclass(frozen=True)
class Row:
    setting: Setting
    right: float
    cost: float
    level: float = 0.0
    network: Network = NETWORK


def policy(p_tar: float) -> Setting:
    return Setting(ByConfidence(p_tar=p_tar), (0, 1))


def chosen_of(rows: list[Row], chosen: Setting | None = None) -> Row | None:
    return headline_point(rows, chosen, lambda row: row.cost, lambda row: row.right)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 50)), min_size=1, max_size=8))
def test_without_a_chosen_one_it_is_the_cheapest_that_keeps_within_one_point(
    found: list[tuple[int, int]],
) -> None:
    rows = [Row(policy(0.5 + n / 100), right / 100, cost) for n, (right, cost) in enumerate(found)]
    got = chosen_of([Row(LAST, 0.9, 160), *rows])
    assert got is not None
    keeping = [row for row in rows if row.right * 100 >= 89 - 1e-9]
    if keeping:
        assert got in keeping
        assert got.cost == min(row.cost for row in keeping)
    else:
        assert got.right == max(row.right for row in rows)


def test_a_chosen_setting_stands_for_the_run_whatever_it_loses() -> None:
    rows = [Row(LAST, 0.9, 160), Row(policy(0.6), 0.1, 300), Row(policy(0.7), 0.9, 10)]
    assert chosen_of(rows, policy(0.6)) == rows[1]


def test_only_the_mildest_level_counts() -> None:
    rows = [Row(LAST, 0.9, 160), Row(policy(0.6), 0.9, 20), Row(LAST, 0.2, 160, level=2.0),
            Row(policy(0.7), 0.9, 10, level=2.0)]  # fmt: skip
    assert chosen_of(rows) == rows[1]


def test_every_network_is_held_against_its_own_last_exit() -> None:
    small = Network("5 branches, 96 px", 5, 0)
    rows = [
        *(Row(LAST, 0.9, 160), Row(policy(0.6), 0.9, 100)),
        *(Row(LAST, 0.8, 60, network=small), Row(policy(0.6), 0.79, 40, network=small)),
    ]
    assert chosen_of(rows) == rows[3]


@pytest.mark.parametrize("rows", [[], [Row(LAST, 0.9, 160)]])
def test_without_a_policy_there_is_none(rows: list[Row]) -> None:
    assert chosen_of(rows) is None
