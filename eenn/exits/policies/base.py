"""The protocol of exit policies: probabilities of exits, answers, knobs and validation results.

A policy never sees a label when it decides. It is asked after every exit that was evaluated, and
sees the calibrated probabilities of all exits so far: of a whole split of records, or of one image
on the edge. NumPy only, so that the edge can share it.
"""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eenn.errors import EennError
from eenn.programs import EVALUATE

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# The value of a knob: one number, or one for every exit.
KnobValue = float | tuple[float, ...]

FALLBACKS = ("last_exit", "most_confident")


class ExitProbs:
    """Calibrated probabilities of one exit, and quantities derived from them on demand.

    Args:
        exit: number of the exit, counted from 0.
        probs: float (samples, classes).

    Raises:
        EennError: probabilities that are not finite numbers.
    """

    def __init__(self, exit: int, probs: ArrayLike) -> None:
        self.exit, self.probs = exit, np.asarray(probs, np.float64)
        if not np.isfinite(self.probs).all():
            raise EennError(
                f"exit {exit + 1}: logits or probabilities that are not finite numbers; check the "
                "network and its input"
            )

    @cached_property
    def prediction(self) -> Ints:
        """Compute the most probable class, int (samples,); the first of equally probable ones."""
        return np.asarray(self.probs.argmax(-1))

    @cached_property
    def confidence(self) -> Floats:
        """Compute the probability of the prediction, (samples,)."""
        return np.asarray(np.take_along_axis(self.probs, self.prediction[:, None], -1)[:, 0])

    @cached_property
    def certainty(self) -> Floats:
        """Compute 1 - H / ln(classes) for the entropy H, (samples,), in [0, 1].

        The certainty is 0 for uniform probabilities and 1 where one class has all. BranchyNet's
        threshold on the entropy is (1 - certainty) ln(classes) (Teerapittayanon et al., ICPR 2016).
        """
        classes = self.probs.shape[-1]
        if classes == 1:
            return np.ones(len(self.probs))
        logs = np.log(self.probs, out=np.zeros_like(self.probs), where=self.probs > 0)
        certainty = 1 + np.einsum("sc,sc->s", self.probs, logs) / math.log(classes)
        # Rounding makes the certainty of a uniform row slightly negative, below a threshold of 0.
        return np.asarray(np.maximum(certainty, 0))

    @cached_property
    def margin(self) -> Floats:
        """Compute the lead of the most probable class over the next, (samples,)."""
        if self.probs.shape[-1] == 1:
            return self.confidence
        second, first = np.partition(self.probs, -2, axis=-1)[:, -2:].T
        return np.asarray(first - second)


class Answer(NamedTuple):
    """Predicted class, int (samples,), and its probability, float (samples,).

    `exit` is the exit that answered, int (samples,), counted from 0; the last of several that
    answered together.
    """

    label: Ints
    confidence: Floats
    exit: Ints


class Outputs(NamedTuple):
    """Calibrated probabilities of every exit, in order, and the labels of the samples."""

    exits: Sequence[ExitProbs]
    labels: Ints


class Validation:
    """The validation results that a policy may be fitted to, read only where a policy asks.

    Args:
        accuracy: of every exit, in [0, 1]; None where not known.
        read: reads the outputs of the validation split; None where they are missing, as on a
            device.
    """

    def __init__(
        self,
        accuracy: Sequence[float] | None = None,
        read: Callable[[], Outputs] | None = None,
    ) -> None:
        self._accuracy, self._read = accuracy, read

    @property
    def accuracy(self) -> tuple[float, ...]:
        """Return the accuracy of every exit.

        Raises:
            EennError: the accuracies are not known.
        """
        if self._accuracy is None:
            raise EennError("the policy is fitted to the exits' accuracies; give an artifact's")
        return tuple(self._accuracy)

    @cached_property
    def outputs(self) -> Outputs:
        """Read the probabilities and labels of the validation split.

        Raises:
            EennError: validation records are not at hand.
        """
        if self._read is None:
            raise EennError(
                "the policy is fitted to validation records, which are not at hand; fit it with "
                f"`{EVALUATE.command}` and give what it wrote"
            )
        return self._read()


