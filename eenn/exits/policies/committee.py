"""Policies in which all active branches decide together, after the last: committees."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from eenn.errors import EennError
from eenn.exits.policies.base import Answer, Bools, ExitProbs, Floats, Validation
from eenn.exits.policies.registry import register
from eenn.exits.policies.threshold import Threshold
from eenn.models.architecture import branches_text


@dataclass(frozen=True, kw_only=True)
class MeanOfBranches(Threshold):
    """A policy in which all active branches run and the mean of their probabilities decides once.

    The mean decides after the last active branch. An image that it does not accept is answered by
    the last exit, in the cloud.

    Args:
        weights: of every branch, fitted as its validation accuracy; the active branches count alike
            where all their weights are 0.
    """

    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(0 <= weight < math.inf for weight in self.weights):
            raise EennError(f"committee weights {self.weights}: allowed are numbers from 0 up")

    @classmethod
    def fit(cls, settings: Mapping[str, object], validation: Validation) -> Self:
        if "weights" in settings:
            return cls.of(settings)
        return cls.of({**settings, "weights": validation.accuracy[:-1]})

    def check(self, branches: int) -> None:
        if len(self.weights) != branches:
            raise EennError(
                f"committee of {len(self.weights)} weights and a network of "
                f"{branches_text(branches)}; give one for every branch"
            )

    @abstractmethod
    def mean(self, members: Sequence[ExitProbs], weights: Sequence[float]) -> Floats:
        """Compute the committee's probabilities, (samples, classes); the weights are not all 0."""

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
        confidence = np.take_along_axis(mean, label[:, None], -1)[:, 0]
        return Answer(label, confidence, np.full(len(label), seen[-1].exit))

    def fallback(self, seen: Sequence[ExitProbs]) -> Answer:
        return self.answer(seen)

    def _is_last_exit(self, exit: ExitProbs) -> bool:
        return exit.exit == len(self.weights)


@register("committee")
@dataclass(frozen=True, kw_only=True)
class Committee(MeanOfBranches):
    """The mean of the branches' probabilities, weighted by accuracy (Pacheco et al., 2023).

    Args:
        as_printed: as equation (1) of the paper prints it, with weights that do not sum to 1, so
            that the result is not a probability and can exceed it.
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


@register("geometric_committee")
@dataclass(frozen=True, kw_only=True)
class GeometricCommittee(MeanOfBranches):
    """The normalised geometric mean: one branch that excludes a class has a veto."""

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
