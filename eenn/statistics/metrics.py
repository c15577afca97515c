"""Metrics: numbers from decisions and probabilities, with the intervals of a finite test set.

NumPy and SciPy only; arrays are (samples,) unless said. A metric of no samples is NaN, because a
setting that leaves no sample is a result like any other in a sweep.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from eenn.errors import EennError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# Random numbers are drawn in portions of this many, which bounds the memory of a resampling.
PORTION = 2**20


class BatchShare(NamedTuple):
    """A share of random batches, and the number of batches drawn.

    `wilson_interval(share * batches, batches)` tells the noise of drawing batches, which more
    batches reduce; not the noise of the test set.
    """

    share: float
    batches: int


def wilson_interval(
    successes: ArrayLike, n: ArrayLike, level: float = 0.95
) -> tuple[Floats, Floats]:
    """Compute both ends of Wilson's score interval of successes / n, in [0, 1]; NaN where n is 0.

    Shapes are those of `successes` and `n` broadcast (Wilson, JASA 1927).

    Raises:
        EennError: successes that are negative or more than n, or a level outside (0, 1).
    """
    _check_level(level)
    k, trials = np.asarray(successes, np.float64), np.asarray(n, np.float64)
    if ((k < 0) | (k > trials)).any():
        raise EennError("wilson_interval: allowed are successes from 0 to n; check the counts")
    total = np.where(trials > 0, trials, np.nan)
    z = ndtri((1 + level) / 2)

    def low(count: Floats) -> Floats:
        # By way of the product of both ends, which has no difference that could round below 0.
        deviation = z * np.sqrt(count * (total - count) / total + z**2 / 4)
        return np.asarray(count**2 / total / (count + z**2 / 2 + deviation))

    return low(k), 1 - low(total - k)


class Resamples:
    """Bootstrap resamples of a set of samples, shared by the means of many quantities.

    `counts` holds how often each resample has each sample, float32 (resamples, samples).

    Raises:
        EennError: fewer than one resample.
    """

    def __init__(self, samples: int, resamples: int = 1000, seed: int = 0) -> None:
        _check_at_least_one("resamples", resamples)
        draws = _draws(samples, samples, resamples, seed) if samples else []
        self.counts = np.concatenate(
            [np.zeros((0, samples), np.float32), *(_counted(rows, samples) for rows in draws)]
        )

    def mean_interval(
        self, values: ArrayLike, where: ArrayLike = True, level: float = 0.95
    ) -> tuple[Floats, Floats]:
        """Compute both ends of the percentile intervals of means of `values`, (..., samples).

        From Efron, Annals of Statistics 1979. NaN where there are fewer than two samples.

        Args:
            where: the samples that a mean is over, bool, broadcasts with `values`. Their number
                then varies between resamples as it would between test sets, and resamples without
                any are left out.

        Raises:
            EennError: a level outside (0, 1).
        """
        _check_level(level)
        sample, inside = np.broadcast_arrays(np.asarray(values, np.float64), where)
        shape, samples = sample.shape[:-1], sample.shape[-1]
        rows = math.prod(shape)
        sample, inside = sample.reshape(rows, samples), inside.reshape(rows, samples)
        size = inside.sum(-1, keepdims=True)
        centre = np.where(inside, sample, 0).sum(-1, keepdims=True) / np.maximum(size, 1)
        # Deviations from the mean, as float32 would lose those of large values.
        deviations = np.where(inside, sample - centre, 0).astype(np.float32)
        ends = np.full((2, len(sample)), np.nan)
        sums = (self.counts @ deviations.T).astype(np.float64)
        drawn = np.full_like(sums, samples) if inside.all() else self.counts @ inside.T.astype("f4")
        # One sample tells nothing of the spread between samples.
        for row in np.flatnonzero(size[:, 0] > 1):
            some = drawn[:, row] > 0
            means = sums[some, row] / drawn[some, row]
            ends[:, row] = centre[row] + np.array(_central(means, level))
        return ends[0].reshape(shape), ends[1].reshape(shape)


def bootstrap_statistic(
    statistic: Callable[..., float],
    *arrays: NDArray[np.generic],
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Compute both ends of the percentile bootstrap interval of `statistic(*arrays)`.

    Rows of all arrays, (samples, ...), are resampled together. Resamples for which the statistic
    is NaN, as the AUROC of samples that are all right, are left out; NaN if none remains. A biased
    statistic, as the ECE of few samples, is more biased in the resamples: the interval is moved by
    the distance of their mean from the statistic of the samples themselves.

    Raises:
        EennError: arrays of different lengths or none, a level outside (0, 1), or fewer than one
            resample.
    """
    _check_level(level)
    _check_at_least_one("resamples", resamples)
    lengths = {len(array) for array in arrays}
    if len(lengths) != 1:
        raise EennError(
            f"bootstrap of arrays with {sorted(lengths) or 'no'} rows: allowed are one or more "
            "arrays with one row per sample"
        )
    samples = lengths.pop()
    if not samples:
        return math.nan, math.nan
    found = [
        statistic(*(array[rows] for array in arrays))
        for portion in _draws(samples, samples, resamples, seed)
        for rows in portion
    ]
    defined = np.array([value for value in found if not math.isnan(value)])
    if not defined.size:
        return math.nan, math.nan
    low, high = _central(defined, level)
    bias = defined.mean() - statistic(*arrays)
    return low - bias, high - bias


