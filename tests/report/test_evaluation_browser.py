"""The report in a real browser: no console messages, complete images, nothing wider than a phone."""

from __future__ import annotations

import pytest
from helpers.browser import BROWSER, PHONE, look
from helpers.example_evaluation import full_evaluation, made_images

from medzoo.report.evaluation.report import write_report

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")]


@pytest.mark.parametrize("width", [PHONE, 1200])
def test_write_report_page_fits_phone_and_desktop(tmp_path, width):
    names = ("malignant", '<b>&"x', "W" * 120)
    images = made_images(names)
    images.names = {role: [f"/scans/{'long-folder-name' * 8}/{index}.png" for index in range(12)] for role in images.of}
    page = write_report(full_evaluation(names), images, tmp_path)[0].read_text("utf-8")
    found, console = look(page, tmp_path, width)
    assert console == []
    assert found["broken"] == []
    assert found["pictures"] > 30
    assert found["seen"] == width
    assert found["wide"] == []
    assert found["width"] <= width


def test_look_finds_a_broken_page(tmp_path):
    bad = "<!doctype html><p style='width:500px'>wide</p><img alt='gone' src='data:image/png;base64,x'>"
    found, console = look(f"{bad}<script>console.error('oh')</script>", tmp_path)
    assert found["width"] > PHONE
    assert found["broken"] == ["gone"]
    assert len(found["wide"]) == 1
    assert any("oh" in line for line in console)
