"""Estimates: quantities with their 95 % intervals.

Wilson's interval for shares, the bootstrap over samples for everything else.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eenn.statistics.metrics import BatchShare, Resamples, bootstrap_statistic, wilson_interval

# Resamples of a statistic that has to be computed anew on each.
STATISTIC_RESAMPLES = 300


class Estimate(NamedTuple):
    """A quantity and the ends of its 95 % interval; NaN without an interval."""

    value: float
    low: float
    high: float


# The estimate of an unknown quantity, as the accuracy of answers without labels.
UNKNOWN = Estimate(np.nan, np.nan, np.nan)


def share(successes: int, n: int) -> Estimate:
    """Estimate a share from n samples; NaN for n = 0."""
    low, high = wilson_interval(successes, n)
    return Estimate(successes / n if n else np.nan, float(low), float(high))


def share_of_batches(found: BatchShare) -> Estimate:
    """Estimate a share of drawn batches; its interval is that of the draw, not of the test set."""
    return share(round(found.share * found.batches) if found.batches else 0, found.batches)


def means(values: Mapping[str, NDArray[np.float64]]) -> dict[str, Estimate]:
    """Estimate the mean of each quantity over the same samples, (samples,)."""
    stacked = np.stack(list(values.values()))
    lows, highs = resamples(stacked.shape[1]).mean_interval(stacked)
    columns = np.stack([stacked.mean(1), lows, highs], axis=1)
    return {name: Estimate(*row) for name, row in zip(values, columns.tolist(), strict=True)}


def statistic(compute: Callable[..., float], *arrays: NDArray[np.generic]) -> Estimate:
    """Estimate any statistic of arrays with one row per sample."""
    low, high = bootstrap_statistic(compute, *arrays, resamples=STATISTIC_RESAMPLES)
    return Estimate(float(compute(*arrays)), float(low), float(high))


@lru_cache(maxsize=2)
def resamples(samples: int) -> Resamples:
    """Draw the resamples that all quantities and points share, so that these compare fairly."""
    return Resamples(samples)
