"""How every evaluation and benchmark ends: report, summary, prints, tracking."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from eenn.files import Json, write_json
from eenn.reports.report import PAGE, Report, write_report
from eenn.reports.tables import Cell, table
from eenn.run_directory import SUMMARY
from eenn.workflows.run import Run
from eenn.workflows.tracking import publish_report


def conclude(
    run: Run,
    report: Report,
    summary: Mapping[str, Json],
    shown: Sequence[Sequence[Mapping[str, str]]],
    headline: Mapping[str, Mapping[str, Cell]],
) -> None:
    """End a run: write its report and `summary.json`, print what it came to, and track it.

    Args:
        shown: tables to print.
        headline: flat rows by name, whose numbers become the summary of the W&B run.
    """
    facts = {**report.facts, **_origin(run)}
    pngs = write_report(run.directory, replace(report, facts=facts))
    write_json(run.directory / SUMMARY, {**summary, **run.provenance})
    print("".join(f"\n{table(rows)}\n" for rows in shown))
    print(f"report: {run.directory / PAGE}\n")
    if run.project:
        publish_report(run, report.tables, headline, pngs)


def _origin(run: Run) -> dict[str, str]:
    """The provenance as the page shows it."""
    origin = {key.replace("_", " "): str(value) for key, value in run.provenance.items()}
    overrides = run.provenance["overrides"]
    text = " ".join(map(str, overrides)) if isinstance(overrides, list) else ""
    return {**origin, "overrides": text or "none"}
