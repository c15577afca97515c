"""The choice of the point that sums up a run."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from eenn.exits.settings import Baseline, Setting
from eenn.reports.tables import SettingRow

WHOLE = (Baseline.LAST_EXIT_ONLY, Baseline.WHOLE_ON_EDGE, Baseline.CLOUD_ONLY)
# Accuracy that may be lost to the whole network: one point, with a margin for rounding.
LOST = 0.01 + 1e-9


P = TypeVar("P", bound=SettingRow)


def headline_point(
    points: Sequence[P],
    chosen: Setting | None,
    cost: Callable[[P], float],
    right: Callable[[P], float],
) -> P | None:
    """Choose the point that sums up a run, among those of the mildest distortion.

    The point is that of the chosen setting; without one, the cheapest of those that lose at most
    one percentage point to their whole network; where all lose more, the one that loses least.

    Args:
        chosen: the fitted setting, or that of the evaluated deployment.
        cost: of a point, in any unit.
        right: the share of right answers; without labels, of those that equal the last exit's.

    Returns:
        The point; None where no policy was evaluated.
    """
    mildest = min((point.level for point in points), default=0.0)
    here = [point for point in points if point.level == mildest]
    if chosen is not None:
        return next((point for point in here if point.setting == chosen), None)
    policies = [point for point in here if point.setting.baseline is None]
    whole = {point.network: right(point) for point in here if point.setting.baseline in WHOLE}

    def kept(point: P) -> float:
        return right(point) - whole.get(point.network, 1.0)

    near = [point for point in policies if kept(point) >= -LOST]
    if near:
        return min(near, key=cost)
    return max(policies, key=kept, default=None)
