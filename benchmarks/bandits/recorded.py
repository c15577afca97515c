"""Recorded images of a network, the times of its arms, and the answers that each arm would give.

An arm is the last active branch, which is the only one that lets images leave; the last arm runs
the whole network on the device. What a branch does not accept goes on in the cloud.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benchmarks.bandits.arms import accepted, rewards_of
from benchmarks.guard.recorded import Place
from eenn.evaluation.grid import exit_probs
from eenn.exits.policies.base import Bools, Floats
from eenn.planning.costs import Costs
from eenn.planning.engine import Conditions
from eenn.records.evaluated_artifact import EvaluatedArtifact

FEATURE_BYTES = 4  # of a value in fp32, which is sent in one byte


class Images(NamedTuple):
    """Confidence and correctness of every exit for every image, (images, exits)."""

    confidence: Floats
    correct: Bools


def images_of(artifact: EvaluatedArtifact, split: str, place: Place) -> Images:
    """Read the recorded images of a split."""
    records = artifact.records(split, *place)
    exits = exit_probs(records, artifact.manifest.temperatures.per_exit)
    return Images(
        np.stack([own.confidence for own in exits], axis=1),
        np.stack([own.prediction == records.truth for own in exits], axis=1),
    )


@dataclass(frozen=True)
class Parts:
    """The measured parts of a network.

    Args:
        costs: milliseconds of segments and heads on the device.
        feature_bytes: sent behind every branch.
        photograph_bytes: mean size of a photograph's file.
    """

    costs: Costs
    feature_bytes: tuple[float, ...]
    photograph_bytes: float

    @classmethod
    def of(cls, artifact: EvaluatedArtifact) -> "Parts":
        """Read the parts from an artifact's profile; features are sent with 8 bits."""
        branches = artifact.manifest.exits[:-1]
        sizes = tuple(row.payload_bytes / FEATURE_BYTES for row in branches)
        return cls(artifact.profile.median, sizes, artifact.photograph_bytes)

    def device_ms(self, looks_back: bool) -> Floats:
        """Compute the milliseconds until every arm's decision, without or with earlier heads."""
        segments, heads = np.array(self.costs.segments), np.array(self.costs.heads)
        return np.asarray(segments.cumsum() + (heads.cumsum() if looks_back else heads))


@dataclass(frozen=True)
class Answers:
    """The answers of every arm, and in the last column of the cloud alone, (images, arms + 1)."""

    reward: Floats
    correct: Bools
    latency_ms: Floats
    sent: Bools


@dataclass(frozen=True)
class Ways:
    """The times of all ways to answer under some conditions; the cloud computes in no time.

    Args:
        mu: the confidence that is worth the slowest way.
    """

    parts: Parts
    at: Conditions
    mu: float

    def answers(self, images: Images, alpha: float, looks_back: bool = False) -> Answers:
        """Compute what every way would answer.

        Args:
            alpha: the confidence that a branch accepts.
            looks_back: whether the heads of earlier branches run as well.
        """
        device_ms = self.at.slowdown * self.parts.device_ms(looks_back)
        worth = self.mu / self._slowest_ms
        rewards = rewards_of(images.confidence, alpha, worth * device_ms, worth * self._sending_ms)
        last = images.confidence[:, -1:] - worth * self._photograph_ms
        here = accepted(images.confidence, alpha)
        away_ms = np.where(here, 0.0, self._sending_ms)
        uploaded = np.full((len(here), 1), self._photograph_ms)
        deepest = images.correct[:, -1:]
        return Answers(
            np.hstack([rewards, last]),
            np.hstack([np.where(here, images.correct, deepest), deepest]),
            np.hstack([device_ms + away_ms, uploaded]),
            np.hstack([~here, np.ones_like(deepest)]),
        )

    @property
    def _sending_ms(self) -> Floats:
        """Compute the milliseconds of a request behind every arm; the last arm sends none."""
        sizes = self.parts.feature_bytes
        return np.array([*(self.at.link.latency_ms(size) for size in sizes), 0.0])

    @property
    def _photograph_ms(self) -> float:
        return self.at.link.latency_ms(self.parts.photograph_bytes)

    @property
    def _slowest_ms(self) -> float:
        computing_ms = self.at.slowdown * self.parts.device_ms(looks_back=True)
        return max(float((computing_ms + self._sending_ms).max()), self._photograph_ms)
