"""Predicted profiles of devices whose times follow their work, and the fits behind them."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import nnls

from eenn.errors import EennError
from eenn.exits.policies.base import Floats
from eenn.planning.device_file import DeviceFile, Totals
from eenn.planning.device_prediction import doubts, predicted, rates_of, scaled, times_of
from eenn.planning.device_profile import CPU, GPU, DeviceProfile
from eenn.planning.rates import Rates, nonnegative_least_squares, ridge
from eenn.planning.work import MAX_BLOCKS, NetworkWork
from tests.planning.networks import network, profile

few = settings(max_examples=40)
# Milliseconds for a full MAC, a depthwise MAC, a weight, a layer and a call.
RATES = np.array([2e-7, 9e-7, 4e-7, 0.02, 0.15])
WORK = network(1)
REFERENCE = profile(WORK, RATES)
WHOLE = "0-2"

seeds = st.integers(0, 2**32 - 1)
factors = st.floats(0.01, 100)
# None of the rates may hide in the rounding of another one.
some_rates = arrays(np.float64, 5, elements=st.sampled_from([0.0, 0.1, 1.0, 7.0])).filter(np.any)


def device(kind: str = CPU, **totals: dict[str, float]) -> DeviceFile:
    return DeviceFile(device="Pi", kind=kind, totals=Totals(**totals))


def ratios(found: DeviceProfile, reference: DeviceProfile) -> Floats:
    own, before = times_of(found), times_of(reference)
    return np.array([ms / before[part] for part, ms in own.items()])


@few
@given(seeds, seeds, some_rates)
def test_times_of_another_network_are_found_exactly_where_they_follow_its_work(
    seed: int, other: int, shares: Floats
) -> None:
    rates = shares * RATES
    measured, own = network(seed), replace(network(other, blocks=7), input_size=224)
    found, truth = predicted(profile(measured, rates), measured, own), profile(own, rates)
    assert times_of(found) == pytest.approx(times_of(truth), rel=1e-6, abs=1e-9)
    assert (found.artifact_id, found.input_size) == (own.artifact_id, 224)
    assert (found.repeats, found.requests) == (0, {})
    assert found.classifier_ms == pytest.approx(0.5 * (224 / 160) ** 2)


@few
@given(seeds, st.integers(1, 6), factors)
def test_a_device_that_is_slower_by_one_factor_is_found_from_any_totals(
    seed: int, totals: int, factor: float
) -> None:
    reference, work = profile(network(seed), RATES), network(seed)
    keys = np.random.default_rng(seed).choice(list(reference.stages), totals, replace=False)
    known = device(stages={key: factor * reference.stages[key] for key in keys})
    for own in (None, work):
        found = scaled(reference, known, own)
        assert times_of(found).keys() == times_of(reference).keys()
        assert ratios(found, reference) == pytest.approx(factor, rel=1e-9)


def test_the_reference_itself_comes_back_for_its_own_total() -> None:
    found = scaled(REFERENCE, device(exits={WHOLE: REFERENCE.exits[WHOLE]}), WORK)
    named = {"device": "Pi, predicted from reference", "repeats": 0}
    assert found == replace(REFERENCE, **named)


def test_one_total_scales_everything() -> None:
    found = scaled(REFERENCE, device(exits={WHOLE: 3 * REFERENCE.exits[WHOLE]}))
    assert ratios(found, REFERENCE) == pytest.approx(3)
    assert (found.preprocess_ms, found.classifier_ms) == pytest.approx((9, 1.5))
    assert found.requests["3-uint8"].codec_ms == pytest.approx(1.2)
    assert found.requests["3-uint8"].sent_bytes == 1200


def test_what_is_known_is_taken_over_as_it_is() -> None:
    known = DeviceFile(
        device="phone",
        kind=GPU,
        totals=Totals({"0-6": 100.0}, {WHOLE: 900.0}, preprocess_ms=7.0),
        precision="int8",
        threads=4,
    )
    found = scaled(REFERENCE, known)
    assert (found.stages["0-6"], found.exits[WHOLE], found.preprocess_ms) == (100, 900, 7)
    assert (found.kind, found.precision, found.threads) == (GPU, "int8", 4)


def test_two_totals_count_by_their_time_on_the_reference() -> None:
    before = np.array([REFERENCE.stages["0-2"], REFERENCE.exits[WHOLE]])
    known = device(stages={"0-2": 2 * before[0]}, exits={WHOLE: 8 * before[1]})
    by_hand = 2 ** (before @ [1, 3] / before.sum())
    assert scaled(REFERENCE, known, WORK).stages["3-4"] == pytest.approx(
        by_hand * REFERENCE.stages["3-4"]
    )


def test_kinds_of_work_have_their_own_factors_from_three_totals_on() -> None:
    truth = profile(WORK, RATES * [1, 6, 1, 1, 1])
    keys = [f"{start}-{start + 1}" for start in range(12)]

    def error(totals: int, work: NetworkWork | None) -> float:
        known = device(stages={key: truth.stages[key] for key in keys[:totals]})
        found = scaled(REFERENCE, known, work)
        return float(np.abs(np.log(ratios(found, truth))).mean())

    assert error(2, WORK) == error(2, None)
    assert error(12, WORK) < 0.7 * error(12, None)


def test_a_stage_that_was_not_measured_is_the_sum_of_its_blocks() -> None:
    blocks = replace(REFERENCE, stages={})
    total = sum(REFERENCE.blocks[str(block)] for block in (3, 4, 5))
    found = scaled(blocks, device(stages={"2-5": 2 * total}))
    assert found.blocks["1"] == pytest.approx(2 * REFERENCE.blocks["1"])
    assert found.stages == {"2-5": pytest.approx(2 * total)}


@pytest.mark.parametrize("key", ["0-13", "5-5", "7-3", "0-99999"])
def test_a_total_of_no_part_of_the_reference_is_one_line(key: str) -> None:
    with pytest.raises(EennError, match=rf"stages: {key} has no time.*allowed are 0-1, ") as caught:
        scaled(REFERENCE, device(stages={key: 10.0}))
    assert "\n" not in str(caught.value)


def test_works_of_other_networks_are_refused() -> None:
    other = replace(WORK, artifact_id="another")
    with pytest.raises(EennError, match=r"artifact artifact 1.*another.*give the artifact"):
        predicted(REFERENCE, other, WORK)
    with pytest.raises(EennError, match="without blocks, stages and exits"):
        rates_of([(replace(REFERENCE, blocks={}, stages={}, exits={}), WORK)])
    with pytest.raises(EennError, match=f"257 blocks.*{MAX_BLOCKS}"):
        replace(WORK, blocks=257 * WORK.blocks[:1])


@pytest.mark.parametrize(
    "part",
    [("blocks", "0"), ("blocks", "13"), ("stages", "3-3"), ("stages", "0-13"), ("stages", "x"),
     ("exits", "7-1"), ("exits", "0-0"), ("exits", "0-3"), ("exits", "-1-1")],
)  # fmt: skip
def test_a_network_does_not_know_parts_of_others(part: tuple[str, str]) -> None:
    with pytest.raises(EennError, match="12 blocks and 2 exits"):
        WORK.features(part)


def test_the_work_of_a_part_is_that_of_its_blocks_and_head_in_one_call() -> None:
    macs = [block.full_macs for block in WORK.blocks]
    assert WORK.features(("stages", "2-5"))[0] == sum(macs[2:5])
    assert WORK.features(("blocks", "3"))[0] == macs[2]
    assert WORK.features(("exits", "4-1"))[0] == sum(macs[4:6]) + WORK.heads[0].full_macs
    assert WORK.features(("exits", "12-2")).tolist()[-2:] == [1, 1]
    assert len(list(WORK.parts())) == 12 + 12 * 13 // 2 + 7 + 13


@few
@given(seeds, st.integers(1, 8), st.integers(1, 5))
def test_nonnegative_least_squares_are_those_of_scipy(seed: int, rows: int, columns: int) -> None:
    generator = np.random.default_rng(seed)
    given_columns, target = generator.normal(size=(rows, columns)), generator.normal(size=rows)
    # Columns that are alike or empty, and scales as far apart as MACs and calls.
    given_columns[:, 0] = given_columns[:, -1] * generator.integers(0, 2)
    scales = 10.0 ** generator.integers(0, 8, columns)
    found = nonnegative_least_squares(given_columns * scales, target)
    least = nnls(given_columns, target)[1]
    assert (found >= 0).all()
    assert math.dist(given_columns * scales @ found, target) == pytest.approx(least, abs=1e-9)


@few
@given(seeds, factors)
def test_ridge_is_least_squares_with_a_row_for_every_weight(seed: int, strength: float) -> None:
    generator = np.random.default_rng(seed)
    columns, target = generator.normal(size=(4, 3)), generator.normal(size=4)
    rows = np.vstack([columns, math.sqrt(strength) * np.eye(3)])
    truth = np.linalg.lstsq(rows, np.append(target, np.zeros(3)))[0]
    assert ridge(columns, target, strength) == pytest.approx(truth)


def test_shares_are_those_of_the_time_at_each_rate() -> None:
    shares = Rates(np.array([1.0, 0.0, 3.0])).shares(np.array([[3.0, 5.0, 1.0], [0.0, 2.0, 0.0]]))
    assert shares.tolist() == [[0.5, 0, 0.5], [0, 0, 0]]


def test_doubts_name_what_differs_from_the_reference() -> None:
    assert doubts(REFERENCE, device(exits={WHOLE: 9.0})) == []
    other = replace(device(GPU, exits={WHOLE: 9.0}), precision="int8", threads=4)
    kind, precision, threads = doubts(REFERENCE, other)
    assert "Pi is a gpu, the reference a cpu" in kind
    assert "31%" in kind
    assert precision.startswith("precision=int8, the reference has fp32")
    assert threads.startswith("threads=4, the reference has 1")
