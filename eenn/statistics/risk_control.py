"""Choice of a threshold by validation results, with or without control of its risk.

A candidate is a threshold (or any other setting) and known by its index; results are arrays over
candidates. NumPy and SciPy only.

Risk control treats the risk of a candidate, the expected loss of a sample, as unknown. For early
exits the loss is 1 where the early answer is wrong although the last exit is right, else 0 (cf.
Jazbec et al., "Fast yet Safe: Early-Exiting with Risk Control", NeurIPS 2024).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, rel_entr

from eenn.errors import EennError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Infeasible(EennError):
    """No candidate keeps the limit on these samples."""


# Far less than one sample's share of an accuracy, far more than the rounding of a difference.
ROUNDING = 1e-9
# So many halvings of [0, 1] reach the spacing of floats.
HALVINGS = 52


def most_accurate_within(accuracy: ArrayLike, cost: ArrayLike, limit: float) -> int:
    """Choose the most accurate candidate that costs at most `limit`; of equals the cheapest.

    Args:
        accuracy: of every candidate, (candidates,).
        cost: mean cost of every candidate, in the unit of `limit` (MACs, milliseconds).

    Returns:
        The candidate's index.

    Raises:
        Infeasible: every candidate costs more than `limit`.
        EennError: `accuracy` and `cost` are not arrays of numbers of one length.
    """
    accuracies, costs = _results(accuracy, cost)
    best_first = np.lexsort((costs, -accuracies))
    fit = best_first[costs[best_first] <= limit]
    if not len(fit):
        raise Infeasible(
            f"no candidate costs {limit:.6g} or less, the cheapest costs {costs.min():.6g}; "
            "raise the limit"
        )
    return int(fit[0])


def cheapest_within_drop(
    accuracy: ArrayLike, cost: ArrayLike, reference_accuracy: float, limit: float
) -> int:
    """Choose the cheapest candidate that loses at most `limit` of the reference accuracy.

    Of equally cheap candidates it is the most accurate.

    Args:
        accuracy: of every candidate, (candidates,).
        cost: mean cost of every candidate, (candidates,).
        reference_accuracy: the accuracy that the drop is counted from, such as the last exit's.
        limit: in [0, 1), 0.01 for one percentage point.

    Returns:
        The candidate's index.

    Raises:
        Infeasible: every candidate loses more than `limit`.
        EennError: `limit` is out of range, or `accuracy` and `cost` are not arrays of numbers of
            one length.
    """
    accuracies, costs = _results(accuracy, cost)
    if not 0 <= limit < 1:
        raise EennError(f"limit={limit}: allowed is [0, 1), as 0.01 for one percentage point")
    lowest = reference_accuracy - limit
    cheapest_first = np.lexsort((-accuracies, costs))
    fit = cheapest_first[accuracies[cheapest_first] >= lowest - ROUNDING]
    if not len(fit):
        raise Infeasible(
            f"no candidate has an accuracy of {lowest:.6g}, the best has {accuracies.max():.6g}; "
            "raise the limit, or let the last exit answer images that no exit accepts"
        )
    return int(fit[0])


def hoeffding_bentkus_p_value(mean_loss: ArrayLike, n: ArrayLike, max_risk: ArrayLike) -> Floats:
    """Compute the p-value of a risk of at least `max_risk`, for any losses in [0, 1].

    Where the hypothesis holds, P(p <= delta) <= delta for every delta. It is the smaller of
    Hoeffding's bound in its tight form and Bentkus's (Bates et al., "Distribution-Free,
    Risk-Controlling Prediction Sets", JACM 2021; Angelopoulos et al., "Learn then Test", 2021).

    Args:
        mean_loss: mean of `n` independent losses, in [0, 1]; arguments broadcast.
        max_risk: in [0, 1].

    Raises:
        EennError: a number out of its range.
    """
    mean, samples, risk = _tested(mean_loss, n, max_risk)
    below = np.minimum(mean, risk)
    hoeffding = np.exp(-samples * (rel_entr(below, risk) + rel_entr(1 - below, 1 - risk)))
    return np.asarray(np.minimum(hoeffding, np.e * binomial_p_value(mean, samples, risk)))


def binomial_p_value(mean_loss: ArrayLike, n: ArrayLike, max_risk: ArrayLike) -> Floats:
    """Compute the exact p-value for losses of 0 or 1: P(Binomial(n, max_risk) <= n * mean_loss).

    The p-value is never larger than Hoeffding and Bentkus's, which has to hold for losses in
    between as well. Its inversion is the bound of Clopper and Pearson (Biometrika 1934).
    """
    mean, samples, risk = _tested(mean_loss, n, max_risk)
    # n * (k / n) can be a rounding error above k, and must not count as k + 1.
    count = np.ceil(np.round(samples * mean, 6))
    return np.asarray(bdtr(count, samples, risk))


# By the names that users choose them with.
P_VALUES: dict[str, Callable[[ArrayLike, ArrayLike, ArrayLike], Floats]] = {
    "hoeffding_bentkus": hoeffding_bentkus_p_value,
    "clopper_pearson": binomial_p_value,
}


def risk_upper_bound(
    mean_loss: ArrayLike, n: ArrayLike, delta: float, method: str = "hoeffding_bentkus"
) -> Floats:
    """Compute the upper bound of the risk: the least `max_risk` with a p-value of at most `delta`.

    The risk of a candidate fixed beforehand is above its bound with probability `delta` at most.
    A candidate chosen by the same losses has the promise of `controlled` only.

    Args:
        mean_loss: mean of `n` independent losses, in [0, 1]; broadcasts with `n`.
        delta: in (0, 1).
        method: `hoeffding_bentkus`, or `clopper_pearson` for losses that are 0 or 1.

    Raises:
        EennError: a number out of its range, or an unknown method.
    """
    p_value = _p_value(method)
    _check_inside("delta", delta)
    mean, samples = np.broadcast_arrays(np.asarray(mean_loss, np.float64), np.asarray(n))
    low, high = np.zeros(mean.shape), np.ones(mean.shape)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        rejected = p_value(mean, samples, middle) <= delta
        low, high = np.where(rejected, low, middle), np.where(rejected, middle, high)
    return high


def controlled(
    losses: ArrayLike, max_risk: float, delta: float, method: str = "hoeffding_bentkus"
) -> int | None:
    """Choose the boldest candidate shown to have a risk of at most `max_risk`, else None.

    Fixed-sequence test: from the first candidate on, each has to reject that its risk is too high
    (p <= delta, or what is the same, an upper confidence bound of at most `max_risk`), and the
    first failure ends it. The risk of the chosen one is above `max_risk` with probability `delta`
    at most, over the draw of the samples ("Learn then Test"); no order of the risks is assumed.
    Even with no loss at all a candidate needs about log(1 / delta) / max_risk samples to pass.

    Args:
        losses: (candidates, samples), from the safest candidate (offload everything) to the
            boldest, in an order that does not depend on the losses. The samples are independent
            and nothing else was fitted to them.
        max_risk: in (0, 1).
        delta: in (0, 1).
        method: `hoeffding_bentkus` for losses in [0, 1], `clopper_pearson` for losses that are 0
            or 1, where it is the bolder one.

    Raises:
        EennError: losses of another kind or none, a number out of its range, or an unknown method.
    """
    p_value = _p_value(method)
    _check_inside("max_risk", max_risk)
    _check_inside("delta", delta)
    values = np.asarray(losses, np.float64)
    if values.ndim != 2 or not values.size:
        raise EennError(
            f"losses have shape {values.shape}: allowed is (candidates, samples), none of them 0"
        )
    if not _is_share(values).all():
        raise EennError("losses have to be in [0, 1]; scale them by their largest possible value")
    if method == "clopper_pearson" and not np.isin(values, (0, 1)).all():
        raise EennError(
            "method=clopper_pearson is for losses that are 0 or 1; choose hoeffding_bentkus"
        )
    passed = p_value(values.mean(axis=1), values.shape[1], max_risk) <= delta
    before_failure = int(np.logical_and.accumulate(passed).sum())
    return before_failure - 1 if before_failure else None


def samples_needed(
    mean_loss: float, max_risk: float, delta: float, method: str = "hoeffding_bentkus"
) -> int | None:
    """Count the samples with which a candidate passes `controlled` at the same mean loss.

    Returns:
        The least number of samples, or None where no number is enough.

    Raises:
        EennError: a number out of its range, or an unknown method.
    """
    p_value = _p_value(method)
    _check_inside("delta", delta)
    if mean_loss >= max_risk:
        return None
    enough = 1
    while p_value(mean_loss, enough, max_risk) > delta:
        enough *= 2
    # From there on it may still fail where another loss comes in, so the last failure counts.
    counts = np.arange(enough // 2, 2 * enough).clip(1)
    failing = p_value(mean_loss, counts, max_risk) > delta
    return int(counts[failing].max(initial=0)) + 1


def _results(accuracy: ArrayLike, cost: ArrayLike) -> tuple[Floats, Floats]:
    accuracies, costs = np.asarray(accuracy, np.float64), np.asarray(cost, np.float64)
    if accuracies.ndim != 1 or accuracies.shape != costs.shape or not accuracies.size:
        raise EennError(
            f"accuracy has shape {accuracies.shape} and cost {costs.shape}: allowed is "
            "(candidates,) for both, with a candidate or more"
        )
    if np.isnan(accuracies).any() or np.isnan(costs).any():
        raise EennError("accuracy and cost must be numbers; leave out candidates without samples")
    return accuracies, costs


def _tested(
    mean_loss: ArrayLike, n: ArrayLike, max_risk: ArrayLike
) -> tuple[Floats, NDArray[np.int64], Floats]:
    mean, risk = np.asarray(mean_loss, np.float64), np.asarray(max_risk, np.float64)
    samples = np.asarray(n, np.int64)
    if not _is_share(mean).all() or not _is_share(risk).all() or (samples < 1).any():
        raise EennError("allowed are mean_loss and max_risk in [0, 1], of n = 1 sample or more")
    return mean, samples, risk


def _is_share(values: Floats) -> Bools:
    return np.asarray((values >= 0) & (values <= 1))


def _check_inside(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise EennError(f"{name}={value}: allowed is (0, 1), as 0.05")


def _p_value(method: str) -> Callable[[ArrayLike, ArrayLike, ArrayLike], Floats]:
    if method not in P_VALUES:
        raise EennError(f"method={method}: allowed are {', '.join(P_VALUES)}")
    return P_VALUES[method]
