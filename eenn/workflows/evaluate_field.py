"""An evaluation of field logs: what a serving edge wrote down, without its artifact or images."""

from collections.abc import Sequence
from pathlib import Path

from eenn.evaluation.field import FieldTotals
from eenn.evaluation.field_images import read_field_logs
from eenn.files import Json
from eenn.reports.field import field_report, total_rows
from eenn.reports.summed_up import logged
from eenn.reports.tables import flat, table
from eenn.run_directory import SUMMARY
from eenn.workflows.conclusion import Conclusion, conclude
from eenn.workflows.run import Run
from eenn.workflows.tracking import run_tracker


def run_field(run: Run, paths: Sequence[Path]) -> None:
    """Read logs; write tables, figures, `report.html` and `summary.json` into the run's directory.

    Args:
        paths: of the files, which are taken for parts of one log.

    Raises:
        EennError: see `read_field_logs`.
    """
    logs = read_field_logs(paths)
    totals = [FieldTotals.of(own) for own in logs.artifacts]
    facts = {
        "field log": ", ".join(map(str, paths)),
        "artifact": ", ".join(own.artifact_id for own in logs.artifacts),
        "damaged lines": str(logs.damaged),
    }
    report = field_report(f"Field: {run.name}", facts, logs.artifacts)
    points: list[Json] = [flat(total) for total in totals]
    rows = total_rows(logs.artifacts)
    summary: dict[str, Json] = {
        "points": points,
        "table": rows,
        "field": [str(path) for path in paths],
        "damaged_lines": logs.damaged,
    }
    parts = [
        table(rows),
        f"damaged lines, left out: {logs.damaged}" if logs.damaged else "",
        "of the settings only name, field and logger are read",
    ]
    conclude(
        run.directory,
        Conclusion(report, SUMMARY, summary, "\n\n".join(filter(None, parts)), logged(totals[-1])),
        run.provenance,
        run_tracker(run),
    )
