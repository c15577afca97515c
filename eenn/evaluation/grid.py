"""The points of a grid of settings, from records alone, and who stopped where at each of them.

A point is a policy at a setting over a set of active branches. Rows are flat dictionaries of
quantities and their intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eenn.errors import EennError, require_numbers
from eenn.exits.decide import Decisions, decide, oracle
from eenn.exits.policies import POLICIES, ExitProbs, make_policy
from eenn.exits.settings import (
    EDGE_ONLY,
    LAST_EXIT_ONLY,
    ORACLE,
    Threshold,
    has_threshold,
    setting_of,
)
from eenn.planning.costs import CostModel
from eenn.records.records import ExitRecords
from eenn.statistics.calibration import probabilities
from eenn.statistics.intervals import Row, means, resamples, share, share_of_batches
from eenn.statistics.metrics import BatchShare, missed_deadline, outage

BATCHES = 1000  # drawn for an outage or a missed deadline
# How the settings of every policy are sampled where all of them are compared.
TRADEOFF_P_TAR = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0)


@dataclass(frozen=True)
class Results:
    """Rows of an evaluation, by table; every row begins with the network and the level."""

    points: list[Row]
    exits: list[Row]
    quality: list[Row]
    tradeoff: list[Row]


@dataclass(frozen=True)
class Service:
    """What the user asks of the answers, for inference outage and missed deadlines.

    Args:
        deadline_ms: of the mean latency of a batch.
        batch_size: images that are judged together.
    """

    deadline_ms: float
    batch_size: int

    def __post_init__(self) -> None:
        require_numbers(deadline_ms=self.deadline_ms, batch_size=self.batch_size)
        if self.batch_size != int(self.batch_size):
            raise EennError(f"batch_size={self.batch_size}: allowed is a whole number of images")


@dataclass(frozen=True)
class Case:
    """One network on one split at one level, and what its answers cost.

    Args:
        outputs: every exit's calibrated probabilities, in order.
        labels: int (samples,).
    """

    outputs: Sequence[ExitProbs]
    labels: NDArray[np.int64]
    costs: CostModel
    service: Service


def exit_outputs(records: ExitRecords, temperatures: Sequence[float]) -> list[ExitProbs]:
    """Calibrated probabilities of every exit."""
    return [
        ExitProbs(exit, probabilities(logits, t))
        for exit, (logits, t) in enumerate(zip(records.logits, temperatures, strict=True))
    ]


def point(case: Case, decisions: Decisions, promised: float) -> Row:
    """Accuracy, edge probability, confidence, MACs, latency and bytes of one point.

    Args:
        promised: what the accuracy on the edge is held against for the inference outage; NaN
            where nothing is promised, and there is no outage either.
    """
    correct = decisions.label == case.labels
    n, on_edge = len(correct), decisions.on_edge
    edge_n = int(on_edge.sum())
    latency_ms, batch_size = case.costs.latency_ms(decisions), case.service.batch_size
    failed = BatchShare(np.nan, 0)
    if np.isfinite(promised):
        failed = outage(correct, on_edge, promised, batch_size, BATCHES)
    missed = missed_deadline(latency_ms, case.service.deadline_ms, batch_size, BATCHES)
    return {
        "n": n,
        **share("accuracy", int(correct.sum()), n),
        **share("edge_probability", edge_n, n),
        "edge_n": edge_n,
        **share("edge_accuracy", int(correct[on_edge].sum()), edge_n),
        **means(
            confidence=decisions.confidence,
            macs=case.costs.answer_macs(decisions),
            edge_macs=case.costs.macs.edge(decisions),
            latency_ms=latency_ms,
            sent_bytes=case.costs.sent_bytes(decisions),
        ),
        **share_of_batches("outage", failed),
        **share_of_batches("missed_deadline", missed),
    }


def exits_taken(case: Case, decisions: Decisions) -> list[Row]:
    """One row per exit: how many samples stopped there, how confident and right their answers are.

    At the last exit that includes the answers of the fallback, which may be an earlier exit's.
    """
    correct, confidence = decisions.label == case.labels, decisions.confidence
    here = decisions.taken == np.arange(len(case.outputs))[:, None]
    lows, highs = resamples(len(correct)).mean_interval(confidence, here)
    rows, n = [], len(correct)
    for exit, (taken, low, high) in enumerate(zip(here, lows, highs, strict=True), 1):
        count = int(taken.sum())
        rows.append(
            {
                "exit": exit,
                "n": n,
                "exit_n": count,
                **share("exit_share", count, n),
                "left_by_here": float(here[:exit].sum() / n),
                "confidence": float(confidence[taken].mean()) if count else np.nan,
                "confidence_low": float(low),
                "confidence_high": float(high),
                **share("accuracy", int(correct[taken].sum()), count),
            }
        )
    return rows


def grid(
    case: Case,
    policies: Mapping[str, Mapping[str, Any]],
    p_tars: Sequence[Threshold],
    actives: Sequence[tuple[int, ...]],
) -> tuple[list[Row], list[Row]]:
    """Rows of all points, and rows of the exits at every point.

    The baselines come with them: the last exit alone, the edge alone (the last active branch
    answers what the others leave), and the oracle as a bound.

    Args:
        policies: settings by name of policy.
        p_tars: thresholds, each a number or one number per exit; a policy without one has a
            single point.
        actives: sets of active branches, counted from 0.
    """
    points: list[Row] = []
    by_exit: list[Row] = []
    largest = max(actives, key=len, default=())

    def add(
        name: str, decisions: Decisions, p_tar: Threshold = np.nan, promised: float = np.nan
    ) -> None:
        setting = setting_of(name, p_tar, decisions.active, decisions.active == largest)
        points.append({**setting, **point(case, decisions, promised)})
        by_exit.extend({**setting, **row} for row in exits_taken(case, decisions))

    for name, settings in policies.items():
        for p_tar in p_tars if has_threshold(name) else [np.nan]:
            policy = make_policy(name, {**settings, "p_tar": p_tar})
            for active in filter(None, actives):
                decisions = decide(policy, case.outputs, active)
                add(name, decisions, p_tar, policy.promised_accuracy)
    always = make_policy("confidence", {"p_tar": 0.0})
    add(LAST_EXIT_ONLY, decide(always, case.outputs, ()))
    if largest:
        for p_tar in p_tars:
            policy = make_policy("confidence", {"p_tar": p_tar, "fallback_to": "last_exit"})
            add(EDGE_ONLY, decide(policy, case.outputs, largest, cloud=False), p_tar)
        add(ORACLE, oracle(case.outputs, case.labels, largest))
    return points, by_exit


def one_point(
    case: Case, name: str, settings: Mapping[str, Any], p_tar: Threshold, active: tuple[int, ...]
) -> Row:
    """The row of a single policy at a single threshold, which promises no accuracy."""
    decisions = decide(make_policy(name, {**settings, "p_tar": p_tar}), case.outputs, active)
    return {**setting_of(name, p_tar, active, most_active=True), **point(case, decisions, np.nan)}


def tradeoff(
    case: Case,
    weights: tuple[float, ...],
    active: tuple[int, ...],
) -> list[Row]:
    """Rows of every policy over its settings, with the bounds and baselines of `grid`.

    `setting` is p_tar, or how many exits have to agree.

    Args:
        weights: of the committee, one per branch.
    """
    policies = {name: {"weights": weights} for name in POLICIES if name != "patience"}
    found, _ = grid(case, policies, TRADEOFF_P_TAR, [active])
    rows = [{"setting": row["p_tar"], **row} for row in found]
    for agree in range(1, len(active) + 1):
        row = one_point(case, "patience", {"agree": agree}, np.nan, active)
        rows.append({"setting": float(agree), **row})
    return rows
