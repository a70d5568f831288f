"""Figures of reports: unusual values, long names, and rendering."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from medzoo.classification.scores import RocCurve
from medzoo.evaluation.results import Baseline, TrendPoint
from medzoo.protocols import Curve, Histogram, Score
from medzoo.report.evaluation.figures import baseline_figure, curve_figure, histogram_figure, trend_figure
from medzoo.report.figures import (
    Point,
    RenderedFigure,
    confusion_figure,
    lines_figure,
    roc_figure,
    rows_figure,
    shorten,
    wrap,
)

SCORED = Point(value=0.71, low=0.66, high=0.76)
FAILED = Point(value=math.nan, failed="out of memory")
NASTY = '<b>&"x $\\frac{$ 漢字'


def words(figure: RenderedFigure) -> list[str]:
    """The texts of a figure. It is a well-formed SVG and a PNG, and has words for those who do not see it."""
    assert figure.png.startswith(b"\x89PNG")
    assert figure.alt
    root = ElementTree.fromstring(figure.svg)
    return ["".join(part.itertext()).strip() for part in root.iter("{http://www.w3.org/2000/svg}text")]


def bars(**found: Point) -> RenderedFigure:
    return rows_figure({"cnn": found}, title="Accuracy", x_label="accuracy", baseline="real")


def test_rows_figure_names_failed_and_undefined():
    figure = bars(real=SCORED, classic=FAILED, ldm=Point(value=math.nan))
    assert {"real", "classic", "ldm", "0.710", "failed", "not defined"} <= set(words(figure))
    assert figure.alt == "Accuracy. cnn: real 0.710, classic failed, ldm not defined."


def test_rows_figure_notes_partial_values():
    assert "0.710 (3 of 5)" in words(bars(real=Point(value=0.71, note="3 of 5")))


@pytest.mark.parametrize("found", [{}, {"real": SCORED}, {"real": FAILED}, {"classic": Point(value=-0.2)}], ids=str)
def test_rows_figure_one_arm_or_none(found):
    assert "cnn" in words(bars(**found))


def test_rows_figure_names_a_mixture_in_full():
    assert {"ldm-busi=0.5+", "ddpm-var-busi=0.5"} <= set(words(bars(**{"ldm-busi=0.5+ddpm-var-busi=0.5": SCORED})))


def test_rows_figure_replaces_undecodable_bytes():
    assert {"?-arm", "0.710"} <= set(words(bars(**{"\udcff-arm": SCORED})))


def test_rows_figure_without_data():
    assert rows_figure({}, title="Accuracy", x_label="accuracy").alt == "Accuracy. No data."


def test_confusion_figure_leaves_absent_classes_blank():
    figure = confusion_figure([[40, 5, 2], [9, 18, 1], [0, 0, 0]], ["a", "b", "c"], title="cnn")
    found = words(figure)
    assert {"40", "5", "9", "18"} <= set(found)
    assert found.count("\u2013") == 3
    assert figure.alt == "cnn: 58 of 75 images classified correctly."


@pytest.mark.parametrize("classes", [1, 2, 15])
def test_confusion_figure_of_any_size(classes):
    counts = [[float(row + column) for column in range(classes)] for row in range(classes)]
    assert len(words(confusion_figure(counts, [f"class {k}" for k in range(classes)], title="t"))) >= classes**2


def test_lines_figure_shows_targets_and_failures():
    lines = {"resnet18": {0: SCORED, 500: FAILED, 5000: SCORED}, "cnn": {0: SCORED}}
    found = words(lines_figure(lines, title="Accuracy by count", x_label="images", y_label="accuracy"))
    assert {"0", "500", "5000", "resnet18", "resnet18: failed", "cnn"} <= set(found)


@pytest.mark.parametrize("places", [(0.2, 0.5, 0.8), (1000,), tuple(range(50)), (-5, -4, 100)], ids=str)
def test_lines_figure_over_ratios_epochs_and_single_points(places):
    lines = {name: dict.fromkeys(map(float, places), SCORED) for name in "abcdefghijk"}
    assert "epoch" in words(lines_figure(lines, title="t", x_label="epoch", y_label="loss", points=len(places) < 9))


def test_lines_figure_without_data_and_of_failures_only():
    for lines in ({}, {"cnn": {}}, {"cnn": {0.0: FAILED}}):
        assert "loss" in words(lines_figure(lines, title="t", x_label="epoch", y_label="loss"))


def test_roc_figure_states_areas():
    curves = {
        name: RocCurve(name=name, false_positive_rate=false, true_positive_rate=true, auc=auc)
        for name, false, true, auc in (("benign", (0, 0.2, 1), (0, 0.9, 1), 0.85), ("rare", (), (), math.nan))
    }
    assert {"benign (0.850)", "rare (not defined)", "chance (0.500)"} <= set(words(roc_figure(curves, title="ROC")))


def test_histogram_figure_of_any_sets():
    shares = {"real": (0.5, 0.5), "synthetic": (math.nan, math.nan), "other": (0.0, 1.0)}
    figure = histogram_figure(Histogram(title=NASTY, unit="px", edges=(0.0, 0.5, 1.0), shares=shares))
    assert {"real", "synthetic", "other", NASTY, "px"} <= set(words(figure))


def test_curve_figure_of_any_lines():
    lines = {"synthetic": (0.5, 1.0, math.nan), "real: half against half": (1.0, 1.1, 0.0), "other": (math.nan,) * 3}
    curve = Curve(title=NASTY, x_label="frequency", y_label="ratio", x=(0.1, 0.5, 1.0), lines=lines)
    for each in (curve, replace(curve, reference=1.0, marked=(0.5, 1.0))):
        figure = curve_figure(each)
        assert {*lines, NASTY, "frequency", "ratio", "0.5", "1", "2"} <= set(words(figure))
    assert "synthetic ends at" in figure.alt


def test_figures_fit_long_names():
    name = "a-metric-of-" + "W" * 60
    floor = Baseline(n=1024, draws=3, real=0.1, real_spread=0.1, fake=0.2, fake_spread=0.1)
    many = {f"{name} {k}": {f"{name} {k}": SCORED for k in range(3)} for k in range(2)}
    lines = {group: {0.0: SCORED, 1.0: SCORED} for group in many}
    for figure in (
        baseline_figure({name: floor}),
        rows_figure(many, title=name, x_label="accuracy"),
        lines_figure(lines, title=name, x_label="x", y_label="y"),
        confusion_figure([[3, 1], [1, 3]], list(many), title=name),
        trend_figure([TrendPoint(step=1, epoch=1, name=name, score=Score(value=1.0, n_real=9, n_fake=9))], {}),
    ):
        with Image.open(io.BytesIO(figure.png)) as image:
            gray = np.asarray(image.convert("L"))
        assert gray[:, :2].min() == gray[:, -2:].min() == gray[:2].min() == gray[-2:].min() == 255


def test_baseline_figure_without_spread_and_undefined():
    floor = Baseline(n=9, draws=1, real=0.1, real_spread=math.nan, fake=math.nan, fake_spread=math.nan)
    figure = baseline_figure({"kid@cnn": floor})
    assert "real\u2013real 0.1000, synthetic\u2013real not defined" in figure.alt
    assert "n = 9" in words(figure)


def test_trend_figure_one_checkpoint_and_undefined():
    def point(step: int, value: float) -> TrendPoint:
        return TrendPoint(step=step, epoch=step / 7, name="kid@cnn", score=Score(value=value, n_real=9, n_fake=9))

    assert "epoch" in words(trend_figure([point(7, 0.3)], {}))
    assert "kid@cnn" in words(trend_figure([point(7, math.nan), point(14, math.nan)], {}))


def test_render_figure_follows_the_color_scheme():
    figure = bars(real=SCORED)
    assert not re.findall(r"(?:fill|stroke): ?#(?!f{6}|000000)", figure.svg.decode())
    assert re.search(r"fill: ?var\(--c", figure.svg.decode())
    assert b"prefers-color-scheme:dark" in figure.svg
    assert figure == bars(real=SCORED)


def test_shorten_keeps_both_ends():
    assert shorten("a" * 20 + "b" * 20, 11) == "aaaaa\u2026bbbbb"
    assert shorten("two\nlines") == "two lines"


def test_wrap_takes_two_lines_at_most():
    assert wrap("Balanced accuracy\nby arm", 17) == "Balanced accuracy\nby arm"
    assert wrap("one two three four five", 9) == "one two\nthree\u2026"