def brier_per_sample(probs: ArrayLike, labels: ArrayLike) -> Floats:
    """Compute the Brier score of each sample's probabilities (samples, classes), in [0, 2].

    The squared differences to the one-hot label are summed over the classes, as in Brier's own
    definition (Monthly Weather Review 1950).
    """
    difference = np.array(probs, np.float64)
    difference[np.arange(len(difference)), np.asarray(labels)] -= 1
    return np.asarray(np.square(difference).sum(-1))


def failure_auroc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Compute the chance that a right answer is more confident than a wrong one, ties counted half.

    The chance is the area under the ROC curve of confidence as a detector of right answers
    (Hendrycks and Gimpel, ICLR 2017). NaN if all answers are right or all are wrong.
    """
    right, wrong = _by_confidence(confidence, correct)
    pairs = int(right.sum()) * int(wrong.sum())
    if not pairs:
        return math.nan
    more_confident = np.cumsum(right) - right
    return float((wrong * (more_confident + right / 2)).sum() / pairs)


def risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> tuple[Floats, Floats]:
    """Compute coverages 1/n, 2/n, ..., 1 and the selective risk at each, in ascending coverage.

    The selective risk is the share of wrong answers among the most confident samples, as many as
    the coverage says (Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks",
    NeurIPS 2017). Samples of equal confidence have no order: the risk is its mean over all orders
    among them, so the order of the input does not matter.
    """
    right, wrong = _by_confidence(confidence, correct)
    ties = right + wrong
    # In a random order every place of a tie is wrong with the tie's share of wrong answers.
    errors = np.cumsum(np.repeat(wrong / ties, ties))
    covered = np.arange(1, len(errors) + 1)
    return covered / len(errors), errors / covered


def aurc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Compute the area under the risk-coverage curve, the mean of its n selective risks, in [0, 1].

    From Geifman, Uziel and El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural
    Classifiers", ICLR 2019; ties as in `risk_coverage`.
    """
    _, risk = risk_coverage(confidence, correct)
    return float(risk.mean()) if risk.size else math.nan


