"""Decisions over recorded samples: the exit at which each sample leaves, and its answer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eenn.errors import EennError
from eenn.exits.policies.base import Answer, Bools, ExitProbs, Floats, Ints, Policy


@dataclass(frozen=True)
class Decisions:
    """The decisions for all samples of a set of records.

    Args:
        taken: the exit at which computing stopped, counted from 0, int (samples,).
        label: the answer, int (samples,).
        confidence: the probability that the answer was given, float (samples,).
        active: the branches that were evaluated on the edge, counted from 0.
        on_edge: samples that were answered without the cloud, bool (samples,).
    """

    taken: Ints
    label: Ints
    confidence: Floats
    active: tuple[int, ...]
    on_edge: Bools


def decide(
    policy: Policy, outputs: Sequence[ExitProbs], active: Sequence[int], cloud: bool = True
) -> Decisions:
    """Run the active branches, and the last exit for samples that none of these branches accepts.

    Args:
        outputs: every exit's probabilities, in order; the last is the backbone's own exit.
        active: the branches evaluated on the edge, counted from 0, ascending.
        cloud: whether a cloud can answer; without it the last active branch has to.

    Raises:
        EennError: `active` is not an ascending choice of the branches, or leaves nobody to answer;
            the policy does not fit the network.
    """
    branches = len(outputs) - 1
    active = check_active(active, branches)
    policy.check(branches)
    if not active and not cloud:
        raise EennError("no active branch and no cloud: nobody answers; activate a branch")
    order = (*active, branches) if cloud else active
    samples = len(outputs[0].probs)
    taken = np.full(samples, order[-1], np.int64)
    label = np.empty(samples, np.int64)
    confidence = np.empty(samples)
    undecided = np.ones(samples, bool)

    def settle(rows: Bools, answer: Answer) -> None:
        label[rows], confidence[rows] = answer.label[rows], answer.confidence[rows]

    seen: list[ExitProbs] = []
    for exit in order:
        seen.append(outputs[exit])
        last = exit in (*active[-1:], branches)
        leaving = undecided & policy.accept(seen, last)
        settle(leaving, policy.answer(seen))
        taken[leaving] = exit
        undecided &= ~leaving
    settle(undecided, policy.fallback(seen))
    return Decisions(taken, label, confidence, active, on_edge=taken < branches)


def on_device(decisions: Decisions) -> Decisions:
    """Give the same decisions with every answer given on the device, the last exit's included."""
    return replace(decisions, on_edge=np.ones(len(decisions.taken), bool))


def last_exit(outputs: Sequence[ExitProbs]) -> Decisions:
    """Let the last exit answer every sample, without any branch."""
    last = outputs[-1]
    samples = len(last.probs)
    return Decisions(
        np.full(samples, last.exit), last.prediction, last.confidence, (), np.zeros(samples, bool)
    )


def oracle(
    outputs: Sequence[ExitProbs], labels: NDArray[np.int64], active: Sequence[int]
) -> Decisions:
    """Choose the first exit that is right, else the last, by the labels: a bound, not a policy.

    No rule that answers with an exit's prediction is more accurate. A committee can be, where its
    mean is right and no exit is.
    """
    branches = len(outputs) - 1
    active = check_active(active, branches)
    order = [*active, branches]
    right = np.stack([outputs[exit].prediction == labels for exit in order])
    right[-1] = True
    first = right.argmax(0)
    predictions = np.stack([outputs[exit].prediction for exit in order])
    confidences = np.stack([outputs[exit].confidence for exit in order])
    pick = first[None]
    taken = np.asarray(order)[first]
    return Decisions(
        taken,
        np.take_along_axis(predictions, pick, 0)[0],
        np.take_along_axis(confidences, pick, 0)[0],
        active,
        taken < branches,
    )


def check_active(active: Sequence[int], branches: int) -> tuple[int, ...]:
    """Check a set of active branches, and return it as a tuple.

    Raises:
        EennError: it is not an ascending choice of the branches 0 to `branches` - 1.
    """
    chosen = tuple(active)
    if list(chosen) != sorted(set(chosen) & set(range(branches))):
        allowed = ", ".join(str(branch + 1) for branch in range(branches)) or "none"
        raise EennError(
            f"active branches {', '.join(str(branch + 1) for branch in chosen)}: allowed is an "
            f"ascending choice of {allowed}, each once"
        )
    return chosen
