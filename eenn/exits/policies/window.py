"""The policy that offloads only where the cloud can help."""

from collections.abc import Sequence
from dataclasses import dataclass

from eenn.exits.policies.base import Answer, Bools, ExitProbs, check_share, most_confident
from eenn.exits.policies.registry import register
from eenn.exits.policies.threshold import Threshold


@register("window")
@dataclass(frozen=True, kw_only=True)
class Window(Threshold):
    """Offload only where the cloud can help: with a confidence between two thresholds.

    Above `p_tar` an image leaves as usual. Below `low`, after the last active branch, the edge
    answers too, with its most confident exit, as the cloud would probably be wrong as well.
    """

    low: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("low", self.low)

    @property
    def least_confidence(self) -> float:
        return self.p_tar

    def accept(self, seen: Sequence[ExitProbs], last: bool) -> Bools:
        confidence = seen[-1].confidence
        accepted = confidence >= self.p_tar
        return accepted | (most_confident(seen).confidence < self.low) if last else accepted

    def answer(self, seen: Sequence[ExitProbs]) -> Answer:
        return most_confident(seen)
