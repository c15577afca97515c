"""Recorded outputs of the exits of one scenario, as arrays that every rule reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from eenn.exits.policies.base import Bools, ExitProbs, Floats, Ints

# The smallest probability whose logarithm is taken.
TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Recorded:
    """Calibrated outputs of the active branches and the last exit, and the labels of the images.

    Arrays over exits follow the order of `exits`; an exit is known by its place there.

    Args:
        exits: the active branches in order, then the last exit.
        labels: int (images,).
    """

    exits: Sequence[ExitProbs]
    labels: Ints

    @cached_property
    def probs(self) -> Floats:
        """Collect the probabilities, (exits, images, classes)."""
        return np.stack([exit.probs for exit in self.exits])

    @cached_property
    def logs(self) -> Floats:
        """Compute the logarithms of the probabilities, (exits, images, classes)."""
        return np.asarray(np.log(np.maximum(self.probs, TINY)))

    @cached_property
    def prediction(self) -> Ints:
        """Collect the predicted classes, (exits, images)."""
        return np.stack([exit.prediction for exit in self.exits])

    @cached_property
    def confidence(self) -> Floats:
        """Collect the confidences, (exits, images)."""
        return np.stack([exit.confidence for exit in self.exits])

    @cached_property
    def margin(self) -> Floats:
        """Collect the leads of the most probable class over the next, (exits, images)."""
        return np.stack([exit.margin for exit in self.exits])

    @cached_property
    def certainty(self) -> Floats:
        """Collect 1 - entropy / ln(classes), (exits, images)."""
        return np.stack([exit.certainty for exit in self.exits])

    @cached_property
    def right(self) -> Bools:
        """Compare every exit's prediction with the labels, (exits, images)."""
        return np.asarray(self.prediction == self.labels)

    def some(self, rows: Ints) -> "Recorded":
        """Select the images in these rows."""
        exits = [ExitProbs(exit.exit, exit.probs[rows]) for exit in self.exits]
        return Recorded(exits, self.labels[rows])
