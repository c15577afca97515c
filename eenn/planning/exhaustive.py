"""The exhaustive planner: every choice of branches, threshold and payload, from measured parts.

The parts are times of stages and of the cloud, bytes of requests, and the link; how many images
leave where is known from exit records. So a device's best choice is found without trying them all.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np

from eenn.errors import EennError
from eenn.exits.decide import Decisions, decide
from eenn.exits.policies.base import Outputs, Policy
from eenn.exits.settings import Baseline, Setting
from eenn.planning.costs import split_point
from eenn.planning.times import IMAGE, Times

MAX_SLOWDOWN = 100.0


class NoPlan(EennError):
    """No plan keeps the bounds."""


@dataclass(frozen=True)
class Plan:
    """One choice of branches, knob and payload, and what it is predicted to cost.

    Args:
        split_point: segments that run on the edge.
        latency_ms, sent_bytes: means over the images.
    """

    setting: Setting
    split_point: int
    payload: str
    latency_ms: float
    accuracy: float
    edge_probability: float
    sent_bytes: float


@dataclass(frozen=True)
class SlowerEdge:
    """The predicted latency of one way to answer on an edge that computes slower."""

    slowdown: float
    way: str
    latency_ms: float


def plan(times: Times, outputs: Outputs, policies: Sequence[Policy]) -> list[Plan]:
    """Plan for every set of active branches, every policy and payload.

    The network is cut after the last active branch. Accuracy is that of unrounded features.

    Args:
        outputs: calibrated probabilities of every exit, and labels, of samples like those to come.
        policies: to choose from; without an active branch the first stands for all.
    """
    branches = range(len(outputs.exits) - 1)
    sets = chain.from_iterable(combinations(branches, size) for size in range(len(outputs.exits)))
    plans = []
    for active in sets:
        for policy in policies if active else policies[:1]:
            decisions = decide(policy, outputs.exits, active)
            cut = split_point(decisions)
            setting = Setting(policy if active else None, active)
            for payload in (payload for at, payload in times.requests if at == cut):
                sent = times.requests[cut, payload].sent_bytes
                plans.append(
                    Plan(
                        setting=setting,
                        split_point=cut,
                        payload=payload,
                        latency_ms=times.latency_ms(decisions, payload),
                        accuracy=float((decisions.label == outputs.labels).mean()),
                        edge_probability=float(decisions.on_edge.mean()),
                        sent_bytes=sent * float((~decisions.on_edge).mean()),
                    )
                )
    return plans


def best(plans: Sequence[Plan], min_accuracy: float = 0.0, deadline_ms: float = math.inf) -> Plan:
    """Choose the best of the plans that are accurate enough.

    Within a deadline that is the most accurate one, else the fastest.

    Raises:
        NoPlan: there is none.
    """
    within = [
        plan for plan in plans if plan.accuracy >= min_accuracy and plan.latency_ms <= deadline_ms
    ]
    if not within:
        raise NoPlan(
            f"no plan reaches an accuracy of {min_accuracy:.4g} within {deadline_ms:g} ms; the "
            f"most accurate reaches {max(plan.accuracy for plan in plans):.4g}, the fastest takes "
            f"{min(plan.latency_ms for plan in plans):.3g} ms"
        )
    if math.isfinite(deadline_ms):
        return max(within, key=lambda plan: (plan.accuracy, -plan.latency_ms))
    return min(within, key=lambda plan: (plan.latency_ms, -plan.accuracy))


def slower_edges(times: Times, ways: Mapping[str, Decisions], payload: str) -> list[SlowerEdge]:
    """Predict the latency of early exits and baselines on edges that compute slower and slower.

    Args:
        times: of the edge as it is.
        ways: decisions of early exits, by name.
    """
    upload = times.requests[0, IMAGE]
    alone_ms = upload.codec_ms + times.link.latency_ms(upload.sent_bytes) + upload.cloud_ms
    rows = []
    for slowdown in np.geomspace(1, MAX_SLOWDOWN, 41).tolist():
        own = times.with_edge(slowdown)
        latency_ms = {
            Baseline.CLOUD_ONLY.value: alone_ms,
            Baseline.WHOLE_ON_EDGE.value: own.preprocess_ms + own.classifier_ms + own.whole_ms,
            **{name: own.latency_ms(decisions, payload) for name, decisions in ways.items()},
        }
        rows += [SlowerEdge(slowdown, name, ms) for name, ms in latency_ms.items()]
    return rows
