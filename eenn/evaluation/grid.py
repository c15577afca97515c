"""The points of a grid of settings, from records alone, and the samples that stop at each exit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from eenn.errors import EennError, require_numbers
from eenn.evaluation.rows import ExitTaken, Network, Point
from eenn.exits.decide import Decisions, decide, last_exit, on_device, oracle
from eenn.exits.policies.base import Bools, ExitProbs, Ints, KnobValue, Outputs, Policy, Validation
from eenn.exits.policies.registry import POLICIES
from eenn.exits.policies.threshold import CURVE, baseline_rule
from eenn.exits.rests import CLOUD, DEVICE, NOBODY
from eenn.exits.settings import Baseline, Setting, Swept
from eenn.planning.costs import CostModel
from eenn.records.records import ExitRecords
from eenn.statistics.calibration import probabilities
from eenn.statistics.intervals import (
    UNKNOWN,
    Estimate,
    means,
    resamples,
    share,
    share_of_batches,
)
from eenn.statistics.metrics import BatchShare, missed_deadline, outage

BATCHES = 1000  # drawn for an outage or a missed deadline


@dataclass(frozen=True)
class Service:
    """The user's demands on answers, for inference outage and missed deadlines.

    Args:
        deadline_ms: limit of the mean latency of a batch.
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
    """One network on the images of one split or folder at one level, and the costs of its answers.

    Args:
        outputs: every exit's calibrated probabilities, in order.
        labels: int (samples,), or None where they are not known.
        rest: the place that answers images that no active branch accepts, as of `Deployment`.
    """

    network: Network
    level: float
    outputs: Sequence[ExitProbs]
    labels: Ints | None
    costs: CostModel
    service: Service
    rest: str = CLOUD

    def decide(self, policy: Policy, active: tuple[int, ...]) -> Decisions:
        """Decide by one policy over one set of active branches."""
        decisions = decide(policy, self.outputs, active, cloud=self.rest != NOBODY)
        return on_device(decisions) if self.rest == DEVICE else decisions

    def correct(self, decisions: Decisions) -> Bools | None:
        """Compare answers with labels: bool (samples,), or None without labels."""
        return None if self.labels is None else decisions.label == self.labels

    def against_last_exit(self) -> "Case":
        """Give the same case with the last exit's answers as labels."""
        return replace(self, labels=self.outputs[-1].prediction)


class Decided(NamedTuple):
    """A way to answer, and its decisions for all samples.

    Args:
        promised: the accuracy that the edge's is compared with for the inference outage; NaN where
            nothing is promised.
    """

    setting: Setting
    decisions: Decisions
    promised: float = np.nan


def exit_outputs(records: ExitRecords, temperatures: Sequence[float]) -> Outputs:
    """Calibrate the probabilities of every exit, of images with labels."""
    return Outputs(exit_probs(records, temperatures), records.truth)


def exit_probs(records: ExitRecords, temperatures: Sequence[float]) -> list[ExitProbs]:
    """Calibrate the probabilities of every exit."""
    return [
        ExitProbs(exit, probabilities(logits, t))
        for exit, (logits, t) in enumerate(zip(records.logits, temperatures, strict=True))
    ]


def by_policies(
    case: Case,
    policies: Sequence[Swept],
    actives: Sequence[tuple[int, ...]],
    validation: Validation,
) -> list[Decided]:
    """Decide by every policy at every value of its knob, over every set of active branches.

    Args:
        actives: sets of active branches, counted from 0; empty ones are left out.
        validation: the results that policies are fitted to.

    Raises:
        EennError: a setting that a policy does not allow, or that does not fit the network.
    """
    return [
        by_policy(case, policy, active)
        for swept in policies
        for policy in swept.policies(validation)
        for active in actives
        if active
    ]


def by_policy(case: Case, policy: Policy, active: tuple[int, ...]) -> Decided:
    """Decide by one policy over one set of active branches."""
    decisions = case.decide(policy, active)
    return Decided(Setting(policy, active), decisions, policy.promised_accuracy)


