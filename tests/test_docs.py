"""The pages: short, and every link, anchor and figure in them leads somewhere."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
LINES_OF_README = 150
ELSEWHERE = ("http://", "https://", "mailto:")


def tokens(page: Path) -> Iterator[Token]:
    """Yield the tokens of a page, those within lines as well."""
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(page.read_text(encoding="utf-8")):
        yield token
        yield from token.children or ()


def targets(page: Path) -> Iterator[str]:
    """Yield the addresses of links and figures."""
    for token in tokens(page):
        address = token.attrs.get("href") or token.attrs.get("src")
        if address:
            yield unquote(str(address))


def anchors(page: Path) -> set[str]:
    """Name the headings of a page as code hosts do."""
    found: set[str] = set()
    parsed = list(tokens(page))
    for opened, heading in pairwise(parsed):
        if opened.type == "heading_open":
            text = "".join(part.content for part in heading.children or ())
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            numbered = (f"{slug}-{n}" for n in range(1, 100))
            found.add(slug if slug not in found else next(s for s in numbered if s not in found))
    return found


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_and_figures_lead_somewhere(page: Path) -> None:
    broken = []
    for target in targets(page):
        if target.startswith(ELSEWHERE):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = {README}, [README]
    while waiting:
        page = waiting.pop()
        for target in targets(page):
            path = target.partition("#")[0]
            if path.endswith(".md") and not path.startswith(ELSEWHERE):
                file = (page.parent / path).resolve()
                if file not in reached:
                    reached.add(file)
                    waiting.append(file)
    assert set(PAGES) - reached == set()


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= LINES_OF_README


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_papers_are_cited_by_authors_and_year(page: Path) -> None:
    assert re.findall(r"\[[ABC]\](?!\()", page.read_text(encoding="utf-8")) == []
