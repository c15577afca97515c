"""Points of evaluations made by hand, their unknown quantities NaN."""

import numpy as np

from eenn.evaluation.rows import Network, Point
from eenn.exits.policies.threshold import Confidence
from eenn.exits.settings import Setting
from eenn.statistics.intervals import Estimate

NOTHING = Estimate(np.nan, np.nan, np.nan)


def exactly(value: float) -> Estimate:
    return Estimate(value, value, value)


def point(
    setting: Setting, branches: int, level: float = 0.0, seed: int = 0, **quantities: Estimate
) -> Point:
    names = (
        "accuracy same_as_last edge_probability edge_accuracy confidence macs edge_macs latency_ms "
        "sent_bytes outage missed_deadline"
    )
    return Point(
        network=Network(f"{branches} branches", branches, seed),
        level=level,
        setting=setting,
        most_active=len(setting.active) == branches,
        n=100,
        edge_n=50,
        edge_weight_bytes=1e6,
        **{name: quantities.get(name, NOTHING) for name in names.split()},
    )


def confident(active: int, p_tar: float) -> Setting:
    return Setting(Confidence(p_tar=p_tar), tuple(range(active)))
