"""The guard on the edge's page: what it does, in words and numbers, as /health tells it."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from eenn.exits.policies.base import Policy
from eenn.offload.adaptation.state import TOTALS
from eenn.offload.adaptation.status import STATES
from eenn.offload.edge.batch import Batch
from eenn.offload.edge.clouds import LocalCloud
from tests.offload.edge.edge_service import P_TAR, runtime_of
from tests.offload.edge.page_looks import CONTRAST, SCHEMES
from tests.offload.exported import Exported

pytest_plugins = ["tests.reports.browser", "tests.offload.edge.opened_page"]
pytestmark = pytest.mark.slow

WORDS = {
    "watching": "Watching: images leave by the threshold, and some of them are audited.",
    "suspicious": "Suspicious: the images may have changed, so more of them are audited.",
    "burst": "Burst: everything is offloaded, to fit the threshold anew.",
    "offloading": "Offloading everything: no threshold was safe for the newest images.",
    "paused": "Paused: the cloud does not answer.",
}
QUIET = {
    "promised_risk": 0.03,
    "audit": 0.02,
    "state": "watching",
    "knob": "p_tar",
    "threshold": P_TAR,
    "edge_share": None,
    "expected_share": 0.89,
    "audits": 0,
    "agreement": None,
    "agreement_low": 0.0,
    "agreement_high": 1.0,
    "burst_images": None,
    "burst_size": None,
    "looks_like": None,
    "totals": dict.fromkeys(TOTALS, 0),
}
BUSY = QUIET | {
    "state": "burst",
    "threshold": None,
    "edge_share": 0.704,
    "audits": 12,
    "agreement": 11 / 12,
    "agreement_low": 0.413,
    "burst_images": 163,
    "burst_size": 228,
    "totals": dict(zip(TOTALS, (769, 498, 21, 1, 0, 2, 1, 3), strict=True)),
}


class Told:
    """Watches images and their policy for nothing but what the test says of the guard."""

    def __init__(self, policy: Policy, told: dict[str, Any]) -> None:
        self.policy, self.told = policy, told

    def begin(self) -> "Told":
        return self

    def asking(self) -> AbstractContextManager[None]:
        return nullcontext()

    def answered(self, batch: Batch) -> None:
        pass

    def save(self) -> None:
        pass

    def status(self) -> dict[str, Any]:
        return self.told


@pytest.fixture
def guarded(exported: Exported, open_edge: Callable[..., Page]) -> Callable[..., tuple[Page, Told]]:
    """A function that opens the page of an edge whose guard is as told."""

    def open_(told: dict[str, Any], **settings: Any) -> tuple[Page, Told]:
        runtime = runtime_of(exported, LocalCloud(exported.path))
        runtime.watcher = Told(runtime.policy, told)
        return open_edge(runtime, **settings), runtime.watcher

    return open_


def rows(page: Page) -> dict[str, str]:
    """What is said of the guard, by the name of the row."""
    names, texts = (page.locator(f"#guard {tag}").all_inner_texts() for tag in ("dt", "dd"))
    return {n: text.replace("\u00a0", " ") for n, text in zip(names, texts, strict=True)}


def test_without_a_guard_the_page_has_none(
    exported: Exported, open_edge: Callable[..., Page]
) -> None:
    page = open_edge(runtime_of(exported, LocalCloud(exported.path)))
    expect(page.locator("#guard")).to_be_hidden()
    assert page.get_by_role("status").count() == 1


def test_what_the_guard_does_is_said_in_words_and_numbers(
    guarded: Callable[..., tuple[Page, Told]],
) -> None:
    page, watcher = guarded(QUIET)
    promise = "at most 3.0 % of the images leave with another answer than the cloud\u2019s"
    expect(page.locator("#guarding")).to_have_text(WORDS["watching"])
    assert rows(page) == {
        "Promise": promise,
        "Threshold": "p_tar 0.65",
        "Edge share": "\u2013",
        "Audited agreement": "\u2013",
        "Alarms": "none",
        "Images in all": "0, of which 0 left on the edge and 0 were audited",
    }
    watcher.told = BUSY
    page.evaluate("refresh()")
    expect(page.locator("#guarding")).to_have_text(WORDS["burst"])
    assert rows(page) == {
        "Promise": promise,
        "Threshold": "none, everything is offloaded",
        "Burst": "163 of 228 images",
        "Edge share": "70.4 % of the images before the burst, expected 89.0 %",
        "Audited agreement": "91.7 % of 12 audited, so 41.3 % to 100.0 % of all that left",
        "Alarms": "2 by audits, 1 by the edge share",
        "Images in all": "769, of which 498 left on the edge and 21 were audited",
    }
    assert set(WORDS) == set(STATES)
    for state, words in WORDS.items():
        watcher.told = BUSY | {"state": state}
        page.evaluate("refresh()")
        expect(page.locator("#guarding")).to_have_text(words)
    watcher.told = BUSY | {"looks_like": {"gaussian_blur": 0.75, "plain": 0.25}}
    page.evaluate("refresh()")
    assert rows(page)["Looks like"] == (
        "75.0 % gaussian blur, 25.0 % undistorted or unclear, of the images judged since the last "
        "alarm"
    )
    watcher.told = QUIET | {"audit": 0, "edge_share": 0.9, "expected_share": None}
    page.evaluate("refresh()")
    expect(page.locator("#guarding")).to_have_text("Watching: images leave by the threshold.")
    assert rows(page)["Edge share"] == "90.0 % of the newest images"


# In one step, because the chart is drawn anew whenever something comes.
MARKS = """[...document.querySelectorAll(".mark")].map((mark) => {
    const [line, track] = [mark, mark.parentElement].map((own) => own.getBoundingClientRect());
    return (line.x + line.width / 2 - track.x) / track.width;
})"""


def assert_marked_at(page: Page, threshold: float) -> None:
    line = page.locator("#threshold")
    expect(line).to_contain_text(re.compile(f"threshold, {100 * threshold:.1f}\\s%"))
    marks = page.evaluate(MARKS)
    assert marks == pytest.approx(3 * [threshold], abs=0.01)


def test_marks_are_those_of_the_threshold_in_force(
    exported: Exported, guarded: Callable[..., tuple[Page, Told]]
) -> None:
    page, watcher = guarded(QUIET)
    assert_marked_at(page, P_TAR)
    watcher.told = QUIET | {"threshold": 0.925}
    assert_marked_at(page, 0.925)  # by itself, after a while
    watcher.told = BUSY
    page.set_input_files("#file", exported.files[0])
    expect(page.get_by_role("status").first).to_contain_text("at exit")
    said = "Confidence of every exit; everything is offloaded"
    expect(page.locator("#threshold")).to_have_text(said)
    expect(page.locator(".mark")).to_have_count(0)
    watcher.told = QUIET
    page.evaluate("refresh()")
    expect(page.locator("#guarding")).to_have_text(WORDS["watching"])
    # The answer is still the one that was given in the burst.
    expect(page.locator("#threshold")).to_have_text(said)
    page.set_input_files("#file", exported.files[0])
    assert_marked_at(page, P_TAR)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_guard_is_easy_to_read_in_light_and_dark(
    scheme: str, guarded: Callable[..., tuple[Page, Told]]
) -> None:
    page, watcher = guarded(BUSY, color_scheme=scheme)
    for state, words in WORDS.items():
        watcher.told = BUSY | {"state": state}
        page.evaluate("refresh()")
        expect(page.locator("#guarding")).to_have_text(words)
        texts = page.locator("#guard h2, #guard p, #guard dt, #guard dd")
        assert texts.count() == 2 + 2 * 7
        assert min(texts.evaluate_all(f"all => all.map({CONTRAST})")) >= 4.5


def test_a_narrow_screen_shows_a_value_below_its_name(
    guarded: Callable[..., tuple[Page, Told]],
) -> None:
    page, _ = guarded(BUSY)
    rows = page.locator("#guard dt, #guard dd")
    corners = "all => all.slice(0, 2).map((own) => own.getBoundingClientRect())"
    name, value = rows.evaluate_all(corners)
    assert (name["y"], name["right"]) <= (value["y"], value["x"])
    page.set_viewport_size({"width": 320, "height": 640})
    name, value = rows.evaluate_all(corners)
    assert (name["bottom"], name["x"]) == (value["y"], value["x"])
    assert page.evaluate("document.documentElement.scrollWidth") == 320