def outage(
    correct: ArrayLike,
    on_edge: ArrayLike,
    p_tar: float,
    batch_size: int,
    batches: int = 10_000,
    seed: int = 0,
) -> BatchShare:
    """Estimate the inference outage: the share of batches whose edge accuracy is below `p_tar`.

    The accuracy is that of the batch's samples answered on the edge. A batch without any is counted
    among the batches, but not as an outage: nothing was promised. Batches are drawn with
    replacement (Pacheco, Couto and Simeone, "Calibration-Aided Edge Inference Offloading via
    Adaptive Model Partitioning of Deep Neural Networks", ICC 2021).

    Args:
        correct: true for samples with a right answer, bool.
        on_edge: true for samples answered on the edge, bool.
        batch_size: samples in a batch.
        batches: the number of batches drawn.

    Raises:
        EennError: `p_tar` outside [0, 1], or a batch size or number of batches below 1.
    """
    if not 0 <= p_tar <= 1:
        raise EennError(f"p_tar={p_tar}: allowed is 0 to 1")
    edge = np.asarray(on_edge, bool)
    right = edge & np.asarray(correct, bool)

    def below_target(rows: Ints) -> Bools:
        answered = edge[rows].sum(-1)
        # A quotient, as p_tar times the number of answers could round past an accuracy equal to it.
        accuracy = right[rows].sum(-1) / np.maximum(answered, 1)
        return np.asarray((answered > 0) & (accuracy < p_tar))

    return _share_of_batches(below_target, len(edge), batch_size, batches, seed)


def missed_deadline(
    latency_ms: ArrayLike,
    deadline_ms: float,
    batch_size: int,
    batches: int = 10_000,
    seed: int = 0,
) -> BatchShare:
    """Estimate the share of random batches whose mean latency per sample exceeds the deadline.

    Batches are drawn with replacement (source as in `outage`).

    Args:
        latency_ms: of every sample.

    Raises:
        EennError: a negative deadline, or a batch size or number of batches below 1.
    """
    if not deadline_ms >= 0:
        raise EennError(f"deadline_ms={deadline_ms}: allowed is 0 or more")
    # Of the excess, as the mean of latencies equal to the deadline could round past it.
    excess_ms = np.asarray(latency_ms, np.float64) - deadline_ms
    return _share_of_batches(
        lambda rows: excess_ms[rows].mean(-1) > 0, len(excess_ms), batch_size, batches, seed
    )


def _share_of_batches(
    holds: Callable[[Ints], Bools],
    samples: int,
    batch_size: int,
    batches: int,
    seed: int,
) -> BatchShare:
    """Estimate how often `holds`, given indices (batches, batch_size), is true of a batch."""
    _check_at_least_one("batch_size", batch_size)
    _check_at_least_one("batches", batches)
    if not samples:
        return BatchShare(math.nan, 0)
    held = sum(int(holds(rows).sum()) for rows in _draws(samples, batch_size, batches, seed))
    return BatchShare(held / batches, batches)


def _draws(samples: int, size: int, times: int, seed: int) -> Iterator[Ints]:
    """Draw sample indices with replacement: `times` rows of `size`, in bounded portions of rows."""
    generator = np.random.default_rng(seed)
    for rows in _portions(times, size):
        yield generator.integers(samples, size=(rows, size))


def _counted(rows: Ints, samples: int) -> NDArray[np.float32]:
    flat = rows + samples * np.arange(len(rows))[:, None]
    counts = np.bincount(flat.ravel(), minlength=len(rows) * samples)
    return counts.reshape(len(rows), samples).astype(np.float32)


def _portions(rows: int, width: int) -> Iterator[int]:
    """Divide `rows` into portions of about PORTION numbers, or of a single row."""
    at_once = max(1, PORTION // width)
    for done in range(0, rows, at_once):
        yield min(at_once, rows - done)


def _by_confidence(confidence: ArrayLike, correct: ArrayLike) -> tuple[Ints, Ints]:
    """Count right and wrong answers at each distinct confidence, in descending order."""
    rank, count = np.unique(
        -np.asarray(confidence, np.float64), return_inverse=True, return_counts=True
    )[1:]
    is_right = np.asarray(correct, bool)
    right = np.bincount(rank[is_right], minlength=len(count))
    return right, count - right


def _central(draws: Floats, level: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise EennError(f"level={level}: allowed is between 0 and 1, as 0.95")


def _check_at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise EennError(f"{name}={value}: allowed is 1 or more")
