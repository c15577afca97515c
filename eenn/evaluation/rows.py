"""The rows of an evaluation's tables: one type per table, every quantity with its interval."""

from collections.abc import Mapping
from dataclasses import dataclass

from eenn.exits.settings import Setting
from eenn.statistics.intervals import Estimate


@dataclass(frozen=True)
class Network:
    """The network of a row.

    Args:
        network: its name, the same for networks that differ in nothing but their seed.
        branches: their number; 0 is the conventional network.
        seed: of the network's split and training.
    """

    network: str
    branches: int
    seed: int


@dataclass(frozen=True)
class Point:
    """One way to answer, on one split at one level of a distortion.

    Args:
        most_active: true if no set of active branches of this evaluation is larger.
        accuracy, edge_accuracy: NaN where there are no labels.
        same_as_last: the share of answers that equal the last exit's.
        edge_n: samples answered on the edge.
        edge_weight_bytes: of the weights that the edge keeps, in fp32; NaN where unknown.
        outage: of the accuracy that the policy promises; NaN where it promises none.
    """

    network: Network
    level: float
    setting: Setting
    most_active: bool
    n: int
    accuracy: Estimate
    same_as_last: Estimate
    edge_probability: Estimate
    edge_n: int
    edge_accuracy: Estimate
    confidence: Estimate
    macs: Estimate
    edge_macs: Estimate
    edge_weight_bytes: float
    latency_ms: Estimate
    sent_bytes: Estimate
    outage: Estimate
    missed_deadline: Estimate


@dataclass(frozen=True)
class ExitTaken:
    """The samples that stopped at one exit, counted from 1.

    The samples of the last exit include the answers of the fallback, which may be an earlier
    exit's.

    Args:
        exit_n: the number of these samples, of `n`.
        left_by_here: the share of samples that stopped at this exit or before.
        confidence, accuracy: of their answers; accuracy is NaN where there are no labels.
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
class ClassAnswered:
    """The samples of one class, and the metrics of one way to answer them.

    Args:
        class_name: as the artifact has it.
        last_exit_accuracy: of the last exit alone, on the same samples.
        edge_accuracy: NaN where the edge answers none of them.
        macs: mean to the answer.
    """

    network: Network
    level: float
    setting: Setting
    class_name: str
    n: int
    accuracy: Estimate
    last_exit_accuracy: Estimate
    edge_probability: Estimate
    edge_accuracy: Estimate
    macs: float


@dataclass(frozen=True)
class ExitMetrics:
    """The metrics of one exit, counted from 1, as if it answered all samples.

    Args:
        nll: in nats; `_raw` are the numbers before the temperature.
        failure_auroc: of confidence as a detector of right answers.
        aurc: area under the risk-coverage curve.
        ece_if_calibrated: expected of a perfectly calibrated model with the same confidences.
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
class Agreement:
    """The agreement of one exit, counted from 1, with the others, as if it answered all samples.

    Args:
        same: the share of samples that another exit, by its number, answers alike.
        same_as_last: the share that the last exit answers alike.
    """

    network: Network
    level: float
    exit: int
    n: int
    confidence: Estimate
    same_as_last: Estimate
    same: Mapping[int, Estimate]


@dataclass(frozen=True)
class Drift:
    """One quantity of the evaluated images, compared with validation.

    Args:
        setting: the way to answer by which images left at the exits.
        quantity: in words: the confidence of an exit, the share that stopped there, or the share
            that was answered on the edge.
        value, validation: the mean confidence or the share, of the images and of validation.
        difference: the tested number: of confidences the largest gap between cumulative shares.
        p_adjusted: the p-value after Holm's correction for all quantities of these images.
        drift: true if the adjusted p-value is below the level.
    """

    network: Network
    level: float
    setting: Setting
    quantity: str
    n: int
    validation_n: int
    value: Estimate
    validation: Estimate
    difference: float
    p_value: float
    p_adjusted: float
    drift: bool


@dataclass(frozen=True)
class Results:
    """The rows of an evaluation, by table."""

    points: list[Point]
    exits: list[ExitTaken]
    exit_metrics: list[ExitMetrics]
    tradeoff: list[Point]
