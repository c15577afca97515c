"""Made-up outputs of exits, each better than the one before, for tests of exit rules."""

import numpy as np

from benchmarks.policies.recorded import Recorded
from eenn.exits.policies.base import ExitProbs
from eenn.planning.costs import Costs
from eenn.statistics.calibration import probabilities

CLASSES = 5


def made_up(images: int = 120, exits: int = 4, seed: int = 0) -> Recorded:
    """Make outputs of `exits` exits."""
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((exits, images, CLASSES))
    labels = generator.integers(CLASSES, size=images)
    for exit in range(exits):
        logits[exit, np.arange(images), labels] += (1.0 + 1.5 * exit) * generator.random(images)
    probs = [ExitProbs(exit, probabilities(own)) for exit, own in enumerate(logits)]
    return Recorded(probs, labels)


def part_costs(exits: int = 4) -> Costs:
    """Give segments of 100 and heads of 10, 20, ..."""
    return Costs((100.0,) * exits, tuple(10.0 * (exit + 1) for exit in range(exits)))
