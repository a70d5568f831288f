"""A headless Chromium that a test drives as a reader would, by keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from helpers.browser import BROWSER

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WHY_NOT = (
    "no Chromium is installed (apt-get install chromium)"
    if BROWSER is None
    else "playwright is not installed (pip install playwright)"
    if find_spec("playwright") is None
    else ""
)

_HUNG = 600_000.0  # milliseconds after which a page is taken for hung

in_chromium = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
"""Skip a test where there is no browser, and say how to get one."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, for several pages."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=_HUNG)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def new_page(
    browser: Browser, *, width: int = 1280, dark: bool = False, server: str = ""
) -> Iterator[tuple[Page, list[str]]]:
    """A page of a new profile, and a list of what went wrong in it: errors, and requests to any host but `server`."""
    faults: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light")
    context.set_default_timeout(_HUNG)
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text))
    local = ("file:", "data:", "blob:", *([server] if server else []))
    page.on("request", lambda asked: None if asked.url.startswith(local) else faults.append(asked.url))
    yield page, faults
    context.close()


@contextmanager
def chromium_page(*, width: int = 1280, dark: bool = False) -> Iterator[tuple[Page, list[str]]]:
    """A page as `new_page` makes it, in a browser of its own."""
    with chromium() as browser, new_page(browser, width=width, dark=dark) as found:
        yield found
