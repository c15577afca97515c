"""The rows of an evaluation's tables: one type a table, every quantity with its interval."""

from dataclasses import dataclass

from eenn.exits.settings import Setting
from eenn.statistics.intervals import Estimate


@dataclass(frozen=True)
class Network:
    """The network that a row is about.

    Args:
        network: its name, the same for networks that differ in nothing but their seed.
        branches: how many it has; 0 is the conventional network.
        seed: of its split and training.
    """

    network: str
    branches: int
    seed: int


@dataclass(frozen=True)
class Point:
    """One way to answer, on one split at one level of a distortion.

    Args:
        most_active: no set of active branches of this evaluation is larger.
        edge_n: samples answered on the edge.
        outage: of what the policy promises; NaN where it promises nothing.
    """

    network: Network
    level: float
    setting: Setting
    most_active: bool
    n: int
    accuracy: Estimate
    edge_probability: Estimate
    edge_n: int
    edge_accuracy: Estimate
    confidence: Estimate
    macs: Estimate
    edge_macs: Estimate
    latency_ms: Estimate
    sent_bytes: Estimate
    outage: Estimate
    missed_deadline: Estimate


@dataclass(frozen=True)
class ExitTaken:
    """The samples that stopped at one exit, counted from 1.

    At the last exit that includes the answers of the fallback, which may be an earlier exit's.

    Args:
        exit_n: how many they are, of `n`.
        left_by_here: the share of samples that stopped at this exit or before.
        confidence, accuracy: of their answers.
    """

    network: Network
    level: float
    setting: Setting
    most_active: bool
    exit: int
    n: int
    exit_n: int
    exit_share: Estimate
    left_by_here: float
    confidence: Estimate
    accuracy: Estimate


@dataclass(frozen=True)
class ExitQuality:
    """One exit, counted from 1, as if it answered all samples: calibration, failure prediction.

    Args:
        nll: in nats; `_raw` are the numbers before the temperature.
        failure_auroc: of confidence as a detector of right answers.
        aurc: area under the risk-coverage curve.
        ece_if_calibrated: what a perfectly calibrated model with the same confidences would show.
    """

    network: Network
    level: float
    exit: int
    n: int
    temperature: float
    accuracy: Estimate
    nll_raw: Estimate
    brier_raw: Estimate
    ece_raw: Estimate
    failure_auroc_raw: Estimate
    aurc_raw: Estimate
    nll: Estimate
    brier: Estimate
    ece: Estimate
    failure_auroc: Estimate
    aurc: Estimate
    ece_if_calibrated: float


@dataclass(frozen=True)
class Results:
    """The rows of an evaluation, by table."""

    points: list[Point]
    exits: list[ExitTaken]
    quality: list[ExitQuality]
    tradeoff: list[Point]
