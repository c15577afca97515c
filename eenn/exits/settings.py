"""What tells one point of an evaluation from all others: policy, threshold, active branches."""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from eenn.errors import EennError
from eenn.exits.decide import check_active
from eenn.exits.policies import POLICIES
from eenn.statistics.intervals import Row

Threshold = float | Sequence[float]


ORACLE, LAST_EXIT_ONLY, EDGE_ONLY = "oracle (no policy)", "last exit only", "edge only"


# Baselines of an offloading benchmark.
CLOUD_ONLY, WHOLE_ON_EDGE = "cloud only", "whole network on the edge"


EARLY_ON_EDGE = "early exits, rest on the edge"


def active_sets(
    active: Sequence[int | Sequence[int]] | int | None, branches: int
) -> list[tuple[int, ...]]:
    """Sets of active branches counted from 0, from what users write, counted from 1.

    Args:
        active: None for the first 1, 2, ... branches; a number for so many first branches; or a
            list of such numbers and of lists of branches, as in `[2, [3, 5]]`.

    Raises:
        EennError: a branch that the network does not have.
    """
    if active is None:
        return [tuple(range(count)) for count in range(1, branches + 1)]
    sets = []
    for entry in [active] if isinstance(active, int) else active:
        if isinstance(entry, bool | str) or not isinstance(entry, int | Sequence):
            raise EennError(
                f"active={active}: allowed are null, a number of branches, or a list of numbers "
                "and of lists of branches, as in [2, [3, 5]]"
            )
        chosen = tuple(range(entry)) if isinstance(entry, int) else tuple(b - 1 for b in entry)
        sets.append(check_active(chosen, branches))
    return sets


def has_threshold(policy: str) -> bool:
    """Whether the policy of that name has a p_tar."""
    # An unknown name is for make_policy to refuse.
    return policy not in POLICIES or "p_tar" in {f.name for f in fields(POLICIES[policy])}


def setting_of(name: str, p_tar: Threshold, active: tuple[int, ...], most_active: bool) -> Row:
    """What tells a point from all others.

    `p_tar` is NaN where there is none, or where `thresholds` lists one per exit.
    """
    several = isinstance(p_tar, Sequence)
    return {
        "policy": name,
        "p_tar": np.nan if several else p_tar,
        "thresholds": " ".join(f"{t:g}" for t in p_tar) if isinstance(p_tar, Sequence) else "",
        "active": " ".join(str(branch + 1) for branch in active),
        "most_active": most_active,
    }
