"""The gallery in a real browser: filters, copying, a phone's width, and no request to anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.chromium import chromium_page, in_chromium

import medzoo

pytestmark = [pytest.mark.slow, in_chromium]


def test_gallery_filters_and_pages_by_keyboard(tmp_path: Path) -> None:
    from playwright.sync_api import expect

    made = medzoo.gallery(tmp_path / "site")
    with chromium_page(width=360, dark=True) as (page, faults):
        page.goto(made.index.as_uri())
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        expect(page.locator("#shown")).to_have_text(f"{len(made.models)} of {len(made.models)} models")
        page.locator("#kind").select_option("classifier")
        page.locator("#dataset").select_option("busi")
        expect(page.locator(".models > li:visible h3")).to_have_text(["cnn-busi"])
        expect(page.locator("#shown")).to_have_text(f"1 of {len(made.models)} models")
        page.locator("#modality").select_option("x-ray")
        expect(page.locator("#none")).to_be_visible()
        page.locator("button[type=reset]").press("Enter")
        expect(page.locator(".models > li:visible")).to_have_count(len(made.models))
        page.get_by_role("link", name="ddpm-udder", exact=True).press("Enter")
        expect(page.locator("h1")).to_have_text("ddpm-udder")
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_role("button", name="Copy: medzoo pull ddpm-udder").press("Enter")
        expect(page.locator("#status")).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == "medzoo pull ddpm-udder"
        broken = page.evaluate("[...document.images].filter(image => !image.naturalWidth).length")
        assert broken == 0
        assert not faults


def test_gallery_without_scripts(tmp_path: Path) -> None:
    made = medzoo.gallery(tmp_path / "site")
    with chromium_page() as (page, faults):
        context = page.context.browser.new_context(java_script_enabled=False)  # type: ignore[union-attr]
        plain = context.new_page()
        plain.goto(made.index.as_uri())
        assert plain.locator(".models > li").count() == len(made.models)
        assert not plain.locator("#filters").is_visible()
        assert not faults
