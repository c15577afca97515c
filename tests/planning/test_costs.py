"""Costs against a walk through the network, image by image, and against sums done by hand."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eenn.errors import EennError
from eenn.exits.decide import Decisions, decide, on_device, oracle
from eenn.exits.policies.base import ExitProbs
from eenn.exits.policies.registry import make_policy
from eenn.files import from_json
from eenn.models.architecture import Exit
from eenn.planning.costs import CostModel, Costs, Link, Profile, macs, payloads, split_point
from tests.exits.any_policy import any_policy

RESULTS = sorted((Path(__file__).parents[2] / "results").glob("*-conv.json"))
PERCENTILES = {"p5": [0.9, 1.9], "p50": [1.0, 2.0], "p95": [1.5, 2.5]}
HEADS = {**PERCENTILES, "p50": [3, 4]}
PROFILE = Profile("a1b2", "CPU", 1, 30, "2024-01-01", PERCENTILES, HEADS, to_exit=PERCENTILES)

quick = settings(max_examples=150)


@st.composite
def cost_models(draw: st.DrawFn, exits: int) -> CostModel:
    """Whole numbers, so that the order of a sum does not matter."""
    numbers = st.lists(st.integers(0, 1000).map(float), min_size=exits, max_size=exits).map(tuple)
    costs = st.builds(Costs, numbers, numbers)
    link = Link(draw(st.sampled_from([8.0, 4.0, 0.5])), float(draw(st.integers(0, 50))))
    payload_bytes = tuple(int(number) * 1000 for number in draw(numbers))
    return CostModel(draw(costs), draw(costs), draw(costs), payload_bytes, link)


@st.composite
def decided(draw: st.DrawFn) -> tuple[int, Decisions]:
    """The number of exits, and decisions of some rule, or of none, over random outputs."""
    exits, samples = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    eighths = (
        draw(arrays(np.int64, (exits, samples), elements=st.integers(4, 8), fill=st.nothing())) / 8
    )
    outputs = [ExitProbs(exit, np.stack([p, 1 - p], -1)) for exit, p in enumerate(eighths)]
    active = tuple(branch for branch in range(exits - 1) if draw(st.booleans()))
    rule = draw(st.sampled_from(["confidence", "patience", "committee", "window", "oracle"]))
    if rule == "oracle":
        labels = draw(arrays(np.int64, samples, elements=st.integers(0, 1)))
        return exits, oracle(outputs, labels, active)
    given = {"p_tar": draw(st.integers(4, 8)) / 8, "agree": 2, "low": 0.6}
    policy = any_policy(rule, {**given, "weights": (1.0,) * (exits - 1)})
    cloud = draw(st.booleans()) if active else True
    decisions = decide(policy, outputs, active, cloud)
    return exits, on_device(decisions) if draw(st.booleans()) else decisions


def walk(costs: CostModel, active: tuple[int, ...], taken: int, on_edge: bool) -> dict[str, float]:
    """One image's way through the network, a segment at a time."""
    sums = {"macs": 0.0, "edge_macs": 0.0, "ms": 0.0, "bytes": 0.0}
    if taken not in active and on_edge:
        # The same, where nothing is sent and the edge's times are those of all segments.
        here = replace(costs, cloud_ms=costs.edge_ms, link=Link(1, 0))
        here = replace(here, payload_bytes=(0,) * len(costs.payload_bytes))
        sums = walk(here, active, taken, on_edge=False)
        return {**sums, "edge_macs": sums["macs"]}
    last_on_edge = taken if on_edge else max(active, default=-1)
    for segment in range(len(costs.macs.segments)):
        here = segment <= last_on_edge
        if not here and on_edge:
            break
        if segment == last_on_edge + 1:
            sums["bytes"] += costs.payload_bytes[segment]
            bits_per_ms = costs.link.bandwidth_mbps * 1e6 / 1e3
            sums["ms"] += costs.link.rtt_ms + costs.payload_bytes[segment] * 8 / bits_per_ms
        spent, ms = costs.macs.segments[segment], (costs.edge_ms if here else costs.cloud_ms)
        sums["ms"] += ms.segments[segment]
        if segment in active if here else segment == len(costs.macs.segments) - 1:
            spent += costs.macs.heads[segment]
            sums["ms"] += ms.heads[segment]
        sums["macs"] += spent
        sums["edge_macs"] += spent if here else 0
    return sums


