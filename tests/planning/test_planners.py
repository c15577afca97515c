"""Named planners: on chains against walks of every image, and as restrictions of all plans."""

import math
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
import yaml

from eenn.errors import EennError
from eenn.exits.rests import CLOUD, DEVICE, NOBODY, PHOTOGRAPH
from eenn.offload.protocol.codecs import PAYLOADS
from eenn.planning.chain import Chain, ChainExit
from eenn.planning.costs import Link
from eenn.planning.engine import Conditions, Power
from eenn.planning.exhaustive import Plan, goal_of
from eenn.planning.planners import base
from eenn.planning.planners.base import PLANNERS, Asked, find_planner
from eenn.planning.planners.comparison import Comparison, compared
from eenn.planning.planners.dads import paced
from eenn.planning.planners.edgent import deepest_in_time, right_sized
from eenn.planning.planners.flexdnn import every_set
from eenn.planning.planners.neurosurgeon import every_cut
from eenn.planning.planners.shortest_path import expected
from eenn.planning.planners.spinn import progressive
from eenn.planning.table import FASTEST, Goal, NoPlan, Objective, Table
from tests.planning.drawn import BRANCHES, WATTS, drawn_chain, every_plan, rows_of, walk
from tests.planning.planner_contract import check_choice, check_planner

LINKS = sorted((Path(__file__).parents[2] / "conf" / "link").glob("*.yaml"))


def assert_best(table: Table, at: Conditions, values: dict[object, float]) -> None:
    """Compare all latencies with those by hand, and the choice with the least of them."""
    found = dict(zip(table, table.metric("latency_ms", at).tolist(), strict=True))
    assert found == pytest.approx(values)
    best = table.designs[table.choose(at, Goal((FASTEST,)))]
    assert values[best] == pytest.approx(min(values.values()))


@pytest.mark.parametrize("seed", range(10))
def test_planners_on_a_thousand_chains_find_what_trying_finds(seed: int) -> None:
    generator = np.random.default_rng(seed)
    for _ in range(100):
        chain, at, exits = drawn_chain(generator)
        blocks, accuracy = len(chain.device_ms), generator.uniform(0.3, 0.9, len(exits)).tolist()
        cuts = range(blocks + 1)
        plain = {cut: walk(chain, at, cut, (), None) for cut in cuts}
        assert_best(every_cut(chain), at, {cut: own.ms for cut, own in plain.items()})
        energy = {
            cut: 2.0 * own.device_ms + 1.5 * own.sending_ms + 0.4 * (own.waiting_ms + own.cloud_ms)
            for cut, own in plain.items()
        }
        row = every_cut(chain).choose(at, Goal((Objective("energy_mj"),)), WATTS)
        assert energy[row] == pytest.approx(min(energy.values()))

        slowest = {
            cut: max(own.device_ms, own.sending_ms, own.cloud_ms) for cut, own in plain.items()
        }
        in_time_ms = float(generator.uniform(0.5, 3)) * min(slowest.values())
        fastest = min(plain, key=lambda cut: plain[cut].ms)
        pace = paced(every_cut(chain), at, 1e3 / in_time_ms)
        assert pace.is_light is (slowest[fastest] <= in_time_ms)
        assert pace.keeps_up is (min(slowest.values()) <= in_time_ms)
        assert pace.row == (fastest if pace.is_light else min(slowest, key=slowest.__getitem__))

        static = {
            (number, cut): walk(chain, at, cut, (exit,), exit.after).ms
            for number, exit in enumerate(exits, 1)
            for cut in range(exit.after + 1)
        }
        table = right_sized(chain, exits, accuracy)
        assert_best(table, at, static)
        deadline_ms = float(generator.uniform(0.8, 2)) * min(static.values())
        in_time = [exit for (exit, _), ms in static.items() if ms <= deadline_ms]
        found = list(deepest_in_time(table, at, deadline_ms))
        assert {design.exit for design in found} == set(in_time[-1:])
        if found:
            least = min(ms for (exit, _), ms in static.items() if exit == found[0].exit)
            assert static[found[0]] == pytest.approx(least)


