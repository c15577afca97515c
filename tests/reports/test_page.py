"""The report's page, as a parser reads it and as people use it in a browser."""

import hashlib
import io
import random
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from playwright.sync_api import Locator, Page

from eenn.reports.page import Number, Section, report_page

pytest_plugins = ["tests.reports.browser"]

quick = settings(max_examples=100)
texts = (
    st.text(max_size=20)
    | st.text("<>&\"'/=-! ab\n;", max_size=20)
    | st.sampled_from(
        ["<script>alert(1)</script>", "</title><b>", "-->", "&amp;lt;", '" onload="x', "' x='"]
    )
)


class Elements(HTMLParser):
    """Every element in order: tag, attributes and the text directly inside it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.opened: list[int] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), []))
        if tag not in ("meta", "img"):
            self.opened.append(len(self.found) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.found[self.opened.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        if self.opened:
            self.found[self.opened[-1]][2].append(data)

    def tags(self) -> list[str]:
        return [tag for tag, _, _ in self.found]

    def texts(self, tag: str) -> list[str]:
        return ["".join(text) for found, _, text in self.found if found == tag]

    def attributes(self, name: str) -> list[str | None]:
        return [attributes[name] for _, attributes, _ in self.found if name in attributes]


def png(width: int = 60, height: int = 30, dpi: int | None = 192) -> bytes:
    file = io.BytesIO()
    given_dpi = {"dpi": (dpi, dpi)} if dpi else {}
    Image.new("RGB", (width, height), "teal").save(file, "PNG", **given_dpi)
    return file.getvalue()


@quick
@given(st.lists(texts.filter(bool), min_size=9, max_size=9), st.tuples(texts, texts))
def test_every_string_is_shown_as_it_is_and_adds_no_markup(
    strings: list[str], cells: tuple[str, str]
) -> None:
    def page(strings: Sequence[str], cells: tuple[str, str]) -> Elements:
        title, fact, value, heading, other, text, column, second, caption = strings
        rows = [{column: cells[0]}, {f"{column} {second}": cells[1]}]
        sections = [Section(heading, text, rows, png(), caption), Section(other)]
        return Elements(report_page(title, {fact: value}, sections))

    found = page(strings, cells)
    title, fact, value, heading, other, text, column, second, caption = strings
    assert found.texts("title") == found.texts("h1") == [title]
    assert (found.texts("dt"), found.texts("dd")) == ([fact], [value])
    assert found.texts("h2") == found.texts("a") == [heading, other]
    assert found.texts("p") == [text]
    assert found.texts("th") == [column, f"{column} {second}"]
    assert found.texts("td") == [cells[0], "", "", cells[1]]
    assert found.texts("figcaption") == found.attributes("alt") == [caption]
    assert found.tags() == page(["plain"] * 9, ("plain", "plain")).tags()
    assert found.opened == []


@quick
@given(st.lists(texts.filter(bool), min_size=6, max_size=6))
def test_the_answer_is_shown_as_it_is_before_the_folded_facts(strings: list[str]) -> None:
    def page(strings: Sequence[str]) -> Elements:
        title, name, value, beside, purpose, command = strings
        numbers = [Number(name, value, beside)]
        headline = Section(title, numbers=numbers, purpose=purpose, command=command)
        return Elements(report_page("t", {"f": "v"}, [Section("s")], headline))

    found = page(strings)
    title, name, value, beside, purpose, command = strings
    assert found.texts("h2") == [title, "s"]
    (said,) = found.texts("li")[:1]
    assert said.startswith(f"{name} ")
    assert (found.texts("b"), found.texts("small")) == ([value], [beside])
    assert (found.texts("p"), found.texts("code")) == ([purpose], [command])
    order = [tag for tag in found.tags() if tag in ("h1", "code", "details", "dl", "nav")]
    assert order == ["h1", "code", "details", "dl", "nav"]
    assert found.texts("a") == ["s"]
    assert found.tags() == page(["plain"] * 6).tags()


@pytest.mark.parametrize(("count", "folded"), [(3, False), (60, True)])
def test_a_long_table_opens_on_a_click_and_a_short_one_is_there(count: int, folded: bool) -> None:
    rows = [{"n": str(number)} for number in range(count)]
    tags = Elements(report_page("t", {}, [Section("s", rows=rows, folded=True)])).tags()
    assert ("details" in tags) is folded
    assert tags.count("td") == count


def test_an_interval_stands_below_its_number() -> None:
    rows = [{"a": "9.5 (9.1-9.9)", "b": "x (y)"}]
    found = Elements(report_page("t", {}, [Section("s", rows=rows)]))
    assert found.texts("td") == ["9.5 ", "x (y)"]
    assert found.texts("small") == ["(9.1-9.9)"]


def test_what_a_section_leaves_empty_is_left_out() -> None:
    assert not {"p", "table", "figure"} & set(Elements(report_page("t", {}, [Section("s")])).tags())
    unnamed = Elements(report_page("t", {}, [Section("s", figure=png())]))
    assert "img" in unnamed.tags()
    assert "figcaption" not in unnamed.tags()


@quick
@given(st.lists(texts, min_size=1, max_size=5))
def test_the_contents_lead_to_every_section_in_order(titles: list[str]) -> None:
    found = Elements(report_page("t", {}, [Section(title) for title in titles]))
    anchors = found.attributes("id")
    assert found.attributes("href") == [f"#{anchor}" for anchor in anchors]
    assert len(set(anchors)) == len(titles)


def test_figures_are_in_the_page_and_nothing_is_loaded_from_elsewhere() -> None:
    figures = [png(60, 30), png(1400, 700)]
    facts = {"data": "https://example.org/data"}
    sections = [Section("https://example.org", figure=figure) for figure in figures]
    found = Elements(report_page("t", facts, sections))
    sources = found.attributes("src")
    head = "data:image/png;base64,"
    assert all(source.startswith(head) for source in sources)
    assert [b64decode(source.removeprefix(head)) for source in sources] == figures
    assert all(href.startswith("#") for href in found.attributes("href"))
    assert "link" not in found.tags()


def test_the_browser_is_told_to_load_nothing_and_to_run_only_the_pages_own_code() -> None:
    found = Elements(report_page("t", {}, []))
    (policy,) = (a["content"] for _, a, _ in found.found if "http-equiv" in a)
    allowed = {name: sources for name, *sources in map(str.split, policy.split(";"))}
    for name, tag in (("script-src", "script"), ("style-src", "style")):
        digest = hashlib.sha256("".join(found.texts(tag)).encode()).digest()
        assert allowed.pop(name) == [f"'sha256-{b64encode(digest).decode()}'"]
    assert allowed.pop("img-src") == ["data:"]
    assert allowed.pop("default-src") == ["'none'"]
    assert all(sources == ["'none'"] for sources in allowed.values())


@pytest.mark.parametrize(("dpi", "size"), [(None, ("60", "30")), (192, ("30", "15"))])
def test_figures_are_shown_in_inches(dpi: int | None, size: tuple[str, str]) -> None:
    found = Elements(report_page("t", {}, [Section("s", figure=png(60, 30, dpi))]))
    assert (found.attributes("width"), found.attributes("height")) == ([size[0]], [size[1]])


@pytest.mark.parametrize(
    ("cells", "number"),
    [
        (["1", "-2", "+3.50", "", "-", "nan"], True),
        (["12.3 (11.0-13.5)", "1.2e3", "4E-05"], True),
        (["", "-"], False),
        (["1", "two"], False),
        (["2025-11-21"], False),
        (["1, 2, 3"], False),
        (["1 2"], False),
        (["v1"], False),
    ],
)
def test_a_column_is_of_numbers_when_all_that_is_there_is(cells: list[str], number: bool) -> None:
    rows = [{"column": cell} for cell in cells]
    found = Elements(report_page("t", {}, [Section("s", rows=rows)]))
    expected = ["number"] * (1 + len(cells)) if number else []
    assert [c for c in found.attributes("class") if c == "number"] == expected


NUMBERS = ["10", "9.5 (9.1-9.9)", "", "1.2e3", "-", "-3", "9.5", "nan", "+0.5"]
UPWARDS = ["-3", "+0.5", "9.5 (9.1-9.9)", "9.5", "10", "1.2e3", "", "-", "nan"]
DOWNWARDS = ["1.2e3", "10", "9.5 (9.1-9.9)", "9.5", "+0.5", "-3", "", "-", "nan"]
NAMES = ["exit 10", "exit 2", "", "exit 1", "b", "-", "a", "exit 2", "c"]


@pytest.fixture
def page(tmp_path: Path, open_page: Callable[[Path], Page]) -> Page:
    """A report with strings that would run if they could, a long table and a figure."""
    rows = [{"number": n, "name": m} for n, m in zip(NUMBERS, NAMES, strict=True)]
    generator = random.Random(0)
    wide = [{f"a wide column {n}": str(generator.random()) for n in range(12)} for _ in range(60)]
    hostile = "<img src=https://example.org/x onerror='throw 1'><script>throw 2</script>"
    sections = [
        Section("Sorted", hostile, rows),
        Section("x" * 300, rows=wide),
        Section("Figure", figure=png(2000, 500), caption=hostile),
    ]
    facts = {"commit": "f" * 200, hostile: hostile}
    file = tmp_path / "report.html"
    file.write_text(report_page(hostile, facts, sections), encoding="utf-8")
    return open_page(file)


def column(page: Page, index: int) -> list[str]:
    return page.locator("table").first.locator("td").all_text_contents()[index::2]


def header(page: Page, name: str) -> Locator:
    return page.get_by_role("columnheader", name=name, exact=True)


@pytest.mark.slow
def test_figures_appear_on_white_in_light_and_dark(page: Page) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        image = page.locator("img")
        assert image.evaluate("image => image.complete && image.naturalWidth") == 2000
        colour = "element => getComputedStyle(element).backgroundColor"
        assert image.evaluate(colour) == "rgb(255, 255, 255)"
        grounds.append(page.locator("body").evaluate(colour))
    assert grounds[0] != grounds[1]


@pytest.mark.slow
def test_a_click_sorts_upwards_and_the_next_downwards(page: Page) -> None:
    assert column(page, 0) == NUMBERS
    number, name = header(page, "number"), header(page, "name")
    for expected, state in ((UPWARDS, "ascending"), (DOWNWARDS, "descending")) * 2:
        number.get_by_role("button").click()
        assert column(page, 0) == expected
        assert number.get_attribute("aria-sort") == state
    assert [NAMES[NUMBERS.index(n)] for n in column(page, 0)] == column(page, 1)

    name.get_by_role("button").click()
    assert column(page, 1) == ["a", "b", "c", "exit 1", "exit 2", "exit 2", "exit 10", "-", ""]
    assert name.get_attribute("aria-sort") == "ascending"
    assert number.get_attribute("aria-sort") is None


@pytest.mark.slow
def test_equal_cells_keep_their_order(page: Page) -> None:
    name = header(page, "name").get_by_role("button")
    for _ in range(2):
        name.click()
        names, numbers = column(page, 1), column(page, 0)
        assert [n for m, n in zip(names, numbers, strict=True) if m == "exit 2"] == [
            "9.5 (9.1-9.9)",
            "nan",
        ]


@pytest.mark.slow
def test_the_keyboard_sorts(page: Page) -> None:
    for _ in range(4):  # past the three links of the contents
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert column(page, 0) == UPWARDS
    page.keyboard.press("Space")
    assert column(page, 0) == DOWNWARDS


@pytest.mark.slow
def test_a_narrow_screen_scrolls_tables_and_not_the_page(page: Page) -> None:
    page.set_viewport_size({"width": 380, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 380
    overflow = page.locator(".table").nth(1).evaluate("box => box.scrollWidth - box.clientWidth")
    assert overflow > 500


@pytest.mark.slow
def test_the_header_stays_in_sight_in_a_long_table(page: Page) -> None:
    table = page.locator(".table").nth(1)
    head = table.locator("th").first
    before = head.bounding_box()
    table.evaluate("box => box.scrollBy(0, 400)")
    assert table.evaluate("box => box.scrollTop") == 400
    assert head.bounding_box() == before
