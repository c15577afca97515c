"""The protocol of exit policies, and what it is about: probabilities, answers, knobs.

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

# What a knob is set to: one number, or one for every exit.
KnobValue = float | tuple[float, ...]

FALLBACKS = ("last_exit", "most_confident")


class ExitProbs:
    """Calibrated probabilities of one exit, and what the rules reduce them to, each made once.

    Args:
        exit: number of the exit, counted from 0.
        probs: float (samples, classes).

    Raises:
        EennError: probabilities that are not numbers.
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
        """The most probable class, int (samples,); the first of equally probable ones."""
        return np.asarray(self.probs.argmax(-1))

    @cached_property
    def confidence(self) -> Floats:
        """The probability of the prediction, (samples,)."""
        return np.asarray(np.take_along_axis(self.probs, self.prediction[:, None], -1)[:, 0])

    @cached_property
    def certainty(self) -> Floats:
        """1 - H / ln(classes) for the entropy H, (samples,): 0 if uniform, 1 if one class has all.

        BranchyNet's threshold on the entropy is (1 - certainty) ln(classes) (Teerapittayanon et
        al., ICPR 2016).
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
        """The lead of the most probable class over the next, (samples,)."""
        if self.probs.shape[-1] == 1:
            return self.confidence
        second, first = np.partition(self.probs, -2, axis=-1)[:, -2:].T
        return np.asarray(first - second)


class Answer(NamedTuple):
    """Predicted class, int (samples,), and the probability it was given, float (samples,).

    `exit` is the exit that gave it, int (samples,), counted from 0; of several that gave it
    together the last.
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
        accuracy: of every exit, in [0, 1]; None where it is not known.
        read: reads the outputs of the validation split; None where there are none, as on a device.
    """

    def __init__(
        self,
        accuracy: Sequence[float] | None = None,
        read: Callable[[], Outputs] | None = None,
    ) -> None:
        self._accuracy, self._read = accuracy, read

    @property
    def accuracy(self) -> tuple[float, ...]:
        """The accuracy of every exit.

        Raises:
            EennError: it is not known.
        """
        if self._accuracy is None:
            raise EennError("the policy is fitted to the exits' accuracies; give an artifact's")
        return tuple(self._accuracy)

    @cached_property
    def outputs(self) -> Outputs:
        """Probabilities and labels of the validation split.

        Raises:
            EennError: there are none here.
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
        name: of the policy's field.
        default: where nobody chose a value.
        curve: the values that a trade-off is drawn over, for a number of active branches.
        candidates: the values that a fit chooses from, the safest first.
    """

    name: str
    default: float
    curve: Callable[[int], Sequence[float]]
    candidates: Callable[[int], Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Policy(ABC):
    """When an image leaves, and with which answer.

    Args:
        fallback_to: who answers for an image that no exit accepted: the `last_exit` that was
            evaluated, or the `most_confident` of them, as in Pacheco et al. (2021).
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
            EennError: a setting that it does not have, or lacks, or does not allow.
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
        """Build the policy, with whatever the settings leave open fitted to validation results.

        Raises:
            EennError: see `of` and `Validation`.
        """
        return cls.of(settings)

    @property
    def label(self) -> str:
        """Name the policy in tables and legends, with what tells it from its like but its knob."""
        return self.name

    @property
    def knob_value(self) -> KnobValue:
        """What the knob is set to; NaN without a knob."""
        value: KnobValue = math.nan if self.knob is None else getattr(self, self.knob.name)
        return value

    def to_json(self) -> str:
        """Write the policy with all its parameters as JSON text, for `policy_from_json`."""
        return json.dumps({"name": self.name, **asdict(self)})

    def check(self, branches: int) -> None:  # noqa: B027 (most rules fit any network)
        """Check the rule against a network of so many branches, before it is used there.

        Raises:
            EennError: settings that do not fit it.
        """

    @property
    def promised_accuracy(self) -> float:
        """The least accuracy among accepted samples if probabilities are calibrated, else NaN."""
        return math.nan

    @property
    def least_confidence(self) -> float:
        """The confidence from which on an image leaves; NaN if the rule is about something else."""
        return math.nan

    @abstractmethod
    def accept(self, seen: Sequence[ExitProbs], last: bool) -> Bools:
        """Decide which samples leave at the newest of the exits in `seen`, bool (samples,).

        Args:
            last: whether this is the last active branch, behind which an image is offloaded, or the
                last exit.
        """

    def answer(self, seen: Sequence[ExitProbs]) -> Answer:
        """Answer for samples that leave at the newest exit."""
        return newest(seen)

    def fallback(self, seen: Sequence[ExitProbs]) -> Answer:
        """Answer for samples that none of the exits in `seen` accepted."""
        return most_confident(seen) if self.fallback_to == "most_confident" else newest(seen)


def newest(seen: Sequence[ExitProbs]) -> Answer:
    """Answer as the newest exit does."""
    label = seen[-1].prediction
    return Answer(label, seen[-1].confidence, np.full(len(label), seen[-1].exit))


def most_confident(seen: Sequence[ExitProbs]) -> Answer:
    """Answer as the most confident exit does, for every sample."""
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
        EennError: it is not from 0 to 1.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise EennError(f"{name}={value}: allowed is 0 to 1")
