"""Detectors of a change in a stream: of the risk, from audits, and of the share that leaves.

Both are Shiryaev-Roberts e-detectors over coin tosses (Shin, Ramdas and Rinaldo, "E-detectors",
2022). As long as the probability of the event is p0 at most, given the past, the mean time between
false alarms is at least ALARM images, whatever else the stream does.
"""

from collections.abc import Sequence

ALARM = 1e5
LARGEST = 0.999  # of a probability

RISK_RATIOS = (1.5, 2, 3, 5, 8, 12)
SHARE_SHIFTS = (0.08, 0.15, 0.3)


class Detector:
    """A mean of e-detectors, each for one alternative to the probability p0 of an event.

    Args:
        values: of the e-detectors after the images so far, one for every alternative.
    """

    def __init__(self, values: Sequence[float]) -> None:
        self.values = list(values)

    @property
    def mean(self) -> float:
        """Compute the mean of the values; an alarm is due from ALARM on."""
        return sum(self.values) / len(self.values)

    def see(self, event: bool, p0: float, p1: Sequence[float]) -> None:
        """Count an image.

        Args:
            event: whether the event happened.
            p0: largest probability of the event without a change, above 0.
            p1: probability of the event by every alternative, each above p0.
        """
        if event:
            self.values = [
                (value + 1) * (own / p0) for value, own in zip(self.values, p1, strict=True)
            ]
        else:
            stays = 1 - p0
            self.values = [
                (value + 1) * ((1 - own) / stays)
                for value, own in zip(self.values, p1, strict=True)
            ]

    def see_none(self, times: int, p0: float, p1: Sequence[float]) -> None:
        """Count a number of images in a row without the event, as `see` does one by one."""
        for number, own in enumerate(p1):
            ratio = (1 - own) / (1 - p0)
            power = ratio**times
            grown = ratio * (1 - power) / (1 - ratio)
            self.values[number] = self.values[number] * power + grown


class RiskDetector(Detector):
    """Detects a risk above the promise: the event is an audit that disagrees.

    Args:
        risk: the promised risk.
        values: as of `Detector`; empty before the first image.
    """

    def __init__(self, risk: float, values: Sequence[float] = ()) -> None:
        super().__init__(values or [0.0] * len(RISK_RATIOS))
        self._risk = risk

    def count_audit(self, disagrees: bool, rate: float) -> None:
        """Count an audited image.

        Args:
            rate: probability with which the image was to be audited, above 0.
        """
        self.see(disagrees, *self._probabilities(rate))

    def count_others(self, images: int, rate: float) -> None:
        """Count images in a row that were not audited, at a rate above 0."""
        self.see_none(images, *self._probabilities(rate))

    def quiet(self, rate: float) -> float:
        """Compute the mean that the detector tends to while no audit disagrees.

        Args:
            rate: of audits, above 0.
        """
        p0, p1 = self._probabilities(rate)
        ratios = [(1 - own) / (1 - p0) for own in p1]
        return sum(ratio / (1 - ratio) for ratio in ratios) / len(ratios)

    def _probabilities(self, rate: float) -> tuple[float, list[float]]:
        p0 = self._risk * rate
        return p0, [min(ratio * p0, LARGEST) for ratio in RISK_RATIOS]


class ShareDetector:
    """Detects a share of images that leaves other than the reference, on either side.

    Args:
        reference: share of images that leave, in [0, 1].
        tolerance: largest difference from the reference that is not a change.
        values: of the e-detectors after the images so far, those for larger shares first;
            empty before the first image.
    """

    def __init__(
        self,
        reference: float,
        tolerance: float,
        values: Sequence[float] = (),
    ) -> None:
        half = len(SHARE_SHIFTS)
        values = values or [0.0] * 2 * half
        self._sides = Detector(values[:half]), Detector(values[half:])
        self._p0 = tuple(
            max(share + tolerance, 1 - LARGEST) for share in (reference, 1 - reference)
        )
        self._p1 = tuple([min(p0 + shift, LARGEST) for shift in SHARE_SHIFTS] for p0 in self._p0)

    @property
    def values(self) -> list[float]:
        """List the values of both sides."""
        more, less = self._sides
        return more.values + less.values

    @property
    def mean(self) -> float:
        """Compute the mean of the values; an alarm is due from ALARM on."""
        return sum(self.values) / len(self.values)

    def count(self, leaves: bool) -> None:
        """Count an image that leaves on the edge, or one that does not."""
        for side, event, p0, p1 in zip(
            self._sides, (leaves, not leaves), self._p0, self._p1, strict=True
        ):
            # A share that may be anything up to 1 is never too large.
            if p0 < LARGEST:
                side.see(event, p0, p1)
