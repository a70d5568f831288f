"""The report in a real browser: quiet console, whole pictures, nothing wider than a phone."""

from __future__ import annotations

import pytest
from helpers.browser import BROWSER, PHONE, look
from helpers.example_evaluation import full_evaluation, made_pictures

from medzoo.report.evaluation.report import write_report

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")]


@pytest.mark.parametrize("width", [PHONE, 1200])
def test_the_report_fits_a_phone_and_a_desk(tmp_path, width):
    names = ("malignant", '<b>&"x', "W" * 120)
    pictures = made_pictures(names)
    pictures.names = {
        role: [f"/scans/{'long-folder-name' * 8}/{index}.png" for index in range(12)] for role in pictures.of
    }
    page = write_report(full_evaluation(names), pictures, tmp_path)[0].read_text("utf-8")
    found, console = look(page, tmp_path, width)
    assert console == []
    assert found["broken"] == []
    assert found["pictures"] > 30
    assert found["seen"] == width
    assert found["wide"] == []
    assert found["width"] <= width


def test_the_browser_sees_what_is_wrong(tmp_path):
    bad = "<!doctype html><p style='width:500px'>wide</p><img alt='gone' src='data:image/png;base64,x'>"
    found, console = look(f"{bad}<script>console.error('oh')</script>", tmp_path)
    assert found["width"] > PHONE
    assert found["broken"] == ["gone"]
    assert len(found["wide"]) == 1
    assert any("oh" in line for line in console)
