"""Paired differences between two ways to answer, on the same images."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from eenn.evaluation.grid import Case
from eenn.exits.decide import Decisions
from eenn.exits.policies.base import Floats
from eenn.statistics.intervals import UNKNOWN, Estimate, means


@dataclass(frozen=True)
class Difference:
    """The second of two ways to answer less the first, on the same images.

    Args:
        accuracy: NaN where there are no labels.
    """

    first: str
    second: str
    level: float
    n: int
    accuracy: Estimate
    edge_probability: Estimate
    macs: Estimate
    latency_ms: Estimate
    sent_bytes: Estimate


def per_sample(case: Case, decisions: Decisions) -> dict[str, Floats]:
    """Measure the compared quantities of every sample, (samples,); no accuracy without labels."""
    correct = case.correct(decisions)
    return {
        **({} if correct is None else {"accuracy": correct.astype(np.float64)}),
        "edge_probability": decisions.on_edge.astype(np.float64),
        "macs": case.costs.answer_macs(decisions),
        "latency_ms": case.costs.latency_ms(decisions),
        "sent_bytes": case.costs.sent_bytes(decisions),
    }


def difference(
    first: str,
    second: str,
    level: float,
    of_first: Mapping[str, Floats],
    of_second: Mapping[str, Floats],
) -> Difference:
    """Estimate paired differences, second less first, of the same samples in the same order.

    The intervals are those of a bootstrap over samples, each with both its values.
    """
    paired = {name: of_second[name] - of_first[name] for name in of_first}
    n = len(next(iter(paired.values())))
    estimates = {"accuracy": UNKNOWN, **means(paired)}
    return Difference(first=first, second=second, level=float(level), n=n, **estimates)
