"""The map from bandwidths to exits and cuts, against trying every design in every state."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eenn.planning.costs import Link
from eenn.planning.engine import Conditions
from eenn.planning.exhaustive import goal_of
from eenn.planning.planners.base import Asked, Choice, find_planner
from eenn.planning.planners.edgent import right_sized
from eenn.planning.planners.edgent_dynamic import STATES_MBPS, bandwidth_map, nearest_state
from eenn.planning.table import FASTEST, Goal, Limit
from tests.planning.drawn import drawn_chain, every_plan, rows_of, walk

# From 0.05 to 100 Mbps: each is 2000 ** (1 / 24) times the one before.
STATES = [0.05 * 2000 ** (n / 24) for n in range(25)]


def test_states_are_spread_evenly_over_the_logarithm_of_bandwidths() -> None:
    assert STATES_MBPS.tolist() == pytest.approx(STATES)


@given(st.floats(1e-3, 1e4))
def test_the_nearest_state_is_that_of_the_smallest_ratio(bandwidth_mbps: float) -> None:
    ratios = [max(own / bandwidth_mbps, bandwidth_mbps / own) for own in STATES]
    assert ratios[nearest_state(bandwidth_mbps)] == pytest.approx(min(ratios))


@pytest.mark.parametrize("seed", range(4))
def test_maps_of_drawn_chains_have_the_largest_reward_in_every_state(seed: int) -> None:
    generator = np.random.default_rng(seed)
    for has_deadline in [True, False] * 5:
        chain, at, exits = drawn_chain(generator)
        accuracy = generator.uniform(0.3, 0.9, len(exits)).tolist()
        designs = [(k, cut) for k, exit in enumerate(exits) for cut in range(exit.after + 1)]
        seconds = [
            {
                (k, cut): 1e-3 * walk(chain, replaced(at, mbps), cut, [exits[k]], exits[k].after).ms
                for k, cut in designs
            }
            for mbps in STATES
        ]
        # Some states have no design in time, and some have several.
        deadline_s = float(np.median([min(own.values()) for own in seconds]))
        limits = (Limit("latency_ms", most=1e3 * deadline_s),) if has_deadline else ()
        deadline_s = deadline_s if has_deadline else math.inf
        table = right_sized(chain, exits, accuracy)
        for own, row in zip(seconds, bandwidth_map(table, at, limits), strict=True):
            rewards = {
                (k, cut): math.exp(accuracy[k]) + 1 / t if t <= deadline_s else 0.0
                for (k, cut), t in own.items()
            }
            found = (table.designs[row].exit - 1, table.designs[row].cut)
            assert rewards[found] == pytest.approx(max(rewards.values()))
            if not rewards[found]:
                assert own[found] == pytest.approx(min(own.values()))


def replaced(at: Conditions, bandwidth_mbps: float) -> Conditions:
    return replace(at, link=Link(bandwidth_mbps, at.link.rtt_ms))


def chosen(seed: int, bandwidth_mbps: float) -> Choice:
    """Let the planner choose from drawn plans on a link of that bandwidth."""
    table, asked = every_plan(seed)
    on_link = replace(asked, at=replaced(asked.at, bandwidth_mbps))
    return find_planner("edgent_dynamic").choose(table, on_link)


@settings(max_examples=60)
@given(st.integers(0, 3), st.floats(1e-3, 1e4))
def test_a_choice_depends_on_nothing_of_the_bandwidth_but_its_state(
    seed: int, bandwidth_mbps: float
) -> None:
    state = STATES[nearest_state(bandwidth_mbps)]
    assert chosen(seed, bandwidth_mbps).row == chosen(seed, state).row


def test_a_choice_says_whether_the_link_itself_keeps_the_limits() -> None:
    table, asked = every_plan(0)
    own = table.at(rows_of("edgent", table, asked))
    cut = [row for row, plan in enumerate(own) if plan.sent_bytes and not plan.setting.active]
    state = Conditions(Link(STATES[12], asked.at.link.rtt_ms), asked.at.slowdown)
    slower = replace(state, link=Link(0.99 * STATES[12], asked.at.link.rtt_ms))
    sending = own.at(cut)
    ms = float(sending.metric("latency_ms", state)[sending.choose(state, Goal((FASTEST,)))])
    for at, keeps in ((state, True), (slower, False)):
        question = Asked(at, goal_of(0.0, 1.001 * ms), asked.policy, asked.branches)
        found = find_planner("edgent_dynamic").choose(sending, question)
        assert found.keeps_limits is keeps
