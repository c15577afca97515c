"""Which heads answer an image: the plain ones, or those of the distortion it was found to have.

NumPy only, so that the edge can share it. Head sets are counted from 0, the plain ones.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eenn.calibration import Temperatures
from eenn.errors import EennError

Floats = NDArray[np.float64]


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


def choose(kind_probs: Floats, sure: float) -> NDArray[np.int64]:
    """The head set of every image, int (samples,): the most probable kind's, or 0 where unsure.

    Args:
        kind_probs: the distortion classifier's probabilities, (samples, 1 + kinds).
        sure: the least probability with which a distortion is believed.
    """
    best = kind_probs.argmax(-1)
    return np.where(kind_probs.max(-1) >= sure, best, 0)
