"""Head sets: the plain heads and those trained for a distortion, and the choice between them.

NumPy only, so that the edge can share it. Head sets are counted from 0, the plain ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from eenn.errors import EennError
from eenn.statistics.calibration import Temperatures

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Names in files: of the heads without a distortion, of the distortion classifier, and of networks
# that were fine-tuned for a distortion.
PLAIN, CLASSIFIER, FINE_TUNED = "plain", "classifier", "fine_tuned"


class HeadMode(Enum):
    """A way to find the heads that answer an image; the value is how users write it."""

    PLAIN = PLAIN
    ONE_KIND = "kind"  # users write the kind itself
    CHOSEN = "auto"
    MIXTURE = "soft"
    MATCHING = "matching"
    FINE_TUNED = FINE_TUNED


@dataclass(frozen=True)
class HeadChoice:
    """The heads that answer an image.

    Args:
        mode: always the plain heads or those of one kind; those of the kind that the distortion
            classifier is sure of; all, weighted by its probabilities; those of the kind at hand, or
            the network fine-tuned for it, which both only an evaluation knows.
        kind: of distortion, of `ONE_KIND` alone.
    """

    mode: HeadMode
    kind: str = ""

    @classmethod
    def named(cls, text: str) -> "HeadChoice":
        """Read what users write: a value of `HeadMode`, or a kind of distortion."""
        named = {mode.value: mode for mode in HeadMode if mode is not HeadMode.ONE_KIND}
        return cls(named[text]) if text in named else cls(HeadMode.ONE_KIND, text)

    def __str__(self) -> str:
        return self.kind if self.mode is HeadMode.ONE_KIND else str(self.mode.value)

    @property
    def asks_classifier(self) -> bool:
        """Tell if the distortion classifier is asked about every image."""
        return self.mode in (HeadMode.CHOSEN, HeadMode.MIXTURE)


PLAIN_HEADS = HeadChoice(HeadMode.PLAIN)
# The choices that a device can make; others need the kind of distortion, or run all heads.
DEPLOYED = (HeadMode.PLAIN, HeadMode.ONE_KIND, HeadMode.CHOSEN)


@dataclass(frozen=True)
class Expert:
    """One set of heads, as the manifest describes it.

    Args:
        mildest, strongest: ends of the levels that the heads were trained with.
        validation_accuracy: of every exit, on validation images distorted at such levels.
        plain_accuracy: of the plain heads on the same images.
        bytes: size of the heads' weights.
        fitted: how the temperatures were fitted; empty in artifacts that do not say.
    """

    kind: str
    mildest: float
    strongest: float
    temperatures: Temperatures
    validation_accuracy: tuple[float, ...]
    plain_accuracy: tuple[float, ...]
    bytes: int
    fitted: str = ""


@dataclass(frozen=True)
class Classifier:
    """The distortion classifier, as the manifest describes it.

    Args:
        temperature: of the classifier's logits.
        sure: the least probability with which a distortion is believed.
        validation_accuracy: on untouched images and on those of every kind, at levels as trained.
        macs: multiply-accumulate operations for one image.
        bytes: size of the weights.
        fitted: how the temperature was fitted; empty in artifacts that do not say.
    """

    temperature: float
    sure: float
    validation_accuracy: tuple[float, ...]
    macs: int
    bytes: int
    fitted: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.sure <= 1:
            raise EennError(f"sure={self.sure}: allowed is a probability, 0 to 1")


def choose_head_sets(kind_probs: Floats, sure: float) -> Ints:
    """Select the head set of every image: the most probable kind's, or the plain ones where unsure.

    Args:
        kind_probs: the distortion classifier's probabilities, (samples, 1 + kinds).
        sure: the least probability with which a distortion is believed.

    Returns:
        Numbers of head sets, int (samples,); 0 are the plain heads.
    """
    best = kind_probs.argmax(-1)
    return np.where(kind_probs.max(-1) >= sure, best, 0)


def pick_heads(log_probs: Sequence[Floats], chosen: Ints) -> Floats:
    """Pick the log-probabilities of every image's own head set.

    Args:
        log_probs: calibrated, (exits, samples, classes), of every head set.
        chosen: the head set of every image, as of `choose_head_sets`.

    Returns:
        Log-probabilities, (exits, samples, classes).
    """
    every_sample = np.arange(len(chosen))
    return np.moveaxis(np.stack(log_probs)[chosen, :, every_sample], 0, 1)


def mix_heads(log_probs: Sequence[Floats], kind_probs: Floats) -> Floats:
    """Mix the head sets: the log of their probabilities' mean, weighted by those of the kinds.

    Args:
        log_probs: as in `pick_heads`.
        kind_probs: as in `choose_head_sets`; the probability of an undistorted image weighs the
            plain heads.

    Returns:
        Log-probabilities, (exits, samples, classes).
    """
    # A probability of 0 would have an infinite logarithm.
    weights = np.log(np.maximum(kind_probs, np.finfo(np.float64).tiny)).T[:, None, :, None]
    total: Floats = np.logaddexp.reduce(np.stack(log_probs) + weights, axis=0)
    return total