@quick
@given(decided(), st.data())
def test_every_image_costs_what_a_walk_through_the_network_costs(
    case: tuple[int, Decisions], data: st.DataObject
) -> None:
    exits, decisions = case
    costs = data.draw(cost_models(exits))
    found = {
        "macs": costs.answer_macs(decisions),
        "edge_macs": costs.macs.edge(decisions),
        "ms": costs.latency_ms(decisions),
        "bytes": costs.sent_bytes(decisions),
    }
    for sample, (taken, on_edge) in enumerate(
        zip(decisions.taken.tolist(), decisions.on_edge.tolist(), strict=True)
    ):
        expected = walk(costs, decisions.active, taken, on_edge)
        assert {name: values[sample] for name, values in found.items()} == pytest.approx(expected)


@quick
@given(decided(), st.booleans(), st.data())
def test_a_rest_from_the_photograph_costs_a_whole_network(
    case: tuple[int, Decisions], on_edge: bool, data: st.DataObject
) -> None:
    """A cascade, whose exits are all the artifact's and one of another network."""
    exits, decisions = case
    decisions = on_device(decisions) if on_edge else decisions
    own = data.draw(cost_models(exits))
    theirs = {name: float(data.draw(st.integers(0, 1000))) for name in ("macs", "edge", "cloud")}
    model = replace(
        own,
        macs=replace(own.macs, upstream=theirs["macs"]),
        edge_ms=replace(own.edge_ms, upstream=theirs["edge"]),
        cloud_ms=replace(own.cloud_ms, upstream=theirs["cloud"]),
        payload_bytes=(exits + 1) * (5000.0,),
    )
    for sample, taken in enumerate(decisions.taken.tolist()):
        last = taken if taken in decisions.active else max(decisions.active, default=-1)
        heads = [branch for branch in decisions.active if branch <= last]
        macs = sum(own.macs.segments[: last + 1]) + sum(own.macs.heads[b] for b in heads)
        ms = sum(own.edge_ms.segments[: last + 1]) + sum(own.edge_ms.heads[b] for b in heads)
        here, sent = macs, 0.0
        if taken not in decisions.active:
            macs += theirs["macs"]
            if decisions.on_edge[sample]:
                ms, here = ms + theirs["edge"], macs
            else:
                sent = 5000.0
                ms += theirs["cloud"] + own.link.rtt_ms + sent * 8e-3 / own.link.bandwidth_mbps
        found = (
            model.answer_macs(decisions)[sample],
            model.macs.edge(decisions)[sample],
            model.latency_ms(decisions)[sample],
            model.sent_bytes(decisions)[sample],
        )
        assert found == pytest.approx((macs, here, ms, sent))


def table(file: Path) -> tuple[tuple[Exit, ...], int]:
    content = json.loads(file.read_text())
    return from_json(tuple[Exit, ...], content["exits"]), content["input_size"]


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_the_macs_of_a_real_network_add_up(file: Path) -> None:
    exits, _ = table(file)
    branches = len(exits) - 1
    costs = macs(exits)
    assert sum(costs.segments) == exits[-1].macs
    assert min(costs.segments) > 0
    outputs = [ExitProbs(exit, [[0.5, 0.5]]) for exit in range(branches + 1)]
    never, always = (make_policy("confidence", {"p_tar": p_tar}) for p_tar in (1.0, 0.0))
    ms = Costs((0.0,) * (branches + 1), (0.0,) * (branches + 1))
    model = CostModel(costs, ms, ms, (1,) * (branches + 1), Link(1, 0))
    everything = model.answer_macs(decide(never, outputs, range(branches)))
    assert everything == exits[-1].macs + sum(row.head_macs for row in exits)
    alone = model.answer_macs(decide(never, outputs, ()))
    assert alone == exits[-1].macs + exits[-1].head_macs
    for branch in range(branches):
        early = model.answer_macs(decide(always, outputs, (branch,)))
        assert early == exits[branch].macs + exits[branch].head_macs


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_what_is_sent_is_the_image_or_the_features_at_the_split(file: Path) -> None:
    exits, size = table(file)
    sent = payloads(exits, size)
    assert len(sent) == len(exits)
    assert sent[0] == np.zeros((size, size, 3), np.uint8).nbytes
    for split, row in enumerate(exits[:-1], start=1):
        shape = row.channels, row.height, row.width
        assert sent[split] == np.zeros(shape, np.float32).nbytes


