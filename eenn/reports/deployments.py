"""The report of deployments on the same images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from eenn.evaluation.deployed import Compared
from eenn.evaluation.rows import Point
from eenn.reports.differences import DIFFERENCES_TEXT, difference_rows
from eenn.reports.evaluation import unlabelled_tables
from eenn.reports.figures import Drawn
from eenn.reports.opening import Answer, answer_figure, answer_section, summary_point, why_chosen
from eenn.reports.report import Report, table_section
from eenn.reports.rows import (
    AGREEMENT_TEXT,
    CLASSES_TEXT,
    DRIFT_TEXT,
    EXIT_METRICS_TEXT,
    EXITS_TEXT,
    agreement_rows,
    class_rows,
    drift_note,
    drift_rows,
    exit_metrics_rows,
    point_rows,
    taken_rows,
    verdicts,
)
from eenn.reports.tables import Cell, flat

Row = TypeVar("Row")


def deployments_report(
    title: str,
    facts: Mapping[str, str],
    compared: Compared,
    distortion: str,
    drawn: Sequence[Drawn],
    answer: Answer,
) -> Report:
    """Put together the report of deployments on the same images.

    Args:
        drawn: figures of their networks.
        answer: the answer that opens the page.
    """
    full, compared = compared, _with_short_labels(compared)
    tables = [table_section("Deployments", POINTS_TEXT, deployment_rows(compared))]
    if compared.differences:
        rows = difference_rows(compared.differences)
        tables.append(table_section("Differences", DIFFERENCES_TEXT, rows))
    verdict = drift_verdicts(compared, distortion)
    exit_metrics = _labelled(compared.exit_metrics, exit_metrics_rows)
    tables += [
        table_section("Classes", CLASSES_TEXT, class_rows(answer.classes)),
        table_section("Stops by exit", EXITS_TEXT, _labelled(compared.exits, taken_rows)),
        table_section("Drift", "\n".join([*verdict, DRIFT_TEXT]), _drift(compared)),
        table_section("Agreement between exits", AGREEMENT_TEXT, _agreement(compared)),
        table_section("Calibration of the exits", EXIT_METRICS_TEXT, exit_metrics),
    ]
    points = [point for _, point in compared.points]
    lines = {
        label: [point]
        for label, point in compared.points
        if label and point.level == answer.point.level
    }
    notes = [facts["beware"]] if "beware" in facts else []
    notes += drift_note([row for _, own in compared.unlabelled for row in own.drift], distortion)
    return Report(
        title,
        facts,
        {
            **deployment_tables(full),
            "classes": [flat(row) for row in answer.classes],
        },
        [],
        drawn,
        [section for section in tables if section.rows],
        answer_section(points, answer, notes),
        answer_figure(points, answer.point, lines, "a mark is a deployment"),
    )


def deployed_answer(compared: Compared) -> tuple[str, Point, str]:
    """Choose the deployment that sums up the others: its label, its point, and the reason."""
    labelled = [(label, point) for label, point in compared.points if label]
    point = summary_point([point for _, point in compared.points])
    # A deployment of a network without branches has none active.
    label = next((label for label, own in labelled if own is point), labelled[0][0])
    labels = {label for label, _ in labelled}
    if len(labels) == 1:
        return label, labelled[0][1], f"The deployment {Path(label).name}."
    points = [point for _, point in compared.points]
    name = short_labels([*labels])[label]
    return label, point, f"{name}. {why_chosen(points, point, None, 'deployments')}"


def short_labels(paths: Sequence[str]) -> dict[str, str]:
    """Name every path by the fewest of its last parts that distinguish it from the others."""
    parts = {path: Path(path).parts for path in paths}
    for count in range(1, max(map(len, parts.values()), default=1)):
        short = {path: "/".join(own[-count:]) for path, own in parts.items()}
        if len(set(short.values())) == len(short):
            return short
    return {path: path for path in paths}


def _with_short_labels(compared: Compared) -> Compared:
    short = short_labels([*dict.fromkeys(label for label, _ in compared.points if label)])
    return Compared(
        points=[(short.get(label, label), row) for label, row in compared.points],
        exits=[(short[label], row) for label, row in compared.exits],
        exit_metrics=[(short[label], row) for label, row in compared.exit_metrics],
        unlabelled=[(short[label], own) for label, own in compared.unlabelled],
        differences=[
            replace(row, first=short[row.first], second=short[row.second])
            for row in compared.differences
        ],
    )


def _drift(compared: Compared) -> list[dict[str, str]]:
    return [
        {"deployment": label, **row}
        for label, own in compared.unlabelled
        for row in drift_rows(own.drift)
    ]


def _agreement(compared: Compared) -> list[dict[str, str]]:
    return [
        {"deployment": label, **row}
        for label, own in compared.unlabelled
        for row in agreement_rows(own.agreement)
    ]


def deployment_tables(compared: Compared) -> dict[str, list[dict[str, Cell]]]:
    """Lay out all rows flat, by table."""
    tables: dict[str, list[dict[str, Cell]]] = {
        "points": [{"deployment": label, **flat(row)} for label, row in compared.points],
        "differences": [flat(row) for row in compared.differences],
        "exits": [{"deployment": label, **flat(row)} for label, row in compared.exits],
        "quality": [{"deployment": label, **flat(row)} for label, row in compared.exit_metrics],
    }
    for label, own in compared.unlabelled:
        for name, rows in unlabelled_tables(own).items():
            tables.setdefault(name, []).extend({"deployment": label, **row} for row in rows)
    return tables


def deployment_rows(compared: Compared) -> list[dict[str, str]]:
    """Print the results of every deployment, and of the last exit alone, as rows of a table."""
    return _labelled(compared.points, point_rows)


def drift_verdicts(compared: Compared, distortion: str) -> list[str]:
    """Say for every deployment if there is drift."""
    return [
        f"{label}: {line}"
        for label, own in compared.unlabelled
        for line in (*verdicts(own.drift, distortion), *own.left_out)
    ]


def _labelled(
    rows: Sequence[tuple[str, Row]], printed: Callable[[Sequence[Row]], list[dict[str, str]]]
) -> list[dict[str, str]]:
    """Print rows with the label of their deployment before each."""
    cells = printed([row for _, row in rows])
    return [
        {"deployment": label or "-", **own} for (label, _), own in zip(rows, cells, strict=True)
    ]


POINTS_TEXT = (
    "Each row is a deployment, as its file has it, or the last exit alone. Intervals are 95 %: "
    "Wilson for shares, bootstrap over images for means; a latency is a sum of median stage times "
    "and the link."
)
