"""Plans against plain loops over samples, and against a brute-force choice."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eenn.errors import EennError
from eenn.exits.decide import decide
from eenn.exits.policies.base import ExitProbs, Outputs, Policy
from eenn.exits.policies.registry import make_policy
from eenn.exits.rests import CLOUD, DEVICE, NOBODY, PHOTOGRAPH
from eenn.exits.settings import Setting
from eenn.offload.bench.measuring import fit_link
from eenn.planning.costs import Costs, Link
from eenn.planning.exhaustive import (
    Plan,
    best,
    best_of_each,
    plan,
    slower_edges,
    variants,
)
from eenn.planning.table import NoPlan
from eenn.planning.times import RequestCost, Route, Times, UpstreamTimes

BRANCHES, SAMPLES, CLASSES = 3, 40, 4
PAYLOADS = ("fp32", "uint8")
OWN_RESTS = [
    *(Route(CLOUD, payload) for payload in (*PAYLOADS, PHOTOGRAPH)),
    Route(DEVICE),
    Route(NOBODY),
]
UPSTREAM_RESTS = [Route(CLOUD, PHOTOGRAPH, upstream=True), Route(DEVICE, upstream=True)]


def drawn_times(seed: int, branches: int = BRANCHES) -> Times:
    generator = np.random.default_rng(seed)

    def ms() -> float:
        return float(generator.uniform(0.1, 9))

    def request() -> RequestCost:
        return RequestCost(int(generator.integers(1, 10**5)), ms(), ms())

    cuts = range(branches + 1)
    steps = {(a, b): ms() for a, b in combinations(cuts, 2)}
    requests = {(cut, payload): request() for cut in cuts for payload in PAYLOADS}
    return Times(
        preprocess_ms=ms(),
        classifier_ms=ms(),
        stage_ms=steps,
        rest_ms={cut: ms() for cut in cuts},
        requests={**requests, (0, PHOTOGRAPH): request()},
        link=Link(ms(), ms()),
        upstream=UpstreamTimes(ms(), request()),
    )


def outputs(seed: int, exits: int = BRANCHES + 1) -> Outputs:
    """Draw probabilities; those of fewer exits are the first of those of more."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(CLASSES, size=SAMPLES)
    probs = generator.dirichlet(np.full(CLASSES, 0.4), (exits, SAMPLES))
    return Outputs([ExitProbs(k, p) for k, p in enumerate(probs)], labels)


def weights(branches: int = BRANCHES) -> Costs:
    """Bytes whose sum tells what was added up."""
    exits = range(branches + 1)
    return Costs(tuple(10.0**k for k in exits), tuple(3 * 10.0**k for k in exits), upstream=7e9)


def kept_by_hand(branches: int, active: Sequence[int], route: Route) -> float:
    total, parts = 0.0, weights(branches)
    last = max(active, default=-1)
    for exit in range(branches + 1):
        total += parts.segments[exit] * (exit <= last)
        total += parts.heads[exit] * (exit in active)
        if route.rest == DEVICE and not route.upstream:
            total += parts.segments[exit] * (exit > last) + parts.heads[exit] * (exit == branches)
    return total + 7e9 * (route.rest == DEVICE and route.upstream)


