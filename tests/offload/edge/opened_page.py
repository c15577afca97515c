"""The edge's page in a browser; `pytest_plugins` brings it in."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from eenn.offload.edge.runtime import EdgeRuntime
from tests.offload.edge.edge_service import serving


@pytest.fixture
def open_edge(browser: Browser) -> Iterator[Callable[..., Page]]:
    """A function that serves a runtime and opens its page, which may ask nobody but the server."""
    urls, requests, errors = list[str](), list[str](), list[str]()

    def open_(runtime: EdgeRuntime, **settings: Any) -> Page:
        url = opened.enter_context(serving(runtime)).url
        context = opened.enter_context(
            browser.new_context(viewport={"width": 1100, "height": 720}, **settings)
        )
        urls.append(url)
        context.on("request", lambda request: requests.append(request.url))
        context.on("weberror", lambda error: errors.append(str(error.error)))
        context.on("console", lambda message: errors.append(message.text))
        page = context.new_page()
        page.goto(url)
        expect(page.get_by_role("listitem").first).to_be_visible()
        return page

    with ExitStack() as opened:
        yield open_
    allowed = (*(f"{url}/" for url in urls), "blob:", "data:")
    # The browser itself notes replies that are errors; the page shows those to its user.
    noted = ("status of 400", "net::ERR_FAILED")
    assert [url for url in requests if not url.startswith(allowed)] == []
    assert [error for error in errors if not any(note in error for note in noted)] == []
