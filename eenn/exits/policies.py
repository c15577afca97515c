"""The exit rules, the same ones for a whole split of records and for one image on the edge.

A rule never sees a label. It is asked after every exit that was evaluated, and sees the calibrated
probabilities of all exits so far. NumPy only, so that the edge can share it.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eenn.errors import EennError

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FALLBACKS = ("most_confident", "last_exit")


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
    """Predicted class, int (samples,), and the probability it was given, float (samples,)."""

    label: Ints
    confidence: Floats


@dataclass(frozen=True, kw_only=True)
class Policy(ABC):
    """When an image leaves, and with which answer.

    Args:
        fallback_to: who answers for an image that no exit accepted: the `most_confident` of the
            evaluated exits, as in [A], or the `last_exit`.
    """

    fallback_to: str = "most_confident"

    def __post_init__(self) -> None:
        if self.fallback_to not in FALLBACKS:
            allowed = ", ".join(FALLBACKS)
            raise EennError(f"policy.fallback_to={self.fallback_to}: allowed are {allowed}")

    def check(self, branches: int) -> None:  # noqa: B027 (most rules fit any network)
        """To be called before the rule is used on a network of so many branches.

        Raises:
            EennError: settings that do not fit it.
        """

    @property
    def promised_accuracy(self) -> float:
        """The least accuracy among accepted samples if probabilities are calibrated, else NaN."""
        return math.nan

    @abstractmethod
    def accept(self, seen: Sequence[ExitProbs], last: bool) -> Bools:
        """Which samples leave at the newest of the exits in `seen`, bool (samples,).

        Args:
            last: whether this is the last active branch, behind which an image is offloaded.
        """

    def answer(self, seen: Sequence[ExitProbs]) -> Answer:
        """The answer for samples that leave at the newest exit."""
        return _newest(seen)

    def fallback(self, seen: Sequence[ExitProbs]) -> Answer:
        """The answer for samples that none of the exits in `seen` accepted."""
        return _most_confident(seen) if self.fallback_to == "most_confident" else _newest(seen)


@dataclass(frozen=True, kw_only=True)
class _Threshold(Policy):
    p_tar: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("p_tar", self.p_tar)


@dataclass(frozen=True, kw_only=True)
class Confidence(Policy):
    """[A]: leave once the confidence reaches the threshold.

    Args:
        p_tar: one threshold, or one per exit.
    """

    p_tar: float | Sequence[float]

    def __post_init__(self) -> None:
        super().__post_init__()
        for threshold in np.atleast_1d(self.p_tar):
            _check_share("p_tar", threshold)

    def check(self, branches: int) -> None:
        given, exits = np.shape(self.p_tar), branches + 1
        if given not in ((), (exits,)):
            raise EennError(
                f"p_tar has {np.size(self.p_tar)} thresholds and the network {exits} exits; give "
                "one number, or one for every exit"
            )

    @property
    def promised_accuracy(self) -> float:
        return float(np.min(self.p_tar))

    def accept(self, seen: Sequence[ExitProbs], last: bool) -> Bools:
        newest, thresholds = seen[-1], np.asarray(self.p_tar)
        return newest.confidence >= (thresholds[newest.exit] if thresholds.ndim else thresholds)


@dataclass(frozen=True, kw_only=True)
class Entropy(_Threshold):
    """BranchyNet: leave once the entropy is low, that is the certainty reaches the threshold."""

    def accept(self, seen: Sequence[ExitProbs], last: bool) -> Bools:
        return seen[-1].certainty >= self.p_tar


@dataclass(frozen=True, kw_only=True)
class Margin(_Threshold):
    """Leave once the most probable class leads the next by the threshold."""

    def accept(self, seen: Sequence[ExitProbs], last: bool) -> Bools:
        return seen[-1].margin >= self.p_tar


@dataclass(frozen=True, kw_only=True)
class Patience(Policy):
    """Leave once so many exits in a row predict the same class (Zhou et al., NeurIPS 2020)."""

    agree: int
    fallback_to: str = "last_exit"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.agree, int) or self.agree < 1:
            raise EennError(
                f"policy.agree={self.agree}: allowed is a whole number of exits, 1 or more"
            )

    def accept(self, seen: Sequence[ExitProbs], last: bool) -> Bools:
        newest = seen[-1].prediction
        if len(seen) < self.agree:
            return np.zeros(len(newest), bool)
        agreeing = [exit.prediction == newest for exit in seen[-self.agree :]]
        return np.asarray(np.all(agreeing, axis=0))


@dataclass(frozen=True, kw_only=True)
class _Committee(_Threshold):
    """All active branches run, the mean of their probabilities decides once, after the last.

    What it does not accept, the last exit answers in the cloud.

    Args:
        weights: of every branch, its validation accuracy; the active ones count alike where all of
            theirs are 0.
    """

    weights: tuple[float, ...]
    fallback_to: str = "last_exit"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(0 <= weight < math.inf for weight in self.weights):
            raise EennError(f"committee weights {self.weights}: allowed are numbers from 0 up")

    def check(self, branches: int) -> None:
        if len(self.weights) != branches:
            raise EennError(
                f"committee of {len(self.weights)} weights and a network of {branches} branches; "
                "give one for every branch"
            )

    @abstractmethod
    def mean(self, members: Sequence[ExitProbs], weights: Sequence[float]) -> Floats:
        """The committee's probabilities, (samples, classes); the weights are not all 0."""

    def accept(self, seen: Sequence[ExitProbs], last: bool) -> Bools:
        if self._is_last_exit(seen[-1]):
            return np.ones(len(seen[-1].probs), bool)
        if not last:
            return np.zeros(len(seen[-1].probs), bool)
        return self.answer(seen).confidence >= self.p_tar

    def answer(self, seen: Sequence[ExitProbs]) -> Answer:
        if self._is_last_exit(seen[-1]):
            return super().answer(seen)
        weights = [self.weights[member.exit] for member in seen]
        mean = self.mean(seen, weights if any(weights) else [1.0] * len(seen))
        label = mean.argmax(-1)
        return Answer(label, np.take_along_axis(mean, label[:, None], -1)[:, 0])

    def fallback(self, seen: Sequence[ExitProbs]) -> Answer:
        return self.answer(seen)

    def _is_last_exit(self, exit: ExitProbs) -> bool:
        return exit.exit == len(self.weights)


