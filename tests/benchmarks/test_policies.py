"""Exit rules of the comparison against exhaustive searches, the product's rule and plain loops."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

from benchmarks.policies import learned, scores, thresholds
from benchmarks.policies.protocol import (
    LATENCY,
    MACS,
    OFF,
    OFFLOADED_MS,
    WHOLE_MS,
    Curve,
    Prices,
    Rule,
    at_cost,
    curve,
)
from benchmarks.policies.recorded import Recorded
from benchmarks.policies.rules import LEFT_OUT, REFERENCE, RULES
from eenn.exits.decide import Decisions, decide
from eenn.exits.policies.base import Floats, Policy
from eenn.exits.policies.patience import Patience
from eenn.exits.policies.threshold import Confidence, Entropy, Margin
from eenn.planning.costs import CostModel, Link
from tests.benchmarks.records import made_up, part_costs

PRICES = (0.0, 0.05, 0.3, 1.0, 5.0)
COSTS = np.array([0.3, 0.5, 0.8, 1.0])
BRANCHES = 3


@pytest.fixture(autouse=True)
def few_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit at few prices of cost, which keeps the tests short."""
    for module in (thresholds, learned):
        monkeypatch.setattr(module, "PRICES", PRICES)
    monkeypatch.setattr(learned, "LOSS_PRICES", (0.03, 1.0, 10.0, 100.0))


def mean_worth(worth: Floats, score: Floats, limits: Floats) -> float:
    """Walk every image through the exits."""
    total = 0.0
    for image in range(score.shape[1]):
        exit = 0
        while exit < len(score) and not (limits[exit] < OFF and score[exit, image] >= limits[exit]):
            exit += 1
        total += worth[exit, image]
    return total / score.shape[1]


def one_branch(seed: int, images: int = 40) -> tuple[Recorded, Floats]:
    records = made_up(images, 2, seed)
    return records, np.array([0.4, 1.0])


PerExit = tuple[float, ...]
# A rule, and the product's policy of one of its settings.
SAME: list[tuple[Rule, Callable[[PerExit], Policy]]] = [
    (thresholds.confidence, lambda p: Confidence(p_tar=p[0])),
    (thresholds.margin, lambda p: Margin(p_tar=p[0])),
    (thresholds.entropy, lambda p: Entropy(p_tar=p[0])),
    (thresholds.strict, lambda p: Confidence(p_tar=p[-1], strict=10)),
    (thresholds.most_confident_answers, lambda p: Confidence(p_tar=p[0], **MOST_CONFIDENT)),
    (thresholds.patience, lambda p: Patience(agree=round(p[0]))),
    (thresholds.coordinate, lambda p: Confidence(p_tar=(*np.clip(p, 0, 1).tolist(), 0.0))),
]
MOST_CONFIDENT: dict[str, Any] = {"fallback_to": "most_confident"}


@pytest.mark.parametrize(("rule", "policy"), SAME)
def test_decisions_are_those_of_the_product(
    rule: Rule, policy: Callable[[PerExit], Policy]
) -> None:
    fitted_on, records = made_up(seed=0), made_up(seed=1)
    (family,) = rule(fitted_on, COSTS)
    exits = set()
    for limits, taken in zip(family.thresholds, family.taken(records), strict=True):
        active = np.flatnonzero(taken.used).tolist()
        decisions = decide(policy(tuple(limits.tolist())), records.exits, active)
        np.testing.assert_array_equal(taken.exit, decisions.taken)
        np.testing.assert_array_equal(taken.label, decisions.label)
        exits |= set(taken.exit.tolist())
    assert len(exits) >= BRANCHES  # the settings are not all alike


