"""Plans against a plain loop over samples and a brute-force choice."""

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eenn.errors import EennError
from eenn.exits.decide import decide
from eenn.exits.policies.base import ExitProbs, Outputs
from eenn.exits.policies.registry import make_policy
from eenn.exits.settings import Setting
from eenn.offload.bench.measuring import fit_link
from eenn.planning.costs import Link
from eenn.planning.exhaustive import NoPlan, Plan, best, plan, slower_edges
from eenn.planning.times import IMAGE, RequestCost, Times

BRANCHES, SAMPLES, CLASSES = 3, 40, 4
PAYLOADS = ("fp32", "uint8")


def drawn_times(seed: int) -> Times:
    generator = np.random.default_rng(seed)

    def ms() -> float:
        return float(generator.uniform(0.1, 9))

    def request() -> RequestCost:
        return RequestCost(int(generator.integers(1, 10**5)), ms(), ms())

    steps = {(a, b): ms() for a, b in combinations(range(BRANCHES + 1), 2)}
    requests = {(cut, payload): request() for cut in range(BRANCHES + 1) for payload in PAYLOADS}
    link = Link(ms(), ms())
    return Times(ms(), ms(), steps, ms(), {**requests, (0, IMAGE): request()}, link)


def outputs(seed: int) -> Outputs:
    generator = np.random.default_rng(seed)
    probs = generator.dirichlet(np.full(CLASSES, 0.4), (BRANCHES + 1, SAMPLES))
    exits = [ExitProbs(k, p) for k, p in enumerate(probs)]
    return Outputs(exits, generator.integers(CLASSES, size=SAMPLES))


@settings(max_examples=50)
@given(
    st.integers(0, 2**20),
    st.sets(st.integers(0, BRANCHES - 1)),
    st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    st.sampled_from(PAYLOADS),
)
def test_latency_is_that_of_a_plain_loop(
    seed: int, chosen: set[int], p_tar: float, payload: str
) -> None:
    times, exits, active = drawn_times(seed), outputs(seed).exits, sorted(chosen)
    decisions = decide(make_policy("confidence", {"p_tar": p_tar}), exits, active)
    total = 0.0
    for sample in range(SAMPLES):
        total += times.preprocess_ms + times.classifier_ms
        at = 0
        for branch in active:
            total += times.stage_ms[at, branch + 1]
            at = branch + 1
            if exits[branch].probs[sample].max() >= p_tar:
                break
        else:
            request = times.requests[at, payload]
            megabits = request.sent_bytes * 8 / 1e6
            on_link = times.link.rtt_ms + 1e3 * megabits / times.link.bandwidth_mbps
            total += request.codec_ms + on_link + request.cloud_ms
    assert times.latency_ms(decisions, payload) == pytest.approx(total / SAMPLES, rel=1e-9)


def test_a_photograph_that_is_sent_needs_no_preprocessing() -> None:
    times = drawn_times(0)
    rows = plan(times, outputs(0), [make_policy("confidence", {"p_tar": 0.5})])
    (row,) = (row for row in rows if row.payload == IMAGE)
    request = times.requests[0, IMAGE]
    expected = request.codec_ms + times.link.latency_ms(request.sent_bytes) + request.cloud_ms
    assert row.latency_ms == pytest.approx(expected)
    assert row.sent_bytes == request.sent_bytes
    assert row.edge_probability == 0


def test_every_choice_is_planned_once_and_the_best_is_that_of_brute_force() -> None:
    p_tars = (0.3, 0.6, 0.9)
    policies = [make_policy("confidence", {"p_tar": p_tar}) for p_tar in p_tars]
    rows = plan(drawn_times(1), outputs(1), policies)
    choices = {(row.setting, row.payload) for row in rows}
    sets = 2**BRANCHES - 1
    assert len(choices) == len(rows) == sets * len(p_tars) * len(PAYLOADS) + len(PAYLOADS) + 1
    by_latency = sorted(rows, key=lambda row: row.latency_ms)
    middle = float(np.median([row.accuracy for row in rows]))
    assert best(rows, middle) == next(row for row in by_latency if row.accuracy >= middle)
    deadline_ms = by_latency[len(rows) // 2].latency_ms
    chosen = best(rows, deadline_ms=deadline_ms)
    assert chosen.latency_ms <= deadline_ms
    in_time = [row for row in rows if row.latency_ms <= deadline_ms]
    assert chosen.accuracy == max(row.accuracy for row in in_time)
    with pytest.raises(EennError, match=r"no plan reaches an accuracy of 1 .* most accurate"):
        best(rows, 1.0, 0.001)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=12),
    st.integers(1, 4) | st.just(math.inf),
    st.integers(0, 3),
)
def test_of_equals_the_best_plan_is_the_better_one_in_what_else_counts(
    drawn: list[tuple[int, int]], deadline_ms: float, min_accuracy: int
) -> None:
    """Whole numbers tie often; every plan is held against every other."""
    plans = [
        Plan(Setting(None, (n,)), n, "uint8", float(ms), accuracy / 4, 0.5, 0.0)
        for n, (ms, accuracy) in enumerate(drawn)
    ]
    allowed = [
        (ms, accuracy) for ms, accuracy in drawn if ms <= deadline_ms and accuracy >= min_accuracy
    ]
    if not allowed:
        with pytest.raises(NoPlan):
            best(plans, min_accuracy / 4, deadline_ms)
        return
    chosen = best(plans, min_accuracy / 4, deadline_ms)
    found = int(chosen.latency_ms), int(4 * chosen.accuracy)
    assert found in allowed
    for ms, accuracy in allowed:
        if deadline_ms < math.inf:
            assert accuracy < found[1] or (accuracy == found[1] and ms >= found[0])
        else:
            assert ms > found[0] or (ms == found[0] and accuracy <= found[1])


