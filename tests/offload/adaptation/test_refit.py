"""Refits against SciPy's binomial tails, the risk control of a fit, and decisions one by one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from eenn.errors import EennError
from eenn.exits.decide import decide
from eenn.exits.policies.base import FALLBACKS, ExitProbs, Floats, KnobValue, Policy
from eenn.exits.policies.registry import POLICIES, find_policy, make_policy
from eenn.offload.adaptation.refit import (
    Candidates,
    Evidence,
    Tally,
    binomial_tail,
    boldest,
    images_needed,
    losses_allowed,
)
from eenn.statistics.risk_control import controlled
from tests.exits.any_policy import any_policy

pytest_plugins = ["tests.exits.toy_policy"]
CLASSES, BRANCHES = 5, 3
ADJUSTABLE = [name for name, policy in POLICIES.items() if policy.knob is not None]
risks = st.floats(0.001, 0.5)


@settings(max_examples=300)
@given(
    n=st.one_of(st.integers(1, 60), st.just(1200), st.integers(1, 3000)),
    part=st.floats(0, 1),
    share=st.one_of(st.floats(1e-9, 1 - 1e-9), st.floats(1e-9, 1e-3)),
)
def test_the_tail_is_that_of_scipy(n: int, part: float, share: float) -> None:
    count = round(part * n)
    expected = float(binom.cdf(count, n, share))
    # Smaller ones have no digits left to compare.
    assert binomial_tail(count, n, share) == pytest.approx(expected, rel=1e-10, abs=1e-290)


@given(n=st.integers(0, 1300), risk=st.floats(0.001, 0.1), delta=st.floats(0.001, 0.5))
def test_one_loss_more_than_allowed_is_too_many(n: int, risk: float, delta: float) -> None:
    allowed = losses_allowed(n, risk, delta)
    assert -1 <= allowed < max(n, 1)
    tails = binom.cdf([allowed, allowed + 1], n, risk)
    assert tails[0] <= delta * (1 + 1e-8)  # 0 for a count of -1
    assert tails[1] > delta * (1 - 1e-8)


@given(risk=risks, delta=risks)
def test_so_many_images_are_needed_and_one_less_is_too_few(risk: float, delta: float) -> None:
    needed = images_needed(risk, delta)
    assert (1 - risk) ** needed <= delta * (1 + 1e-9)
    assert (1 - risk) ** (needed - 1) > delta * (1 - 1e-9)


@pytest.mark.parametrize("n", range(1, 9))
def test_a_p_value_of_just_delta_passes(n: int) -> None:
    """Halves are exact: n images without a loss have a p-value of 2^-n for a risk of one half."""
    assert images_needed(0.5, 0.5**n) == n
    assert losses_allowed(n, 0.5, 0.5**n) == 0
    assert losses_allowed(n - 1, 0.5, 0.5**n) == -1


def tally_of(differs: Sequence[Sequence[bool]]) -> Tally:
    """The tally of images, each with what every candidate loses."""
    tally = Tally.empty(len(differs[0]))
    for image in np.array(differs, bool):
        tally.add(Evidence(np.ones(len(image), bool), image))
    return tally


@settings(max_examples=200)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 300),
    candidates=st.integers(1, 12),
    risk=risks,
    delta=risks,
)
def test_the_boldest_is_the_choice_of_a_fit(
    seed: int, n: int, candidates: int, risk: float, delta: float
) -> None:
    generator = np.random.default_rng(seed)
    # A bolder candidate mostly loses more; not always, as a test must not rely on it.
    shares = generator.random(candidates) * risk * np.linspace(0, 2, candidates)
    differs = generator.random((n, candidates)) < shares
    p_values = binom.cdf(differs.sum(0), n, risk)
    assume((np.abs(p_values - delta) > 1e-7).all())
    expected = controlled(differs.T.astype(int), risk, delta, "clopper_pearson")
    found = boldest(tally_of(differs.tolist()), risk, delta)
    assert found == (-1 if expected is None else expected)


def test_without_images_nothing_is_shown() -> None:
    assert boldest(Tally.empty(3), 0.5, 0.5) == -1


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30), st.data())
def test_a_tally_counts_what_was_added_and_not_dropped(
    images: list[tuple[bool, bool]], data: st.DataObject
) -> None:
    evidence = [Evidence(np.array([a, True]), np.array([a and b, b])) for a, b in images]
    tally = Tally.empty(2)
    for own in evidence:
        tally.add(own)
    dropped = data.draw(st.integers(0, len(images) - 1))
    for own in evidence[:dropped]:
        tally.drop(own)
    left = evidence[dropped:]
    assert tally.images == len(left)
    for position in range(2):
        shares = tally.shares(position)
        assert shares[0] == pytest.approx(np.mean([own.leaves[position] for own in left]))
        assert shares[1] == pytest.approx(np.mean([own.differs[position] for own in left]))


def outputs(seed: int, coarse: bool, samples: int = 24) -> list[ExitProbs]:
    """Probabilities of every exit; coarse ones lie on the candidates, so that there are ties."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 3, (BRANCHES + 1, samples, CLASSES))
    exps: Floats = np.exp(logits - logits.max(-1, keepdims=True))
    probs = exps / exps.sum(-1, keepdims=True)
    if coarse:
        probs = generator.multinomial(200, probs) / 200
    return [ExitProbs(exit, own) for exit, own in enumerate(probs)]