@dataclass(frozen=True)
class Knob:
    """The one setting of a policy that trades cost for accuracy.

    Args:
        name: of the policy's field that holds the value.
        default: the value that holds where no other was chosen.
        curve: the values that a trade-off is drawn over, given the number of active branches.
        candidates: the values that a fit chooses from, the safest first, given the same number.
    """

    name: str
    default: float
    curve: Callable[[int], Sequence[float]]
    candidates: Callable[[int], Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Policy(ABC):
    """A rule that decides when an image leaves, and with which answer.

    Args:
        fallback_to: the exit that answers an image that no exit accepted: the `last_exit` that was
            evaluated, or the `most_confident` of them, as in Pacheco et al. (2021a).
    """

    name: ClassVar[str]
    knob: ClassVar[Knob | None] = None
    # Settings beside the knob of which a list is a grid.
    grids: ClassVar[tuple[str, ...]] = ()
    # Settings beside the knob, each a curve of a trade-off.
    drawn: ClassVar[Sequence[Mapping[str, object]]] = ({},)

    fallback_to: str = "last_exit"

    def __post_init__(self) -> None:
        if self.fallback_to not in FALLBACKS:
            allowed = ", ".join(FALLBACKS)
            raise EennError(f"policy.fallback_to={self.fallback_to}: allowed are {allowed}")

    @classmethod
    def of(cls, settings: Mapping[str, object]) -> Self:
        """Build the policy from its settings.

        Raises:
            EennError: a setting that is unknown, missing or not allowed.
        """
        own = {field.name: field for field in fields(cls)}
        unknown = [name for name in settings if name not in own]
        if unknown:
            raise EennError(
                f"policy {cls.name} has no setting {', '.join(unknown)}; allowed are "
                f"{', '.join(own)}"
            )
        missing = [
            name for name, field in own.items() if field.default is MISSING and name not in settings
        ]
        if missing:
            raise EennError(f"policy {cls.name} needs a value for {', '.join(missing)}")
        # JSON and YAML have lists only; tuples keep a policy hashable.
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list | np.ndarray) else value
            for name, value in settings.items()
        }
        return cls(**given)

    @classmethod
    def fit(cls, settings: Mapping[str, object], validation: Validation) -> Self:  # noqa: ARG003
        """Build the policy, and fit the settings that are left open to validation results.

        Raises:
            EennError: see `of` and `Validation`.
        """
        return cls.of(settings)

    @property
    def label(self) -> str:
        """Name the policy in tables and legends, with its settings other than the knob."""
        return self.name

    @property
    def knob_value(self) -> KnobValue:
        """Return the value of the knob; NaN without a knob."""
        value: KnobValue = math.nan if self.knob is None else getattr(self, self.knob.name)
        return value

    def to_json(self) -> str:
        """Write the policy with all its parameters as JSON text, for `policy_from_json`."""
        return json.dumps({"name": self.name, **asdict(self)})

    def check(self, branches: int) -> None:  # noqa: B027 (most rules fit any network)
        """Check that the policy fits a network with `branches` branches, before it is used there.

        Raises:
            EennError: the policy's settings do not fit the network.
        """

    @property
    def promised_accuracy(self) -> float:
        """Return the least accuracy of accepted samples if calibrated, else NaN."""
        return math.nan

    @property
    def least_confidence(self) -> float:
        """Return the least confidence of images that leave; NaN for rules on other quantities."""
        return math.nan

    @abstractmethod
    def accept(self, seen: Sequence[ExitProbs], last: bool) -> Bools:
        """Decide which samples leave at the newest of the exits in `seen`, bool (samples,).

        Args:
            seen: the exits evaluated so far, in order.
            last: true for the last active branch, behind which an image is offloaded, and for the
                last exit.
        """

    def answer(self, seen: Sequence[ExitProbs]) -> Answer:
        """Answer for samples that leave at the newest exit."""
        return newest(seen)

    def fallback(self, seen: Sequence[ExitProbs]) -> Answer:
        """Answer for samples that none of the exits in `seen` accepted."""
        return most_confident(seen) if self.fallback_to == "most_confident" else newest(seen)


def newest(seen: Sequence[ExitProbs]) -> Answer:
    """Answer with the newest exit."""
    label = seen[-1].prediction
    return Answer(label, seen[-1].confidence, np.full(len(label), seen[-1].exit))


def most_confident(seen: Sequence[ExitProbs]) -> Answer:
    """Answer every sample with its most confident exit."""
    confidences = np.stack([exit.confidence for exit in seen])
    best = confidences.argmax(0)[None]
    predictions = np.stack([exit.prediction for exit in seen])
    return Answer(
        np.take_along_axis(predictions, best, 0)[0],
        np.take_along_axis(confidences, best, 0)[0],
        np.array([exit.exit for exit in seen])[best[0]],
    )


def check_share(name: str, value: object) -> None:
    """Check that a setting is a share.

    Raises:
        EennError: `value` is not a number from 0 to 1.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise EennError(f"{name}={value}: allowed is 0 to 1")
