"""The report of a run: one HTML page that needs no other file, no server and no network."""

import hashlib
import io
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from PIL import Image

_CSS = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
_JS = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
_MISSING = ("", "-", "nan")
# A subset of the numbers that JavaScript's parseFloat reads, as the page sorts by parseFloat.
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?( \(.*\))?", re.IGNORECASE)
_FOLDED_FROM = 7  # rows


class Number(NamedTuple):
    """A number that is shown large: its name, the number with its unit, and remarks."""

    name: str
    value: str
    beside: str = ""


@dataclass(frozen=True)
class Section:
    """A titled part of the report; empty fields are left out.

    Attributes:
        text: plain text; its line breaks are kept.
        rows: the table, a mapping of column to printable cell per row. Columns whose cells are
            numbers, such as 12.3, 1.2e3 or 12.3 (11.0-13.5), are sorted as numbers; a cell that
            is absent, empty, "-" or "nan" comes last.
        figure: a PNG file. It is shown in the size, in inches, that its resolution gives it.
        caption: a description of the figure, also for readers who cannot see it.
        links: files beside the page, by the cell of the table's first column that leads there.
        folded: a table of more than a few rows opens on a click only.
        numbers: shown large, above the text.
        purpose: the purpose of the command.
        command: for a shell.
    """

    title: str
    text: str = ""
    rows: Sequence[Mapping[str, str]] = ()
    figure: bytes | None = None
    caption: str = ""
    links: Mapping[str, str] = field(default_factory=dict)
    folded: bool = False
    numbers: Sequence[Number] = ()
    purpose: str = ""
    command: str = ""


def report_page(
    title: str,
    facts: Mapping[str, str],
    sections: Sequence[Section],
    headline: Section | None = None,
) -> str:
    """Build the whole page as HTML, to be written as UTF-8.

    All strings are escaped: none can add markup. The page forbids its browser to load
    anything and to run any script or style but its own.

    Args:
        facts: the origin of the results (artifact, data, seed, commit, ...), shown first.
        headline: the answer that opens the page; the facts are then folded below it.
    """
    anchors = [f"{n}-{_slug(section.title)}" for n, section in enumerate(sections, 1)]
    contents = "".join(
        f'<li><a href="#{anchor}">{escape(section.title)}</a></li>\n'
        for anchor, section in zip(anchors, sections, strict=True)
    )
    terms = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>\n"
        for name, value in facts.items()
    )
    facts_list = f"<dl>\n{terms}</dl>\n"
    answer = ""
    if headline is not None:
        answer = _section("headline", headline)
        facts_list = f"<details>\n<summary>Origin and settings</summary>\n{facts_list}</details>\n"
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(_CSS)}; script-src {_hash(_JS)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_CSS}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{answer}{facts_list}</header>
<nav aria-label="Contents">
<ol>
{contents}</ol>
</nav>
<main>
{"".join(map(_section, anchors, sections))}</main>
<script>{_JS}</script>
</body>
</html>
"""


def _section(anchor: str, section: Section) -> str:
    numbers = "".join(
        f"<li>{escape(one.name)} <b>{escape(one.value)}</b> "
        f"<small>{escape(one.beside)}</small></li>\n"
        for one in section.numbers
    )
    purpose = f"<p>{escape(section.purpose)}</p>\n" if section.purpose else ""
    parts = [
        f"<ul>\n{numbers}</ul>\n" if numbers else "",
        f"<p>{escape(section.text)}</p>\n" if section.text else "",
        f"{purpose}<pre><code>{escape(section.command)}</code></pre>\n" if section.command else "",
        _folding(section) if section.rows else "",
    ]
    figure = _figure(section.figure, section.caption) if section.figure else ""
    return (
        f'<section id="{anchor}">\n<h2>{escape(section.title)}</h2>\n'
        f"<div>\n{''.join(parts)}</div>\n{figure}</section>\n"
    )


def _folding(section: Section) -> str:
    table, count = _table(section.rows, section.links), len(section.rows)
    if not section.folded or count < _FOLDED_FROM:
        return table
    return f"<details>\n<summary>{count} rows</summary>\n{table}</details>\n"


def _table(rows: Sequence[Mapping[str, str]], links: Mapping[str, str]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    kinds = [_kind([row.get(column, "") for row in rows]) for column in columns]
    head = "".join(
        f'<th scope="col"{kind}>{escape(column)}</th>'
        for column, kind in zip(columns, kinds, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{kind}>{_cell(row.get(column, ''), kind, {} if number else links)}</td>"
            for number, (column, kind) in enumerate(zip(columns, kinds, strict=True))
        )
        + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="table"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody>\n</table></div>\n"
    )


def _cell(text: str, kind: str, links: Mapping[str, str]) -> str:
    """Write a cell's text with its link, the interval of a number below it."""
    if text in links:
        return f'<a href="{quote(links[text])}">{escape(text)}</a>'
    number, bracket, interval = text.partition(" (")
    if not kind or not bracket:
        return escape(text)
    return f"{escape(number)} <small>({escape(interval)}</small>"


def _kind(cells: Sequence[str]) -> str:
    present = [cell for cell in cells if cell not in _MISSING]
    numbers = bool(present) and all(map(_NUMBER.fullmatch, present))
    return ' class="number"' if numbers else ""


def _figure(png: bytes, caption: str) -> str:
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        # CSS counts 96 pixels to the inch; a finer figure stays sharp on dense screens.
        scale = 96 / image.info.get("dpi", (96,))[0]
        width, height = (round(side * scale) for side in image.size)
    text = escape(caption)
    below = f"<figcaption>{text}</figcaption>\n" if caption else ""
    return (
        f'<figure>\n<img alt="{text}" width="{width}" height="{height}" '
        f'src="data:image/png;base64,{b64encode(png).decode()}">\n{below}</figure>\n'
    )


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _hash(code: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
