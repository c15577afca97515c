"""The numbers and settings that runs are compared by, from a run's headline point."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from eenn.evaluation.field import FieldTotals
from eenn.evaluation.rows import Point
from eenn.files import Json
from eenn.models.architecture import Exit
from eenn.planning.costs import Link, macs
from eenn.reports.headline import headline_point
from eenn.reports.offload import OffloadPoint
from eenn.reports.tables import SettingRow
from eenn.statistics.intervals import Estimate


@dataclass(frozen=True)
class SummedUp:
    """The numbers that sum up a run, and their settings.

    Args:
        numbers: by name; a quantity has the ends of its interval too, `_low` and `_high`.
        settings: the settings that the numbers hold for.
    """

    numbers: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Json] = field(default_factory=dict)


def evaluated(point: Point, link: Link, **also: str) -> SummedUp:
    """Sum up an evaluation by the point that its page opens with.

    Args:
        link: that latency is modelled for.
        also: further settings that the point is for.
    """
    quantities = {
        "accuracy": point.accuracy,
        "same_as_last": point.same_as_last,
        "edge_probability": point.edge_probability,
        "edge_accuracy": point.edge_accuracy,
        "mmacs": _millions(point.macs),
        "latency_ms": point.latency_ms,
        "sent_bytes": point.sent_bytes,
    }
    return SummedUp(_flat(quantities), {**_settings(point, link), **also})


def measured(points: Sequence[OffloadPoint], link: Link, deployment: str) -> SummedUp:
    """Sum up a benchmark by its headline point; its latency is measured.

    Args:
        link: to the cloud.
        deployment: the point's deployment file, where several are compared; else empty.
    """
    settings = [row.setting for row in points if deployment and row.setting.goal == deployment]
    chosen = next(iter(settings), None)
    point = headline_point(
        points, chosen, lambda row: row.answer_ms.value, lambda row: row.measured.accuracy.value
    )
    if point is None:
        return SummedUp()
    found = point.measured
    quantities = {
        "accuracy": found.accuracy,
        "edge_probability": found.edge_probability,
        "edge_accuracy": found.edge_accuracy,
        "mmacs": _millions(point.foreseen.macs),
        "latency_ms": found.answer_ms,
        "sent_bytes": found.sent_bytes,
    }
    also = {"deployment": deployment} if deployment else {}
    return SummedUp(_flat(quantities), {**_settings(point, link), **also})


def logged(total: FieldTotals) -> SummedUp:
    """Sum up a field log by the totals of its newest artifact."""
    found = total.numbers
    quantities = {
        name: own if isinstance(own, Estimate) else Estimate(own, np.nan, np.nan)
        for name, own in vars(found).items()
    }
    counts = {"alarms": total.alarms, "bursts": total.bursts, "outages": total.outages}
    return SummedUp({**_flat(quantities), **counts}, {"artifact": total.artifact})


def trained(exits: Sequence[Exit], accuracy: Sequence[float]) -> dict[str, float]:
    """Sum up a training: accuracy of the last exit and the last branch, and their costs.

    MACs count all segments and heads up to the exit.

    Args:
        accuracy: of every exit.
    """
    costs = macs(exits)
    whole = sum(costs.segments) + sum(costs.heads)
    numbers = {"test/final/acc": accuracy[-1], "mmacs": whole / 1e6}
    if len(exits) > 1:
        numbers["test/edge/acc"] = accuracy[-2]
        numbers["macs_share"] = (sum(costs.segments[:-1]) + sum(costs.heads[:-1])) / whole
    return numbers


def _millions(estimate: Estimate) -> Estimate:
    return Estimate(*(end / 1e6 for end in estimate))


def _flat(quantities: Mapping[str, Estimate]) -> dict[str, float]:
    """Name every quantity and the ends of its interval; leave out unknown ones."""
    numbers = {
        f"{name}{end}": float(value)
        for name, estimate in quantities.items()
        for end, value in zip(("", "_low", "_high"), estimate, strict=True)
    }
    return {name: value for name, value in numbers.items() if np.isfinite(value)}


def _settings(point: SettingRow, link: Link) -> dict[str, Json]:
    setting = point.setting
    settings: dict[str, Json] = {
        **asdict(point.network),
        "level": point.level,
        "policy": setting.name if setting.policy is None else setting.policy.label,
        # A policy with another knob has no p_tar.
        "p_tar": None,
        "active": setting.branches,
        "link": f"{link.bandwidth_mbps:g} Mbps, {link.rtt_ms:g} ms",
        **asdict(link),
    }
    if setting.policy is not None:
        settings |= {name: getattr(setting.policy, name) for name in setting.policy.grids}
    if setting.knob:
        shown = setting.value_text if isinstance(setting.value, tuple) else setting.number
        settings[setting.knob] = shown
    return settings
