"""The rows of an evaluation as tables on a page, and the text above each table."""

from collections.abc import Sequence

import numpy as np

from eenn.evaluation.drift import verdict
from eenn.evaluation.fitting import LAST_EXIT, Fitted
from eenn.evaluation.rows import (
    Agreement,
    ClassAnswered,
    Drift,
    ExitMetrics,
    ExitTaken,
    Network,
    Point,
)
from eenn.reports.tables import (
    Cell,
    distorted,
    flat,
    setting_columns,
    varying,
    with_bounds,
    without,
)


def point_rows(points: Sequence[Point]) -> list[dict[str, str]]:
    """Print points as rows of a table; without labels, without the columns that need them."""
    rows = [
        {
            **setting_columns(row.network, row.level, row.setting),
            "n": str(row.n),
            "accuracy %": with_bounds(row.accuracy, 100),
            "as last exit %": with_bounds(row.same_as_last, 100),
            "edge %": with_bounds(row.edge_probability, 100),
            "edge accuracy %": with_bounds(row.edge_accuracy, 100),
            "MMACs": with_bounds(row.macs, 1e-6),
            "edge MB": f"{1e-6 * row.edge_weight_bytes:.1f}",
            "latency ms": with_bounds(row.latency_ms, 1),
            "kB sent": with_bounds(row.sent_bytes, 1e-3),
            "outage %": with_bounds(row.outage, 100),
            "missed deadline %": with_bounds(row.missed_deadline, 100),
        }
        for row in points
    ]
    labelled = any(np.isfinite(row.accuracy.value) for row in points)
    hidden = ("as last exit %",) if labelled else ("accuracy %", "edge accuracy %", "outage %")
    return varying(without(rows, hidden), ("seed", "level"))


def taken_rows(exits: Sequence[ExitTaken]) -> list[dict[str, str]]:
    """Print the samples that stopped at each exit as rows of a table."""
    rows = [
        {
            **setting_columns(row.network, row.level, row.setting),
            "exit": str(row.exit),
            "n": str(row.exit_n),
            "stopped here %": with_bounds(row.exit_share, 100),
            "stopped by here %": f"{100 * row.left_by_here:.1f}",
            "confidence": with_bounds(row.confidence, 1, 3),
            "accuracy %": with_bounds(row.accuracy, 100),
        }
        for row in exits
    ]
    labelled = any(np.isfinite(row.accuracy.value) for row in exits)
    return varying(rows if labelled else without(rows, ("accuracy %",)), ("seed", "level"))


def class_rows(classes: Sequence[ClassAnswered]) -> list[dict[str, str]]:
    """Print the answers of classes as rows of a table, those that leave early first."""
    ordered = sorted(classes, key=lambda row: (-row.edge_probability.value, row.macs))
    return [
        {
            "class": row.class_name,
            "n": str(row.n),
            "edge %": with_bounds(row.edge_probability, 100),
            "accuracy %": with_bounds(row.accuracy, 100),
            "last exit only %": with_bounds(row.last_exit_accuracy, 100),
            "edge accuracy %": with_bounds(row.edge_accuracy, 100),
            "MMACs": f"{1e-6 * row.macs:.1f}",
        }
        for row in ordered
    ]


def exit_metrics_rows(exits: Sequence[ExitMetrics]) -> list[dict[str, str]]:
    """Print accuracy, calibration and failure prediction of the exits as rows of a table."""
    rows = [
        {
            "network": row.network.network,
            "seed": str(row.network.seed),
            "level": f"{row.level:g}",
            "exit": str(row.exit),
            "n": str(row.n),
            "accuracy %": with_bounds(row.accuracy, 100),
            "T": f"{row.temperature:.3f}",
            "NLL raw": f"{row.nll_raw.value:.3f}",
            "NLL": with_bounds(row.nll, 1, 3),
            "Brier raw": f"{row.brier_raw.value:.3f}",
            "Brier": with_bounds(row.brier, 1, 3),
            "ECE % raw": f"{100 * row.ece_raw.value:.1f}",
            "ECE %": with_bounds(row.ece, 100),
            "ECE % if calibrated": f"{100 * row.ece_if_calibrated:.1f}",
            "AUROC raw": f"{row.failure_auroc_raw.value:.3f}",
            "AUROC": with_bounds(row.failure_auroc, 1, 3),
            "AURC raw": f"{row.aurc_raw.value:.3f}",
            "AURC": with_bounds(row.aurc, 1, 3),
        }
        for row in exits
    ]
    return varying(rows, ("seed", "level"))


