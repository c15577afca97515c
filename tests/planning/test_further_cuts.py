"""Plans that cut behind the last active branch, against a loop over samples."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eenn.exits.policies.base import ExitProbs, Outputs
from eenn.exits.policies.registry import make_policy
from eenn.exits.rests import CLOUD, PHOTOGRAPH
from eenn.planning.costs import Costs, Link
from eenn.planning.exhaustive import best_of_each, plan
from eenn.planning.planners.base import is_chain
from eenn.planning.times import RequestCost, Route, Times

BORDERS, FURTHER = (0, 3, 5, 9), (1, 4, 5, 7)
SAMPLES, CLASSES, BRANCHES = 30, 4, 2


def drawn_times(seed: int) -> Times:
    generator = np.random.default_rng(seed)

    def ms() -> float:
        return float(generator.uniform(0.1, 9))

    starts = BORDERS[:-1]
    cuts = sorted({*starts, *FURTHER})
    requests = {
        (cut, payload): RequestCost(float(generator.integers(1, 10**5)), ms(), ms())
        for cut in cuts
        for payload in ("fp32", "uint8")
    }
    return Times(
        preprocess_ms=ms(),
        classifier_ms=0.0,
        stage_ms={(BORDERS[a], b): ms() for a, b in combinations(range(BRANCHES + 1), 2)},
        rest_ms={cut: ms() for cut in starts},
        requests={**requests, (0, PHOTOGRAPH): RequestCost(3e4, ms(), ms())},
        link=Link(ms(), ms()),
        further_ms={(start, cut): ms() for start in starts for cut in FURTHER if cut > start},
        borders=BORDERS,
    )


def drawn_outputs(seed: int) -> Outputs:
    generator = np.random.default_rng(seed)
    probs = generator.dirichlet(np.full(CLASSES, 0.4), (BRANCHES + 1, SAMPLES))
    labels = generator.integers(CLASSES, size=SAMPLES)
    return Outputs([ExitProbs(k, p) for k, p in enumerate(probs)], labels)


def mean_ms_by_hand(
    times: Times, outputs: Outputs, p_tar: float, active: tuple[int, ...], route: Route
) -> float:
    total = 0.0
    for sample in range(SAMPLES):
        ms, at, left = times.preprocess_ms, 0, False
        for exit in active:
            ms += times.stage_ms[at, exit + 1]
            at = BORDERS[exit + 1]
            if outputs.exits[exit].probs[sample].max() >= p_tar:
                left = True
                break
        if not left:
            if route.further:
                ms += times.further_ms[at, route.further]
                at = route.further
            request = times.requests[at, route.payload]
            on_link = times.link.rtt_ms + 8e-3 * request.sent_bytes / times.link.bandwidth_mbps
            ms += request.codec_ms + on_link + request.cloud_ms
        total += ms
    return total / SAMPLES


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**20), st.sampled_from([0.0, 0.5, 0.8, 1.0]))
def test_every_cut_behind_every_set_of_branches_is_priced(seed: int, p_tar: float) -> None:
    times, outputs = drawn_times(seed), drawn_outputs(seed + 1)
    weights = Costs((1.0,) * 3, (1.0,) * 3)
    rule = make_policy("confidence", {"p_tar": p_tar})
    plans = plan(times, weights, outputs, [rule]).designs
    features = [own for own in plans if own.route.payload in ("fp32", "uint8")]
    expected = {
        (active, payload, cut)
        for size in range(BRANCHES + 1)
        for active in combinations(range(BRANCHES), size)
        for payload in ("fp32", "uint8")
        for behind in [BORDERS[active[-1] + 1 if active else 0]]
        for cut in (behind, *(cut for cut in FURTHER if cut > behind))
    }
    assert {(own.setting.active, own.route.payload, own.cut) for own in features} == expected
    assert len(features) == len(expected)
    for own in features:
        by_hand = mean_ms_by_hand(times, outputs, p_tar, own.setting.active, own.route)
        assert own.latency_ms == pytest.approx(by_hand)
        assert own.route.rest == CLOUD


def test_one_plan_stands_for_all_cuts_of_a_payload() -> None:
    times, outputs = drawn_times(5), drawn_outputs(6)
    weights = Costs((1.0,) * 3, (1.0,) * 3)
    plans = plan(times, weights, outputs, [make_policy("confidence", {"p_tar": 0.5})]).designs
    (fastest,) = (own for own in best_of_each(plans) if own.route.payload == "uint8")
    every = [own.latency_ms for own in plans if own.route.payload == "uint8"]
    assert fastest.latency_ms == min(every)


def test_chains_without_branches_are_cut_anywhere() -> None:
    plans = plan(
        drawn_times(1), Costs((1.0,) * 3, (1.0,) * 3), drawn_outputs(2),
        [make_policy("confidence", {"p_tar": 0.5})],
    ).designs  # fmt: skip
    alone = [own for own in plans if not own.setting.active and is_chain(own, "fp32")]
    on_way = {own.cut for own in alone if own.route.payload == "fp32"}
    assert on_way == {0, *FURTHER}
    assert {own.route.payload for own in alone} == {"fp32", PHOTOGRAPH, ""}
