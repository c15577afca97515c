"""The report of deployments on the same images."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from eenn.evaluation.deployed import Compared, Difference
from eenn.reports.evaluation import unlabelled_tables
from eenn.reports.figures import Drawn
from eenn.reports.page import Section
from eenn.reports.report import Report
from eenn.reports.rows import (
    AGREEMENT_TEXT,
    DRIFT_TEXT,
    EXITS_TEXT,
    QUALITY_TEXT,
    agreement_rows,
    drift_rows,
    point_rows,
    quality_rows,
    taken_rows,
    verdicts,
)
from eenn.reports.tables import Cell, flat, number, varying, without
from eenn.statistics.intervals import Estimate

Row = TypeVar("Row")


def deployments_report(
    title: str,
    facts: Mapping[str, str],
    compared: Compared,
    distortion: str,
    drawn: Sequence[Drawn],
) -> Report:
    """Put together the report of deployments on the same images.

    Args:
        drawn: figures of their networks.
    """
    opening = [Section("Deployments", POINTS_TEXT, deployment_rows(compared))]
    if compared.differences:
        rows = difference_rows(compared.differences)
        opening.append(Section("Differences", DIFFERENCES_TEXT, rows))
    drift = [
        {"deployment": label, **row}
        for label, own in compared.unlabelled
        for row in drift_rows(own.drift)
    ]
    said = [*drift_verdicts(compared, distortion), DRIFT_TEXT]
    opening.append(Section("Drift", "\n".join(said), drift))
    agreement = [
        {"deployment": label, **row}
        for label, own in compared.unlabelled
        for row in agreement_rows(own.agreement)
    ]
    closing = [
        Section("Who stopped where", EXITS_TEXT, _labelled(compared.exits, taken_rows)),
        Section("Agreement between exits", AGREEMENT_TEXT, agreement),
    ]
    if compared.quality:
        rows = _labelled(compared.quality, quality_rows)
        closing.append(Section("Quality of the exits", QUALITY_TEXT, rows))
    return Report(title, facts, deployment_tables(compared), opening, drawn, closing)


def deployment_tables(compared: Compared) -> dict[str, list[dict[str, Cell]]]:
    """Lay out all rows flat, by table."""
    tables: dict[str, list[dict[str, Cell]]] = {
        "points": [{"deployment": label, **flat(row)} for label, row in compared.points],
        "differences": [flat(row) for row in compared.differences],
        "exits": [{"deployment": label, **flat(row)} for label, row in compared.exits],
        "quality": [{"deployment": label, **flat(row)} for label, row in compared.quality],
    }
    for label, own in compared.unlabelled:
        for name, rows in unlabelled_tables(own).items():
            tables.setdefault(name, []).extend({"deployment": label, **row} for row in rows)
    return tables


def deployment_rows(compared: Compared) -> list[dict[str, str]]:
    """Print what every deployment does, and the last exit alone, as rows of a table."""
    return _labelled(compared.points, point_rows)


def difference_rows(rows: Sequence[Difference]) -> list[dict[str, str]]:
    """Print paired differences as rows of a table."""
    cells = [
        {
            "deployment": row.second,
            "against": row.first,
            "level": f"{row.level:g}",
            "n": str(row.n),
            "accuracy, points": _signed(row.accuracy, 100),
            "edge, points": _signed(row.edge_probability, 100),
            "MMACs": _signed(row.macs, 1e-6),
            "latency ms": _signed(row.latency_ms, 1),
            "kB sent": _signed(row.sent_bytes, 1e-3),
        }
        for row in rows
    ]
    unknown = () if any(row["accuracy, points"] != "-" for row in cells) else ("accuracy, points",)
    return varying(without(cells, unknown), ("level",))


def drift_verdicts(compared: Compared, distortion: str) -> list[str]:
    """Say for every deployment whether there is drift."""
    return [
        f"{label}: {line}"
        for label, own in compared.unlabelled
        for line in (*verdicts(own.drift, distortion), *own.left_out)
    ]


def _signed(difference: Estimate, scale: float) -> str:
    """Print a difference with its interval, whose ends may be below 0."""
    value, low, high = (number(scale * end, "z.2f") for end in difference)
    return f"{value} ({low} to {high})" if low != "-" else value


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
DIFFERENCES_TEXT = (
    "By how much a deployment has more than the one it is held against, on the same images. The "
    "95 % intervals are those of the differences: a bootstrap over images, each with both its "
    "values. Shares differ by percentage points."
)
