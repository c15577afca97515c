"""The policy that offloads only images that the cloud can help with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eenn.exits.policies.base import Answer, Bools, ExitProbs, check_share, most_confident, newest
from eenn.exits.policies.registry import register
from eenn.exits.policies.threshold import ByConfidence


@register("window")
@dataclass(frozen=True, kw_only=True)
class Window(ByConfidence):
    """Offloads only images with a confidence between two thresholds, where the cloud can help.

    Above `p_tar` an image leaves as usual. After the last active branch the edge also answers an
    image of which every exit so far is less confident than `low`, as the cloud would probably be
    wrong as well; the most confident of these exits gives the answer.
    """

    low: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("low", self.low)

    def accept(self, seen: Sequence[ExitProbs], last: bool) -> Bools:
        accepted = super().accept(seen, last)
        return accepted | (most_confident(seen).confidence < self.low) if last else accepted

    def answer(self, seen: Sequence[ExitProbs]) -> Answer:
        usual, best = newest(seen), most_confident(seen)
        is_low = best.confidence < self.low
        return Answer(*(np.where(is_low, *pair) for pair in zip(best, usual, strict=True)))
