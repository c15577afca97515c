"""A run's report on disk: tables/*.csv, figures/*.png and *.pdf, and report.html."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eenn.files import write_file
from eenn.reports.figures import Drawn, save_figures
from eenn.reports.page import Section, report_page
from eenn.reports.tables import Cell, raw, write_csv

PAGE = "report.html"


@dataclass(frozen=True)
class Report:
    """What a run leaves for people.

    Args:
        facts: about the results, shown first.
        tables: flat rows by the name of their file; those without rows are left out.
        opening: sections above the figures.
        closing: sections below them.
    """

    title: str
    facts: Mapping[str, str]
    tables: Mapping[str, Sequence[Mapping[str, Cell]]]
    opening: Sequence[Section]
    figures: Sequence[Drawn]
    closing: Sequence[Section] = ()


def write_report(directory: Path, report: Report) -> list[Path]:
    """Write a report into a run's directory.

    Returns:
        The PNG files of its figures.
    """
    for name, rows in report.tables.items():
        if rows:
            write_csv(directory / "tables" / f"{name}.csv", [raw(row) for row in rows])
    pngs = save_figures(directory / "figures", report.figures)
    shown = [
        Section(drawn.heading, figure=file.read_bytes(), caption=drawn.caption)
        for drawn, file in zip(report.figures, pngs, strict=True)
    ]
    sections = [*report.opening, *shown, *report.closing]
    write_file(directory / PAGE, report_page(report.title, report.facts, sections))
    return pngs
