"""Tests for a shift between new samples and reference samples; no labels needed.

Confidences are compared by the two-sample Kolmogorov-Smirnov test (Smirnov, Annals of Mathematical
Statistics 1948), shares by Fisher's exact test (Fisher, Statistical Methods for Research Workers,
1934). Univariate tests of a classifier's own outputs, corrected for their number, find shifts of
images as well as tests of its features do (Rabanser, Guennemann and Lipton, "Failing Loudly: An
Empirical Study of Methods for Detecting Dataset Shift", NeurIPS 2019). That paper corrects as
Bonferroni; Holm's method (Scandinavian Journal of Statistics 1979) bounds the chance of any false
alarm alike, whatever the dependence of the tests, and finds at least as much.

The bound is LEVEL, 1 %. Samples that are drawn from the reference samples themselves are flagged
more seldom still: they differ from the reference by one sampling error and not by two.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import fisher_exact, kstwo

from eenn.errors import EennError

LEVEL = 0.01


class Tested(NamedTuple):
    """A difference between samples and reference, and the probability of one as large by chance."""

    difference: float
    p_value: float


def confidences_differ(samples: ArrayLike, reference: ArrayLike) -> Tested:
    """Test for two sets of numbers from different distributions (Kolmogorov-Smirnov).

    The difference is the largest gap between their cumulative shares. Its distribution is that of
    one sample of n m / (n + m) numbers, which leaves small sets their finite size; ties make the
    test conservative.

    Raises:
        EennError: one of the sets is empty.
    """
    new, known = (np.sort(np.asarray(given, np.float64)) for given in (samples, reference))
    if not len(new) or not len(known):
        raise EennError("drift of no samples: allowed are one or more; give images")
    both = np.concatenate([new, known])
    below_new = np.searchsorted(new, both, side="right") / len(new)
    below_known = np.searchsorted(known, both, side="right") / len(known)
    gap = float(np.abs(below_new - below_known).max())
    size = max(1, round(len(new) * len(known) / (len(new) + len(known))))
    return Tested(gap, float(np.clip(kstwo.sf(gap, size), 0, 1)))


def shares_differ(count: int, n: int, reference_count: int, reference_n: int) -> Tested:
    """Test for two different shares (Fisher's exact test, two-sided).

    Raises:
        EennError: no samples.
    """
    if not n or not reference_n:
        raise EennError("drift of no samples: allowed are one or more; give images")
    known = [reference_count, reference_n - reference_count]
    counts = np.array([[count, n - count], known])
    return Tested(count / n - reference_count / reference_n, float(fisher_exact(counts)[1]))


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Adjust the p-values of a family of tests, so that each can be held against one level.

    The chance that any true hypothesis falls below the level is at most the level.
    """
    given = np.asarray(p_values, np.float64)
    order = np.argsort(given, kind="stable")
    scaled = given[order] * np.arange(len(given), 0, -1)
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted
