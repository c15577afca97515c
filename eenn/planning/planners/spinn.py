"""Cut and threshold together, in the spirit of SPINN (Laskaridis et al., 2020).

One threshold on the confidence holds for all exits, on the device and in the cloud; if no exit is
confident, the most confident one answers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from eenn.exits.policies.base import Bools, Floats
from eenn.exits.policies.threshold import DEFAULT
from eenn.planning.chain import Chain, ChainExit
from eenn.planning.exhaustive import Plan
from eenn.planning.planners.base import EIGHT_BITS, Asked, Planner, is_chain, is_prefix, register
from eenn.planning.table import Row, Table


class Progressive(NamedTuple):
    """The cut and the threshold of all exits."""

    cut: int
    threshold: float


def progressive(
    chain: Chain,
    exits: Sequence[ChainExit],
    samples: tuple[ArrayLike, ArrayLike],
    cuts: Sequence[int],
    thresholds: Sequence[float],
) -> Table[Progressive]:
    """Tabulate every cut with every threshold.

    Args:
        exits: the last one is behind the last block.
        samples: confidence at every exit and whether its answer is right, (samples, exits) each.
    """
    confidence: Floats = np.asarray(samples[0], np.float64)
    correct: Bools = np.asarray(samples[1], np.bool_)
    every, last = np.arange(len(confidence)), len(exits) - 1

    def row(cut: int, threshold: float) -> Row[Progressive]:
        confident = confidence >= threshold
        accepted = confident.any(axis=1)
        first = confident.argmax(axis=1)
        taken = np.where(accepted, first, last)
        answering = np.where(accepted, first, confidence.argmax(axis=1))
        reach = (taken[:, None] >= np.arange(len(exits) + 1)).mean(axis=0)
        accuracy = float(correct[every, answering].mean())
        return chain.row(Progressive(cut, threshold), cut, exits, reach, accuracy)

    return Table.of(row(cut, threshold) for cut in cuts for threshold in thresholds)


@register("spinn")
class Spinn(Planner):
    """Chooses the cut, with all branches up to it, and one threshold by the objectives asked for.

    Features are sent with 8 bits. The graphs of a network have no branches in the cloud.
    """

    lacks = "branches in the cloud"

    def admits(self, plan: Plan, asked: Asked) -> bool:
        policy = plan.setting.policy
        one = policy is None or (policy.name == DEFAULT and np.isfinite(policy.least_confidence))
        return one and is_prefix(plan.setting.active) and is_chain(plan, EIGHT_BITS)
