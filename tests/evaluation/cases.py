"""Small cases for evaluations: three exits, each better than the one before."""

import numpy as np

from eenn.evaluation.grid import Case, Service, exit_outputs
from eenn.evaluation.rows import Network
from eenn.exits.policies.base import Validation
from eenn.planning.costs import CostModel, Costs, Link
from eenn.records.records import ExitRecords, Origin

NETWORK = Network("2 branches", 2, 0)
VALIDATION = Validation((0.4, 0.6, 0.8))
ORIGIN = Origin("an artifact", "test", "a split", "none", 0.0, 32)
MACS = Costs((100.0, 200.0, 300.0), (1.0, 2.0, 3.0))
TEMPERATURES = (1.5, 0.8, 1.2)


def records(samples: int, seed: int = 0) -> ExitRecords:
    """Three exits, each better than the one before."""
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((3, samples, 5)).astype(np.float32)
    labels = generator.integers(5, size=samples)
    for exit, strength in enumerate((0.8, 2.0, 4.0)):
        logits[exit, np.arange(samples), labels] += strength * generator.random(samples)
    return ExitRecords(logits, labels, tuple(map(str, range(samples))), ORIGIN)


def case(samples: int = 400, seed: int = 0) -> Case:
    recorded = records(samples, seed)
    ms = Costs((1.0, 2.0, 3.0), (0.1, 0.2, 0.3))
    costs = CostModel(MACS, ms, ms, (3000, 2000, 1000), Link(10, 5))
    outputs = exit_outputs(recorded, TEMPERATURES)
    return Case(NETWORK, 0.0, outputs.exits, outputs.labels, costs, Service(8, 16))