@pytest.mark.parametrize("seed", range(10))
def test_exits_on_a_thousand_chains_cost_what_samples_walk(seed: int) -> None:
    generator = np.random.default_rng(100 + seed)
    for _ in range(100):
        chain, at, exits = drawn_chain(generator)
        confidence = generator.uniform(0, 1, (8, len(exits)))
        correct = generator.random(confidence.shape) < confidence
        values, accuracies = {}, {}
        for cut, threshold in product(range(len(chain.device_ms) + 1), (0.4, 0.7, 1.1)):
            took, right = [], []
            for row, good in zip(confidence, correct, strict=True):
                stop = next((k for k, value in enumerate(row) if value >= threshold), None)
                answering = int(row.argmax()) if stop is None else stop
                stopped = exits[-1 if stop is None else stop].after
                took.append(walk(chain, at, cut, exits, stopped).ms)
                right.append(bool(good[answering]))
            values[cut, threshold], accuracies[cut, threshold] = np.mean(took), np.mean(right)
        table = progressive(
            chain, exits, (confidence, correct), range(len(chain.device_ms) + 1), (0.4, 0.7, 1.1)
        )
        assert_best(table, at, values)
        assert dict(zip(table, table.accuracy.tolist(), strict=True)) == pytest.approx(accuracies)

        # The same samples as rates of those that arrive, whether or not the cloud has branches.
        inner, alive, rates = exits[:-1], np.ones(len(confidence), bool), []
        for branch in range(len(inner)):
            taken = alive & (confidence[:, branch] >= 0.6)
            rates.append(float(taken.sum() / alive.sum()) if alive.any() else 0.0)
            alive &= ~taken
        for in_cloud in (False, True):
            means = {}
            for cut in range(len(chain.device_ms) + 1):
                heads = [exit for exit in inner if in_cloud or exit.after <= cut]
                took = []
                for row in confidence:
                    stops = [h.after for h, value in zip(heads, row, strict=False) if value >= 0.6]
                    took.append(walk(chain, at, cut, heads, stops[0] if stops else None).ms)
                means[cut] = float(np.mean(took))
            assert_best(expected(chain, inner, rates, in_cloud), at, means)


@pytest.mark.parametrize("seed", range(10))
def test_sets_of_exits_in_a_thousand_networks_cost_what_samples_walk(seed: int) -> None:
    generator = np.random.default_rng(200 + seed)
    for _ in range(100):
        exits = int(generator.integers(1, 5))
        segments, heads = generator.uniform(0.1, 5, (2, exits)).tolist()
        accepts = generator.random((9, exits)) < 0.5
        chain = Chain((*segments, 4.0), (0.0,) * (exits + 1), (0.0,) * (exits + 1))
        at = Conditions(Link(1.0, 1.0))
        values = {}
        for size in range(exits + 1):
            for kept in combinations(range(exits), size):
                own = [ChainExit(k + 1, heads[k]) for k in kept]
                stops = [[k + 1 for k in kept if row[k]] for row in accepts]
                took = [walk(chain, at, exits + 1, own, s[0] if s else None).ms for s in stops]
                values[kept] = float(np.mean(took))
        assert_best(every_set(segments, heads, 4.0, accepts), at, values)


def test_an_exit_that_costs_more_than_it_saves_is_left_out() -> None:
    accepts = np.array([[True, True], [False, True], [False, False]])
    table = every_set((1.0, 1.0), (5.0, 0.1), 3.0, accepts)
    assert table.designs[table.choose(Conditions(Link(1.0, 1.0)), Goal((FASTEST,)))] == (1,)


