"""Thresholds chosen by brute force, and the guarantee held against exact sums and resplits."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import beta, binom

from eenn.errors import EennError
from eenn.statistics.risk_control import (
    P_VALUES,
    binomial_p_value,
    cheapest_within_drop,
    controlled,
    hoeffding_bentkus_p_value,
    most_accurate_within,
    risk_upper_bound,
    samples_needed,
)

Floats = NDArray[np.float64]
PValue = Callable[[Any, Any, Any], Floats]

quick = settings(max_examples=100)
every_method = pytest.mark.parametrize("method", P_VALUES)
every_p_value = pytest.mark.parametrize("p_value", P_VALUES.values(), ids=P_VALUES.keys())

# Few values make ties of every kind.
results = st.lists(
    st.tuples(st.sampled_from([0.5, 0.6, 0.7, 0.8]), st.integers(0, 4)), min_size=1, max_size=9
)
DELTAS = np.array([0.001, 0.01, 0.05, 0.1, 0.2, 0.5])


@quick
@given(results, st.integers(-1, 5))
def test_nothing_within_the_budget_is_more_accurate(
    candidates: list[tuple[float, int]], budget: int
) -> None:
    accuracy, cost = zip(*candidates, strict=True)
    affordable = [i for i in range(len(candidates)) if cost[i] <= budget]
    if affordable:
        expected = min(affordable, key=lambda i: (-accuracy[i], cost[i], i))
        assert most_accurate_within(accuracy, cost, budget) == expected
    else:
        with pytest.raises(EennError, match=f"the cheapest costs {min(cost)}"):
            most_accurate_within(accuracy, cost, budget)


@quick
@given(results, st.sampled_from([0.6, 0.75, 0.9]), st.sampled_from([0.0, 0.1, 0.2]))
def test_nothing_within_the_drop_is_cheaper(
    candidates: list[tuple[float, int]], reference: float, limit: float
) -> None:
    accuracy, cost = zip(*candidates, strict=True)
    # In whole hundredths, where differences are exact.
    lowest = round(100 * reference) - round(100 * limit)
    good = [i for i in range(len(candidates)) if round(100 * accuracy[i]) >= lowest]
    if good:
        expected = min(good, key=lambda i: (cost[i], -accuracy[i], i))
        assert cheapest_within_drop(accuracy, cost, reference, limit) == expected
    else:
        with pytest.raises(EennError, match=f"the best has {max(accuracy)}"):
            cheapest_within_drop(accuracy, cost, reference, limit)


def test_a_drop_of_just_what_is_allowed_is_allowed() -> None:
    assert 0.8 - 0.1 > 0.7  # in floats
    assert cheapest_within_drop([0.8, 0.7], [2, 1], reference_accuracy=0.8, limit=0.1) == 1


@pytest.mark.parametrize(
    ("accuracy", "cost"), [([], []), ([0.5], [1, 2]), ([[0.5]], [[1]]), ([np.nan], [1])]
)
def test_results_that_cannot_be_compared_are_refused(accuracy: Any, cost: Any) -> None:
    with pytest.raises(EennError, match="candidate"):
        most_accurate_within(accuracy, cost, 10)
    with pytest.raises(EennError, match="candidate"):
        cheapest_within_drop(accuracy, cost, 0.5, 0.1)


@pytest.mark.parametrize("limit", [-0.1, 1, np.nan])
def test_a_drop_is_a_share(limit: float) -> None:
    with pytest.raises(EennError, match=r"\[0, 1\)"):
        cheapest_within_drop([0.5], [1], 0.5, limit)


def test_p_values_are_those_of_the_formulas() -> None:
    smaller = []
    for n in (1, 7, 60, 250):
        for risk in (0.02, 0.1, 0.5, 0.9):
            for count in np.unique(np.round(np.linspace(0, 0.98 * n * risk, 6), 1)):
                mean = float(count) / n
                h1 = (1 - mean) * math.log((1 - mean) / (1 - risk))
                h1 += mean * math.log(mean / risk) if mean else 0
                tail = math.fsum(
                    math.comb(n, k) * risk**k * (1 - risk) ** (n - k)
                    for k in range(math.ceil(count) + 1)
                )
                parts = math.exp(-n * h1), math.e * tail
                found = hoeffding_bentkus_p_value(mean, n, risk)
                assert found == pytest.approx(min(parts), rel=1e-9)
                assert binomial_p_value(mean, n, risk) == pytest.approx(tail, rel=1e-9)
                smaller.append(parts[0] < parts[1])
    assert 0.1 < np.mean(smaller) < 0.9  # both bounds are needed


@every_p_value
def test_p_values_at_the_ends(p_value: PValue) -> None:
    # No loss at all: only n samples below the risk speak against it.
    assert p_value(0, 50, 0.1) == pytest.approx(0.9**50, rel=1e-12)
    # A risk of 0 or more is never wrong; a risk of 1 is, after any sample without loss.
    np.testing.assert_array_equal(p_value([0, 0.5, 1], 4, 0), 1)
    np.testing.assert_array_equal(p_value([0, 0.5, 1], 4, 1), [0, 0, 1])
    at_or_above = p_value([0.1, 0.1, 0.4, 1], [10, 1000, 50, 3], 0.1)
    assert ((at_or_above >= 0.5) & (at_or_above <= 1)).all()
    assert p_value(np.zeros(4), 9, np.full((3, 1), 0.2)).shape == (3, 4)


@every_p_value
@pytest.mark.parametrize("n", [1, 5, 30, 200, 1500])
def test_p_values_of_binary_losses_are_valid(p_value: PValue, n: int) -> None:
    """Exact: the probability of all counts that reject, at the edge of the hypothesis and in it."""
    counts = np.arange(n + 1)
    for max_risk in (0.005, 0.05, 0.1, 0.3, 0.7):
        rejects = p_value(counts / n, n, max_risk) <= DELTAS[:, None]
        for risk in (max_risk, 1.02 * max_risk, 1.2 * max_risk):
            wrong = (binom.pmf(counts, n, risk) * rejects).sum(1)
            assert (wrong <= DELTAS * (1 + 1e-9)).all()


@pytest.mark.parametrize("seed", range(12))
def test_the_p_value_of_losses_in_between_is_valid(seed: int) -> None:
    """Exact: losses of 0, 1/4, ..., 1 with random probabilities, their sum by convolution."""
    generator = np.random.default_rng(seed)
    chances = generator.dirichlet(np.full(5, 0.4))
    risk = float(chances @ np.arange(5) / 4)
    of_sum = np.ones(1)
    for n in range(1, 61):
        of_sum = np.convolve(of_sum, chances)
        means = np.arange(4 * n + 1) / (4 * n)
        for max_risk in (risk, 0.98 * risk):
            rejects = hoeffding_bentkus_p_value(means, n, max_risk) <= DELTAS[:, None]
            assert ((of_sum * rejects).sum(1) <= DELTAS * (1 + 1e-9)).all()


def test_the_exact_p_value_finds_more_and_both_find_most() -> None:
    counts = np.arange(1001)
    exact = binomial_p_value(counts / 1000, 1000, 0.06)
    any_loss = hoeffding_bentkus_p_value(counts / 1000, 1000, 0.06)
    assert (exact <= any_loss * (1 + 1e-9)).all()
    chance = binom.pmf(counts, 1000, 0.03)
    assert chance[exact <= 0.05].sum() > chance[any_loss <= 0.05].sum() > 0.9


@every_method
@quick
@given(st.data())
def test_the_bound_and_the_p_value_agree(method: str, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 2000))
    mean = data.draw(st.integers(0, n)) / n
    delta, max_risk = data.draw(st.floats(1e-4, 0.999)), data.draw(st.floats(1e-3, 0.999))
    bound = float(risk_upper_bound(mean, n, delta, method))
    assume(abs(bound - max_risk) > 1e-12)
    assert (bound <= max_risk) == bool(P_VALUES[method](mean, n, max_risk) <= delta)


@pytest.mark.parametrize("n", [1, 10, 333])
def test_clopper_pearson_is_the_quantile_of_a_beta(n: int) -> None:
    counts = np.arange(n)
    for delta in DELTAS:
        expected = np.append(beta.ppf(1 - delta, counts + 1, n - counts), 1)
        bounds = risk_upper_bound(np.arange(n + 1) / n, n, float(delta), "clopper_pearson")
        np.testing.assert_allclose(bounds, expected, rtol=1e-9)


@every_method
def test_the_bound_is_monotone(method: str) -> None:
    means = np.arange(101) / 100
    n, deltas = np.array([100, 200, 1000, 5000]), [0.01, 0.1, 0.4]
    bounds = np.stack([risk_upper_bound(means, n[:, None], d, method) for d in deltas])
    assert (np.diff(bounds, axis=2) > 0).all()  # of more losses
    assert (np.diff(bounds[..., :-1], axis=1) < 0).all()  # of more samples
    assert (np.diff(bounds[..., :-1], axis=0) < 0).all()  # of less confidence
    assert (bounds >= means).all()
    assert (bounds[..., -1] == 1).all()


@every_method
@pytest.mark.parametrize("mean", [0.0, 0.004, 0.01, 0.013])
def test_so_many_samples_are_needed_and_one_less_is_too_few(method: str, mean: float) -> None:
    needed = samples_needed(mean, 0.02, 0.1, method)
    assert needed is not None
    passing = [n for n in range(1, 4 * needed) if P_VALUES[method](mean, n, 0.02) <= 0.1]
    assert passing[-1] == 4 * needed - 1
    failing = set(range(1, 4 * needed)) - set(passing)
    assert max(failing) == needed - 1
    if not mean:
        # (1 - 0.02) ** n <= 0.1
        assert needed == math.ceil(math.log(0.1) / math.log(0.98))


def test_a_p_value_of_just_delta_passes() -> None:
    """One sample without a loss has a p-value of one half for a risk of one half."""
    assert samples_needed(0.0, 0.5, 0.5, "clopper_pearson") == 1


def test_no_number_of_samples_shows_a_risk_that_is_there() -> None:
    assert samples_needed(0.02, 0.02, 0.1) is None
    assert samples_needed(0.5, 0.02, 0.1) is None


def losses_of(counts: list[int], n: int = 100) -> NDArray[np.int64]:
    return (np.arange(n) < np.array(counts)[:, None]).astype(np.int64)


@every_method
def test_the_walk_stops_before_the_first_failure(method: str) -> None:
    # At most 10 % with 95 % confidence: up to 3 of 100 pass, 20 do not.
    assert controlled(losses_of([0, 1, 20, 1, 0]), 0.1, 0.05, method) == 1
    assert controlled(losses_of([20, 0, 0]), 0.1, 0.05, method) is None
    assert controlled(losses_of([0, 1, 3]), 0.1, 0.05, method) == 2


@every_method
@pytest.mark.parametrize(("n", "chosen"), [(28, None), (29, 0)])
def test_without_losses_it_takes_enough_samples(method: str, n: int, chosen: int | None) -> None:
    assert 0.9**29 < 0.05 < 0.9**28
    assert controlled(np.zeros((1, n)), 0.1, 0.05, method) == chosen


def test_losses_in_between_count_as_what_they_are() -> None:
    # Means of 2, 6 and 40 %.
    assert controlled(losses_of([4, 12, 80]) / 2, 0.15, 0.05) == 1


@every_method
def test_many_candidates_on_the_edge_are_no_more_chances(method: str) -> None:
    """The last of 60 that passes would nearly always be wrong; the walk is so in delta at most."""
    generator = np.random.default_rng(0)
    trials, delta, max_risk = 800, 0.1, 0.2
    wrong = last_wrong = 0
    for _ in range(trials):
        losses = generator.random((60, 80), np.float32) < max_risk
        wrong += controlled(losses, max_risk, delta, method) is not None
        last_wrong += bool((P_VALUES[method](losses.mean(1), 80, max_risk) <= delta).any())
    assert last_wrong / trials > 0.5
    assert 0 < wrong / trials <= delta + 3 * math.sqrt(delta * (1 - delta) / trials)


def early_exit_pool(samples: int = 60_000) -> tuple[Floats, NDArray[np.bool_]]:
    """Confidences of the early exit, and whether it is wrong although the last exit is right."""
    generator = np.random.default_rng(7)
    difficulty = generator.random(samples)
    early_right = generator.random(samples) < 1 - 0.75 * difficulty**1.5
    last_right = generator.random(samples) < 1 - 0.3 * difficulty**2
    doubt = 6 * difficulty - 4 - early_right + generator.normal(0, 1, samples)
    confidence = 1 / (1 + np.exp(doubt))
    return confidence, ~early_right & last_right


@every_method
def test_the_risk_is_controlled_in_all_but_delta_of_resplits(method: str) -> None:
    confidence, mistake = early_exit_pool()
    taken = confidence >= np.linspace(1, 0, 31)[:, None]
    losses = taken & mistake
    risks, shares = losses.mean(1), taken.mean(1)
    max_risk, delta, splits, n = 0.05, 0.1, 400, 500
    assert risks[-1] > 4 * max_risk  # taking every early exit would be far too bold
    # Nearer to the limit, a lucky calibration part would leave the rest with more than its share.
    assert np.abs(risks - max_risk).min() > 0.001
    generator = np.random.default_rng(1)
    broken, naively_broken, chosen_shares = 0, 0, []
    for _ in range(splits):
        calibration = losses[:, generator.choice(len(mistake), n, replace=False)]
        risks_of_rest = (losses.sum(1) - calibration.sum(1)) / (len(mistake) - n)
        chosen = controlled(calibration, max_risk, delta, method)
        naive = np.flatnonzero(calibration.mean(1) <= max_risk)[-1]
        assert chosen is not None
        broken += risks_of_rest[chosen] > max_risk
        naively_broken += risks_of_rest[naive] > max_risk
        chosen_shares.append(shares[chosen])
    assert broken / splits < delta
    assert naively_broken / splits > 3 * delta
    assert np.mean(chosen_shares) > 0.7 * shares[risks <= max_risk].max() > 0.3


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, np.nan])
def test_risks_and_deltas_are_inside_0_and_1(value: float) -> None:
    with pytest.raises(EennError, match=f"max_risk={value}"):
        controlled([[0]], value, 0.1)
    with pytest.raises(EennError, match=f"delta={value}"):
        controlled([[0]], 0.1, value)
    with pytest.raises(EennError, match=f"delta={value}"):
        risk_upper_bound(0.1, 9, value)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (5,), (1, 2, 3)])
def test_losses_are_candidates_by_samples(shape: tuple[int, ...]) -> None:
    with pytest.raises(EennError, match="candidates, samples"):
        controlled(np.zeros(shape), 0.1, 0.1)


@pytest.mark.parametrize("loss", [-0.01, 1.01, np.nan, np.inf])
def test_losses_outside_0_and_1_are_refused(loss: float) -> None:
    with pytest.raises(EennError, match=r"\[0, 1\]"):
        controlled([[0, loss]], 0.1, 0.1)
    for bound in (hoeffding_bentkus_p_value, binomial_p_value, risk_upper_bound):
        with pytest.raises(EennError, match=r"\[0, 1\]"):
            bound(loss, 10, 0.1)


def test_methods_are_named_and_used_for_the_losses_they_are_for() -> None:
    with pytest.raises(EennError, match="hoeffding_bentkus, clopper_pearson"):
        controlled([[0]], 0.1, 0.1, "bonferroni")
    with pytest.raises(EennError, match="choose hoeffding_bentkus"):
        controlled([[0, 0.5]], 0.1, 0.1, "clopper_pearson")
    with pytest.raises(EennError, match="n = 1 sample"):
        hoeffding_bentkus_p_value(0.5, 0, 0.1)
