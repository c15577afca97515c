"""Accuracy over MACs across the trainings of a sweep, against the jobs' own metrics.json."""

import itertools
import json
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from scipy.stats import binomtest

from eenn.reports.canvas import style_in
from eenn.reports.figures import Drawn
from eenn.reports.sweep import compare
from eenn.reports.sweep_curves import sweep_figures
from eenn.reports.sweep_jobs import read_jobs
from eenn.run_directory import Sweep
from tests.reports.swept import trained, write_job, write_sweep

BACKBONES = {"mobilenet_v2": 1.0, "mobilenet_v3_large": 0.7, "resnet18": 6.0, "vgg16": 50.0}


def write_trainings(sweep: Path, failed: int | None = None, **settings: tuple[str, ...]) -> Path:
    """Write a sweep over these settings, each job with accuracies of its own."""
    jobs = [
        dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())
    ]
    write_sweep(sweep, "train", jobs)
    for number, job in enumerate(jobs):
        exits = 1 + int(job.get("branches", 1))
        backbone = job.get("model", "mobilenet_v2")
        accuracies = [(40 + 20 * exit + number) / 200 for exit in range(exits)]
        result = trained(
            accuracies, scale=BACKBONES[backbone], backbone=backbone, weight_bytes=2_500_000
        )
        error = "out of memory" if number == failed else ""
        write_job(sweep / str(number), job, None if error else result, error)
    return sweep


def drawn_of(sweep: Path) -> tuple[Drawn, Axes]:
    """Draw a sweep's last figure."""
    drawn = sweep_figures(read_jobs(sweep, Sweep.read(sweep)))[-1]
    assert (drawn.name, drawn.heading) == ("macs", "Accuracy over MMACs")
    return drawn, drawn.figure.axes[0]


def lines_of(axis: Axes) -> dict[str, ErrorbarContainer]:
    return {str(one.get_label()): one for one in axis.containers}


def points_of(line: ErrorbarContainer) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in line.lines[0].get_xydata()]


def bars_of(line: ErrorbarContainer) -> list[tuple[float, float]]:
    (bars,) = line.lines[2]
    return [(float(low[1]), float(high[1])) for low, high in bars.get_segments()]


def measured(job: Path) -> list[tuple[float, float]]:
    """Read off a training millions of MACs and per cent right of every exit."""
    metrics = json.loads((job / "metrics.json").read_text())
    points, heads = [], 0.0
    for row, accuracy in zip(metrics["exits"], metrics["test"]["accuracy"], strict=True):
        heads += row["head_macs"]
        points.append(((row["macs"] + heads) / 1e6, 100 * accuracy))
    return points


def test_a_line_goes_through_the_exits_of_each_network_as_the_mean_of_its_seeds(
    tmp_path: Path,
) -> None:
    write_trainings(tmp_path, model=(*BACKBONES,), branches=("0", "2", "3"), seed=("0", "1"))
    drawn, axis = drawn_of(tmp_path)
    lines = lines_of(axis)
    names = [f"model={one} branches={n}" for one in BACKBONES for n in (0, 2, 3)]
    assert list(lines) == names
    for number, line in enumerate(lines.values()):
        seeds = [measured(tmp_path / str(2 * number + seed)) for seed in (0, 1)]
        expected = [(x, (one + other) / 2) for (x, one), (_, other) in zip(*seeds, strict=True)]
        assert points_of(line) == [pytest.approx(point) for point in expected]
        ends = [(one, other) for (_, one), (_, other) in zip(*seeds, strict=True)]
        assert bars_of(line) == [pytest.approx(pair) for pair in ends]
    styled = {name: one.lines[0] for name, one in lines.items()}
    for backbone in BACKBONES:
        own = [line for name, line in styled.items() if f"model={backbone} " in name]
        assert len({to_hex(line.get_color()) for line in own}) == 1
        # The conventional network is a mark that no line hides.
        plain, *others = own
        assert plain.get_linestyle() == "None"
        assert all(plain.get_markersize() > line.get_markersize() for line in others)
        assert len({line.get_linestyle() for line in own}) == 3
    assert len({to_hex(line.get_color()) for line in styled.values()}) == len(BACKBONES)
    assert axis.get_xscale() == "log"
    assert "Colours: backbone." in drawn.caption


