"""Recorded images of a network, decided at every threshold; streams and guards over them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np

from eenn.artifact.guard_settings import GuardSettings
from eenn.errors import EennError
from eenn.evaluation.grid import exit_probs
from eenn.exits.decide import decide
from eenn.exits.policies.base import ExitProbs, Floats, Ints
from eenn.exits.policies.threshold import Confidence
from eenn.offload.adaptation.guard import Guard
from eenn.offload.adaptation.refit import Candidates
from eenn.offload.bench.stream import RecordedImages
from eenn.records.evaluated_artifact import EvaluatedArtifact
from eenn.statistics.risk_control import controlled

SETTINGS = GuardSettings()
BOTH = ("val", "test")


class Place(NamedTuple):
    """A kind of distortion and its level."""

    kind: str = "none"
    level: float = 0.0


PLACES = CLEAN, BLUR, NOISE = (
    Place(),
    Place("gaussian_blur", 2.0),
    Place("gaussian_noise", 20.0),
)


class Part(NamedTuple):
    """Images of one kind, of which a part of a stream is drawn, and the numbers that come."""

    name: str
    images: RecordedImages
    order: Ints


class Field:
    """The images of a network at one setting of its policy, and the threshold fitted to them.

    The images are those of validation and test together; the threshold is fitted to the clean
    validation images alone.

    Args:
        active: the active branches, counted from 0.
        strict: of the policy `confidence`.

    Raises:
        EennError: no threshold keeps the promise on the validation images.
    """

    def __init__(self, artifact: EvaluatedArtifact, active: Sequence[int], strict: float) -> None:
        self._artifact, self._active = artifact, active
        self.strict, self.risk = strict, SETTINGS.risk
        self.candidates = Candidates(Confidence(p_tar=1.0, strict=strict), active)
        self.validation = RecordedImages.of(self._exits(["val"], CLEAN), active, self.candidates)
        losses = self.validation.differs.T
        start = controlled(losses, SETTINGS.risk, SETTINGS.delta, "clopper_pearson")
        if start is None:
            raise EennError(f"no threshold keeps a risk of {SETTINGS.risk:g} on validation images")
        self.start = start
        self.shares = self.validation.leaves.mean(0)
        self.images = cache(self._images)

    def _images(self, place: Place) -> RecordedImages:
        return RecordedImages.of(self._exits(BOTH, place), self._active, self.candidates)

    def confidence_of(self, images: RecordedImages) -> Floats:
        """Compute the confidence of the answer by every candidate, (images, candidates).

        Args:
            images: what `images` gave for one place.
        """
        (place,) = (own for own in PLACES if self.images(own) is images)
        exits = self._exits(BOTH, place)
        decided = [decide(policy, exits, self._active) for policy in self.candidates.policies]
        return np.stack([own.confidence for own in decided], axis=1)

    def first_seen(self) -> list[ExitProbs]:
        """Give the probabilities of every active branch for the first clean image."""
        exits = self._exits(BOTH, CLEAN)
        return [ExitProbs(exit, exits[exit].probs[:1]) for exit in self._active]

    def labels(self) -> Ints:
        """Read the true classes of the images, in the order of `images`."""
        own = [self._artifact.records(split, *CLEAN).truth for split in BOTH]
        return np.concatenate(own)

    def guard(
        self,
        seed: int,
        audit: float = SETTINGS.audit,
        kind: type[Guard] = Guard,
        start: int | None = None,
    ) -> Guard:
        """Make a guard that knows the validation images.

        Args:
            start: the position of its threshold; None for the fitted one.
        """
        at = self.start if start is None else start
        settings = replace(SETTINGS, audit=audit)
        return kind(settings, self.candidates.values, at, float(self.shares[at]), seed=seed)

    def _exits(self, splits: Sequence[str], place: Place) -> list[ExitProbs]:
        records = [self._artifact.records(split, *place) for split in splits]
        logits = np.concatenate([own.logits for own in records], axis=1)
        ids = tuple(name for own in records for name in own.sample_ids)
        joined = replace(records[0], logits=logits, labels=None, sample_ids=ids)
        return exit_probs(joined, self._artifact.manifest.temperatures.per_exit)


Stream = Callable[[Field, np.random.Generator], list[Part]]


def drawn(name: str, place: Place, count: int) -> Stream:
    """Make a stream of one part: `count` images of a place, each as likely."""

    def stream(field: Field, generator: np.random.Generator) -> list[Part]:
        images = field.images(place)
        return [Part(name, images, generator.integers(len(images.leaves), size=count))]

    return stream


def joined(*streams: Stream) -> Stream:
    """Make a stream of the parts of several, one after the other."""
    return lambda field, generator: [part for own in streams for part in own(field, generator)]
