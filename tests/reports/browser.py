"""A real browser for tests of pages; `pytest_plugins = ["tests.reports.browser"]` brings it in."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

expect.set_options(timeout=60_000)  # a busy machine's browser is slow
NAMES = ("chromium", "chromium-browser", "google-chrome")


# Playwright keeps an event loop running in this thread: for the whole session, it would make
# asyncio.run fail in every later test.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium, without a window; without one, tests fail in CI and skip elsewhere."""
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        stop = pytest.fail if os.environ.get("CI") else pytest.skip
        stop(f"no browser: none of {', '.join(NAMES)} is on the PATH")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[[Path], Page]]:
    """A function that opens a file, which may ask for nothing but itself and report no error."""
    requests, errors, allowed = [], [], []
    with browser.new_context(viewport={"width": 1200, "height": 800}) as context:
        context.on("request", lambda request: requests.append(request.url))
        context.on("weberror", lambda error: errors.append(str(error.error)))
        context.on("console", lambda message: errors.append(message.text))

        def open_(file: Path) -> Page:
            allowed.append(file.as_uri())
            page = context.new_page()
            page.goto(file.as_uri())
            return page

        yield open_
        others = [url for url in requests if not url.startswith((*allowed, "data:"))]
        assert (others, errors) == ([], [])
