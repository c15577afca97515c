"""Strict inner exits: they may be wrong so many times less often than the last active branch."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eenn.errors import EennError
from eenn.exits.decide import Decisions, decide
from eenn.exits.policies.base import FALLBACKS, ExitProbs
from eenn.exits.policies.registry import POLICIES, make_policy
from eenn.exits.settings import Setting, Swept, swept
from eenn.planning.costs import Costs
from tests.exits.any_policy import any_policy

STRICT = [name for name, policy in POLICIES.items() if "strict" in policy.grids]
ACTIVE = [(0,), (2,), (0, 2), (0, 1, 2)]
MACS = Costs((1.0, 2.0, 3.0, 4.0), (0.1, 0.1, 0.1, 0.1))

p_tars = st.floats(0, 1)
strictness = st.floats(1, 1e6)
seeds = st.integers(0, 30)


def outputs(seed: int, samples: int = 200) -> list[ExitProbs]:
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (4, samples, 6)) * np.arange(1, 5)[:, None, None]
    exps = np.exp(logits - logits.max(-1, keepdims=True))
    return [ExitProbs(exit, own / own.sum(-1, keepdims=True)) for exit, own in enumerate(exps)]


def decided(name: str, seed: int, active: tuple[int, ...], **settings: Any) -> Decisions:
    return decide(make_policy(name, settings), outputs(seed), active)


def assert_alike(one: Decisions, other: Decisions) -> None:
    for field in ("taken", "label", "confidence", "on_edge"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_the_rules_with_one_threshold_for_several_exits_can_be_strict() -> None:
    assert STRICT == ["confidence", "entropy", "margin", "window"]


@pytest.mark.parametrize("name", STRICT)
@pytest.mark.parametrize("fallback_to", FALLBACKS)
@given(seed=seeds, p_tar=p_tars, active=st.sampled_from(ACTIVE))
def test_strict_1_changes_nothing(
    name: str, fallback_to: str, seed: int, p_tar: float, active: tuple[int, ...]
) -> None:
    plain = decided(name, seed, active, p_tar=p_tar, fallback_to=fallback_to)
    assert_alike(decided(name, seed, active, p_tar=p_tar, fallback_to=fallback_to, strict=1), plain)
    per_exit = (p_tar,) * 4
    assert_alike(decided(name, seed, active, p_tar=per_exit, fallback_to=fallback_to), plain)


@pytest.mark.parametrize("name", STRICT)
@pytest.mark.parametrize("fallback_to", FALLBACKS)
@given(seed=seeds, p_tar=p_tars, strict=strictness, active=st.sampled_from(ACTIVE))
def test_strict_is_a_list_of_thresholds(
    name: str, fallback_to: str, seed: int, p_tar: float, strict: float, active: tuple[int, ...]
) -> None:
    others = {"fallback_to": fallback_to}
    inner = p_tar if strict == 1 else 1 - (1 - p_tar) / strict
    per_exit = [p_tar if exit in (active[-1], 3) else inner for exit in range(4)]
    assert_alike(
        decided(name, seed, active, p_tar=p_tar, strict=strict, **others),
        decided(name, seed, active, p_tar=per_exit, **others),
    )


@pytest.mark.parametrize("name", STRICT)
@given(seed=seeds, p_tar=p_tars, strict=strictness, more=strictness, active=st.sampled_from(ACTIVE))
def test_stricter_inner_exits_keep_fewer_images_and_cost_more(
    name: str, seed: int, p_tar: float, strict: float, more: float, active: tuple[int, ...]
) -> None:
    one, other = (
        decided(name, seed, active, p_tar=p_tar, strict=own) for own in sorted((strict, more))
    )
    assert (one.taken <= other.taken).all()
    assert not (other.on_edge & ~one.on_edge).any()
    assert (MACS.edge(one) <= MACS.edge(other)).all()


@pytest.mark.parametrize("name", STRICT)
@given(seed=seeds, p_tar=p_tars, strict=strictness)
def test_one_branch_alone_is_the_last_and_never_inner(
    name: str, seed: int, p_tar: float, strict: float
) -> None:
    for branch in range(3):
        assert_alike(
            decided(name, seed, (branch,), p_tar=p_tar, strict=strict),
            decided(name, seed, (branch,), p_tar=p_tar),
        )


@given(seed=seeds, p_tar=p_tars, strict=strictness)
def test_branches_that_are_off_have_no_say(seed: int, p_tar: float, strict: float) -> None:
    policy, exits = make_policy("confidence", {"p_tar": p_tar, "strict": strict}), outputs(seed)
    noise = ExitProbs(1, outputs(seed + 1)[1].probs)
    other = [exits[0], noise, *exits[2:]]
    assert_alike(decide(policy, other, (0, 2)), decide(policy, exits, (0, 2)))


@given(seed=seeds, p_tar=p_tars, strict=strictness, low=st.floats(0, 1))
def test_a_window_answers_alike_whatever_it_falls_back_to_in_the_cloud(
    seed: int, p_tar: float, strict: float, low: float
) -> None:
    """At the last exit, which counts as a last one, nothing can be below `low` any more."""
    policy: Any = make_policy("window", {"p_tar": p_tar, "strict": strict, "low": low})
    for fallback_to in FALLBACKS:
        own = replace(policy, fallback_to=fallback_to)
        for active in ACTIVE:
            found = decide(own, outputs(seed), active)
            away = ~found.on_edge
            if fallback_to == "last_exit":
                leaving = outputs(seed)[3].confidence >= p_tar
                sure = away & ~leaving
                np.testing.assert_array_equal(found.label[sure], outputs(seed)[3].prediction[sure])


@pytest.mark.parametrize("name", STRICT)
@pytest.mark.parametrize("strict", [0, 0.99, -1, float("nan"), float("inf"), True, "10", None, [2]])
def test_other_strictness_is_refused(name: str, strict: object) -> None:
    with pytest.raises(EennError, match=r"strict=.*: allowed is a number from 1 up"):
        make_policy(name, {"p_tar": 0.5, "strict": strict})


@pytest.mark.parametrize("name", STRICT)
def test_strict_does_not_go_with_a_threshold_per_exit(name: str) -> None:
    with pytest.raises(EennError, match="strict=10 and one threshold per exit"):
        make_policy(name, {"p_tar": [0.9, 0.8], "strict": 10})


def test_a_committee_decides_once_and_cannot_be_strict() -> None:
    with pytest.raises(EennError, match="committee has no setting strict"):
        make_policy("committee", {"p_tar": 0.5, "weights": (0.5,), "strict": 10})


def test_a_list_of_strictness_is_a_grid() -> None:
    assert swept("margin", {"strict": [1, 10]}, {"p_tar": [0.5, 0.9]}) == [
        Swept("margin", {"strict": 1}, [0.5, 0.9]),
        Swept("margin", {"strict": 10}, [0.5, 0.9]),
    ]


def test_strictness_is_printed_where_it_is_not_1() -> None:
    names = [
        Setting(any_policy("margin", {"p_tar": 0.5, "strict": strict}), (0,)).name
        for strict in (1, 10, 2.5)
    ]
    assert names == ["margin", "margin, strict 10", "margin, strict 2.5"]
