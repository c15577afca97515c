"""The parts of a network that an edge runs: up to each active branch, and on to the cut."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.parts import Headless, Part, open_heads
from eenn.offload.graphs.pieces import borders
from eenn.offload.protocol.wire import Cut


class Stage(NamedTuple):
    """The blocks up to an active branch, and the branch's heads."""

    branch: int
    part: Part


def open_stages(
    graphs: Graphs, active: Sequence[int], head_sets: Sequence[str], precision: str, threads: int
) -> list[Stage]:
    """Open a stage for every active branch.

    Raises:
        EennError: see `Graphs.session`.
    """
    at = borders(graphs.manifest)
    stages = []
    for start, exit in pairwise([0, *(branch + 1 for branch in active)]):
        heads = open_heads(graphs, exit, head_sets, threads)
        stages.append(Stage(exit - 1, Part(graphs, at[start], exit, heads, precision, threads)))
    return stages


def open_further(
    graphs: Graphs, active: Sequence[int], cut: Cut, precision: str, threads: int
) -> Headless | None:
    """Open the blocks between the last active branch and the cut; None if there are none.

    Raises:
        EennError: see `Graphs.session`.
    """
    last = borders(graphs.manifest)[active[-1] + 1 if active else 0]
    return Headless(graphs, last, cut.blocks, precision, threads) if cut.blocks > last else None
