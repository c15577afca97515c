"""The figures: what is drawn is what the rows say, told apart without colour."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eenn.evaluation.rows import ExitTaken, Network, Point
from eenn.exits.policies.base import Policy
from eenn.exits.policies.patience import Patience
from eenn.exits.policies.registry import POLICIES, make_policy
from eenn.exits.settings import Baseline, Setting
from eenn.planning.costs import Profile
from eenn.planning.exhaustive import SlowerEdge
from eenn.reports import curves
from eenn.reports.curves import against_slowdown, way_name
from eenn.reports.offload import _slowdown_name
from eenn.statistics.intervals import Estimate
from tests.exits.any_policy import any_policy
from tests.reports.points import NOTHING, confident, exactly, point


def edge(value: float) -> Estimate:
    return Estimate(value, value - 0.1, value + 0.05)


ROWS = [
    point(
        confident(active, p_tar), branches, edge_probability=edge(0.9 - 0.5 * p_tar + 0.01 * active)
    )
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
    figure = curves.against_knob(ROWS, "edge_probability")
    assert [axis.get_title() for axis in panels(figure)] == ["2 branches", "3 branches"]
    lines = drawn(panels(figure)[1])
    assert list(lines) == ["branch 1", "branches 1 2", "branches 1 2 3"]
    x, y, ends = lines["branches 1 2"]
    np.testing.assert_allclose(x, [0.5, 0.7, 0.9])
    np.testing.assert_allclose(y, [67, 57, 47])
    np.testing.assert_allclose(ends, np.stack([y - 10, y + 5], 1))


def test_lines_differ_in_marker_and_dash_and_axes_have_units() -> None:
    figure = curves.against_knob(ROWS, "edge_probability")
    axis = panels(figure)[1]
    styles = {(c.lines[0].get_marker(), str(c.lines[0].get_linestyle())) for c in axis.containers}
    assert len({marker for marker, _ in styles}) == len(axis.containers)
    assert len({dash for _, dash in styles}) == len(axis.containers)
    assert panels(figure)[0].get_ylabel() == "edge probability, %"
    assert axis.get_xlabel() == "threshold p_tar"


def test_a_knob_that_is_not_a_threshold_names_the_axis() -> None:
    rows = [
        point(Setting(Patience(agree=agree), (0, 1)), 2, edge_probability=edge(1 / agree))
        for agree in (1, 2)
    ]
    (axis,) = panels(curves.against_knob(rows, "edge_probability"))
    ((x, y, _),) = drawn(axis).values()
    np.testing.assert_allclose((x, y), [[1, 2], [100, 50]])
    assert axis.get_xlabel() == "agree"


def test_several_seeds_are_one_curve_with_their_range() -> None:
    seeds = [
        point(confident(1, p_tar), 2, seed=seed, edge_probability=edge(value))
        for p_tar in (0.5, 0.9)
        for seed, value in enumerate((0.2, 0.3, 0.7))
    ]
    ((_, y, ends),) = drawn(panels(curves.against_knob(seeds, "edge_probability"))[0]).values()
    np.testing.assert_allclose(y, [40, 40])
    np.testing.assert_allclose(ends, [[20, 70], [20, 70]])


def test_an_exit_that_nobody_took_has_no_point() -> None:
    exits = [
        ExitTaken(
            Network("2 branches", 2, 0), 0.0, confident(2, p_tar), True, 1, 100, 10, NOTHING, 0.1,
            exactly(value), NOTHING,
        )
        for p_tar, value in ((0.5, 0.8), (0.7, 0.9), (0.9, np.nan))
    ]  # fmt: skip
    ((x, y, _),) = drawn(panels(curves.confidence_by_exit(exits))[0]).values()
    np.testing.assert_allclose(x, [0.5, 0.7])
    np.testing.assert_allclose(y, [0.8, 0.9])


def named(*rows: Point) -> list[tuple[str, curves.Measured]]:
    return [(curves.way_name(row.setting), row) for row in rows]


def test_levels_are_drawn_for_every_policy_beside_the_conventional_network() -> None:
    committee = make_policy("committee", {"p_tar": 0.8, "weights": [0.5, 0.5]})
    alone = Setting(None, (), Baseline.LAST_EXIT_ONLY)
    rows = [
        point(setting, branches, level, accuracy=exactly(1 - 0.1 * level))
        for branches, settings in (
            (0, [alone]),
            (2, [confident(2, 0.8), Setting(committee, (0, 1))]),
        )
        for setting in settings
        for level in (0.0, 1.0, 2.0)
    ]
    (axis,) = panels(curves.against_level(named(*rows), "accuracy", "gaussian_blur"))
    lines = drawn(axis)
    assert list(lines) == ["confidence, 0.8", "committee, 0.8", "conventional network"]
    np.testing.assert_allclose(lines["conventional network"][1], [100, 90, 80])
    assert "gaussian blur" in axis.get_xlabel()


def test_ways_without_branches_leave_the_title_to_those_with() -> None:
    cloud_only = Setting(None, (), Baseline.CLOUD_ONLY)
    rows = [
        replace(point(setting, 3, accuracy=exactly(0.9)), most_active=True)
        for setting in (cloud_only, confident(2, 0.8))
    ]
    (axis,) = panels(curves.against_level(named(*rows), "accuracy", "gaussian_blur"))
    assert axis.get_title() == "3 branches, branches 1 2 active"


def test_the_tradeoff_names_the_oracle_and_draws_every_policy() -> None:
    def both(policy: Policy | None, baseline: Baseline | None, value: float) -> Point:
        return point(
            Setting(policy, (0, 1), baseline),
            2,
            accuracy=exactly(0.7 + 0.1 * value),
            macs=exactly(1e8 * value),
            edge_probability=exactly(value),
        )

    rows = [
        *(
            both(make_policy(n, {"p_tar": p}), None, p)
            for n in ("confidence", "margin")
            for p in (0.5, 1.0)
        ),
        both(None, Baseline.LAST_EXIT_ONLY, 0.5),
        both(None, Baseline.ORACLE, 1.0),
    ]
    figure = curves.tradeoff_figure(rows, "2 branches")
    left, right = panels(figure)
    (legend,) = figure.legends
    shown = {text.get_text() for text in legend.get_texts()}
    assert shown >= {"confidence", "margin", "oracle (no policy)"}
    assert left.get_xlabel() == "mean MACs to the answer, millions"
    assert right.get_xlabel() == "edge probability, %"
    x, y, _ = drawn(left)["margin"]
    np.testing.assert_allclose((x, y), [[50, 100], [75, 80]])
    smaller = point(Setting(None, (), Baseline.LAST_EXIT_ONLY), 0, accuracy=exactly(0.8))
    beside = replace(smaller, macs=exactly(2e7))
    left, right = panels(curves.tradeoff_figure(rows, "2 branches", [beside]))
    x, y, _ = drawn(left)["conventional networks"]
    np.testing.assert_allclose((x, y), [[20], [80]])
    assert "conventional networks" not in drawn(right)


def test_exit_times_are_the_profiles() -> None:
    times = {"p5": [1.0, 2.0], "p50": [2.0, 3.0], "p95": [4.0, 9.0]}
    profile = Profile("id", "cpu", 1, 50, "2026-01-01", times, times, times)
    (axis,) = panels(curves.exit_times({"1 branch": profile}))
    assert [patch.get_height() for patch in axis.patches] == pytest.approx([2, 3])
    assert axis.get_ylabel() == "processing time, ms"


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_what_was_measured_of_any_policy_is_marked_on_its_predicted_line(name: str) -> None:
    setting = Setting(any_policy(name, {"p_tar": 0.8, "agree": 2, "weights": (0.5, 0.5)}), (0, 1))
    rows = [SlowerEdge(slowdown, way_name(setting), 10 * slowdown) for slowdown in (1, 10, 100)]
    figure = against_slowdown(rows, {_slowdown_name(setting): 21.0}, slowdown=2)
    marked = [line for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    assert [line.get_xydata().tolist() for line in marked] == [[[2, 21]]]
