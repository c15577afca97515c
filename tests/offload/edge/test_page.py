"""The edge's page in a real browser: photos in, what every exit said of them out."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from eenn.offload.edge.batch import Result
from eenn.offload.edge.clouds import LocalCloud
from eenn.offload.edge.runtime import EdgeRuntime
from tests.offload.edge.edge_service import P_TAR, Failing, runtime_of
from tests.offload.edge.page_looks import CONTRAST, SCHEMES
from tests.offload.exported import Exported

pytest_plugins = ["tests.reports.browser", "tests.offload.edge.opened_page"]
pytestmark = pytest.mark.slow
NOT_ASKED = "\u2013"


@pytest.fixture
def runtime(exported: Exported) -> EdgeRuntime:
    return runtime_of(exported, LocalCloud(exported.path))


def first(exported: Exported, runtime: EdgeRuntime, wanted: Callable[[Result], bool]) -> Path:
    """A photo whose result is as wanted."""
    return next(file for file in exported.files if wanted(runtime.classify_file(file)))


def rows(page: Page) -> list[tuple[str, str]]:
    """Of every exit, its name and what is said of it."""
    shown = page.get_by_role("listitem")
    pairs = [shown.nth(n).locator("span").all_inner_texts() for n in range(shown.count())]
    return [(name, value.replace("\u00a0", " ")) for name, value in pairs]


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def test_before_a_photo_the_page_says_what_runs(
    runtime: EdgeRuntime, open_edge: Callable[..., Page]
) -> None:
    page = open_edge(runtime)
    about = page.locator("#about")
    expect(about).to_have_text("exits 1, 2, 3 on this device, exit 4 in the cloud; 5 classes, fp32")
    devices = [(f"Exit {exit}, device", NOT_ASKED) for exit in (1, 2, 3)]
    assert rows(page) == [*devices, ("Exit 4, cloud", NOT_ASKED)]
    expect(page.get_by_role("status")).to_contain_text("No photo yet")


@pytest.mark.parametrize("exit", range(4))
def test_a_photo_shows_its_answer_and_what_every_exit_said(
    exit: int, exported: Exported, runtime: EdgeRuntime, open_edge: Callable[..., Page]
) -> None:
    photo = first(exported, runtime, lambda result: result.exit == exit)
    result = runtime.classify_file(photo)
    page = open_edge(runtime)
    page.set_input_files("#file", photo)
    status = page.get_by_role("status")
    where = "Answered on this device" if exit < 3 else "Offloaded: answered in the cloud"
    expect(status).to_contain_text(f"{where}, at exit {exit + 1}")
    expect(status).to_contain_text(result.class_name)
    expect(status).to_contain_text(re.compile(percent(result.confidence).replace(" ", r"\s")))
    seen = [percent(confidence) for confidence in result.confidences]
    assert [value for _, value in rows(page)] == seen + [NOT_ASKED] * (3 - exit)
    left = page.locator("li.left")
    expect(left).to_have_count(1)
    assert "left here" in str(left.get_attribute("aria-label"))
    assert left.locator(".exit").inner_text().startswith(f"Exit {exit + 1}")
    preview = page.get_by_role("img", name="The photo that was picked")
    assert preview.evaluate("image => image.complete && image.naturalWidth") == 48
    times = page.locator("#times")
    expect(times).to_contain_text("preprocessing")
    assert ("cloud" in times.inner_text()) == (exit == 3)


def test_bars_are_as_long_as_confidences_and_the_threshold_is_marked(
    exported: Exported, runtime: EdgeRuntime, open_edge: Callable[..., Page]
) -> None:
    photo = first(exported, runtime, lambda result: not result.on_edge)
    confidences = runtime.classify_file(photo).confidences
    page = open_edge(runtime, reduced_motion="reduce")
    page.set_input_files("#file", photo)
    expect(page.locator("li.left")).to_have_count(1)
    tracks = page.locator(".track")
    for n, confidence in enumerate(confidences):
        track = tracks.nth(n).bounding_box()
        bar = tracks.nth(n).locator(".fill").bounding_box()
        assert track
        assert bar
        assert bar["x"] == track["x"]
        assert bar["width"] == pytest.approx(confidence * track["width"], abs=1)
        mark = tracks.nth(n).locator(".mark")
        if n < 3:
            line = mark.bounding_box()
            assert line
            middle = line["x"] + line["width"] / 2 - track["x"]
            assert middle == pytest.approx(P_TAR * track["width"], abs=1)
        else:
            assert mark.count() == 0, "what comes from the cloud is final"
    assert percent(P_TAR) in page.locator("#threshold").inner_text().replace("\u00a0", " ")


def test_a_degraded_answer_says_so(exported: Exported, open_edge: Callable[..., Page]) -> None:
    runtime = runtime_of(exported, Failing())
    photo = first(exported, runtime, lambda result: result.degraded)
    page = open_edge(runtime)
    page.set_input_files("#file", photo)
    status = page.get_by_role("status")
    expect(status).to_contain_text("Degraded: the cloud did not answer (read), this device did")
    assert rows(page)[-1] == ("Exit 4, cloud", "failed")


def test_heads_made_for_a_distortion_are_named(
    exported: Exported, runtime: EdgeRuntime, open_edge: Callable[..., Page]
) -> None:
    photo = first(exported, runtime, lambda result: result.exit == 0)
    finish = runtime.finish

    def by_experts(batch: Any) -> list[Result]:
        found = finish(batch)
        return [replace(one, heads="gaussian_blur", classifier_ms=1.25) for one in found]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "finish", by_experts)
        page = open_edge(runtime)
        page.set_input_files("#file", photo)
        status = page.get_by_role("status")
        expect(status).to_contain_text("at exit 1, by the heads for gaussian blur")
        expect(page.locator("#times")).to_contain_text(re.compile(r"distortion 1\.[23]"))


def test_without_a_cloud_there_is_none_to_see(
    exported: Exported, open_edge: Callable[..., Page]
) -> None:
    page = open_edge(runtime_of(exported, None, active=(0, 2)))
    assert [name for name, _ in rows(page)] == ["Exit 1, device", "Exit 3, device"]
    expect(page.locator("#about")).to_contain_text("no cloud")


def drop(page: Page, name: str, content: bytes) -> None:
    """As a person drops a file from another window onto the page."""
    page.evaluate(
        """([name, content]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(content)], name));
            for (const kind of ["dragover", "drop"])
                document.body.dispatchEvent(new DragEvent(kind, {
                    dataTransfer: data, bubbles: true, cancelable: true,
                }));
        }""",
        [name, list(content)],
    )


def test_a_dropped_photo_is_answered_like_a_picked_one(
    exported: Exported, runtime: EdgeRuntime, open_edge: Callable[..., Page]
) -> None:
    page = open_edge(runtime)
    drop(page, "photo.jpg", exported.files[0].read_bytes())
    expect(page.get_by_role("status")).to_contain_text(
        runtime.classify_file(exported.files[0]).class_name
    )


def test_what_is_no_photo_is_told_and_the_next_photo_is_answered(
    exported: Exported, runtime: EdgeRuntime, open_edge: Callable[..., Page]
) -> None:
    page = open_edge(runtime)
    alert, status = page.get_by_role("alert"), page.get_by_role("status")
    drop(page, "photo.jpg", b"no image")
    expect(alert).to_contain_text("Not classified: this is not an image")
    expect(status).to_contain_text("No answer")
    expect(page.locator("#preview")).to_be_hidden()
    page.set_input_files("#file", exported.files[0])
    expect(status).to_contain_text("at exit")
    expect(alert).to_be_empty()


def test_a_file_that_is_too_large_is_told_before_it_is_sent(
    runtime: EdgeRuntime, open_edge: Callable[..., Page]
) -> None:
    page = open_edge(runtime)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    page.evaluate("about.max_body_bytes = 2 ** 20")
    large = {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": bytes(3 * 2**20)}
    page.set_input_files("#file", large)
    expect(page.get_by_role("alert")).to_contain_text("has 3 MiB, allowed are 1 MiB")
    assert not [url for url in sent if url.endswith("classify")]


def test_another_deployment_is_shown_with_its_first_answer(
    exported: Exported, runtime: EdgeRuntime, open_edge: Callable[..., Page]
) -> None:
    def changed(route: Route) -> None:
        route.fulfill(json={**route.fetch().json(), "active": [1, 3]})

    page = open_edge(runtime)
    page.route("**/health", changed)
    page.set_input_files("#file", exported.files[0])
    expect(page.locator("#about")).to_contain_text("exits 1, 3 on this device")
    expect(page.get_by_role("status")).to_contain_text("at exit")
    assert [name for name, _ in rows(page)] == ["Exit 1, device", "Exit 3, device", "Exit 4, cloud"]


def test_when_the_edge_is_gone_the_page_says_so(
    exported: Exported, runtime: EdgeRuntime, open_edge: Callable[..., Page]
) -> None:
    page = open_edge(runtime)
    page.route("**/classify", lambda route: route.abort())
    page.set_input_files("#file", exported.files[0])
    expect(page.get_by_role("alert")).to_contain_text("The edge does not answer")


def test_an_answer_that_comes_late_does_not_replace_a_newer_one(
    exported: Exported, runtime: EdgeRuntime, open_edge: Callable[..., Page]
) -> None:
    names = {file: runtime.classify_file(file).class_name for file in exported.files}
    older = exported.files[0]
    newer = next(file for file in exported.files if names[file] != names[older])
    page = open_edge(runtime)
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        held.append(route)
        if len(held) > 1:
            route.continue_()

    page.route("**/classify", hold_the_first)
    page.set_input_files("#file", older)
    page.set_input_files("#file", newer)
    status = page.get_by_role("status")
    expect(status).to_contain_text(names[newer])
    with page.expect_response("**/classify"):
        held[0].continue_()
    page.evaluate("new Promise((done) => setTimeout(done))")
    expect(status).to_contain_text(names[newer])
    assert names[older] not in status.inner_text()


def test_the_keyboard_picks_a_photo(
    exported: Exported, runtime: EdgeRuntime, open_edge: Callable[..., Page]
) -> None:
    page = open_edge(runtime)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    label = page.locator("label", has=page.locator("#file"))
    assert label.evaluate("label => getComputedStyle(label).outlineStyle") == "solid"
    # The chooser itself is left shut: a browser on a busy machine does not always report that.
    chosen = page.evaluate_handle("""() => {
        const chosen = [];
        document.getElementById("file").addEventListener("click", (click) => {
            click.preventDefault();
            chosen.push(click.isTrusted);
        });
        return chosen;
    }""")
    page.keyboard.press("Space")
    page.wait_for_function("chosen => chosen.length", arg=chosen)
    assert chosen.json_value() == [True]
    page.set_input_files("#file", exported.files[0])
    expect(page.get_by_role("status")).to_contain_text("at exit")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_all_text_is_easy_to_read_in_light_and_dark(
    scheme: str, exported: Exported, open_edge: Callable[..., Page]
) -> None:
    """WCAG 2 AA asks for a contrast of at least 4.5."""
    runtime = runtime_of(exported, Failing())
    photo = first(exported, runtime, lambda result: result.degraded)
    page = open_edge(runtime, color_scheme=scheme)
    texts = page.locator("h1, p, label, li span")
    for given in (None, photo, "broken"):
        if given == "broken":
            drop(page, "photo.jpg", b"no image")
            expect(page.get_by_role("alert")).not_to_be_empty()
        elif given:
            page.set_input_files("#file", given)
            expect(page.get_by_role("status")).to_contain_text("Degraded")
        for n in range(texts.count()):
            if texts.nth(n).inner_text().strip():
                assert texts.nth(n).evaluate(CONTRAST) >= 4.5, texts.nth(n).inner_text()


def test_light_and_dark_differ(runtime: EdgeRuntime, open_edge: Callable[..., Page]) -> None:
    page = open_edge(runtime)
    grounds = set()
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


def test_a_narrow_screen_shows_all_without_scrolling_sideways(
    exported: Exported, runtime: EdgeRuntime, open_edge: Callable[..., Page]
) -> None:
    wide = io.BytesIO()
    Image.new("RGB", (3000, 200), "teal").save(wide, "PNG")
    page = open_edge(runtime)
    page.set_viewport_size({"width": 320, "height": 640})
    drop(page, "wide.png", wide.getvalue())
    expect(page.get_by_role("status")).to_contain_text("at exit")
    assert page.evaluate("document.documentElement.scrollWidth") == 320


def test_a_phone_offers_its_camera_and_a_desk_does_not(
    runtime: EdgeRuntime, open_edge: Callable[..., Page]
) -> None:
    phone = open_edge(runtime, has_touch=True, is_mobile=True)
    expect(phone.get_by_text("Take a photo")).to_be_visible()
    camera = phone.get_by_label("Take a photo")
    assert camera.get_attribute("capture") == "environment"
    assert camera.get_attribute("accept") == "image/*"
    expect(open_edge(runtime).get_by_text("Take a photo")).to_be_hidden()