@settings(max_examples=30)
@given(st.floats(0.5, 900), st.floats(0, 200))
def test_a_link_is_found_from_what_it_took(bandwidth_mbps: float, rtt_ms: float) -> None:
    link = Link(bandwidth_mbps, rtt_ms)
    sizes = [500, 7_000, 19_000, 75_000, 300_000]
    found = fit_link(sizes, [link.latency_ms(size) for size in sizes])
    assert found.bandwidth_mbps == pytest.approx(bandwidth_mbps, rel=1e-6)
    assert found.rtt_ms == pytest.approx(rtt_ms, abs=1e-6)


def test_where_bytes_cost_nothing_the_link_is_only_fast() -> None:
    found = fit_link([1_000, 2_000, 3_000], [0.4, 0.3, 0.2])
    assert found.bandwidth_mbps == 1e5
    assert found.rtt_ms >= 0


def test_every_measured_part_is_listed_with_its_name() -> None:
    times = drawn_times(3)
    listed = {part.part: part for part in times.parts()}
    assert listed["preprocessing"].ms == times.preprocess_ms
    assert listed["distortion classifier"].ms == times.classifier_ms
    assert listed["whole network"].ms == times.whole_ms
    for (start, stop), ms in times.stage_ms.items():
        assert listed[f"segments {start + 1} to {stop}, head {stop}"].ms == ms
    for (cut, payload), request in times.requests.items():
        part = listed[f"after segment {cut}, {payload}"]
        assert (part.place, part.ms) == ("cloud", request.cloud_ms)
        assert (part.codec_ms, part.sent_bytes) == (request.codec_ms, request.sent_bytes)
    assert len(listed) == 3 + len(times.stage_ms) + len(times.requests)
    silent = replace(times, classifier_ms=0.0)
    assert "distortion classifier" not in {part.part for part in silent.parts()}


def test_a_slower_edge_leaves_the_cloud_as_it_is() -> None:
    times, exits = drawn_times(2), outputs(2).exits
    never = decide(make_policy("confidence", {"p_tar": 1.0}), exits, (0, 1, 2))
    rows = slower_edges(times, {"never": never}, "uint8")
    lines = {
        name: [(row.slowdown, row.latency_ms) for row in rows if row.way == name]
        for name in {row.way for row in rows}
    }
    assert lines.keys() == {"cloud only", "whole network on the edge", "never"}
    upload = times.requests[0, IMAGE]
    alone_ms = upload.codec_ms + times.link.latency_ms(upload.sent_bytes) + upload.cloud_ms
    assert [ms for _, ms in lines["cloud only"]] == pytest.approx(len(rows) // 3 * [alone_ms])
    slowdowns = [slowdown for slowdown, _ in lines["cloud only"]]
    for marked in (1, 10, 100):
        assert any(slowdown == pytest.approx(marked) for slowdown in slowdowns)
    assert slowdowns == sorted(set(slowdowns))
    own_ms = times.preprocess_ms + times.classifier_ms + times.whole_ms
    for slowdown, ms in lines["whole network on the edge"]:
        assert ms == pytest.approx(slowdown * own_ms)
    first, last = lines["never"][0], lines["never"][-1]
    edge_ms = (
        times.preprocess_ms
        + times.classifier_ms
        + sum(times.stage_ms[k, k + 1] for k in range(BRANCHES))
    )
    assert last[1] - first[1] == pytest.approx((last[0] - 1) * edge_ms)