def test_real_tables_are_there() -> None:
    assert {len(table(file)[0]) for file in RESULTS} >= {1, 4, 6}


@pytest.mark.parametrize(("active", "split"), [((), 0), ((0,), 1), ((0, 2), 3), ((2,), 3)])
def test_the_network_is_split_behind_the_last_active_branch(
    active: tuple[int, ...], split: int
) -> None:
    outputs = [ExitProbs(exit, [[0.5, 0.5]]) for exit in range(4)]
    assert split_point(decide(make_policy("confidence", {"p_tar": 1}), outputs, active)) == split


def test_latency_over_an_emulated_link_by_hand() -> None:
    # 94 Mbps and 12.8 ms as in Pacheco et al. (2021a); 1 175 000 bytes are 9.4 Mbit, 0.1 s.
    link = Link(94, 12.8)
    assert link.latency_ms(1_175_000) == pytest.approx(112.8)
    assert link.latency_ms(0) == 12.8
    edge, cloud = Costs((10, 20, 400), (1, 2, 800)), Costs((3, 5, 7), (100, 200, 11))
    model = CostModel(edge, edge, cloud, (0, 0, 1_175_000), link)
    outputs = [ExitProbs(exit, [[0.9, 0.1], [0.5, 0.5]]) for exit in range(3)]
    decisions = decide(make_policy("confidence", {"p_tar": 0.8}), outputs, (0, 1))
    np.testing.assert_allclose(
        model.latency_ms(decisions), [10 + 1, 10 + 1 + 20 + 2 + 112.8 + 7 + 11]
    )
    np.testing.assert_array_equal(model.sent_bytes(decisions), [0, 1_175_000])
    alone = decide(make_policy("confidence", {"p_tar": 0.8}), outputs, (0, 1), cloud=False)
    np.testing.assert_allclose(model.latency_ms(alone), [11, 33])
    assert not model.sent_bytes(alone).any()


@pytest.mark.parametrize(
    ("bandwidth_mbps", "rtt_ms"),
    [(0, 1), (-1, 1), (math.inf, 1), (math.nan, 1), (1, -1), (1, math.inf), (1, math.nan)],
)
def test_links_that_cannot_exist_are_refused(bandwidth_mbps: float, rtt_ms: float) -> None:
    with pytest.raises(EennError, match="allowed are a bandwidth above 0 and a round-trip time"):
        Link(bandwidth_mbps, rtt_ms)


def test_a_profile_comes_back(tmp_path: Path) -> None:
    PROFILE.save(tmp_path / "new" / "profile.json")
    assert Profile.load(tmp_path / "new" / "profile.json") == PROFILE
    assert PROFILE.median == Costs((1.0, 2.0), (3, 4))
    other = replace(PROFILE, threads=2)
    other.save(tmp_path / "new" / "profile.json")
    assert Profile.load(tmp_path / "new" / "profile.json") == other


def test_a_profile_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    PROFILE.save(path)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(EennError, match=f"{path} is not a profile; remove it to measure again"):
            Profile.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"segments": {"p50": [1.0]}},
        {"heads": {}},
        {"heads": [1.0, 2.0]},
        {"to_exit": {"p50": [1.0, 2.0]}},
        {"segments": None},
        {"unknown": 1},
    ],
)
def test_other_json_is_no_profile(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "profile.json"
    PROFILE.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(EennError, match="is not a profile"):
        Profile.load(path)


@pytest.mark.parametrize("content", [b"[]", b"null", b"{}", b"\xff\xfe"])
def test_what_is_no_object_of_measurements_is_no_profile(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "profile.json").write_bytes(content)
    with pytest.raises(EennError, match="is not a profile"):
        Profile.load(tmp_path / "profile.json")
