"""The choice of exits that pay for their heads, in the spirit of FlexDNN (Fang et al., 2020)."""

from collections.abc import Sequence
from itertools import chain as joined
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from eenn.exits.rests import DEVICE
from eenn.planning.chain import Chain, ChainExit
from eenn.planning.exhaustive import Plan
from eenn.planning.planners.base import Asked, Planner, register
from eenn.planning.table import FASTEST, Objective, Row, Table


def every_set(
    segment_ms: Sequence[float], head_ms: Sequence[float], rest_ms: float, accepts: ArrayLike
) -> Table[tuple[int, ...]]:
    """Tabulate every set of exits, counted from 0, on a device alone.

    Args:
        segment_ms: of the blocks before each exit.
        rest_ms: of the blocks behind the last of them.
        accepts: whether each exit would take each sample, (samples, exits).
    """
    taking = np.asarray(accepts, np.bool_)
    exits = range(len(segment_ms))
    blocks = (*segment_ms, rest_ms)
    nothing = (0.0,) * len(blocks)
    on_device = Chain(blocks, nothing, nothing)
    heads = [ChainExit(exit + 1, head_ms[exit]) for exit in exits]

    def row(kept: tuple[int, ...]) -> Row[tuple[int, ...]]:
        left = np.logical_and.accumulate(~taking[:, list(kept)], axis=1).mean(axis=0)
        return on_device.row(kept, len(blocks), [heads[exit] for exit in kept], [1.0, *left])

    sets = joined.from_iterable(combinations(exits, size) for size in range(len(exits) + 1))
    return Table.of(row(kept) for kept in sets)


@register("flexdnn")
class FlexDnn(Planner):
    """Chooses the branches of a device that computes the rest itself, with the policy given."""

    def admits(self, plan: Plan, asked: Asked) -> bool:
        mine = plan.setting.policy in (None, asked.policy)
        return mine and plan.route.rest == DEVICE and not plan.route.upstream

    def objectives(self, asked: Asked) -> tuple[Objective, ...]:
        return (FASTEST,)
