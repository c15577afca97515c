"""The rows of an offloading benchmark's tables: every quantity with its interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eenn.exits.settings import Setting
from eenn.offload.bench.contenders import Request
from eenn.statistics.intervals import UNKNOWN, Estimate, means, share, statistic


@dataclass(frozen=True)
class Measured:
    """The measurements of one contender at one level, over photographs answered live.

    Args:
        answer_ms: mean time from the photograph to the answer; the following quantities are means
            as well, except `median_ms` and `p95_ms`.
        reduction: saved share of the cloud-only baseline's mean time; the interval comes from
            resampling the photographs of both together.
        degraded: number of photographs for which the cloud failed: the edge answered, or for cloud
            only no answer was given.
    """

    level: float
    setting: Setting
    most_active: bool
    n: int
    accuracy: Estimate
    edge_probability: Estimate
    edge_accuracy: Estimate
    answer_ms: Estimate
    edge_ms: Estimate
    cloud_ms: Estimate
    sent_bytes: Estimate
    received_bytes: Estimate
    median_ms: float
    p95_ms: float
    reduction: Estimate
    degraded: int


@dataclass(frozen=True)
class Prediction:
    """The predictions for a contender; NaN where there is none.

    Args:
        predicted_ms: latency predicted from the measured parts and the recorded exits.
        macs: MACs until the answer, by the recorded exits.
        differing: number of requests whose exit or answer differs from the records.
    """

    predicted_ms: float = math.nan
    differing: float = math.nan
    macs: Estimate = UNKNOWN


def summarise(requests: Sequence[Request], cloud_only: Sequence[Request]) -> Measured:
    """Summarise the requests of one contender at one level.

    Args:
        requests: one per photograph, in the order of `cloud_only`.
    """
    outcomes = [request.outcome for request in requests]
    answer_ms = np.array([outcome.latency_ms for outcome in outcomes])
    alone_ms = np.array([request.outcome.latency_ms for request in cloud_only])
    on_edge = np.array([outcome.on_edge for outcome in outcomes])
    correct = np.array([request.outcome.label == request.truth for request in requests])
    n, edge_n = len(requests), int(on_edge.sum())
    return Measured(
        level=requests[0].level,
        setting=requests[0].setting,
        most_active=requests[0].most_active,
        n=n,
        accuracy=share(int(correct.sum()), n),
        edge_probability=share(edge_n, n),
        edge_accuracy=share(int(correct[on_edge].sum()), edge_n),
        **means(
            {
                "answer_ms": answer_ms,
                "edge_ms": np.array([outcome.edge_ms for outcome in outcomes]),
                "cloud_ms": np.array([outcome.cloud_ms for outcome in outcomes]),
                "sent_bytes": np.array([float(o.traffic.sent_bytes) for o in outcomes]),
                "received_bytes": np.array([float(o.traffic.received_bytes) for o in outcomes]),
            }
        ),
        median_ms=float(np.median(answer_ms)),
        p95_ms=float(np.quantile(answer_ms, 0.95)),
        reduction=statistic(lambda a, b: 1 - a.mean() / b.mean(), answer_ms, alone_ms),
        degraded=sum(bool(outcome.failure) for outcome in outcomes),
    )