def test_the_legend_of_a_dozen_networks_fits_and_leaves_the_curves_their_room(
    tmp_path: Path,
) -> None:
    write_trainings(
        tmp_path, model=(*BACKBONES,), branches=("0", "2", "3"), recipe=("a_long_name_of_a_recipe",)
    )
    figure = drawn_of(tmp_path)[0].figure
    FigureCanvasAgg(figure).draw()
    (legend,) = figure.legends
    box, page = legend.get_window_extent(), figure.bbox
    assert page.x0 <= box.x0 < box.x1 <= page.x1
    assert page.y0 <= box.y0 < box.y1 <= page.y1
    axis = figure.axes[0]
    assert box.y1 < axis.get_tightbbox().y0
    assert axis.get_window_extent().height > 2.4 * figure.dpi
    ticks = [one.get_text() for one in axis.get_xticklabels()]
    assert {"10", "100", "1000"} <= set(ticks)


def test_networks_of_one_backbone_are_coloured_by_what_varies_first(tmp_path: Path) -> None:
    write_trainings(tmp_path, branches=("1", "2", "3"))
    drawn, axis = drawn_of(tmp_path)
    lines = lines_of(axis)
    assert list(lines) == ["branches=1", "branches=2", "branches=3"]
    assert len({to_hex(line.lines[0].get_color()) for line in lines.values()}) == 3
    assert axis.get_xscale() == "linear"
    assert "Colours: branches." in drawn.caption
    # Without other seeds, bars are intervals.
    for number, line in enumerate(lines.values()):
        for (_, right), bar in zip(measured(tmp_path / str(number)), bars_of(line), strict=True):
            interval = binomtest(round(2 * right), 200).proportion_ci(method="wilson")
            assert bar == pytest.approx((100 * interval.low, 100 * interval.high))


def test_seeds_alone_are_one_line(tmp_path: Path) -> None:
    write_trainings(tmp_path, seed=("0", "1", "2"))
    ((name, line),) = lines_of(drawn_of(tmp_path)[1]).items()
    assert name == "all seeds"
    middle = measured(tmp_path / "1")
    assert points_of(line) == [pytest.approx(point) for point in middle]


def test_a_failed_training_is_left_out_of_the_figure_and_named(tmp_path: Path) -> None:
    write_trainings(tmp_path, failed=2, model=("mobilenet_v2", "resnet18"), branches=("1", "2"))
    shown, (line,) = compare(tmp_path)
    assert "job 2 (model=resnet18 branches=1) failed: out of memory" in line
    drawn = lines_of(drawn_of(tmp_path)[1])
    kept = ["mobilenet_v2 branches=1", "mobilenet_v2 branches=2", "resnet18 branches=2"]
    assert list(drawn) == [f"model={name}" for name in kept]
    # Colour and dash stay those of backbone and branches.
    one, two, other = (line.lines[0] for line in drawn.values())
    assert other.get_linestyle() == two.get_linestyle() != one.get_linestyle()
    for suffix in ("png", "pdf"):
        assert (tmp_path / "figures" / f"macs.{suffix}").stat().st_size > 1000
    assert "weight_bytes" not in shown
    # Equal in all jobs, the size stands above the table.
    assert "MB 2.5" in shown.split("|")[0]


def test_lines_differ_in_colour_marker_or_dash() -> None:
    lines = [style_in(family, member, single=False) for family in range(7) for member in range(40)]
    assert len({tuple(style.items()) for style in lines}) == len(lines)
    marks = [style_in(family, member, single=True) for family in range(7) for member in range(8)]
    assert len({tuple(style.items()) for style in marks}) == len(marks)