def test_a_cut_for_many_images_is_not_the_fastest_one_where_that_is_too_slow() -> None:
    # On the device 9 and 40 ms, in the cloud 11 and 9 ms; 3 and 9 ms are sent.
    table = every_cut(Chain((9.0, 40.0), (11.0, 9.0), (3.0, 9.0)))
    at = Conditions(Link(8e-3, 0.0))
    assert table.metric("latency_ms", at) == pytest.approx([23.0, 27.0, 49.0])
    slowly, fast, too_fast = (paced(table, at, rate) for rate in (20.0, 80.0, 200.0))
    assert (slowly.row, slowly.is_light, slowly.keeps_up) == (0, True, True)
    assert (fast.row, fast.is_light, fast.keeps_up) == (1, False, True)
    assert (too_fast.row, too_fast.keeps_up) == (1, False)


@pytest.mark.parametrize("name", PLANNERS)
@pytest.mark.parametrize("seed", range(12))
def test_a_planner_keeps_the_contract(name: str, seed: int) -> None:
    check_planner(name, seed)


@pytest.mark.parametrize("slowdown", [1.0, 5.0, 10.0, 30.0])
@pytest.mark.parametrize("file", LINKS, ids=lambda file: file.stem)
def test_no_planner_is_better_than_joint_on_any_link(file: Path, slowdown: float) -> None:
    at = Conditions(Link(**yaml.safe_load(file.read_text())), slowdown)
    for seed in range(4):
        table, asked = every_plan(seed, at)
        for name in PLANNERS:
            check_choice(name, table, asked)


def admitted(name: str, table: Table[Plan], asked: Asked) -> list[tuple[object, ...]]:
    """List active branches, threshold, rest and payload of all designs that a planner knows."""
    return [
        (own.setting.active, own.setting.number, own.route.rest, own.route.payload)
        for own in table.at(rows_of(name, table, asked))
    ]


def test_planners_know_the_designs_of_their_publications_only() -> None:
    table, asked = every_plan(0)
    uncut = [(DEVICE, ""), (CLOUD, "fp32"), (CLOUD, PHOTOGRAPH)]
    for name in ("neurosurgeon", "dads"):
        rows = admitted(name, table, asked)
        assert {(rest, payload) for _, _, rest, payload in rows} == set(uncut)
        assert {active for active, *_ in rows} == {()}
    prefixes = [tuple(range(count)) for count in range(1, BRANCHES + 1)]
    path = {row for row in admitted("shortest_path", table, asked) if row[0]}
    assert path == {
        *((active, 0.7, CLOUD, "fp32") for active in prefixes),
        (prefixes[-1], 0.7, DEVICE, ""),
    }
    static = {(active, rest) for active, _, rest, _ in admitted("edgent", table, asked) if active}
    assert static == {((branch,), NOBODY) for branch in range(BRANCHES)}
    progressive_rows = [row for row in admitted("spinn", table, asked) if row[0]]
    assert {row[0] for row in progressive_rows} == set(prefixes)
    assert {row[2:] for row in progressive_rows} == {(DEVICE, ""), (CLOUD, "uint8")}
    strict = {
        vars(own.setting.policy)["strict"]
        for own in table.at(rows_of("spinn", table, asked))
        if own.setting.policy
    }
    assert strict == {1.0}
    exits = admitted("flexdnn", table, asked)
    assert {row[2] for row in exits} == {DEVICE}
    assert len({row[0] for row in exits}) == 2**BRANCHES
    assert len(admitted("joint", table, asked)) == len(table)
    assert {base.UNROUNDED, base.EIGHT_BITS} <= set(PAYLOADS)


