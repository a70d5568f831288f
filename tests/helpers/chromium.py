"""A headless Chromium that a test drives as a reader would, by keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from helpers.browser import BROWSER

if TYPE_CHECKING:
    from playwright.sync_api import Page

WHY_NOT = (
    "no Chromium is installed (apt-get install chromium)"
    if BROWSER is None
    else "playwright is not installed (pip install playwright)"
    if find_spec("playwright") is None
    else ""
)

in_chromium = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
"""Skip a test where there is no browser, and say how to get one."""


@contextmanager
def chromium_page(*, width: int = 1280, dark: bool = False, server: str = "") -> Iterator[tuple[Page, list[str]]]:
    """A page of a new profile, and a list of what went wrong in it: errors, and requests to any host but `server`."""
    from playwright.sync_api import sync_playwright

    faults: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        scheme = "dark" if dark else "light"
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
        context.set_default_timeout(600_000)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text))
        local = ("file:", "data:", "blob:", *([server] if server else []))
        page.on("request", lambda asked: None if asked.url.startswith(local) else faults.append(asked.url))
        yield page, faults
        browser.close()
