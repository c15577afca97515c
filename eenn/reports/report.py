"""A run's report on disk: tables/*.csv, figures/*.png and *.pdf, and report.html."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eenn.files import write_file
from eenn.reports.figures import Drawn, save_figures
from eenn.reports.page import Section, report_page
from eenn.reports.tables import Cell, common_columns, raw, write_csv

PAGE = "report.html"


@dataclass(frozen=True)
class Report:
    """The content of a run's report.

    Args:
        facts: about the results, shown first.
        tables: flat rows by the name of their file; tables without rows are left out.
        opening: sections above the figures.
        closing: sections below the figures.
        headline: the answer that opens the page.
        shown: the figure of that answer.
    """

    title: str
    facts: Mapping[str, str]
    tables: Mapping[str, Sequence[Mapping[str, Cell]]]
    opening: Sequence[Section]
    figures: Sequence[Drawn]
    closing: Sequence[Section] = ()
    headline: Section | None = None
    shown: Drawn | None = None


def table_section(title: str, text: str, rows: Sequence[Mapping[str, str]]) -> Section:
    """Make the section of a table; values that all rows share stand above it."""
    common, apart_rows = common_columns(rows)
    return Section(title, "\n".join(filter(None, [text, common])), apart_rows, folded=True)


def write_report(directory: Path, report: Report) -> list[Path]:
    """Write a report into a run's directory.

    Returns:
        The PNG files of its figures.
    """
    for name, rows in report.tables.items():
        if rows:
            write_csv(directory / "tables" / f"{name}.csv", [raw(row) for row in rows])
    answer = [] if report.shown is None else [report.shown]
    pngs = save_figures(directory / "figures", [*answer, *report.figures])
    sections = [
        Section(drawn.heading, figure=file.read_bytes(), caption=drawn.caption)
        for drawn, file in zip([*answer, *report.figures], pngs, strict=True)
    ]
    headline = report.headline
    if headline is not None and answer:
        shown = sections.pop(0)
        caption = f"{shown.title}: {shown.caption}"
        headline = replace(headline, figure=shown.figure, caption=caption)
    sections = [*report.opening, *sections, *report.closing]
    write_file(directory / PAGE, report_page(report.title, report.facts, sections, headline))
    return pngs
