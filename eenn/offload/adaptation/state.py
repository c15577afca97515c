"""The state of a guard: what outlives a process, and a decision about one image."""

from collections import Counter
from dataclasses import dataclass, field

from eenn.offload.adaptation.bounds import RunningBounds
from eenn.offload.adaptation.refit import Tally

GAP = 600  # images from a burst to the next one without an alarm; doubles with each
TOLERANCE = 0.04  # of the edge share, where the reference comes from a fit
OFFLOAD_ALL = -1  # the position of a threshold that lets no image leave

TOTALS = (
    "images",
    "kept",
    "audits",
    "disagreements",
    "dropped_audits",
    "risk_alarms",
    "share_alarms",
    "bursts",
)


@dataclass
class Pending:
    """Images since the last audit, by their rate of audits: all of them, and those that left."""

    images: Counter[float] = field(default_factory=Counter)
    left: Counter[float] = field(default_factory=Counter)


@dataclass
class Turn:
    """The guard's decision about an image, made before the image is seen.

    Args:
        era: number of bursts begun and ended before it.
        offload_all: whether no branch may answer the image.
        audit: whether the image is audited if it leaves on the edge.
        rate: probability with which `audit` was drawn.
        counts: whether the image counts in the tests.
        before: the images since the last audit, once the image left and is audited.
    """

    era: int
    offload_all: bool
    audit: bool
    rate: float
    counts: bool
    before: Pending = field(default_factory=Pending)


@dataclass
class GuardState:
    """The state of a guard that outlives a process.

    Args:
        at: position of the threshold in force, or OFFLOAD_ALL.
        reference: share of images that leave, to which the monitor compares; None if not known.
        tolerance: of the monitor.
        risk_values, share_values: values of the detectors; empty before the first image.
        risk: audits against all images; its mean is the promised risk.
        disagreement: audits against the images that left.
        burst: sums of the running burst; None if none is running.
        burst_size: images of the running or the last burst; 0 before the first.
        burst_risk: share of images that the threshold in force lost in its burst.
        since: images since the threshold came into force.
        gap: images until a burst without an alarm may follow the last one.
        totals: counts since the guard began, by the names of TOTALS.
    """

    at: int
    reference: float | None
    tolerance: float = TOLERANCE
    risk_values: tuple[float, ...] = ()
    share_values: tuple[float, ...] = ()
    risk: RunningBounds = field(default_factory=RunningBounds)
    disagreement: RunningBounds = field(default_factory=RunningBounds)
    burst: Tally | None = None
    burst_size: int = 0
    burst_risk: float = 0.0
    since: int = 0
    gap: int = GAP
    totals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOTALS, 0))