def test_the_deepest_exit_in_time_is_chosen_though_another_is_faster() -> None:
    table, asked = every_plan(0)
    ms = table.metric("latency_ms", asked.at)
    whole = [
        row for row, own in enumerate(table) if find_planner("neurosurgeon").admits(own, asked)
    ]
    deep = min(ms[row] for row in whole)
    for deadline_ms, is_whole in ((1.01 * deep, True), (0.99 * deep, False)):
        within = Asked(asked.at, goal_of(0.0, deadline_ms), asked.policy, BRANCHES)
        found = find_planner("edgent").choose(table, within)
        assert (not table.designs[found.row].setting.active) is (is_whole and found.keeps_limits)
    never = Asked(asked.at, goal_of(0.0, 1e-6), asked.policy, BRANCHES)
    late = find_planner("edgent").choose(table, never)
    assert not late.keeps_limits
    own = rows_of("edgent", table, never)
    assert ms[late.row] == pytest.approx(min(ms[row] for row in own))


def test_a_rate_of_images_changes_the_cut_of_dads() -> None:
    table, asked = every_plan(1)
    slowest = table.metric("slowest_ms", asked.at)
    rows = rows_of("dads", table, asked)
    goal = Goal((FASTEST,))
    rushed = Asked(asked.at, goal, asked.policy, BRANCHES, frames_per_s=1e6)
    found = find_planner("dads").choose(table, rushed)
    assert not found.keeps_limits
    assert slowest[found.row] == pytest.approx(min(slowest[row] for row in rows))
    calm = Asked(asked.at, goal, asked.policy, BRANCHES, frames_per_s=1e-3)
    alone = Asked(asked.at, goal, asked.policy, BRANCHES)
    assert find_planner("dads").choose(table, calm) == find_planner("dads").choose(table, alone)
    hopeless = Asked(asked.at, goal_of(1.1), asked.policy, BRANCHES, frames_per_s=1.0)
    assert not find_planner("dads").choose(table, hopeless).keeps_limits


def test_least_energy_is_an_objective_of_neurosurgeon() -> None:
    table, asked = every_plan(2)
    goal = Goal((Objective("energy_mj"),))
    own = Asked(asked.at, goal, asked.policy, BRANCHES, power=WATTS)
    found = find_planner("neurosurgeon").choose(table, own)
    energy = table.metric("energy_mj", asked.at, WATTS)
    rows = rows_of("neurosurgeon", table, own)
    assert energy[found.row] == pytest.approx(min(energy[row] for row in rows))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_comparison_says_what_is_lost_to_the_planner_that_knows_all(seed: int) -> None:
    table, asked = every_plan(seed)
    rows = compared(table, asked, ["edgent", "joint", "flexdnn"])
    assert [row.planner for row in rows] == ["edgent", "joint", "flexdnn"]
    best = rows[1].plan
    assert rows[1].regret == 0
    energy = table.metric("energy_mj", asked.at, WATTS)
    for row in rows:
        if asked.goal.objectives[0].most:
            assert row.regret == pytest.approx(best.accuracy - row.plan.accuracy)
        else:
            assert (1 + row.regret) * best.latency_ms == pytest.approx(row.plan.latency_ms)
        place = list(table).index(row.plan)
        assert row.energy_mj == pytest.approx(float(energy[place]))
    unknown = Asked(asked.at, asked.goal, asked.policy, BRANCHES)
    assert math.isnan(compared(table, unknown, ["joint"])[0].energy_mj)
    assert Comparison(("joint",), (1.0, 2.0, 3.0)).power == Power(1.0, 2.0, 3.0)


def test_what_cannot_be_planned_is_an_error() -> None:
    table, asked = every_plan(0)
    with pytest.raises(EennError, match=r"planner magic: allowed are .*joint"):
        find_planner("magic")
    with pytest.raises(NoPlan, match="neurosurgeon knows none of 1 plans"):
        find_planner("neurosurgeon").choose(
            table.only(lambda p: bool(p.setting.active)).at([0]), asked
        )
    with pytest.raises(EennError, match="a chain of 2 blocks"):
        Chain((1.0, 2.0), (1.0,), (1.0, 1.0))
    assert math.isnan(float(every_cut(Chain((1.0,), (1.0,), (1.0,))).accuracy[0]))
