"""The benchmark of predicted times: its parts, its prices, and what the committed result keeps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.latency.fbnet import blocks_of, work_of_block
from benchmarks.latency.held_out import Errors, Way, differing, regret
from benchmarks.latency.measuring import EXIT_COUNT, Cell, Shape
from benchmarks.readme.results import run_of
from eenn.errors import EennError
from eenn.planning.work import Work
from tests.planning.networks import network, profile

RATES = np.array([2e-7, 9e-7, 4e-7, 0.02, 0.15])


def cell(seed: int, shape: Shape) -> Cell:
    """A cell whose network has six exits behind its last blocks."""
    work = network(seed)
    work = replace(work, heads=6 * work.heads[:1], after=(2, 4, 6, 8, 10, 12))
    assert len(work.heads) == EXIT_COUNT
    sent = [int(100_000 / (cut + 1)) for cut in range(12)]
    return Cell(shape, profile(work, RATES), work, tuple(sent))


CELLS = [
    cell(1, Shape(96, 0.5, "fp32")),
    cell(2, Shape(96, 1.0, "fp32")),
    cell(3, Shape(96, 1.0, "int8")),
]


def test_pairs_are_named_by_what_differs() -> None:
    first, second, third = CELLS
    assert differing(CELLS, "width") == [(first, second), (second, first)]
    assert differing(CELLS, "precision") == [(second, third), (third, second)]
    assert differing(CELLS, "several") == [(first, third), (third, first)]


def test_plans_by_true_times_lose_nothing_and_by_wrong_ones_something() -> None:
    own = CELLS[1]
    assert regret(own, own.profile, 10.0, CELLS).tolist() == 100 * [0.0]
    wrong = replace(own.profile, stages=dict.fromkeys(own.profile.stages, 1e-3))
    lost = regret(own, wrong, 10.0, CELLS)
    assert (lost >= 0).all()
    assert lost.max() > 0.1


def test_work_predicts_networks_whose_times_follow_it() -> None:
    found = Way("work").guess(CELLS[0], CELLS[1])
    assert found.stages == pytest.approx(CELLS[1].profile.stages)


def test_errors_are_medians_and_ninth_deciles() -> None:
    assert Errors.of(n / 10 for n in range(11)) == Errors(0.5, 0.9, 11)


def test_blocks_of_fbnet_are_counted_by_hand(tmp_path: Path) -> None:
    file = tmp_path / "blocks.csv"
    head = "device,layer,op,c_in,c_out,side_in,side_out,kernel,expand,groups,stride,ms_above_skip"
    rows = ["phone,0,k3_e6_g2,4,4,8,8,3,6,2,1,0.5", "phone,1,k3_e6,4,8,8,4,3,6,1,2,0.5"]
    file.write_text("\n".join([head, *rows]))
    (own,) = blocks_of(file)["phone"]
    pointwise, depthwise = 4 * 24 // 2, 24 * 9
    assert work_of_block(own) == Work(
        2 * pointwise * 64, depthwise * 64, 2 * pointwise + depthwise, 3
    )
    with pytest.raises(EennError, match="CSV file of FBNet's blocks"):
        blocks_of(tmp_path / "nothing.csv")


def test_stages_left_out_are_predicted_within_bounds() -> None:
    found = run_of("latency")
    assert len(found["left_out"]) == 4
    for row in found["left_out"]:
        assert row["median"] <= 0.15, row
        assert row["p90"] <= 0.35, row
    assert {row["device"] for row in found["fbnet"]} == {"raspi4", "pixel3"}
    for row in found["fbnet"]:
        assert row["median"] <= 0.20, row


def test_plans_by_predicted_times_lose_little_on_average() -> None:
    for row in run_of("latency")["regrets"]:
        assert row["mean"] <= 0.01, row
