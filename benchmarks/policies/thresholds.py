"""Rules with thresholds on confidences, and the searches that fit one threshold per exit."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import fminbound, isotonic_regression

from benchmarks.policies.protocol import OFF, Family, first_exit
from benchmarks.policies.recorded import Recorded
from eenn.exits.policies.base import Floats, Ints, most_confident

# Prices of cost, in units of accuracy per cost of the last exit, that families are fitted at.
PRICES = (0.0, *np.geomspace(0.004, 6, 40).tolist())
SETTINGS = 301  # of a rule with one threshold
QUANTILES, SWEEPS = 60, 6
BINS, PSEUDO_IMAGES = 20, 5.0
STRICT = 10.0
# Limits of the share of answers that may differ from the last exit's.
LIMITS = tuple(np.geomspace(0.002, 0.6, 25).tolist())
FIRST_STEPS, LEAST_STEP = (0.0125, 0.025, 0.05), 0.0125


def branches_of(score: Floats) -> Floats:
    """Leave the last exit out of an array over exits."""
    return score[:-1]


def confidences(records: Recorded) -> Floats:
    """Give every branch's confidence, (exits - 1, images)."""
    return branches_of(records.confidence)


def alike(score: Floats, thresholds: Floats | None = None) -> Floats:
    """List settings with the same threshold at all branches, (settings, branches).

    Args:
        score: of the validation images, whose quantiles are the thresholds if none are given.
    """
    if thresholds is None:
        finite = score[np.isfinite(score)]
        thresholds = np.unique(np.quantile(finite, np.linspace(0, 1, SETTINGS)))
    return np.repeat(thresholds[:, None], len(score), axis=1)


def one_threshold(
    score: Callable[[Recorded], Floats], records: Recorded, **answers: Callable[[Recorded], Ints]
) -> list[Family]:
    """Set out a rule with one threshold on a score of every branch."""
    return [Family(score, alike(score(records)), **answers)]


def confidence(records: Recorded, _: Floats) -> list[Family]:
    """Set out the rule that all are compared with: one threshold on the confidence."""
    return one_threshold(confidences, records)


def margin(records: Recorded, _: Floats) -> list[Family]:
    """Set out one threshold on the lead of the most probable class."""
    return one_threshold(lambda own: branches_of(own.margin), records)


def entropy(records: Recorded, _: Floats) -> list[Family]:
    """Set out one threshold on the entropy (Teerapittayanon et al., 2016)."""
    return one_threshold(lambda own: branches_of(own.certainty), records)


def most_confident_answers(records: Recorded, _: Floats) -> list[Family]:
    """Set out one threshold, the most confident exit answering images that no branch accepts."""

    def answers(own: Recorded) -> Ints:
        return np.concatenate([own.prediction[:-1], most_confident(own.exits).label[None]])

    return one_threshold(confidences, records, answers=answers)


def strict(records: Recorded, _: Floats) -> list[Family]:
    """Set out one threshold, inner exits wrong ten times less often than the last branch."""
    score = confidences(records)
    last = np.unique(np.clip(np.concatenate([score, 1 - (1 - score) * STRICT]), 0, 1))
    last = last[np.linspace(0, len(last) - 1, min(2 * SETTINGS, len(last))).astype(int)]
    thresholds = alike(score, 1 - (1 - last) / STRICT)
    thresholds[:, -1] = last
    return [Family(confidences, thresholds)]


def patience(records: Recorded, _: Floats) -> list[Family]:
    """Set out waiting until exits in a row agree (Zhou et al., 2020)."""

    def in_a_row(own: Recorded) -> Floats:
        found = np.ones(own.prediction.shape)
        for exit in range(1, len(found)):
            agree = own.prediction[exit] == own.prediction[exit - 1]
            found[exit] += np.where(agree, found[exit - 1], 0)
        return branches_of(found)

    settings = np.arange(1, len(records.exits) + 1, dtype=np.float64)
    return [Family(in_a_row, alike(in_a_row(records), settings))]


def gained(records: Recorded, costs: Floats, price: float) -> Floats:
    """Compute the worth of leaving at every exit, right minus priced cost, (exits, images)."""
    return np.asarray(records.right - price * costs[:, None])


def objective(worth: Floats, score: Floats, thresholds: Floats) -> float:
    """Compute the mean worth of the answers at these thresholds."""
    exit = first_exit(score, thresholds)
    return float(worth[exit, np.arange(len(exit))].mean())