def by_hand(
    times: Times, given: Outputs, p_tar: float, active: Sequence[int], route: Route
) -> tuple[list[float], list[float], list[bool], list[bool]]:
    """Walk every sample through the exits: milliseconds, bytes, whether right, whether it stayed.

    With an upstream network the last of the outputs is that network's.
    """
    own_exits = len(given.exits) - 1 if route.upstream else len(given.exits)
    link_ms = lambda sent: times.link.rtt_ms + 8e-3 * sent / times.link.bandwidth_mbps  # noqa: E731
    took, sent, right, stayed = [], [], [], []
    for sample in range(SAMPLES):
        at, label, answered, ms, bytes_sent = 0, -1, False, 0.0, 0.0
        unseen = not active and (route.upstream or route.payload == PHOTOGRAPH)
        if not unseen:
            ms += times.preprocess_ms + times.classifier_ms
        for exit in active:
            last_segment = exit == own_exits - 1
            ms += times.rest_ms[at] if last_segment else times.stage_ms[at, exit + 1]
            at, probs = exit + 1, given.exits[exit].probs[sample]
            label = int(probs.argmax())
            if probs.max() >= p_tar:
                answered = True
                break
        if not answered and route.rest != NOBODY:
            label = int(given.exits[-1].probs[sample].argmax())
        if not answered and route.rest == DEVICE:
            assert times.upstream is not None
            ms += times.upstream.device_ms if route.upstream else times.rest_ms[at]
        if not answered and route.rest == CLOUD:
            assert times.upstream is not None
            request = times.upstream.request
            if not route.upstream:
                cut = 0 if route.payload == PHOTOGRAPH else at
                request = times.requests[cut, route.payload]
            ms += request.codec_ms + link_ms(request.sent_bytes) + request.cloud_ms
            bytes_sent = request.sent_bytes
        took.append(ms)
        sent.append(bytes_sent)
        right.append(label == given.labels[sample])
        stayed.append(answered or route.rest != CLOUD)
    return took, sent, right, stayed


@settings(max_examples=50)
@given(
    st.integers(0, 2**20),
    st.sets(st.integers(0, BRANCHES)),
    st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    st.sampled_from([*OWN_RESTS, *UPSTREAM_RESTS]),
)
def test_what_each_sample_takes_is_that_of_a_plain_loop(
    seed: int, chosen: set[int], p_tar: float, route: Route
) -> None:
    times, given = drawn_times(seed), outputs(seed, BRANCHES + 1 + route.upstream)
    active = [exit for exit in sorted(chosen) if route.upstream or exit < BRANCHES]
    if route.rest == NOBODY and not active:
        active = [0]
    policy = make_policy("confidence", {"p_tar": p_tar})
    decisions = decide(policy, given.exits, active, cloud=route.rest != NOBODY)
    took, sent, _, _ = by_hand(times, given, p_tar, active, route)
    assert times.answer_ms(decisions, route) == pytest.approx(took, rel=1e-9)
    assert times.sent_bytes(decisions, route) == pytest.approx(sent)


def every_choice(
    times: Times, own: Outputs, cascade: Outputs, p_tars: Sequence[float]
) -> Iterator[tuple[object, ...]]:
    """Try out every set of exits, threshold and rest by walking every sample through it."""
    for outs, routes in ((own, OWN_RESTS), (cascade, UPSTREAM_RESTS)):
        exits = range(len(outs.exits) - 1)
        for active in (s for size in range(len(exits) + 1) for s in combinations(exits, size)):
            for route in routes:
                if not active and (route.rest == NOBODY or route == UPSTREAM_RESTS[1]):
                    continue
                for p_tar in p_tars if active else (1.0,):
                    took, sent, right, stayed = by_hand(times, outs, p_tar, active, route)
                    means = (float(np.mean(column)) for column in (took, right, stayed, sent))
                    branches = len(own.exits) - 1
                    kept = kept_by_hand(branches, active, route)
                    yield active, p_tar if active else math.nan, route, *means, kept


