"""The reports of experiments in a real browser: no console messages, complete images, nothing wider than a phone."""

from __future__ import annotations

import pytest
from helpers.browser import BROWSER, PHONE, look
from helpers.example_experiment import ARMS, made_experiment

from medzoo.experiment.config import Arm, parse_arms
from medzoo.report.experiment.compare import compare_experiments, write_comparison
from medzoo.report.experiment.report import write_experiment_report

pytestmark = [
    pytest.mark.xdist_group("experiment-report"),
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed"),
]

LONG = "long-" * 16
HOSTILE = {
    "name": LONG,
    "classes": ("malignant", '<b>&"x', "W" * 90),
    "arms": (*ARMS[:4], Arm(name=LONG, mixture={LONG: 0.5, "W" * 80: 0.5}, target=500)),
    "classifiers": ("cnn", f"timm:{LONG}"),
    "folds": 2,
    "failed": frozenset({("weighted", "cnn", 0)}),
    "missing": frozenset({("classic", "cnn", 1)}),
    "error": f"OSError: /{'a/' * 90} is gone",
    "settings": {f"classifier.timm:{LONG}.image.size": "x" * 200},
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A report and a comparison, both with names of any length."""
    folder = tmp_path_factory.mktemp("experiments")
    experiment = made_experiment(folder / "hostile", **HOSTILE)
    other = made_experiment(folder / "other", arms=parse_arms(["real"], targets=[500], controls=False), folds=2)
    write_experiment_report(experiment)
    compared = write_comparison(compare_experiments([experiment, other]), folder / "out")[0]
    return {"report": folder / "hostile" / "report.html", "compare": compared}


@pytest.mark.parametrize("width", [PHONE, 1200])
@pytest.mark.parametrize("name", ["report", "compare"])
def test_write_experiment_report_page_fits_phone_and_desktop(pages, tmp_path, name, width):
    found, console = look(pages[name].read_text("utf-8"), tmp_path, width)
    assert console == []
    assert found["broken"] == []
    assert (found["pictures"] > 20) == (name == "report")
    assert found["seen"] == width
    assert found["wide"] == []
    assert found["width"] <= width