@pytest.mark.parametrize("used", list(product([False, True], repeat=BRANCHES)))
def test_prices_are_the_cost_models(used: tuple[bool, ...]) -> None:
    costs, branches = part_costs(), tuple(np.flatnonzero(used).tolist())
    answered = np.array([*branches, BRANCHES])
    decisions = Decisions(answered, answered, np.ones(len(answered)), branches, answered < BRANCHES)
    model = CostModel(costs, costs, costs, (0,) * (BRANCHES + 1), Link(1, OFFLOADED_MS))
    own = Prices(costs, (0, 1, 2), MACS)
    by_exit = own.by_exit(np.array(used))
    np.testing.assert_allclose(by_exit[answered], model.answer_macs(decisions))
    assert own.whole_macs == 400 + 10 + 20 + 30 + 40
    ms = Prices(costs, (0, 1, 2), LATENCY).by_exit(np.array(used))
    away = np.where(answered < BRANCHES, 0, OFFLOADED_MS)
    np.testing.assert_allclose(ms[answered], by_exit[answered] / 500 * WHOLE_MS + away)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_costs_the_budget_exactly(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if RULES[name] in (learned.forest, learned.boosted_score):
        pytest.importorskip("sklearn")
    monkeypatch.setattr(learned, "TREES", 10)
    prices = Prices(part_costs(), (0, 1, 2), MACS)
    found = curve(RULES[name](made_up(seed=0), prices.relative), made_up(seed=1), prices)
    assert (np.diff(found.cost) >= 0).all()
    assert np.isfinite(found.cost).all()
    budget = (found.cost[0] + found.cost[-1]) / 2
    # The same mixture of costs as of answers, on a curve whose answers are its costs.
    as_cost = Curve(found.cost, np.repeat(found.cost[:, None], 2, 1), found.on_edge[:, :2])
    met = at_cost(as_cost, budget)
    assert met is not None
    np.testing.assert_allclose(met.right, budget, rtol=1e-12)


def test_a_budget_out_of_reach_is_not_met() -> None:
    answers = np.array([[True, False], [True, True]])
    found = Curve(np.array([1.0, 3.0]), answers, answers)
    assert at_cost(found, 0.9) is None
    assert at_cost(found, 3.1) is None
    met = at_cost(found, 1.5)
    assert met is not None
    np.testing.assert_allclose(met.right, [1.0, 0.25])
    assert at_cost(found, 1.0) is not None
    assert at_cost(found, 3.0) is not None


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("price", PRICES)
def test_searches_of_one_threshold_are_exhaustive(seed: int, price: float) -> None:
    records, costs = one_branch(seed)
    worth, score = thresholds.gained(records, costs, price), thresholds.confidences(records)
    everything = [np.array([own]) for own in (*score[0], OFF)]
    best = max(mean_worth(worth, score, limits) for limits in everything)
    for limits in (
        thresholds.coordinate_search(worth, score),
        thresholds.backward_thresholds(worth, score, bins=len(score[0]), pseudo_images=0),
    ):
        assert mean_worth(worth, score, limits) == pytest.approx(best)


@pytest.mark.parametrize("price", PRICES)
def test_coordinate_search_is_no_worse_than_one_threshold(price: float) -> None:
    records = made_up()
    worth, score = thresholds.gained(records, COSTS, price), thresholds.confidences(records)
    found = mean_worth(worth, score, thresholds.coordinate_search(worth, score))
    for one in np.quantile(score, np.linspace(0, 1, thresholds.SETTINGS)):
        assert found >= mean_worth(worth, score, np.full(BRANCHES, one)) - 1e-12
    # Nor does changing one threshold help.
    limits = thresholds.coordinate_search(worth, score)
    for branch in range(BRANCHES):
        for value in thresholds.candidates(score[branch]):
            tried = limits.copy()
            tried[branch] = value
            assert found >= mean_worth(worth, score, tried) - 1e-12


def test_equal_exits_leave_at_the_first() -> None:
    one = made_up(exits=1)
    records = Recorded([one.exits[0]] * 4, one.labels)
    worth = thresholds.gained(records, COSTS, 0.5)
    limits = thresholds.backward_thresholds(worth, thresholds.confidences(records))
    assert limits[0] <= records.confidence[0].min()


@pytest.mark.parametrize("seed", range(3))
def test_quota_shares_are_exact(seed: int) -> None:
    records = made_up(100, seed=seed)
    score = thresholds.confidences(records)
    shares = np.array([0.31, 0.24, 0.0, 0.45])
    limits = thresholds.quota_thresholds(score, shares)
    assert limits[2] == OFF
    left, alive = [], np.ones(100, bool)
    for own, limit in zip(score, limits, strict=True):
        leaving = alive & (own >= limit)
        left.append(int(leaving.sum()))
        alive &= ~leaving
    assert left == [31, 24, 0]


def test_apparate_keeps_its_limit_and_saves_more_where_it_may() -> None:
    records = made_up()
    score, same = thresholds.confidences(records), records.prediction == records.prediction[-1]
    saved = []
    for limit in (0.01, 0.1, 0.4):
        limits = thresholds.apparate_thresholds(records, COSTS, limit)
        assert 1 - mean_worth(same.astype(float), score, limits) <= limit + 1e-12
        spent = np.repeat(COSTS[:, None], len(records.labels), axis=1)
        saved.append(1 - mean_worth(spent, score, limits))
    assert saved == sorted(saved)
    assert saved[-1] > saved[0]


@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize("price", PRICES)
def test_dyce_is_no_worse_than_the_last_exit_alone(circular: bool, price: float) -> None:
    records = made_up()
    worth, score = thresholds.gained(records, COSTS, price), thresholds.confidences(records)
    search = thresholds.circular_search if circular else thresholds.one_pass_search
    assert mean_worth(worth, score, search(worth, score)) >= worth[-1].mean() - 1e-12


@pytest.mark.parametrize("fit_map", [scores.isotonic_map, scores.binned_map])
def test_estimated_accuracies_rise_with_confidence(
    fit_map: Callable[[Floats, Floats], scores.Rising],
) -> None:
    records = made_up(300)
    confidence, right = records.confidence[0], records.right[0].astype(float)
    rising = fit_map(confidence, right)
    on_grid = rising(np.linspace(0, 1, 501))
    assert (np.diff(on_grid) >= 0).all()
    assert ((on_grid >= 0) & (on_grid <= 1)).all()
    assert rising(confidence).mean() == pytest.approx(right.mean())


def test_isotonic_estimates_are_scikit_learns() -> None:
    isotonic = pytest.importorskip("sklearn.isotonic")
    records = made_up(300)
    confidence, right = records.confidence[1], records.right[1].astype(float)
    reference = isotonic.IsotonicRegression(out_of_bounds="clip").fit(confidence, right)
    others = made_up(seed=1).confidence[1]
    found = scores.isotonic_map(confidence, right)(others)
    np.testing.assert_allclose(found, reference.predict(others), atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_mutual_information_is_never_negative(seed: int) -> None:
    records = made_up(seed=seed)
    weights = np.array([0.3, 0.5, 0.0, 0.9])
    found = scores.mutual_information(records, weights)
    np.testing.assert_allclose(found[0], 0, atol=1e-12)
    assert (found >= -1e-12).all()
    # By the mean of Kullback-Leibler divergences from the mean, at the last exit.
    mean = np.tensordot(weights, records.probs, 1) / weights.sum()
    divergence = (records.probs * np.log(records.probs / mean)).sum(-1)
    np.testing.assert_allclose(found[-1], weights @ divergence / weights.sum(), atol=1e-9)


def test_nobody_leaves_at_the_first_exit_by_mutual_information() -> None:
    records = made_up()
    (family,) = scores.ensemble("agreement")(records, COSTS)
    assert all((taken.exit > 0).all() for taken in family.taken(records))


def nll(probs: Floats, labels: np.ndarray[Any, Any]) -> float:
    return float(-np.log(probs[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("seen", [1, 2, 4])
def test_stacked_exits_are_no_worse_than_their_last(seen: int) -> None:
    records = made_up()
    weights = scores.stacking_weights(records.logs[:seen], records.labels)
    assert ((weights >= 0) & (weights <= scores.MOST_WEIGHT)).all()
    stacked = scores.stacked(records.logs, [weights])[0]
    assert nll(stacked, records.labels) <= nll(records.probs[seen - 1], records.labels) + 1e-9


def test_the_weight_of_one_exit_reproduces_it() -> None:
    records = made_up()
    alone = [np.eye(seen)[-1] for seen in (1, 2, 3, 4)]
    np.testing.assert_allclose(scores.stacked(records.logs, alone), records.probs, atol=1e-9)


def test_a_logistic_score_of_confidence_alone_ranks_like_it() -> None:
    records = made_up()
    confidence = records.confidence[0]
    model = learned.logistic(confidence[:, None], records.right[0])
    order = np.argsort(confidence)
    assert (np.diff(model(confidence[:, None])[order]) >= 0).all()


@pytest.mark.parametrize("balanced", [False, True])
def test_logistic_regression_is_scikit_learns(balanced: bool) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    records = made_up()
    known = np.stack([records.confidence[0], records.margin[0], records.certainty[0]], axis=1)
    model = learned.logistic(known, records.right[0], balanced)
    reference = linear.LogisticRegression(
        C=learned.INVERSE_PENALTY, class_weight="balanced" if balanced else None, tol=1e-8
    ).fit((known - known.mean(0)) / known.std(0), records.right[0])
    np.testing.assert_allclose(model.weights, reference.coef_[0], atol=1e-3)
    assert model.offset == pytest.approx(reference.intercept_[0], abs=1e-3)


def test_a_target_of_one_answer_is_never_in_doubt() -> None:
    records = made_up()
    model = learned.logistic(records.confidence[0][:, None], np.ones(len(records.labels), bool))
    assert (model(records.confidence[0][:, None]) > 2).all()


def test_ridge_regression_solves_its_normal_equations() -> None:
    generator = np.random.default_rng(0)
    known, target = generator.normal(2, 3, (50, 4)), generator.normal(size=50)
    model = learned.ridge(known, target)
    residual = target - model(known)
    standardised = (known - known.mean(0)) / known.std(0)
    np.testing.assert_allclose(standardised.T @ residual, learned.RIDGE * model.weights)
    assert residual.mean() == pytest.approx(0, abs=1e-12)


def test_optimal_stopping_goes_on_only_where_it_pays() -> None:
    records = made_up()
    families = learned.optimal_stopping(records, COSTS)
    shares = [float((family.taken(records)[0].exit == 0).mean()) for family in families]
    assert shares[-1] == 1.0  # cost is all that counts
    assert shares[0] < 0.5


def test_gates_save_more_where_cost_counts_more() -> None:
    records = made_up()
    families = learned.gates(records, COSTS)
    spent = [COSTS[family.taken(records)[0].exit].mean() for family in families]
    assert spent[-1] == pytest.approx(COSTS[0])
    assert spent[0] > COSTS[1]


def test_a_forest_answers_from_branches_and_the_last_exit_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr(learned, "TREES", 30)
    records = made_up(60)
    (family,) = learned.forest(records, COSTS)
    nobody = family.taken(records)[-1]
    assert (family.thresholds[-1] == 1.0).all()
    last = nobody.exit == BRANCHES
    np.testing.assert_array_equal(nobody.label[last], records.prediction[-1][last])
    # It has seen these images.
    everyone = family.taken(records)[0]
    assert (everyone.exit == 0).all()
    assert (everyone.label == records.labels).mean() > 0.95


def test_every_rule_is_compared_or_left_out_with_a_reason() -> None:
    assert next(iter(RULES)) == REFERENCE
    assert not RULES.keys() & LEFT_OUT.keys()
    assert all(reason.split() for reason in LEFT_OUT.values())
