"""Streams of recorded images through the guard, as an edge would meet them, without a network."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from eenn.exits.decide import decide
from eenn.exits.policies.base import Bools, ExitProbs, Ints
from eenn.offload.adaptation.guard import Guard
from eenn.offload.adaptation.refit import Candidates, Evidence
from eenn.offload.adaptation.state import OFFLOAD_ALL


@dataclass(frozen=True)
class RecordedImages:
    """The fate that every candidate gives every image, as of `Evidence`: (images, candidates)."""

    leaves: Bools
    differs: Bools

    @classmethod
    def of(
        cls, exits: Sequence[ExitProbs], active: Sequence[int], candidates: Candidates
    ) -> "RecordedImages":
        """Decide for recorded images by every candidate.

        Args:
            exits: probabilities of every exit; the last is that of the cloud.
        """
        decided = [decide(policy, exits, active) for policy in candidates.policies]
        leaves = np.stack([own.on_edge for own in decided], axis=1)
        labels = np.stack([own.label for own in decided], axis=1)
        return cls(leaves, leaves & (labels != exits[-1].prediction[:, None]))

    def clairvoyant(self, risk: float) -> int | None:
        """Find the candidate that keeps most of these images at a risk of at most `risk`."""
        safe = np.flatnonzero(self.differs.mean(0) <= risk)
        if not len(safe):
            return None
        return int(safe[self.leaves.mean(0)[safe].argmax()])


@dataclass(frozen=True)
class Streamed:
    """The course of a stream.

    Args:
        kept: images that left on the edge, bool (images,).
        differs: those of them whose answer was not the cloud's.
        audited: those of them that were audited.
        alarms: number of the image at which each alarm came, counted from 0, and its kind: risk or
            share.
        positions: of the candidate in force for each image, int (images,), OFFLOAD_ALL where no
            image may leave; None where another rule than the guard decides.
    """

    kept: Bools
    differs: Bools
    audited: Bools
    alarms: tuple[tuple[int, str], ...]
    positions: Ints | None = None


def simulate(guard: Guard, segments: Sequence[tuple[RecordedImages, Ints]]) -> Streamed:
    """Let a guard meet a stream whose every audit and offload is answered at once.

    Args:
        segments: images, and the numbers of those that come, in order.
    """
    total = sum(len(order) for _, order in segments)
    kept, differs, audited = (np.zeros(total, bool) for _ in range(3))
    positions = np.full(total, OFFLOAD_ALL)
    alarms: list[tuple[int, str]] = []
    for at, (images, image) in enumerate(_in_order(segments)):
        before = dict(guard.state.totals)
        turn, position = guard.begin(), guard.state.at
        if not turn.offload_all:
            positions[at] = position
        if not turn.offload_all and images.leaves[image, position]:
            kept[at], differs[at] = True, images.differs[image, position]
            audited[at] = turn.audit
            guard.kept(turn)
            if turn.audit:
                guard.audited(turn, bool(differs[at]))
        else:
            guard.sent(turn, Evidence(images.leaves[image], images.differs[image]))
        for kind in ("risk", "share"):
            if guard.state.totals[f"{kind}_alarms"] > before[f"{kind}_alarms"]:
                alarms.append((at, kind))
    return Streamed(kept, differs, audited, tuple(alarms), positions)


def _in_order(
    segments: Sequence[tuple[RecordedImages, Ints]],
) -> Iterator[tuple[RecordedImages, int]]:
    for images, order in segments:
        for image in order.tolist():
            yield images, image