@pytest.mark.parametrize("branches", [0, 1, BRANCHES])
def test_plans_are_those_of_brute_force_and_so_is_the_best(branches: int) -> None:
    p_tars = (0.3, 0.6, 0.9)
    policies = [make_policy("confidence", {"p_tar": p_tar}) for p_tar in p_tars]
    times, cascade = drawn_times(branches, branches), outputs(1, branches + 2)
    own = Outputs(cascade.exits[:-1], cascade.labels)
    expected = {row[:3]: row[3:] for row in every_choice(times, own, cascade, p_tars)}
    rows = plan(times, weights(branches), own, policies, cascade)
    found = {
        (row.setting.active, row.setting.number, row.route): (
            row.latency_ms,
            row.accuracy,
            row.edge_probability,
            row.sent_bytes,
            row.edge_weight_bytes,
        )
        for row in rows
    }
    named = {str(key): value for key, value in expected.items()}
    assert len(found) == len(rows)
    assert {str(key) for key in found} == set(named)  # NaN is not itself
    for key, value in found.items():
        assert value == pytest.approx(named[str(key)], rel=1e-9), key
    middle = float(np.median([accuracy for _, accuracy, *_ in expected.values()]))
    fastest = min(ms for ms, accuracy, *_ in expected.values() if accuracy >= middle)
    assert best(rows, middle).latency_ms == pytest.approx(fastest)
    deadline_ms = float(np.median([ms for ms, *_ in expected.values()]))
    most = max(accuracy for ms, accuracy, *_ in expected.values() if ms <= deadline_ms)
    assert best(rows, deadline_ms=deadline_ms).accuracy == most
    for kind in best_of_each(rows, middle):
        alike = [value for key, value in expected.items() if key[2] == kind.route]
        assert kind.latency_ms == pytest.approx(min(ms for ms, a, *_ in alike if a >= middle))


def test_without_branches_there_are_whole_networks_only() -> None:
    policies = [make_policy("confidence", {"p_tar": 0.5})]
    rows = plan(drawn_times(4, branches=0), weights(0), outputs(4, exits=1), policies)
    kinds = {"cloud-fp32", "cloud-uint8", "cloud-photograph", "device"}
    assert {str(row.route) for row in rows} == kinds
    assert {row.setting.active for row in rows} == {()}
    assert len({row.accuracy for row in rows}) == 1


def test_best_plans_of_each_kind_keep_the_bounds_and_the_fastest_comes_first() -> None:
    policies = [make_policy("confidence", {"p_tar": p_tar}) for p_tar in (0.4, 0.7)]
    rows = plan(drawn_times(6), weights(), outputs(6), policies)
    middle = float(np.median([row.accuracy for row in rows]))
    kinds = best_of_each(rows, middle)
    assert {row.route for row in kinds} == {r.route for r in rows if r.accuracy >= middle}
    assert len({row.route for row in kinds}) == len(kinds)
    assert kinds[0].latency_ms == best(rows, middle).latency_ms
    assert [row.latency_ms for row in kinds] == sorted(row.latency_ms for row in kinds)
    assert best_of_each(rows, 2.0) == []


def test_knobs_and_strictness_are_varied_for_policies_that_have_them() -> None:
    strict: Policy = make_policy("confidence", {"p_tar": 0.77, "strict": 4.0})
    found = variants([strict], BRANCHES)
    assert found[0] == strict
    assert len(set(found)) == len(found)
    stricter = {vars(own)["strict"] for own in found}
    assert stricter == {1.0, 3.0, 4.0, 10.0}
    at_half = [own for own in found if own.knob_value == 0.5]
    assert {vars(own)["strict"] for own in at_half} == {1.0, 3.0, 10.0}
    # One threshold per exit has no one number to vary.
    several = make_policy("confidence", {"p_tar": (0.9, 0.8, 0.7, 0.5)})
    assert variants([several], BRANCHES) == [several]
    committee = make_policy("committee", {"p_tar": 0.6, "weights": (1.0, 0.5, 0.2)})
    others = variants([committee], BRANCHES)
    assert others[0] == committee
    assert {vars(own)["weights"] for own in others} == {(1.0, 0.5, 0.2)}
    assert len({own.knob_value for own in others}) == len(others) > 5


def test_policies_that_do_not_fit_a_cascade_are_left_out_of_it() -> None:
    fixed = make_policy("confidence", {"p_tar": (0.9, 0.8, 0.7, 0.5)})
    rows = plan(drawn_times(7), weights(), outputs(7), [fixed], outputs(7, BRANCHES + 2))
    assert any(row.setting.policy == fixed for row in rows)
    assert {row.setting.active for row in rows if row.route.upstream} == {()}


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
        Plan(Setting(None, (n,)), n, Route(DEVICE), float(ms), accuracy / 4, 0.5, 0.0, 0.0)
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