def candidates(score: Floats) -> Floats:
    """List a branch's candidate thresholds: all images leave, quantiles, the branch is off."""
    inner = np.quantile(score, np.linspace(0, 1, QUANTILES), method="nearest")
    return np.concatenate([[-np.inf], np.unique(inner), [OFF]])


def coordinate(records: Recorded, costs: Floats) -> list[Family]:
    """Fit one threshold per exit by coordinate search, at every price of cost."""
    score = confidences(records)
    found = [coordinate_search(gained(records, costs, price), score) for price in PRICES]
    return [Family(confidences, np.unique(found, axis=0))]


def coordinate_search(worth: Floats, score: Floats) -> Floats:
    """Search thresholds of the greatest mean worth, one exit at a time.

    Two starts are tried, all branches off and the best single threshold, and the better end kept.

    Args:
        worth: of leaving at every exit, (exits, images).
        score: of every branch, (exits - 1, images).

    Returns:
        Thresholds, (exits - 1,).
    """
    single = max(alike(score), key=lambda own: objective(worth, score, own))
    choices = [candidates(own) for own in score]
    ends = []
    for thresholds in (np.full(len(score), OFF), single.copy()):
        for _ in range(SWEEPS):
            before = thresholds.copy()
            for branch, values in enumerate(choices):
                thresholds[branch] = best_at(worth, score, thresholds, branch, values)
            if np.array_equal(before, thresholds):
                break
        ends.append(thresholds)
    return max(ends, key=lambda own: objective(worth, score, own))


def best_at(worth: Floats, score: Floats, thresholds: Floats, branch: int, values: Floats) -> float:
    """Choose one branch's threshold of the greatest worth, the others given.

    Args:
        values: that it is chosen from; the present one is kept where none is better.
    """
    arrived = first_exit(score[:branch], thresholds[:branch]) == branch
    later = branch + 1 + first_exit(score[branch + 1 :], thresholds[branch + 1 :])
    going_on = worth[later, np.arange(len(later))][arrived]
    tried = np.append(thresholds[branch], values)
    leaving = (score[branch][arrived] >= tried[:, None]) & (tried < OFF)[:, None]
    total = np.where(leaving, worth[branch][arrived], going_on).sum(1)
    better = total > total[0] + 1e-9
    return float(tried[np.where(better, total, total[0]).argmax()])


def dynamic_programming(records: Recorded, costs: Floats) -> list[Family]:
    """Fit one threshold per exit backward, by dynamic programming, at every price of cost."""
    score = confidences(records)
    found = [backward_thresholds(gained(records, costs, price), score) for price in PRICES]
    return [Family(confidences, np.unique(found, axis=0))]


def backward_thresholds(
    worth: Floats, score: Floats, bins: int = BINS, pseudo_images: float = PSEUDO_IMAGES
) -> Floats:
    """Compare leaving with going on in bins of confidence, from the last branch to the first.

    Args:
        worth: of leaving at every exit, (exits, images).
        pseudo_images: images at the mean of all that are added to every bin.

    Returns:
        Thresholds, (exits - 1,): the lower edge of the first bin in which leaving is worth more.
    """
    value, thresholds = worth[-1], np.full(len(score), OFF)
    for branch in reversed(range(len(score))):
        order = np.argsort(score[branch], kind="stable")
        parts = np.array_split(order, min(bins, len(order)))

        def smoothed(of: Floats, parts: list[Ints] = parts) -> Floats:
            prior = pseudo_images * of.mean()
            return np.array([(of[p].sum() + prior) / (len(p) + pseudo_images) for p in parts])

        sizes = np.array([len(part) for part in parts], np.float64)
        better = isotonic_regression(smoothed(worth[branch]) - smoothed(value), weights=sizes).x
        leaving = np.flatnonzero(better >= 0)
        if len(leaving):
            thresholds[branch] = score[branch][parts[leaving[0]]].min()
        value = np.where(score[branch] >= thresholds[branch], worth[branch], value)
    return thresholds


def quota(records: Recorded, _: Floats) -> list[Family]:
    """Fit one threshold per exit to shares of images (MSDNet, Huang et al., 2018); no labels."""
    score = confidences(records)
    powers = np.arange(len(records.exits))
    shares = [(p / 20) ** powers / ((p / 20) ** powers).sum() for p in range(1, 40)]
    return [Family(confidences, np.stack([quota_thresholds(score, own) for own in shares]))]