def fitted_cells(fitted: Fitted) -> dict[str, Cell]:
    """Lay a fitted policy out flat: policy, goal, and results on validation."""
    goal, setting, right = fitted.goal, fitted.setting, "accuracy"
    if goal.against == LAST_EXIT:
        right = "same_as_last"
    cells: dict[str, Cell] = {
        **flat(fitted.validation.network),
        "policy": fitted.policy.label,
        "active": setting.branches,
        setting.knob: setting.number,
        "goal": goal.goal,
        "limit": goal.limit,
        "validation_n": len(fitted.validation.outputs[0].probs),
        f"validation_{right}": fitted.validation_accuracy,
        f"validation_{goal.cost}": fitted.validation_cost,
    }
    if goal.goal == "risk":
        cells |= {"delta": goal.delta, "method": goal.method}
    return cells | (flat(fitted.risk) if fitted.risk else {})


def agreement_rows(rows: Sequence[Agreement]) -> list[dict[str, str]]:
    """Print the agreement of exits as rows of a table."""
    cells = [
        {
            "network": row.network.network,
            "seed": str(row.network.seed),
            "level": f"{row.level:g}",
            "exit": str(row.exit),
            "n": str(row.n),
            "confidence": with_bounds(row.confidence, 1, 3),
            "as last exit %": with_bounds(row.same_as_last, 100),
            **{f"as exit {exit} %": f"{100 * same.value:.1f}" for exit, same in row.same.items()},
        }
        for row in rows
    ]
    return varying(cells, ("seed", "level"))


def drift_rows(rows: Sequence[Drift]) -> list[dict[str, str]]:
    """Print every quantity that was tested for drift as rows of a table."""
    cells = [
        {
            "network": row.network.network,
            "seed": str(row.network.seed),
            "level": f"{row.level:g}",
            "quantity": row.quantity,
            "images": with_bounds(row.value, 1, 3),
            "validation": with_bounds(row.validation, 1, 3),
            "difference": f"{row.difference:.3f}",
            "p": f"{row.p_value:.2g}",
            "p, Holm": f"{row.p_adjusted:.2g}",
            "drift": "yes" if row.drift else "no",
        }
        for row in rows
    ]
    return varying(cells, ("seed", "level"))


def verdicts(rows: Sequence[Drift], distortion: str) -> list[str]:
    """Say in a sentence for every network and level if there is drift."""
    families: dict[tuple[Network, float], list[Drift]] = {}
    for row in rows:
        families.setdefault((row.network, row.level), []).append(row)
    several = len({network for network, _ in families}) > 1
    said = []
    for (network, level), own in families.items():
        where = [f"{network.network}, seed {network.seed}"] if several else []
        where += [distorted(distortion, level)] if level else []
        said.append(": ".join([*filter(None, [", ".join(where)]), verdict(own)]))
    return said


def drift_note(rows: Sequence[Drift], distortion: str) -> list[str]:
    """Name in a line the levels at which images drifted, if any."""
    places = dict.fromkeys(
        distorted(distortion, row.level) if row.level else "the images as they are"
        for row in rows
        if row.drift
    )
    return [f"Drift from validation: {', '.join(places)}."] if places else []


POINTS_TEXT = (
    "Each row is a policy at a threshold over a set of active branches. Intervals are 95 %: Wilson "
    "for shares, bootstrap over images for means; a latency is a sum of median stage times and the "
    'link. "Last exit only" runs no branch; in "edge only" the last active branch answers the '
    "rest; the oracle sees the labels. Outage: where a threshold promises an accuracy; "
    "its interval and that of missed deadlines are those of drawing batches, not of the test set."
)
EXITS_TEXT = (
    "The number of images that stopped at each exit, with confidence and accuracy of their "
    "answers. The last exit includes the answers of the fallback, which may be an earlier exit's."
)
CLASSES_TEXT = (
    "Every class at the setting that opens the report, the one that leaves early most often first; "
    "accuracy of all its answers, of the last exit alone, and of the edge's answers."
)
EXIT_METRICS_TEXT = (
    'Every exit as if it answered all images. "ECE % if calibrated" is expected of a perfectly '
    'calibrated model with the same confidences on as many images. NLL in nats; "raw" is before '
    "temperature scaling; AUROC: of confidence as a detector of right answers; AURC: area under "
    "the risk-coverage curve."
)
THRESHOLDS_TEXT = (
    "Fitted on the validation split without distortion. A test risk is the share of test images "
    "answered wrongly although the last exit is right, with its upper confidence bound at delta."
)
TRADEOFF_TEXT = "Every policy over the values of its knob, its other settings at their defaults."
AGREEMENT_TEXT = (
    "Every exit as if it answered all images: its mean confidence, and the share of its answers "
    "that equal those of the last exit and of every other exit. No labels are needed."
)
DRIFT_TEXT = (
    "The images compared with those of the validation split by the exits' outputs; no labels are "
    "needed. Confidences are compared by the Kolmogorov-Smirnov test, whose difference is the "
    "largest gap between cumulative shares; shares by Fisher's exact test. p is corrected for the "
    "number of quantities (Holm); drift is a p below 1 %."
)
