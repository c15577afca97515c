"""A guard driven as an edge drives it, with several images and audits under way at once."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from eenn.offload.adaptation.guard import Guard
from eenn.offload.adaptation.refit import Evidence
from eenn.offload.adaptation.state import Turn

CANDIDATES = 5


@dataclass(frozen=True)
class Phase:
    """Images alike: the probabilities of what may happen to each of them.

    Args:
        leaves: of leaving by the boldest candidate; others let fewer leave.
        differs: of an answer other than the cloud's.
        fails: of an offload that the cloud does not answer.
        drops: of an audit without a result; half of them because the cloud does not answer.
        lingers: of another event before an image or an audit is done.
        busy: that no audit could be sent.
    """

    images: int
    leaves: float
    differs: float
    fails: float = 0.0
    drops: float = 0.0
    lingers: float = 0.0
    busy: float = 0.0


@dataclass
class Seen:
    """An image that began, and what happened to it.

    Args:
        online: whether the last that was heard of the cloud was an answer, when the image began.
        outcome: kept, sent or failed.
    """

    turn: Turn
    online: bool
    outcome: str
    evidence: Evidence
    differs: bool


@dataclass
class Driver:
    """Lets images through a guard one event at a time.

    Args:
        calls: number of calls of every method of the guard so far.
        disagreements: results of audits that disagree.
        online: whether the last that was heard of the cloud was an answer.
    """

    guard: Guard
    seed: int
    calls: Counter[str] = field(default_factory=Counter)
    disagreements: int = 0
    online: bool = True

    def run(self, *phases: Phase) -> Iterator[tuple[str, Seen]]:
        """Yield every event after it happened, by its name and its image."""
        random = np.random.default_rng(self.seed)
        images: list[Seen] = []
        audits: list[Seen] = []
        for phase in phases:
            for _ in range(phase.images):
                image = self._begin(phase, random)
                images.append(image)
                yield "begin", image
                while images and random.random() >= phase.lingers:
                    yield self._finish(images, audits, random)
                while audits and random.random() >= phase.lingers:
                    yield self._answer(audits, phase, random)
        while images:
            yield self._finish(images, audits, random)
        while audits:
            yield self._answer(audits, phases[-1], random)

    def _begin(self, phase: Phase, random: np.random.Generator) -> Seen:
        luck = random.random(5)
        turn = self.guard.begin(can_audit=bool(luck[0] >= phase.busy))
        levels = phase.leaves * (np.arange(CANDIDATES) + 1) / CANDIDATES
        leaves = luck[1] < levels
        wrong = bool(luck[2] < phase.differs)
        if not turn.offload_all and leaves[self.guard.state.at]:
            outcome = "kept"
        else:
            outcome = "failed" if luck[3] < phase.fails else "sent"
        self.calls["begin"] += 1
        return Seen(turn, self.online, outcome, Evidence(leaves, leaves & wrong), wrong)

    def _finish(
        self, images: list[Seen], audits: list[Seen], random: np.random.Generator
    ) -> tuple[str, Seen]:
        image = images.pop(int(random.integers(len(images))))
        self.calls[image.outcome] += 1
        if image.outcome == "kept":
            self.guard.kept(image.turn)
            if image.turn.audit:
                audits.append(image)
        elif image.outcome == "sent":
            self.guard.sent(image.turn, image.evidence)
            self.online = True
        else:
            self.guard.failed(image.turn)
            self.online = False
        return image.outcome, image

    def _answer(
        self, audits: list[Seen], phase: Phase, random: np.random.Generator
    ) -> tuple[str, Seen]:
        image = audits.pop(int(random.integers(len(audits))))
        if random.random() < phase.drops:
            offline = bool(random.random() < 0.5)
            self.guard.dropped(offline)
            self.online = self.online and not offline
            self.calls["dropped"] += 1
            return "dropped", image
        self.guard.audited(image.turn, image.differs)
        self.online = True
        self.disagreements += image.differs
        self.calls["audited"] += 1
        return "audited", image
