"""Which heads answer an image: the plain ones, or those of the distortion it was found to have.

NumPy only, so that the edge can share it. Head sets are counted from 0, the plain ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eenn.errors import EennError
from eenn.statistics.calibration import Temperatures

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Whose heads answer: always the plain ones, those of the kind that the classifier is sure of, or
# all, weighted by its probabilities. Or the name of a kind.
PLAIN, AUTO, SOFT = "plain", "auto", "soft"
# Those of the kind at hand, which only an evaluation knows; and the network fine-tuned for it.
MATCHING, FINE_TUNED = "matching", "fine_tuned"
# Who names the kind.
CLASSIFIER = "classifier"


@dataclass(frozen=True)
class Expert:
    """What the manifest says of one set of heads.

    Args:
        mildest, strongest: ends of the levels that it was trained with.
        validation_accuracy: of every exit, on validation images distorted at such levels.
        plain_accuracy: of the plain heads on the same images.
        bytes: of its weights.
    """

    kind: str
    mildest: float
    strongest: float
    temperatures: Temperatures
    validation_accuracy: tuple[float, ...]
    plain_accuracy: tuple[float, ...]
    bytes: int

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Expert":
        """The expert that `dataclasses.asdict` described."""
        fitted = fields["temperatures"]
        lists = {name: tuple(fields[name]) for name in ("validation_accuracy", "plain_accuracy")}
        temperatures = Temperatures(tuple(fitted["per_exit"]), fitted["shared"])
        return cls(**{**fields, **lists, "temperatures": temperatures})


@dataclass(frozen=True)
class Classifier:
    """What the manifest says of the distortion classifier.

    Args:
        temperature: of its logits.
        sure: the least probability with which a distortion is believed.
        validation_accuracy: on untouched images and on those of every kind, at levels as trained.
        macs: for an image.
        bytes: of its weights.
    """

    temperature: float
    sure: float
    validation_accuracy: tuple[float, ...]
    macs: int
    bytes: int

    def __post_init__(self) -> None:
        if not 0 <= self.sure <= 1:
            raise EennError(f"sure={self.sure}: allowed is a probability, 0 to 1")


def choose(kind_probs: Floats, sure: float) -> Ints:
    """The head set of every image, int (samples,): the most probable kind's, or 0 where unsure.

    Args:
        kind_probs: the distortion classifier's probabilities, (samples, 1 + kinds).
        sure: the least probability with which a distortion is believed.
    """
    best = kind_probs.argmax(-1)
    return np.where(kind_probs.max(-1) >= sure, best, 0)


def picked(log_probs: Sequence[Floats], chosen: Ints) -> Floats:
    """The log-probabilities of every image's own head set, (exits, samples, classes).

    Args:
        log_probs: calibrated, (exits, samples, classes), of every head set.
        chosen: see `choose`.
    """
    every_sample = np.arange(len(chosen))
    return np.moveaxis(np.stack(log_probs)[chosen, :, every_sample], 0, 1)


def mixed(log_probs: Sequence[Floats], kind_probs: Floats) -> Floats:
    """The log of the head sets' probabilities, weighted by those of the kinds.

    Args:
        log_probs: as in `picked`.
        kind_probs: as in `choose`; what is not believed to be distorted weighs the plain heads.
    """
    # A probability of 0 would have an infinite logarithm.
    weights = np.log(np.maximum(kind_probs, np.finfo(np.float64).tiny)).T[:, None, :, None]
    total: Floats = np.logaddexp.reduce(np.stack(log_probs) + weights, axis=0)
    return total
