"""Rules that a small model decides, fitted to validation outputs: regressions, gates, a forest."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from benchmarks.policies.optional import sklearn_ensemble
from benchmarks.policies.protocol import Family
from benchmarks.policies.recorded import TINY, Recorded
from benchmarks.policies.thresholds import PRICES, alike, gained, one_threshold
from eenn.exits.policies.base import Bools, Floats, Ints

INVERSE_PENALTY, RIDGE, FOLDS = 0.3, 30.0, 5
TREES = 200
# Thresholds of log-odds.
LOG_ODDS = np.linspace(-12, 12, 601)
# Prices of cost in units of the loss, for gates.
LOSS_PRICES = tuple(np.geomspace(0.03, 100, 41).tolist())


class Linear(NamedTuple):
    """A linear function of standardised features.

    Args:
        mean, spread: of the features it was fitted to, (features,).
    """

    mean: Floats
    spread: Floats
    weights: Floats
    offset: float

    def __call__(self, features: Floats) -> Floats:
        return np.asarray((features - self.mean) / self.spread @ self.weights + self.offset)


def _standardised(features: Floats) -> tuple[Floats, Floats, Floats]:
    mean, spread = features.mean(0), features.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    return (features - mean) / spread, mean, spread


def logistic(features: Floats, target: Bools, balanced: bool = False) -> Linear:
    """Fit the log-odds of a target, with a squared penalty on the weights.

    Args:
        balanced: weigh both answers alike in sum.
    """
    x, mean, spread = _standardised(features)
    sign = np.where(target, 1.0, -1.0)
    share = np.clip(target.mean(), 1 / (len(target) + 1), 1 - 1 / (len(target) + 1))
    weight = np.where(target, 0.5 / share, 0.5 / (1 - share)) if balanced else np.ones(len(x))

    def loss(w: Floats) -> tuple[float, Floats]:
        odds = sign * (x @ w[:-1] + w[-1])
        slope = -INVERSE_PENALTY * weight * sign * expit(-odds)
        value = INVERSE_PENALTY * weight @ np.logaddexp(0, -odds) + w[:-1] @ w[:-1] / 2
        return float(value), np.append(slope @ x + w[:-1], slope.sum())

    start = np.append(np.zeros(x.shape[1]), 0.0 if balanced else logit(share))
    # A target of one answer only has no finite offset; the bound is far beyond any other.
    bounds = [(None, None)] * x.shape[1] + [(-20, 20)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Linear(mean, spread, found[:-1], float(found[-1]))


def ridge(features: Floats, target: Floats) -> Linear:
    """Fit a target by least squares, with a squared penalty on the weights."""
    x, mean, spread = _standardised(features)
    weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ (target - target.mean()))
    return Linear(mean, spread, weights, float(target.mean()))


@lru_cache(maxsize=8)
def features(records: Recorded) -> tuple[Floats, ...]:
    """Compute what every branch knows of an image: outputs of its own and of the exits before.

    Returns:
        Of every branch, (images, features).
    """
    odds = logit(np.clip(records.confidence, TINY, 1 - TINY))
    images = np.arange(records.confidence.shape[1])
    found = []
    for exit in range(len(records.exits) - 1):
        label = records.prediction[exit]
        own = [odds[exit], records.margin[exit], records.certainty[exit]]
        if exit:
            agree = records.prediction[:exit] == label
            mean = records.probs[: exit + 1, images, label].mean(0)
            own += [
                agree.mean(0),
                agree[-1].astype(np.float64),
                odds[exit - 1],
                odds[:exit].max(0),
                *logit(np.clip(records.probs[:exit, images, label], TINY, 1 - TINY)),
                logit(np.clip(mean, TINY, 1 - TINY)),
            ]
        found.append(np.stack(own, axis=1))
    return tuple(found)


def by_model(models: Sequence[Linear]) -> Callable[[Recorded], Floats]:
    """Make the score of one model for every branch."""

    def scored(records: Recorded) -> Floats:
        pairs = zip(models, features(records), strict=True)
        return np.stack([model(own) for model, own in pairs])

    return scored


def logistic_score(no_regret: bool) -> Callable[[Recorded, Floats], list[Family]]:
    """Make a rule with one threshold on learned log-odds.

    Args:
        no_regret: the odds that the last exit is not right where the branch is wrong, in place of
            the odds that the branch is right.
    """

    def fitted(records: Recorded, _: Floats) -> list[Family]:
        target = records.right[:-1]
        if no_regret:
            target = target | ~records.right[-1]
        pairs = zip(features(records), target, strict=True)
        return one_threshold(by_model([logistic(*own) for own in pairs]), records)

    return fitted


def boosted_score(records: Recorded, _: Floats) -> list[Family]:
    """Fit boosted trees to the odds that the branch is right, with one threshold on these.

    Raises:
        EennError: scikit-learn is not installed.
    """
    ensemble = sklearn_ensemble()
    models = [
        ensemble.HistGradientBoostingClassifier(random_state=0).fit(*own)
        for own in zip(features(records), records.right[:-1], strict=True)
    ]

    def scored(own: Recorded) -> Floats:
        pairs = zip(models, features(own), strict=True)
        return np.stack([model.decision_function(known) for model, known in pairs])

    # Odds of the images that trees were grown on are no guide to odds of others.
    return [Family(scored, alike(np.empty((len(models), 0)), LOG_ODDS))]


def optimal_stopping(records: Recorded, costs: Floats) -> list[Family]:
    """Fit the advantage of leaving over going on, backward, at every price of cost."""
    decide = np.zeros((1, len(records.exits) - 1))
    return [
        Family(by_model(stopping_models(records, gained(records, costs, price))), decide)
        for price in PRICES
    ]


def stopping_models(records: Recorded, worth: Floats) -> list[Linear]:
    """Fit a ridge regression for every branch, on values that were predicted out of fold.

    Args:
        worth: of leaving at every exit, (exits, images).
    """
    value, models = worth[-1], []
    fold = np.random.default_rng(0).permutation(len(value)) % FOLDS
    for branch in reversed(range(len(worth) - 1)):
        known, target = features(records)[branch], worth[branch] - value
        advantage = np.empty(len(value))
        for part in range(FOLDS):
            out = fold == part
            advantage[out] = ridge(known[~out], target[~out])(known[out])
        models.append(ridge(known, target))
        value = np.where(advantage >= 0, worth[branch], value)
    return models[::-1]


def gates(records: Recorded, costs: Floats) -> list[Family]:
    """Fit gates like JEI-DNN's after the training (Regol et al., 2024), at every price of cost.

    A gate tells if an exit so far has the least loss and priced cost of all; joint training of
    gates and heads is not reproduced.
    """
    images = np.arange(len(records.labels))
    loss = -records.logs[:, images, records.labels]

    def seen(own: Recorded, branch: int) -> Floats:
        known = (own.confidence[branch], own.certainty[branch], own.margin[branch])
        return np.stack(known, axis=1)

    def family(price: float) -> Family:
        best = (loss + price * costs[:, None]).argmin(0)
        branches = range(len(records.exits) - 1)
        models = [logistic(seen(records, k), best <= k, balanced=True) for k in branches]

        def scored(own: Recorded) -> Floats:
            return np.stack([model(seen(own, k)) for k, model in enumerate(models)])

        return Family(scored, np.zeros((1, len(models))))

    return [family(price) for price in LOSS_PRICES]


def forest(records: Recorded, _: Floats) -> list[Family]:
    """Fit a random forest that answers from all branches so far (future work of Pacheco et al.).

    The threshold is on the forest's vote; the last exit answers alone.

    Raises:
        EennError: scikit-learn is not installed.
    """
    ensemble = sklearn_ensemble()
    branches = range(1, len(records.exits))

    def known(own: Recorded, seen: int) -> Floats:
        return np.concatenate(own.logs[:seen], axis=1)

    models = [
        ensemble.RandomForestClassifier(TREES, random_state=0, n_jobs=1).fit(
            known(records, seen), records.labels
        )
        for seen in branches
    ]

    @lru_cache(maxsize=2)
    def votes(own: Recorded) -> tuple[Floats, Ints]:
        shares = [model.predict_proba(known(own, seen + 1)) for seen, model in enumerate(models)]
        labels = [
            model.classes_[share.argmax(1)] for model, share in zip(models, shares, strict=True)
        ]
        return np.stack([share.max(1) for share in shares]), np.stack(labels)

    def answers(own: Recorded) -> Ints:
        return np.concatenate([votes(own)[1], own.prediction[-1:]])

    def scored(own: Recorded) -> Floats:
        return votes(own)[0]

    # Its votes on the images it was grown on are no guide to its votes on others.
    thresholds = alike(np.empty((len(models), 0)), np.linspace(0, 1, 2 * TREES + 1))
    return [Family(scored, thresholds, answers)]