@dataclass(frozen=True, kw_only=True)
class Committee(_Committee):
    """[B]: the mean of the branches' probabilities, weighted by their accuracies.

    Args:
        as_printed: as equation (1) of [B] prints it, with weights that do not sum to 1, so that
            the result is no probability and can exceed it.
    """

    as_printed: bool = False

    @property
    def promised_accuracy(self) -> float:
        return math.nan if self.as_printed else self.p_tar

    def mean(self, members: Sequence[ExitProbs], weights: Sequence[float]) -> Floats:
        total = weights[0] * members[0].probs
        for weight, member in zip(weights[1:], members[1:], strict=True):
            total += weight * member.probs
        # The weights are added in the same order, so that no mean is above 1 by rounding.
        return np.asarray(total if self.as_printed else total / np.cumsum(weights)[-1])


@dataclass(frozen=True, kw_only=True)
class GeometricCommittee(_Committee):
    """The geometric mean instead, normalised: one branch that excludes a class has a veto."""

    @property
    def promised_accuracy(self) -> float:
        return self.p_tar

    def mean(self, members: Sequence[ExitProbs], weights: Sequence[float]) -> Floats:
        # The smallest number keeps a class that every branch excludes from being 0 / 0.
        tiny = np.finfo(np.float64).tiny
        logs = sum(
            weight / sum(weights) * np.log(np.maximum(member.probs, tiny))
            for weight, member in zip(weights, members, strict=True)
        )
        mean = np.exp(logs - np.max(logs, axis=-1, keepdims=True))
        return np.asarray(mean / mean.sum(-1, keepdims=True))


@dataclass(frozen=True, kw_only=True)
class Window(_Threshold):
    """Offload only where the cloud can help: with a confidence between two thresholds.

    Above `p_tar` an image leaves as usual. Below `low`, after the last active branch, the edge
    answers too, with its most confident exit, as the cloud would probably be wrong as well.
    """

    low: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("low", self.low)

    def accept(self, seen: Sequence[ExitProbs], last: bool) -> Bools:
        confidence = seen[-1].confidence
        accepted = confidence >= self.p_tar
        return accepted | (_most_confident(seen).confidence < self.low) if last else accepted

    def answer(self, seen: Sequence[ExitProbs]) -> Answer:
        return _most_confident(seen)


POLICIES: dict[str, type[Policy]] = {
    "confidence": Confidence,
    "entropy": Entropy,
    "margin": Margin,
    "patience": Patience,
    "committee": Committee,
    "geometric_committee": GeometricCommittee,
    "window": Window,
}


def make_policy(name: str, given: Mapping[str, Any]) -> Policy:
    """The policy of that name, from those of the `given` settings that it has.

    So one set of settings (threshold, committee weights, ...) serves a comparison of all policies.

    Raises:
        EennError: unknown name, a setting that is missing or not allowed.
    """
    if name not in POLICIES:
        raise EennError(f"policy {name}: allowed are {', '.join(POLICIES)}")
    own = fields(POLICIES[name])
    missing = [field.name for field in own if field.default is MISSING and field.name not in given]
    if missing:
        raise EennError(f"policy {name} needs a value for {', '.join(missing)}")
    return POLICIES[name](**{field.name: given[field.name] for field in own if field.name in given})


def _newest(seen: Sequence[ExitProbs]) -> Answer:
    return Answer(seen[-1].prediction, seen[-1].confidence)


def _most_confident(seen: Sequence[ExitProbs]) -> Answer:
    confidences = np.stack([exit.confidence for exit in seen])
    best = confidences.argmax(0)[None]
    predictions = np.stack([exit.prediction for exit in seen])
    return Answer(
        np.take_along_axis(predictions, best, 0)[0], np.take_along_axis(confidences, best, 0)[0]
    )


def _check_share(name: str, value: object) -> None:
    if not isinstance(value, int | float | np.number) or not 0 <= value <= 1:
        raise EennError(f"{name}={value}: allowed is 0 to 1")
