"""A frontier over designs: no design that is beaten, round budgets, mixtures of exactly a cost."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from eenn.evaluation.frontier import mixture, pareto, round_steps, upper_hull

SHARES = st.floats(0, 1, allow_nan=False)
MANY = st.lists(st.tuples(SHARES, SHARES), max_size=30)


@given(MANY)
def test_a_frontier_has_what_no_other_candidate_beats(
    candidates: list[tuple[float, float]],
) -> None:
    accuracy, cost = (np.array([one[at] for one in candidates]) for at in (0, 1))
    found = pareto(accuracy, cost)
    for at in range(len(candidates)):
        beaten = any(
            accuracy[other] >= accuracy[at]
            and cost[other] <= cost[at]
            and (accuracy[other], -cost[other]) != (accuracy[at], -cost[at])
            for other in range(len(candidates))
        )
        first = candidates.index(candidates[at]) == at
        assert (at in found) == (not beaten and first)
    assert np.all(np.diff(cost[found]) > 0)
    assert np.all(np.diff(accuracy[found]) > 0)


@given(st.floats(0, 1e3), st.floats(1, 1e6), st.integers(3, 20))
def test_budgets_are_few_round_and_cover_the_range(low: float, width: float, most: int) -> None:
    high = low + width
    steps = round_steps(low, high, most)
    assert 1 <= len(steps) <= most
    assert steps[-1] >= high * (1 - 1e-9)
    assert steps[0] >= low * (1 - 1e-9)
    if len(steps) > 1:
        step = (steps[-1] - steps[0]) / (len(steps) - 1)
        digit = step / 10 ** np.floor(np.log10(step * (1 + 1e-9)))
        assert min(abs(digit - round_digit) for round_digit in (1, 2, 5)) < 1e-3
        assert steps[0] - step < low + 1e-9 * high
        np.testing.assert_allclose(np.diff(steps), step, rtol=1e-5)


def test_a_single_cost_is_one_budget() -> None:
    assert round_steps(7.5, 7.5, 10) == [7.5]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=3, max_size=20))
def test_the_hull_is_the_upper_left_part_of_the_convex_hull(points: list[tuple[int, int]]) -> None:
    x, y = (np.array([one[at] for one in points], float) for at in (0, 1))
    hull = upper_hull(x, y)
    # No point lies above the line between neighbours, and all vertices are scipy's.
    for first, last in pairwise(hull):
        inside = (x >= x[first]) & (x <= x[last])
        line = y[first] + (y[last] - y[first]) * (x[inside] - x[first]) / (x[last] - x[first])
        assert np.all(y[inside] <= line + 1e-9)
    assert y[hull[-1]] == y.max()
    assert x[hull[0]] == x.min()
    if np.linalg.matrix_rank(np.stack([x, y, np.ones_like(x)])) == 3:
        vertices = ConvexHull(np.stack([x, y], 1)).vertices
        assert {points[at] for at in hull} <= {points[at] for at in vertices}


def single(accuracy: float, cost: float, right: list[int]) -> Any:
    correct = np.array(right, bool)
    return SimpleNamespace(
        design=SimpleNamespace(accuracy=accuracy),
        correct=correct,
        costs={"macs": np.full(len(correct), cost)},
    )


EXITS = [
    single(0.5, 10, [1, 1, 0, 0]),
    single(0.6, 30, [1, 0, 1, 0]),  # below the line between the others
    single(0.9, 40, [1, 1, 1, 0]),
]


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (10, [1, 1, 0, 0]),
        (25, [1, 1, 0.5, 0]),
        (32.5, [1, 1, 0.75, 0]),
        (40, [1, 1, 1, 0]),
        (99, [1, 1, 1, 0]),
    ],
)
def test_single_exits_are_mixed_to_exactly_a_cost(cost: float, expected: list[float]) -> None:
    mixed = mixture(EXITS, "macs", cost)
    assert mixed is not None
    np.testing.assert_allclose(mixed, expected)


def test_where_every_single_exit_costs_more_there_is_no_mixture() -> None:
    assert mixture(EXITS, "macs", 9.9) is None
    assert mixture([], "macs", 9.9) is None
