"""The policy of a burst: no branch answers, so that every image goes to the cloud."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eenn.exits.policies.base import Answer, Bools, ExitProbs, Policy


@dataclass(frozen=True, kw_only=True)
class OffloadAll(Policy):
    """A policy that lets no image leave before the last exit, and there is another policy.

    Args:
        own: the other policy.
        last_exit: the exit that answers in the cloud, counted from 0.
    """

    own: Policy
    last_exit: int

    def accept(self, seen: Sequence[ExitProbs], last: bool) -> Bools:
        if seen[-1].exit == self.last_exit:
            return self.own.accept(seen, last)
        return np.zeros(len(seen[-1].probs), bool)

    def answer(self, seen: Sequence[ExitProbs]) -> Answer:
        return self.own.answer(seen)

    def fallback(self, seen: Sequence[ExitProbs]) -> Answer:
        return self.own.fallback(seen)
