"""Rules that the guard is compared with: alarms without a refit, online gradients, bandits.

The bandits are in the spirit of SplitEE and I-SplitEE (Bajpai et al., 2023 and 2024). They play
UCB1 (Auer et al., 2002) among thresholds, with the smaller bonus of SplitEE. The reward is the
agreement with the cloud's answer, or the confidence as a proxy, less a cost of offloading, on which
their figures depend.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.guard.recorded import SETTINGS, Field, Part
from benchmarks.guard.runs import Rule, static
from eenn.exits.policies.base import Bools, Floats
from eenn.offload.adaptation.detectors import ALARM, RiskDetector, ShareDetector
from eenn.offload.adaptation.guard import Guard
from eenn.offload.bench.stream import RecordedImages, Streamed, simulate

AUDIT = 0.05
STEP = 0.005  # of the online gradient
ARMS = 12
OFFLOADING = 0.1  # cost of an offload, in units of an answer that differs from the cloud's
WINDOW = 500


class AuditsOnly(Guard):
    """A guard that does not watch the share of images that leave."""

    def _watch(self, risk_values: Sequence[float] = (), share_values: Sequence[float] = ()) -> None:
        super()._watch(risk_values, share_values)
        # With such a tolerance no share is another one.
        self._share = ShareDetector(0.5, 1.0)


def alarm_only(field_: Field, parts: Sequence[Part], seed: int) -> Streamed:
    """Keep the fitted threshold, and only tell when audits disagree too often."""
    course = static(field_, parts, seed)
    audited = course.kept & (np.random.default_rng(seed).random(len(course.kept)) < AUDIT)
    detector, alarms = RiskDetector(SETTINGS.risk), list[tuple[int, str]]()
    for at, event in enumerate((audited & course.differs).tolist()):
        detector.count_audit(event, AUDIT)
        if detector.mean >= ALARM:
            detector = RiskDetector(SETTINGS.risk)
            alarms.append((at, "risk"))
    return replace(course, audited=audited, alarms=tuple(alarms))


def bursts_by_audits(field_: Field, parts: Sequence[Part], seed: int) -> Streamed:
    """Let a guard with audits alone meet the stream."""
    guard = field_.guard(seed, AUDIT, AuditsOnly)
    return simulate(guard, [(part.images, part.order) for part in parts])


def online_gradient(field_: Field, parts: Sequence[Part], seed: int) -> Streamed:
    """Move the share that is offloaded after every audit (Gibbs and Candes, 2021).

    u grows by STEP (event / rate of audits - risk), and the threshold is that which offloads a
    share u of the validation images.
    """
    shares, offloaded = field_.shares, 1 - float(field_.shares[field_.start])
    course = _Course(parts, seed)
    for images, image in course:
        at = int(np.searchsorted(shares, 1 - offloaded, side="right")) - 1
        event = course.play(images.leaves[image], images.differs[image], at)
        offloaded += STEP * ((event or False) / AUDIT - SETTINGS.risk)
        offloaded = min(max(offloaded, 0.0), 1.0)
    return course.streamed


@dataclass
class Sums:
    """Sums of rewards and weights of every arm, over all images or the newest WINDOW of them."""

    newest: int | None = None
    rewards: Floats = field(default_factory=lambda: np.zeros(ARMS))
    weights: Floats = field(default_factory=lambda: np.zeros(ARMS))
    kept: deque[tuple[Floats, Floats]] = field(default_factory=deque)

    def note(self, rewards: Floats, weights: Floats) -> None:
        """Add the rewards of an image, (arms,), each with its weight, 0 where it is not known."""
        self.rewards += rewards * weights
        self.weights += weights
        if self.newest is not None:
            self.kept.append((rewards * weights, weights))
            if len(self.kept) > self.newest:
                oldest = self.kept.popleft()
                self.rewards -= oldest[0]
                self.weights -= oldest[1]

    def best(self, images: int) -> int:
        """Choose the arm for the next image, after so many."""
        unknown = np.flatnonzero(self.weights < 1e-9)
        if len(unknown):
            return int(unknown[0])
        seen = images if self.newest is None else min(images, self.newest)
        bonus = np.sqrt(math.log(seen + 1) / self.weights)
        return int((self.rewards / self.weights + bonus).argmax())


def by_confidence(field_: Field, parts: Sequence[Part], seed: int) -> Streamed:
    """Run UCB1 whose reward is the confidence of the answer, which needs no audits."""
    arms, memory, course = _arms(field_), Sums(), _Course(parts, seed, rate=0.0)
    confidences = [field_.confidence_of(part.images) for part in parts]
    for images, image in course:
        arm = memory.best(course.at)
        at = int(arms[arm])
        course.play(images.leaves[image], images.differs[image], at)
        reward = confidences[course.part][image, at] - OFFLOADING * (not images.leaves[image, at])
        memory.note(_only(arm, reward), _only(arm, 1.0))
    return course.streamed


def by_agreement(field_: Field, parts: Sequence[Part], seed: int) -> Streamed:
    """Run UCB1 whose reward is the agreement with the cloud, known of audits and offloads."""
    arms, memory, course = _arms(field_), Sums(), _Course(parts, seed)
    for images, image in course:
        arm = memory.best(course.at)
        leaves, differs = images.leaves[image], images.differs[image]
        event = course.play(leaves, differs, int(arms[arm]))
        if event is not None:
            weight = 1 / AUDIT if leaves[arms[arm]] else 1.0
            memory.note(_only(arm, _reward(leaves, differs)[arms[arm]]), _only(arm, weight))
    return course.streamed


def by_side_observations(newest: int | None) -> Rule:
    """Make the rule of UCB1 that learns about every arm from an audit or an offload."""

    def rule(field_: Field, parts: Sequence[Part], seed: int) -> Streamed:
        arms, memory, course = _arms(field_), Sums(newest), _Course(parts, seed)
        for images, image in course:
            at = int(arms[memory.best(course.at)])
            leaves, differs = images.leaves[image], images.differs[image]
            if course.play(leaves, differs, at) is not None:
                weight = 1 / AUDIT if leaves[at] else 1.0
                memory.note(_reward(leaves, differs)[arms], np.full(ARMS, weight))
        return course.streamed

    return rule


class _Course:
    """A stream as a rule plays it, image by image.

    Args:
        rate: probability with which an image that leaves is audited.
    """

    def __init__(self, parts: Sequence[Part], seed: int, rate: float = AUDIT) -> None:
        self._parts = parts
        total = sum(len(part.order) for part in parts)
        self._coins = np.random.default_rng(seed).random(total) < rate
        self.at, self.part = -1, 0
        kept, differs, audited = (np.zeros(total, bool) for _ in range(3))
        self.streamed = Streamed(kept, differs, audited, ())

    def __iter__(self) -> Iterator[tuple[RecordedImages, int]]:
        for number, part in enumerate(self._parts):
            self.part = number
            for image in part.order.tolist():
                self.at += 1
                yield part.images, image

    def play(self, leaves: Bools, differs: Bools, at: int) -> bool | None:
        """Decide about the image by the threshold at a position.

        Returns:
            Whether the answer differs from the cloud's, where that is known: of an offloaded image
            it does not; None for an image that left and was not audited.
        """
        if at < 0 or not leaves[at]:
            return False
        self.streamed.kept[self.at] = True
        self.streamed.differs[self.at] = differs[at]
        self.streamed.audited[self.at] = self._coins[self.at]
        return bool(differs[at]) if self._coins[self.at] else None


def _arms(field_: Field) -> np.ndarray:
    """List the positions of the arms, evenly over the shares of validation images that leave."""
    wanted = np.linspace(field_.shares.min(), field_.shares.max(), ARMS)
    return np.searchsorted(field_.shares, wanted)


def _reward(leaves: Bools, differs: Bools) -> Floats:
    """Compute the reward of every threshold."""
    return 1.0 - differs - OFFLOADING * ~leaves


def _only(arm: int, value: float) -> Floats:
    values = np.zeros(ARMS)
    values[arm] = value
    return values


BASELINES: dict[str, Rule] = {
    "alarm only, 5 % audits": alarm_only,
    "online gradient, 5 % audits": online_gradient,
    "bursts by audits and suspicion, 5 %": bursts_by_audits,
    "UCB1, confidence": by_confidence,
    "UCB1, agreement, 5 % audits": by_agreement,
    "side observations, 5 % audits": by_side_observations(None),
    f"side observations, newest {WINDOW} known": by_side_observations(WINDOW),
}
