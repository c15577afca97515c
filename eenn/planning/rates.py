"""Rates at which a device works: milliseconds for each unit of each kind of work. NumPy only."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from eenn.exits.policies.base import Floats


@dataclass(frozen=True)
class Rates:
    """The milliseconds that a device takes for a unit of each feature of `NetworkWork.features`.

    Args:
        ms: (features,), none of them negative.
    """

    ms: Floats

    @classmethod
    def fitted(cls, features: Floats, measured_ms: Floats) -> "Rates":
        """Fit rates to measured parts, by least squares on relative errors.

        Absolute errors would be those of the largest parts alone.

        Args:
            features: (parts, features).
            measured_ms: (parts,), all above 0.
        """
        relative = features / measured_ms[:, None]
        return cls(nonnegative_least_squares(relative, np.ones(len(relative))))

    def predict(self, features: Floats) -> Floats:
        """Predict the milliseconds of parts, (parts,)."""
        return np.asarray(features @ self.ms)

    def shares(self, features: Floats) -> Floats:
        """Compute the share of each feature in the time of each part, (parts, features)."""
        each = features * self.ms
        total = each.sum(axis=1, keepdims=True)
        return np.asarray(each / np.where(total > 0, total, 1.0))


def nonnegative_least_squares(columns: Floats, target: Floats) -> Floats:
    """Minimise the squared error of a sum of columns whose weights are not negative; exact.

    The best weights are those of plain least squares on the columns that they use, so every set of
    columns is tried: for a handful of columns alone.

    Args:
        columns: (rows, columns).
        target: (rows,).

    Returns:
        The weights, (columns,).
    """
    lengths = np.linalg.norm(columns, axis=0)
    lengths = np.where(lengths > 0, lengths, 1.0)
    # Numbers of MACs and of calls differ by so much that a solver would take the smaller for noise.
    unit = columns / lengths
    best, least = np.zeros(len(lengths)), float(target @ target)
    for used in product((False, True), repeat=len(lengths)):
        weights, own = np.zeros(len(lengths)), np.array(used)
        weights[own] = np.linalg.lstsq(unit[:, own], target)[0]
        error = float(np.sum((unit @ weights - target) ** 2))
        if error < least and (weights >= 0).all():
            best, least = weights, error
    return np.asarray(best / lengths)


def ridge(columns: Floats, target: Floats, strength: float) -> Floats:
    """Minimise the squared error of a weighted sum of columns and `strength` times the weights'.

    Args:
        columns: (rows, columns).
        target: (rows,).
        strength: above 0.

    Returns:
        The weights, (columns,).
    """
    damped = columns.T @ columns + strength * np.eye(columns.shape[1])
    return np.asarray(np.linalg.solve(damped, columns.T @ target), np.float64)
