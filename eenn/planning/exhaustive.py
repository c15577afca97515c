"""The planner: what any choice of branches, threshold and payload would take, from measured parts.

The parts are times of stages and of the cloud, bytes of requests, and the link; how many images
leave where is known from exit records. So a device's best choice is found without trying them all.
"""

from collections.abc import Mapping, Sequence
from itertools import chain, combinations

import numpy as np
from numpy.typing import NDArray

from eenn.errors import EennError
from eenn.exits.decide import Decisions, decide
from eenn.exits.policies import ExitProbs, Policy
from eenn.exits.settings import CLOUD_ONLY, WHOLE_ON_EDGE
from eenn.planning.costs import split_point
from eenn.planning.times import IMAGE, Times
from eenn.statistics.intervals import Row

MAX_SLOWDOWN = 100.0


def plan(
    times: Times,
    outputs: Sequence[ExitProbs],
    labels: NDArray[np.int64],
    policies: Mapping[float, Policy],
) -> list[Row]:
    """A row for every set of active branches, threshold and payload: latency, accuracy, bytes.

    The network is cut after the last active branch. Accuracy is that of unrounded features.

    Args:
        outputs: calibrated probabilities of every exit on samples like those to come.
        policies: by p_tar.
    """
    branches = range(len(outputs) - 1)
    sets = chain.from_iterable(combinations(branches, size) for size in range(len(outputs)))
    rows = []
    for active in sets:
        for p_tar, policy in list(policies.items())[: None if active else 1]:
            decisions = decide(policy, outputs, active)
            cut = split_point(decisions)
            for payload in (payload for at, payload in times.requests if at == cut):
                sent = times.requests[cut, payload].sent_bytes
                rows.append(
                    {
                        "active": " ".join(str(branch + 1) for branch in active),
                        "split_point": cut,
                        "p_tar": p_tar if active else np.nan,
                        "payload": payload,
                        "latency_ms": times.latency_ms(decisions, payload),
                        "accuracy": float((decisions.label == labels).mean()),
                        "edge_probability": float(decisions.on_edge.mean()),
                        "sent_bytes": sent * float((~decisions.on_edge).mean()),
                    }
                )
    return rows


def best(rows: Sequence[Row], min_accuracy: float = 0.0, deadline_ms: float = np.inf) -> Row:
    """The most accurate row within the deadline, if there is one, else the fastest; of those that
    are accurate enough.

    Raises:
        EennError: none is.
    """
    within = [
        row for row in rows if row["accuracy"] >= min_accuracy and row["latency_ms"] <= deadline_ms
    ]
    if not within:
        raise EennError(
            f"no plan reaches an accuracy of {min_accuracy:.4g} within {deadline_ms:g} ms; the "
            f"most accurate reaches {max(row['accuracy'] for row in rows):.4g}, the fastest takes "
            f"{min(row['latency_ms'] for row in rows):.3g} ms"
        )
    if np.isfinite(deadline_ms):
        return max(within, key=lambda row: (row["accuracy"], -row["latency_ms"]))
    return min(within, key=lambda row: (row["latency_ms"], -row["accuracy"]))


def slower_edges(times: Times, ways: Mapping[str, Decisions], payload: str) -> list[Row]:
    """Latency against how many times slower the edge computes, of early exits and of baselines.

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
            CLOUD_ONLY: alone_ms,
            WHOLE_ON_EDGE: own.preprocess_ms + own.classifier_ms + own.whole_ms,
            **{name: own.latency_ms(decisions, payload) for name, decisions in ways.items()},
        }
        rows += [
            {"slowdown": slowdown, "policy": name, "latency_ms": ms}
            for name, ms in latency_ms.items()
        ]
    return rows
