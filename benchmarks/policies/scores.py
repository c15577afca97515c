"""Rules with one threshold on a recalibrated confidence, or on the outputs of all exits so far."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression, minimize
from scipy.special import logsumexp

from benchmarks.policies.protocol import Family
from benchmarks.policies.recorded import Recorded
from benchmarks.policies.thresholds import branches_of, one_threshold
from eenn.exits.policies.base import ExitProbs, Floats, Ints

EQUAL_BINS = 15
MOST_WEIGHT, PULL = 5.0, 1e-3


class Rising(NamedTuple):
    """A map of confidences to shares of right answers, by linear interpolation."""

    confidence: Floats
    share: Floats

    def __call__(self, confidence: Floats) -> Floats:
        return np.asarray(np.interp(confidence, self.confidence, self.share))


def isotonic_map(confidence: Floats, right: Floats) -> Rising:
    """Fit the share of right answers as a rising function of the confidence (isotonic)."""
    order = np.argsort(confidence, kind="stable")
    return Rising(confidence[order], isotonic_regression(right[order]).x)


def binned_map(confidence: Floats, right: Floats) -> Rising:
    """Fit the share of right answers in bins of equally many images, made to rise."""
    parts = [
        part
        for part in np.array_split(np.argsort(confidence, kind="stable"), EQUAL_BINS)
        if len(part)
    ]
    share = isotonic_regression(
        np.array([right[part].mean() for part in parts]),
        weights=np.array([len(part) for part in parts], np.float64),
    ).x
    # Both ends of a bin have its share, so that a bin is flat.
    ends = np.array([[confidence[part].min(), confidence[part].max()] for part in parts])
    return Rising(ends.ravel(), np.repeat(share, 2))


def pcee(
    fit_map: Callable[[Floats, Floats], Rising],
) -> Callable[[Recorded, Floats], list[Family]]:
    """Make PCEE's rule: one threshold on the estimated accuracy (Meronen et al., 2024)."""

    def fitted(records: Recorded, _: Floats) -> list[Family]:
        right = records.right.astype(np.float64)
        maps = [fit_map(*own) for own in zip(records.confidence[:-1], right, strict=False)]

        def estimated(own: Recorded) -> Floats:
            pairs = zip(maps, own.confidence, strict=False)
            return np.stack([rising(confidence) for rising, confidence in pairs])

        return one_threshold(estimated, records)

    return fitted


def running_mean(records: Recorded, weights: Floats) -> Floats:
    """Average the probabilities of all exits so far, (exits, images, classes)."""
    weighted = np.cumsum(weights[:, None, None] * records.probs, axis=0)
    return np.asarray(weighted / np.cumsum(weights)[:, None, None])


def mutual_information(records: Recorded, weights: Floats) -> Floats:
    """Compute the entropy of the running mean less the mean entropy, in nats, (exits, images).

    The quantity is 0 at the first exit and never negative.
    """
    log_classes = np.log(records.probs.shape[-1])
    own = (1 - records.certainty) * log_classes
    of_all = np.cumsum(weights[:, None] * own, axis=0) / np.cumsum(weights)[:, None]
    return np.asarray((1 - certainty_of(running_mean(records, weights))) * log_classes - of_all)


def certainty_of(probs: Floats) -> Floats:
    """Compute 1 - entropy / ln(classes) of probabilities (exits, images, classes)."""
    return np.stack([ExitProbs(exit, own).certainty for exit, own in enumerate(probs)])


def ensemble(score: str) -> Callable[[Recorded, Floats], list[Family]]:
    """Make a rule whose answer is that of the running mean, weighted by validation accuracy.

    Args:
        score: `confidence` of the mean, its `certainty`, or the `agreement` of its members: minus
            the mutual information, at which no image leaves at the first branch (Qendro et al.,
            2021).
    """

    def fitted(records: Recorded, _: Floats) -> list[Family]:
        weights = records.right.mean(1)

        def answers(own: Recorded) -> Ints:
            return np.asarray(running_mean(own, weights).argmax(-1))

        def scored(own: Recorded) -> Floats:
            if score == "agreement":
                found = -mutual_information(own, weights)
                found[0] = -np.inf
            elif score == "certainty":
                found = certainty_of(running_mean(own, weights))
            else:
                found = running_mean(own, weights).max(-1)
            return branches_of(found)

        return one_threshold(scored, records, answers=answers)

    return fitted


def stacking_weights(logs: Floats, labels: Ints) -> Floats:
    """Fit the weights of exits whose weighted log-probabilities answer together, (exits,).

    Args:
        logs: log-probabilities of the exits so far, (exits, images, classes).
    """
    exits, rows = len(logs), np.arange(len(labels))
    alone = np.eye(exits)[-1]
    true = logs[:, rows, labels]

    def loss(weights: Floats) -> tuple[float, Floats]:
        together = np.tensordot(weights, logs, 1)
        normed = together - logsumexp(together, axis=-1, keepdims=True)
        gradient = np.einsum("nc,knc->kn", np.exp(normed), logs) - true
        pull = weights - alone
        value = -normed[rows, labels].mean() + PULL * pull @ pull
        return float(value), gradient.mean(1) + 2 * PULL * pull

    start = np.full(exits, 1 / exits)
    bounds = [(0, MOST_WEIGHT)] * exits
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(found.x)


def stacked(logs: Floats, weights: Sequence[Floats]) -> Floats:
    """Compute the probabilities of stacked exits, (exits, images, classes)."""
    together = np.stack([np.tensordot(own, logs[: len(own)], 1) for own in weights])
    return np.asarray(np.exp(together - logsumexp(together, axis=-1, keepdims=True)))


def stacking(records: Recorded, _: Floats) -> list[Family]:
    """Fit stacked exits, one threshold on their confidence (as in ZTW, Wolczyk et al., 2021)."""
    exits = range(1, len(records.exits) + 1)
    weights = [stacking_weights(records.logs[:seen], records.labels) for seen in exits]

    def answers(own: Recorded) -> Ints:
        return np.asarray(stacked(own.logs, weights).argmax(-1))

    def scored(own: Recorded) -> Floats:
        return branches_of(stacked(own.logs, weights).max(-1))

    return one_threshold(scored, records, answers=answers)
