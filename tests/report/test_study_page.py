"""The page of a reading study in a real browser, answered by keyboard alone, and the score of what it saves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.chromium import chromium_page, in_chromium
from helpers.image_sets import write_folder

import medzoo
from medzoo.report.study.page import NewStudy, page_images

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.slow, in_chromium]


def made(folder: Path, **given: object) -> NewStudy:
    """A small study of two classes."""
    counts = {"benign": 4, "malignant": 4}
    real = write_folder(folder / "real", counts, side=32)
    fake = write_folder(folder / "fake", counts, side=32, seed=900)
    return medzoo.new_study(real, fake, out=folder / "study", **{"per_class": 2, "repeats": 0.5, **given})  # type: ignore[arg-type]


def begin(page: Page, study: NewStudy, code: str) -> None:
    """Open the page and fill in its first form, by keys alone."""
    from playwright.sync_api import expect

    page.goto(study.page.as_uri())
    page.keyboard.press("Tab")
    expect(page.locator("#reader")).to_be_focused()
    for keys in (code, "Tab", "12", "Tab", " ", "Enter"):
        if len(keys) > 1 and keys.isalpha() and keys != code:
            page.keyboard.press(keys)
        else:
            page.keyboard.type(keys)


def answer(page: Page, study: NewStudy, number: int) -> dict[str, int]:
    """Answer a trial as one who knows the key, by digits and Enter."""
    from playwright.sync_api import expect

    trial = study.study.trials[number]
    expect(page.locator("#reading-title")).to_have_text(
        f"{'Pair' if study.study.pairs else 'Image'} {number + 1} of {len(study.study.trials)}"
    )
    expect(page.locator("#reading-title")).to_be_focused()
    right = {
        "origin": 5 if study.study.synthetic(trial) else 2,
        "class": 1 + study.study.classes.index(study.study.label(trial)),
        "quality": 3,
    }
    given = {task: right[task] for task in study.study.tasks}
    for value in given.values():
        page.keyboard.press(str(value))
    expect(page.locator("#next")).to_be_focused()
    page.keyboard.press("Enter")
    return given


def save(page: Page, path: Path) -> Path:
    """Save the answer file by pressing Enter on the link that has the focus."""
    from playwright.sync_api import expect

    expect(page.locator("#save")).to_be_focused()
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    download.value.save_as(path)
    return path


def test_study_page_whole_study_by_keyboard(tmp_path: Path) -> None:
    from playwright.sync_api import expect

    study = made(tmp_path)
    count = len(study.study.trials)
    with chromium_page() as (page, faults):
        begin(page, study, "J\u00f6 1")
        expected = [answer(page, study, number) for number in range(3)]
        # A break: the page is closed, and opened again.
        expect(page.locator("#reading-title")).to_be_focused()
        page.keyboard.press("p")
        expect(page.locator("#break-text")).to_contain_text(f"3 of {count} are answered and kept in this browser")
        page.goto("about:blank")
        page.goto(study.page.as_uri())
        expect(page.locator("#resume")).to_have_text(f"Reader J\u00f6 1 has answered 3 of {count} in this browser.")
        page.keyboard.press("Tab")
        expect(page.locator("#go")).to_be_focused()
        page.keyboard.press("Enter")
        expected += [answer(page, study, number) for number in range(3, count)]
        path = save(page, tmp_path / "answers" / "one.json")
        assert not faults
    values = json.loads(path.read_text("utf-8"))
    assert [{task: one[task] for task in study.study.tasks} for one in values["answers"]] == expected
    assert (values["reader"], values["experience"]) == ("J\u00f6 1", 12)
    assert all(one["milliseconds"] > 0 for one in values["answers"])
    found = medzoo.score_study(tmp_path / "study", [tmp_path / "answers"])
    assert found.scores.pooled["accuracy"].value == found.scores.pooled["auc"].value == 1
    assert "1 reader tells synthetic from real images" in found.verdict


def test_study_page_pairs_window_and_corrections(tmp_path: Path) -> None:
    from playwright.sync_api import expect

    study = made(tmp_path, pairs=True, repeats=0.0)
    with chromium_page() as (page, faults):
        begin(page, study, "r1")
        expect(page.locator("#reading-title")).to_be_focused()
        page.keyboard.press("Enter")  # nothing is answered
        expect(page.locator("#error")).to_have_text("Please answer: Which image is synthetic?")
        expect(page.locator("canvas")).to_have_count(2)
        before = page.evaluate("document.querySelector('canvas').toDataURL()")
        for key in ("d", "w", "+"):
            page.keyboard.press(key)
        assert page.evaluate("document.querySelector('canvas').toDataURL()") != before
        assert page.evaluate("document.querySelector('canvas').style.width") == "150%"
        page.keyboard.press("r")
        assert page.evaluate("document.querySelector('canvas').toDataURL()") == before
        page.keyboard.press("6")
        page.keyboard.press("Shift+Tab")  # back to the question, to correct it
        page.keyboard.press("1")
        assert page.evaluate("document.querySelector('#answers input:checked').value") == "1"
        page.keyboard.press("Enter")
        for number in range(1, len(study.study.trials)):
            answer(page, study, number)
        values = json.loads(save(page, tmp_path / "one.json").read_text("utf-8"))
        assert values["answers"][0]["origin"] == 1
        assert not faults


def test_study_page_shows_the_pixels_of_the_key(tmp_path: Path) -> None:
    study = made(tmp_path)
    with chromium_page() as (page, _):
        begin(page, study, "r1")
        page.wait_for_selector("canvas")
        drawn = page.evaluate("[...document.querySelector('canvas').getContext('2d').getImageData(0, 0, 32, 32).data]")
    from medzoo.data.image_facts import fingerprint_of

    shown = np.array(drawn, np.uint8).reshape(32, 32, 4)[None, :, :, 0]
    assert fingerprint_of(shown) == study.study.images[study.study.trials[0].images[0]].fingerprint


@pytest.mark.parametrize("dark", [False, True])
def test_study_page_fits_a_phone(tmp_path: Path, dark: bool) -> None:
    study = made(tmp_path, title="A reading study of ultrasound images with a long title")
    with chromium_page(width=360, dark=dark) as (page, faults):
        begin(page, study, "r1")
        page.wait_for_selector("canvas")
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        names = page.evaluate(
            "[...document.querySelectorAll('input, button, [tabindex=\"0\"]')].filter(part => part.offsetParent)"
            ".map(part => part.labels?.[0]?.textContent || part.ariaLabel || part.textContent)"
        )
        assert all(name.strip() for name in names)
        assert not faults


def test_study_page_without_storage_says_so(tmp_path: Path) -> None:
    from playwright.sync_api import expect

    study = made(tmp_path, repeats=0.0, tasks=["origin"])
    with chromium_page() as (page, _):
        page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('denied') } })")
        begin(page, study, "r1")
        expect(page.locator("#storage")).to_be_visible()
        for number in range(len(study.study.trials)):
            answer(page, study, number)
        save(page, tmp_path / "one.json")


def test_page_images_of_unequal_content_are_of_equal_length() -> None:
    random = np.random.default_rng(0)
    pixels = np.stack([np.zeros((1, 24, 24)), random.integers(0, 256, (1, 24, 24))]).astype(np.uint8)
    first, second = page_images(pixels)
    assert len(first) == len(second)
