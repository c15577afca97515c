"""Quantities of rows, each with its 95 % interval: a name, and it with `_low` and `_high` behind.

Wilson's interval for shares, the bootstrap over samples for everything else.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eenn.statistics.metrics import BatchShare, Resamples, bootstrap_statistic, wilson_interval

Row = dict[str, Any]

# A statistic that has to be computed anew on every resample.
STATISTIC_RESAMPLES = 300


def with_interval(name: str, value: float, low: float, high: float) -> Row:
    """The three keys of one quantity."""
    return {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}


def share(name: str, successes: int, n: int) -> Row:
    """A share of n samples; NaN of none."""
    low, high = wilson_interval(successes, n)
    return with_interval(name, successes / n if n else np.nan, float(low), float(high))


def share_of_batches(name: str, found: BatchShare) -> Row:
    """A share of drawn batches; the interval is that of drawing them, not of the test set."""
    return share(name, round(found.share * found.batches) if found.batches else 0, found.batches)


def means(**values: NDArray[np.float64]) -> Row:
    """The mean of each quantity over the same samples, (samples,)."""
    stacked = np.stack(list(values.values()))
    lows, highs = resamples(stacked.shape[1]).mean_interval(stacked)
    row: Row = {}
    for name, mean, low, high in zip(values, stacked.mean(1), lows, highs, strict=True):
        row |= with_interval(name, mean, low, high)
    return row


def statistic(name: str, compute: Callable[..., float], *arrays: NDArray[Any]) -> Row:
    """Any statistic of arrays with one row per sample."""
    interval = bootstrap_statistic(compute, *arrays, resamples=STATISTIC_RESAMPLES)
    return with_interval(name, compute(*arrays), *interval)


@lru_cache(maxsize=2)
def resamples(samples: int) -> Resamples:
    """The same for every quantity and point, so that their differences are not chance."""
    return Resamples(samples)