def quota_thresholds(score: Floats, shares: Floats) -> Floats:
    """Choose thresholds at which the given share of all images leaves at every branch."""
    alive, thresholds = np.ones(score.shape[1], bool), np.full(len(score), OFF)
    for branch, own in enumerate(score):
        leaving = min(int(score.shape[1] * shares[branch] + 1e-9), int(alive.sum()))
        if leaving:
            thresholds[branch] = np.sort(own[alive])[-leaving]
            alive &= own < thresholds[branch]
    return thresholds


def apparate(records: Recorded, costs: Floats) -> list[Family]:
    """Fit one threshold per exit as Apparate does (Dai et al., 2024), without labels."""
    found = [apparate_thresholds(records, costs, limit) for limit in LIMITS]
    return [Family(confidences, np.unique(np.stack(found), axis=0))]


def apparate_thresholds(records: Recorded, costs: Floats, limit: float) -> Floats:
    """Search from no exit on for the cheapest thresholds within a limit of changed answers.

    Args:
        limit: share of answers that may differ from the last exit's.
    """
    score = confidences(records)
    same = records.prediction == records.prediction[-1]

    def reached(doubt: Floats) -> Floats:
        return np.where(doubt > 0, 1 - doubt, OFF)

    def results(doubt: Floats) -> tuple[float, float]:
        exit = first_exit(score, reached(doubt))
        return float(same[exit, np.arange(len(exit))].mean()), float(costs[exit].mean())

    ends = [climbed(results, len(score), step, limit) for step in FIRST_STEPS]
    return reached(min(ends, key=lambda doubt: results(doubt)[1]))


def climbed(
    results: Callable[[Floats], tuple[float, float]], branches: int, step: float, limit: float
) -> Floats:
    """Raise the doubt that branches tolerate, in every round that of the branch it costs least.

    That is the least agreement lost for the cost saved; the branch's step doubles. Where no branch
    can be raised within the limit, all steps are halved.

    Args:
        results: gives agreement and cost of the doubts of all branches.
        step: the first of every branch.

    Returns:
        Doubts, 1 - threshold, (branches,).
    """
    doubt, steps = np.zeros(branches), np.full(branches, step)
    while True:
        agreement, cost = results(doubt)
        ratios: list[tuple[float, int]] = []
        free: list[int] = []
        for branch in np.flatnonzero(doubt <= 1).tolist():
            then, then_cost = results(doubt + steps * (np.arange(branches) == branch))
            if 1 - then > limit:
                continue
            if then == agreement or then_cost == cost:
                free.append(branch)
            if then_cost != cost:
                ratios.append((abs(then - agreement) / abs(then_cost - cost), branch))
        if ratios or free:
            raised = min(ratios)[1] if ratios else free[0]
            doubt[raised] += steps[raised]
            steps[sorted({raised, *free})] *= 2
        elif (halved := (steps > LEAST_STEP) & (doubt <= 1)).any():
            steps[halved] /= 2
        else:
            return doubt


def dyce(circular: bool) -> Callable[[Recorded, Floats], list[Family]]:
    """Make DyCE's fit of one threshold per exit at every price of cost (Wang et al., 2024)."""

    def fitted(records: Recorded, costs: Floats) -> list[Family]:
        score = confidences(records)
        search = circular_search if circular else one_pass_search
        found = [search(gained(records, costs, price), score) for price in PRICES]
        return [Family(confidences, np.unique(np.stack(found), axis=0))]

    return fitted


def _bounded(worth: Floats, score: Floats, thresholds: Floats, branch: int) -> Floats:
    """Set a branch's threshold by bounded scalar minimisation, or turn the branch off."""
    tried = thresholds.copy()

    def loss(value: float) -> float:
        tried[branch] = value
        return -objective(worth, score, tried)

    bounded = thresholds.copy()
    bounded[branch] = fminbound(loss, 0, 1)
    off = thresholds.copy()
    off[branch] = OFF
    return max([off, bounded], key=lambda own: objective(worth, score, own))


def one_pass_search(worth: Floats, score: Floats) -> Floats:
    """Choose thresholds from the first branch to the last, later branches still off."""
    thresholds = np.full(len(score), OFF)
    for branch in range(len(score)):
        thresholds = _bounded(worth, score, thresholds, branch)
    return thresholds


def circular_search(worth: Floats, score: Floats) -> Floats:
    """Change the one threshold that helps most, until none helps."""
    thresholds = np.full(len(score), OFF)
    while True:
        tried: Sequence[Floats] = [
            _bounded(worth, score, thresholds, branch) for branch in range(len(score))
        ]
        best = max(tried, key=lambda own: objective(worth, score, own))
        if objective(worth, score, best) <= objective(worth, score, thresholds) + 1e-12:
            return thresholds
        thresholds = best