def test_for_want_of_a_plan_it_says_what_there_is() -> None:
    rows = plan(drawn_times(1), weights(), outputs(1), [make_policy("confidence", {"p_tar": 0.5})])
    with pytest.raises(EennError, match=r"no plan reaches an accuracy of 1 .* most accurate"):
        best(rows, 1.0, 0.001)


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
    listed = {(part.place, part.part): part for part in times.parts()}
    assert times.upstream is not None
    assert listed["edge", "preprocessing"].ms == times.preprocess_ms
    assert listed["edge", "distortion classifier"].ms == times.classifier_ms
    assert listed["edge", "whole network"].ms == times.rest_ms[0]
    assert listed["edge", "rest after block 2"].ms == times.rest_ms[2]
    upstream = "upstream network, preprocessing included"
    assert listed["edge", upstream].ms == times.upstream.device_ms
    for (start, stop), ms in times.stage_ms.items():
        assert listed["edge", f"blocks {start + 1} to {stop}, head {stop}"].ms == ms
    requests = {
        **{f"after block {cut}, {name}": own for (cut, name), own in times.requests.items()},
        "upstream network, photograph": times.upstream.request,
    }
    for name, request in requests.items():
        part = listed["cloud", name]
        assert part.ms == request.cloud_ms
        assert (part.codec_ms, part.sent_bytes) == (request.codec_ms, request.sent_bytes)
    edge = 3 + len(times.stage_ms) + len(times.rest_ms)
    assert len(listed) == edge + len(requests)
    silent = replace(times, classifier_ms=0.0, upstream=None)
    assert len(silent.parts()) == len(listed) - 3


def test_a_slower_edge_leaves_the_cloud_as_it_is() -> None:
    times, exits = drawn_times(2), outputs(2).exits
    never = make_policy("confidence", {"p_tar": 1.0})
    every, whole = decide(never, exits, (0, 1, 2)), decide(never, exits, ())
    ways = {
        "cloud only": (whole, Route(CLOUD, PHOTOGRAPH)),
        "whole": (whole, Route(DEVICE)),
        "never": (every, Route(CLOUD, "uint8")),
    }
    rows = slower_edges(times, ways)
    lines = {
        name: [(row.slowdown, row.latency_ms) for row in rows if row.way == name] for name in ways
    }
    assert len(rows) == sum(map(len, lines.values()))
    upload = times.requests[0, PHOTOGRAPH]
    alone_ms = upload.codec_ms + times.link.latency_ms(upload.sent_bytes) + upload.cloud_ms
    assert [ms for _, ms in lines["cloud only"]] == pytest.approx(len(rows) // 3 * [alone_ms])
    slowdowns = [slowdown for slowdown, _ in lines["cloud only"]]
    for marked in (1, 10, 100):
        assert any(slowdown == pytest.approx(marked) for slowdown in slowdowns)
    assert slowdowns == sorted(set(slowdowns))
    own_ms = times.preprocess_ms + times.classifier_ms + times.rest_ms[0]
    for slowdown, ms in lines["whole"]:
        assert ms == pytest.approx(slowdown * own_ms)
    first, last = lines["never"][0], lines["never"][-1]
    edge_ms = (
        times.preprocess_ms
        + times.classifier_ms
        + sum(times.stage_ms[k, k + 1] for k in range(BRANCHES))
    )
    assert last[1] - first[1] == pytest.approx((last[0] - 1) * edge_ms)


def test_an_upstream_network_on_a_slower_device_is_slower_as_well() -> None:
    times = drawn_times(5)
    slower = times.with_edge(3).upstream
    assert slower is not None
    assert times.upstream is not None
    assert slower.device_ms == pytest.approx(3 * times.upstream.device_ms)
    assert slower.request == times.upstream.request
