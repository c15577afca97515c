"""Bounds of the mean probability of an event in any stream, from audits, valid at all times.

exp(-x S + (1 - exp(-x)) W) is a supermartingale for every x, where S counts the audited events and
W sums the probability of the audit over the events of all images (a Poisson version of Howard,
Ramdas, McAuliffe and Sekhon, "Time-uniform Chernoff bounds", 2020). A union over 16 values of x and
both sides gives the interval.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

VALUES = tuple(0.05 * (4 / 0.05) ** (k / 15) for k in range(16))


@dataclass
class RunningBounds:
    """Counts of audited events, and an interval of the mean probability of the event.

    With a changing rate of audits the interval is that of the mean weighted by the rate.

    Args:
        events: number of audited events.
        audits: number of audits.
        weight: sum of the rate of audits over all images, audited or not.
    """

    events: int = 0
    audits: int = 0
    weight: float = 0.0

    def count(self, event: bool, rate: float, others: Mapping[float, int]) -> None:
        """Count an audit, and images before it that were not audited.

        Args:
            rate: probability with which the audited image was to be audited; `others` are the
                numbers of the other images by their rates.
        """
        self.audits += 1
        self.events += event
        self.weight += rate + sum(own * images for own, images in others.items())

    def interval(self, delta: float) -> tuple[float, float]:
        """Compute the ends of the interval, in [0, 1].

        The interval holds the mean at all times at once, except with probability `delta`.
        """
        if not self.weight:
            return 0.0, 1.0
        price = math.log(2 * len(VALUES) / delta)
        above = min((x * self.events + price) / -math.expm1(-x) for x in VALUES)
        below = max((x * self.events - price) / math.expm1(x) for x in VALUES)
        return min(max(below / self.weight, 0.0), 1.0), min(above / self.weight, 1.0)