def policy_of(name: str, value: float, given: Mapping[str, object]) -> Policy:
    """The policy at a value of its knob, which need not be a candidate of a fit."""
    return any_policy(
        name,
        {
            "p_tar": value,
            "agree": 1 + round(5 * value),
            "weights": (0.3, 0.5, 0.4),
            "low": 0.35,
            **given,
        },
    )


@pytest.mark.parametrize("name", ADJUSTABLE)
@settings(max_examples=15)
@given(
    seed=st.integers(0, 1000),
    coarse=st.booleans(),
    value=st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.8, 0.9973, 1.0])),
    active=st.sampled_from([(0,), (2,), (0, 2), (1, 2), (0, 1, 2)]),
    strict=st.sampled_from([1, 10]),
    fallback_to=st.sampled_from(FALLBACKS),
    as_printed=st.booleans(),
)
def test_evidence_is_what_every_candidate_decides(
    name: str, seed: int, coarse: bool, value: float, active: tuple[int, ...], **given: object
) -> None:
    policy, exits = policy_of(name, value, given), outputs(seed, coarse)
    candidates = Candidates(policy, active)
    cloud = exits[-1].prediction
    decided = [decide(own, exits, active) for own in candidates.policies]
    leaves = np.stack([own.on_edge for own in decided])
    differs = leaves & (np.stack([own.label for own in decided]) != cloud)
    for image in range(len(cloud)):
        alone = [ExitProbs(exit, exits[exit].probs[image : image + 1]) for exit in active]
        found = candidates.evidence(alone, int(cloud[image]))
        np.testing.assert_array_equal(found.leaves, leaves[:, image])
        np.testing.assert_array_equal(found.differs, differs[:, image])
    assert (leaves[:-1] <= leaves[1:]).all()


@pytest.mark.parametrize("name", ADJUSTABLE)
@pytest.mark.parametrize("value", [0.0, 0.123, 0.8, 0.9973, 1.0])
def test_candidates_are_the_policy_at_every_value(name: str, value: float) -> None:
    policy = policy_of(name, value, {"strict": 10})
    candidates = Candidates(policy, (0, 1))
    assert len(candidates) == len(candidates.values) == len(candidates.policies)
    assert candidates.policies[candidates.start] == policy
    assert candidates.values[candidates.start] == policy.knob_value
    steps = np.diff(candidates.values)
    assert (steps < 0).all() or (steps > 0).all()
    knob = policy.knob
    assert knob is not None
    assert set(knob.candidates(2)) <= set(candidates.values)
    for own, at in zip(candidates.policies, candidates.values, strict=True):
        assert own.knob_value == at
        others = {field.name for field in fields(policy)} - {knob.name}
        assert all(getattr(own, other) == getattr(policy, other) for other in others)


def test_networks_that_are_very_sure_have_finer_candidates_at_the_safe_end() -> None:
    values = Candidates(make_policy("confidence", {"p_tar": 0.8}), (0,)).values
    halves = [1 - 0.005 / 2**halving for halving in range(6, 0, -1)]
    assert values[:8] == [1.0, *(pytest.approx(own) for own in halves), 0.995]
    assert Candidates(make_policy("patience", {"agree": 2}), (0, 1)).values == [3, 2, 1]


def test_a_policy_without_a_knob_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_policy("margin"), "knob", None)
    with pytest.raises(EennError, match=r"guard: policy margin with no knob: allowed are"):
        Candidates(make_policy("margin", {"p_tar": 0.5}), (0,))


def test_the_safest_value_of_a_knob_may_be_its_smallest(toy: type[Policy]) -> None:
    candidates = Candidates(toy.of({"share": 0.4, "least": 0.5}), (0,))
    assert candidates.values[0] == 0
    assert candidates.values[-5:] == [0.25, 0.4, 0.5, 0.75, 1]
    assert candidates.values == sorted(candidates.values)


@pytest.mark.parametrize("name", [n for n in POLICIES if "strict" in POLICIES[n].grids])
def test_a_list_of_thresholds_is_refused(name: str) -> None:
    p_tar: KnobValue = (0.5, 0.6, 0.7, 0.8)
    with pytest.raises(EennError, match=f"guard: policy {name} with a list as p_tar: allowed are"):
        Candidates(make_policy(name, {"p_tar": p_tar}), (0,))


def test_no_active_branch_is_refused() -> None:
    with pytest.raises(EennError, match="guard: without an active branch no image leaves"):
        Candidates(make_policy("margin", {"p_tar": 0.5}), ())


def test_the_mean_of_exact_tails_is_one() -> None:
    """The probabilities of all counts sum to 1, at the size of the largest burst."""
    n, share = 1200, 0.03
    tails = [binomial_tail(count, n, share) for count in range(n + 1)]
    assert tails[-1] == 1
    assert tails[-2] == pytest.approx(1, abs=1e-12)
    assert (np.diff(tails) >= -1e-15).all()
    mean = math.fsum(1 - tail for tail in tails)
    assert mean == pytest.approx(n * share, rel=1e-9)