def by_baselines(case: Case, p_tars: Sequence[KnobValue], active: tuple[int, ...]) -> list[Decided]:
    """Decide by the baselines of a grid: the last exit alone, the edge alone, and the oracle.

    The oracle needs labels. On the edge alone the last active branch answers images that the others
    leave.

    Args:
        p_tars: thresholds of the edge alone.
        active: the largest set of active branches; without any there is the last exit only.
    """
    alone = last_exit(case.outputs)
    found = [Decided(Setting(None, (), Baseline.LAST_EXIT_ONLY), alone)]
    if active:
        for p_tar in p_tars:
            rule = baseline_rule(p_tar)
            decisions = decide(rule, case.outputs, active, cloud=False)
            found.append(Decided(Setting(rule, active, Baseline.EDGE_ONLY), decisions))
        if case.labels is not None:
            best = oracle(case.outputs, case.labels, active)
            found.append(Decided(Setting(None, active, Baseline.ORACLE), best))
    return found


def point(case: Case, decided: Decided, most_active: bool = True) -> Point:
    """Measure one way to answer: accuracy, edge probability, confidence, MACs, latency, bytes."""
    decisions, service = decided.decisions, case.service
    correct, on_edge = case.correct(decisions), decisions.on_edge
    n = len(on_edge)
    same = decisions.label == case.outputs[-1].prediction
    edge_n = int(on_edge.sum())
    latency_ms = case.costs.latency_ms(decisions)
    failed = BatchShare(np.nan, 0)
    if correct is not None and np.isfinite(decided.promised):
        failed = outage(correct, on_edge, decided.promised, service.batch_size, BATCHES)
    missed = missed_deadline(latency_ms, service.deadline_ms, service.batch_size, BATCHES)
    return Point(
        network=case.network,
        level=case.level,
        setting=decided.setting,
        most_active=most_active,
        n=n,
        accuracy=_share_right(correct),
        same_as_last=share(int(same.sum()), n),
        edge_probability=share(edge_n, n),
        edge_n=edge_n,
        edge_weight_bytes=_kept(case, decided.setting),
        edge_accuracy=_share_right(correct, on_edge),
        **means(
            {
                "confidence": decisions.confidence,
                "macs": case.costs.answer_macs(decisions),
                "edge_macs": case.costs.macs.edge(decisions),
                "latency_ms": latency_ms,
                "sent_bytes": case.costs.sent_bytes(decisions),
            }
        ),
        outage=share_of_batches(failed),
        missed_deadline=share_of_batches(missed),
    )


def _kept(case: Case, setting: Setting) -> float:
    """Sum up the weights that the edge keeps for a way to answer; NaN if they are not known."""
    if case.costs.weight_bytes is None:
        return np.nan
    has_rest = case.rest == DEVICE and setting.baseline is not Baseline.EDGE_ONLY
    return case.costs.weight_bytes.held(setting.active, has_rest)


def exits_taken(case: Case, decided: Decided, most_active: bool = True) -> list[ExitTaken]:
    """Measure the samples that stopped at each exit: their share, confidence and accuracy."""
    decisions = decided.decisions
    correct, confidence = case.correct(decisions), decisions.confidence
    here = decisions.taken == np.arange(len(case.outputs))[:, None]
    rows, n = [], len(confidence)
    lows, highs = resamples(n).mean_interval(confidence, here)
    for exit, (taken, low, high) in enumerate(zip(here, lows, highs, strict=True), 1):
        count = int(taken.sum())
        mean = float(confidence[taken].mean()) if count else np.nan
        rows.append(
            ExitTaken(
                network=case.network,
                level=case.level,
                setting=decided.setting,
                most_active=most_active,
                exit=exit,
                n=n,
                exit_n=count,
                exit_share=share(count, n),
                left_by_here=float(here[:exit].sum() / n),
                confidence=Estimate(mean, float(low), float(high)),
                accuracy=_share_right(correct, taken),
            )
        )
    return rows


def _share_right(correct: Bools | None, where: Bools | None = None) -> Estimate:
    """Estimate the share of right answers among some samples; unknown without labels."""
    if correct is None:
        return UNKNOWN
    some = correct if where is None else correct[where]
    return share(int(some.sum()), len(some))


def tradeoff(case: Case, active: tuple[int, ...], validation: Validation) -> list[Point]:
    """Measure every policy over the values of its knob, with default values of its other settings.

    Bounds and baselines are measured with them.
    """
    policies = [
        Swept(name, settings, policy.knob.curve(len(active)) if policy.knob else ())
        for name, policy in POLICIES.items()
        for settings in policy.drawn
    ]
    decided = by_policies(case, policies, [active], validation)
    decided += by_baselines(case, CURVE, active)
    return [point(case, each) for each in decided]
