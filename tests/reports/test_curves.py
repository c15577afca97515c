"""The figures: what is drawn is what the rows say, told apart without colour."""

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eenn.exits.settings import CLOUD_ONLY, LAST_EXIT_ONLY, ORACLE
from eenn.planning.costs import Profile
from eenn.reports import curves


def row(branches: int, active: int, p_tar: float, value: float, **more: Any) -> dict[str, Any]:
    return {
        "network": f"{branches} branches",
        "branches": branches,
        "seed": 0,
        "thresholds": "",
        "most_active": active == branches,
        "level": 0.0,
        "policy": "confidence",
        "p_tar": p_tar,
        "setting": p_tar,
        "active": " ".join(str(branch + 1) for branch in range(active)),
        "edge_probability": value,
        "edge_probability_low": value - 0.1,
        "edge_probability_high": value + 0.05,
        **more,
    }


ROWS = [
    row(branches, active, p_tar, 0.9 - 0.5 * p_tar + 0.01 * active)
    for branches in (2, 3)
    for active in range(1, branches + 1)
    for p_tar in (0.5, 0.7, 0.9)
]


def panels(figure: Figure) -> list[Axes]:
    return [axis for axis in figure.axes if axis.axison]


def drawn(axis: Axes) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """x, y and (low, high) of every line with error bars."""
    found = {}
    for container in axis.containers:
        line, _, (bars,) = container.lines
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        found[container.get_label()] = (
            line.get_xdata(orig=False),
            line.get_ydata(orig=False),
            ends,
        )
    return found


def test_a_panel_per_network_and_a_line_per_set_of_branches() -> None:
    figure = curves.against_p_tar(ROWS, "edge_probability")
    assert [axis.get_title() for axis in panels(figure)] == ["2 branches", "3 branches"]
    lines = drawn(panels(figure)[1])
    assert list(lines) == ["branch 1", "branches 1 2", "branches 1 2 3"]
    x, y, ends = lines["branches 1 2"]
    np.testing.assert_allclose(x, [0.5, 0.7, 0.9])
    np.testing.assert_allclose(y, [67, 57, 47])
    np.testing.assert_allclose(ends, np.stack([y - 10, y + 5], 1))


def test_lines_differ_in_marker_and_dash_and_axes_have_units() -> None:
    figure = curves.against_p_tar(ROWS, "edge_probability")
    axis = panels(figure)[1]
    styles = {(c.lines[0].get_marker(), str(c.lines[0].get_linestyle())) for c in axis.containers}
    assert len({marker for marker, _ in styles}) == len(axis.containers)
    assert len({dash for _, dash in styles}) == len(axis.containers)
    assert panels(figure)[0].get_ylabel() == "edge probability, %"
    assert axis.get_xlabel() == "threshold p_tar"


def test_several_seeds_are_one_curve_with_their_range() -> None:
    seeds = [
        row(2, 1, p_tar, value, seed=seed)
        for p_tar in (0.5, 0.9)
        for seed, value in enumerate((0.2, 0.3, 0.7))
    ]
    ((_, y, ends),) = drawn(panels(curves.against_p_tar(seeds, "edge_probability"))[0]).values()
    np.testing.assert_allclose(y, [40, 40])
    np.testing.assert_allclose(ends, [[20, 70], [20, 70]])


def test_an_exit_that_nobody_took_has_no_point() -> None:
    exits = [
        row(2, 2, p_tar, 0, exit=1, confidence=value, confidence_low=value, confidence_high=value)
        for p_tar, value in ((0.5, 0.8), (0.7, 0.9), (0.9, np.nan))
    ]
    ((x, y, _),) = drawn(panels(curves.confidence_by_exit(exits))[0]).values()
    np.testing.assert_allclose(x, [0.5, 0.7])
    np.testing.assert_allclose(y, [0.8, 0.9])


def test_levels_are_drawn_for_every_policy_beside_the_conventional_network() -> None:
    rows = [
        row(branches, branches, 0.8, 0, level=level, policy=policy, accuracy=1 - 0.1 * level)
        for branches, policies in ((0, [LAST_EXIT_ONLY]), (2, ["confidence", "committee"]))
        for policy in policies
        for level in (0.0, 1.0, 2.0)
    ]
    (axis,) = panels(curves.against_level(rows, "accuracy", "gaussian_blur"))
    lines = drawn(axis)
    assert list(lines) == ["confidence, 0.8", "committee, 0.8", "conventional network"]
    np.testing.assert_allclose(lines["conventional network"][1], [100, 90, 80])
    assert "gaussian blur" in axis.get_xlabel()


def test_ways_without_branches_leave_the_title_to_those_with() -> None:
    rows = [
        row(3, active, 0.8, 0, policy=policy, accuracy=0.9, most_active=True)
        for policy, active in ((CLOUD_ONLY, 0), ("confidence", 2))
    ]
    (axis,) = panels(curves.against_level(rows, "accuracy", "gaussian_blur"))
    assert axis.get_title() == "3 branches, branches 1 2 active"


def test_the_tradeoff_names_the_oracle_and_draws_every_policy() -> None:
    rows = [
        row(2, 2, p_tar, p_tar, policy=policy, accuracy=0.7 + 0.1 * p_tar, macs=1e8 * p_tar)
        for policy in ("confidence", "margin", LAST_EXIT_ONLY, ORACLE)
        for p_tar in (0.5, 1.0)
    ]
    figure = curves.tradeoff_figure(rows, "2 branches")
    left, right = panels(figure)
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} >= {"confidence", "margin", ORACLE}
    assert left.get_xlabel() == "mean MACs to the answer, millions"
    assert right.get_xlabel() == "edge probability, %"


def test_exit_times_are_the_profiles() -> None:
    times = {"p5": [1.0, 2.0], "p50": [2.0, 3.0], "p95": [4.0, 9.0]}
    profile = Profile("id", "cpu", 1, 50, "2026-01-01", times, times, times)
    (axis,) = panels(curves.exit_times({"1 branch": profile}))
    assert [patch.get_height() for patch in axis.patches] == pytest.approx([2, 3])
    assert axis.get_ylabel() == "processing time, ms"
