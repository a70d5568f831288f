"""Figures of reports: what they show of odd values, and that they stay text, small and the same."""

from __future__ import annotations

import io
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from medzoo.classification.scores import RocCurve
from medzoo.evaluation.results import Baseline, TrendPoint
from medzoo.protocols import Histogram, Score
from medzoo.report.evaluation.figures import Point, floors_figure, histogram_figure, lines_figure, trend_figure
from medzoo.report.experiment.classifier_figures import bars_figure, confusion_figure, roc_figure
from medzoo.report.style import Drawing, shortened, wrapped

SOUND = Point(value=0.71, low=0.66, high=0.76)
FAILED = Point(value=math.nan, failed="out of memory")
NASTY = '<b>&"x $\\frac{$ 漢字'


def words(drawing: Drawing) -> list[str]:
    """The texts of a figure. It is a well-formed SVG and a PNG, and has words for those who do not see it."""
    assert drawing.png.startswith(b"\x89PNG")
    assert drawing.alt
    root = ElementTree.fromstring(drawing.svg)
    return ["".join(part.itertext()).strip() for part in root.iter("{http://www.w3.org/2000/svg}text")]


def bars(**found: Point) -> Drawing:
    return bars_figure({"cnn": found}, title="Accuracy", x_label="accuracy", baseline="real")


def test_bars_say_what_failed_and_what_is_not_defined():
    drawing = bars(real=SOUND, classic=FAILED, ldm=Point(value=math.nan))
    assert {"real", "classic", "ldm", "0.710", "failed", "not defined"} <= set(words(drawing))
    assert drawing.alt == "Accuracy. cnn: real 0.710, classic failed, ldm not defined."


def test_a_bar_that_stands_for_less_says_so():
    assert "0.710 (3 of 5)" in words(bars(real=Point(value=0.71, note="3 of 5")))


@pytest.mark.parametrize("found", [{}, {"real": SOUND}, {"real": FAILED}, {"classic": Point(value=-0.2)}], ids=str)
def test_bars_of_one_arm_or_none(found):
    assert "cnn" in words(bars(**found))


def test_a_mixture_is_named_in_full():
    assert {"ldm-busi=0.5+", "ddpm-var-busi=0.5"} <= set(words(bars(**{"ldm-busi=0.5+ddpm-var-busi=0.5": SOUND})))


def test_bytes_that_are_no_letters_become_question_marks():
    assert {"?-arm", "0.710"} <= set(words(bars(**{"\udcff-arm": SOUND})))


def test_bars_of_nothing():
    assert bars_figure({}, title="Accuracy", x_label="accuracy").alt == "Accuracy. Nothing to show."


def test_a_confusion_matrix_leaves_absent_classes_blank():
    drawing = confusion_figure([[40, 5, 2], [9, 18, 1], [0, 0, 0]], ["a", "b", "c"], title="cnn")
    found = words(drawing)
    assert {"40", "5", "9", "18"} <= set(found)
    assert found.count("\u2013") == 3
    assert drawing.alt == "cnn: 58 of 75 images told right."


@pytest.mark.parametrize("classes", [1, 2, 15])
def test_confusion_matrices_of_any_size(classes):
    counts = [[float(row + column) for column in range(classes)] for row in range(classes)]
    assert len(words(confusion_figure(counts, [f"class {k}" for k in range(classes)], title="t"))) >= classes**2


def test_lines_show_targets_and_failures():
    lines = {"resnet18": {0: SOUND, 500: FAILED, 5000: SOUND}, "cnn": {0: SOUND}}
    found = words(lines_figure(lines, title="Accuracy by count", x_label="images", y_label="accuracy"))
    assert {"0", "500", "5000", "resnet18", "resnet18: failed", "cnn"} <= set(found)


@pytest.mark.parametrize("places", [(0.2, 0.5, 0.8), (1000,), tuple(range(50)), (-5, -4, 100)], ids=str)
def test_lines_over_ratios_epochs_and_single_points(places):
    lines = {name: dict.fromkeys(map(float, places), SOUND) for name in "abcdefghijk"}
    assert "epoch" in words(lines_figure(lines, title="t", x_label="epoch", y_label="loss", points=len(places) < 9))


def test_lines_of_nothing_and_of_failures_alone():
    for lines in ({}, {"cnn": {}}, {"cnn": {0.0: FAILED}}):
        assert "loss" in words(lines_figure(lines, title="t", x_label="epoch", y_label="loss"))


def test_roc_curves_state_their_area():
    curves = {
        name: RocCurve(name=name, false_positive_rate=false, true_positive_rate=true, auc=auc)
        for name, false, true, auc in (("benign", (0, 0.2, 1), (0, 0.9, 1), 0.85), ("rare", (), (), math.nan))
    }
    assert {"benign (0.850)", "rare (not defined)", "chance (0.5)"} <= set(words(roc_figure(curves, title="ROC")))


def test_histograms_of_any_sets():
    shares = {"real": (0.5, 0.5), "synthetic": (math.nan, math.nan), "other": (0.0, 1.0)}
    drawing = histogram_figure(Histogram(title=NASTY, unit="px", edges=(0.0, 0.5, 1.0), shares=shares))
    assert {"real", "synthetic", "other", NASTY, "px"} <= set(words(drawing))


def test_nothing_is_cut_off_by_long_names():
    name = "a-metric-of-" + "W" * 60
    floor = Baseline(n=1024, draws=3, real=0.1, real_spread=0.1, fake=0.2, fake_spread=0.1)
    many = {f"{name} {k}": {f"{name} {k}": SOUND for k in range(3)} for k in range(2)}
    lines = {group: {0.0: SOUND, 1.0: SOUND} for group in many}
    for drawing in (
        floors_figure({name: floor}),
        bars_figure(many, title=name, x_label="accuracy"),
        lines_figure(lines, title=name, x_label="x", y_label="y"),
        confusion_figure([[3, 1], [1, 3]], list(many), title=name),
        trend_figure([TrendPoint(step=1, epoch=1, name=name, score=Score(value=1.0, n_real=9, n_fake=9))], {}),
    ):
        with Image.open(io.BytesIO(drawing.png)) as picture:
            grey = np.asarray(picture.convert("L"))
        assert grey[:, :2].min() == grey[:, -2:].min() == grey[:2].min() == grey[-2:].min() == 255


def test_floors_without_a_spread_and_not_defined():
    floor = Baseline(n=9, draws=1, real=0.1, real_spread=math.nan, fake=math.nan, fake_spread=math.nan)
    drawing = floors_figure({"kid@cnn": floor})
    assert "real against real 0.1000, synthetic against real not defined" in drawing.alt
    assert "n = 9" in words(drawing)


def test_a_trend_of_one_checkpoint_and_of_values_not_defined():
    def point(step: int, value: float) -> TrendPoint:
        return TrendPoint(step=step, epoch=step / 7, name="kid@cnn", score=Score(value=value, n_real=9, n_fake=9))

    assert "epoch" in words(trend_figure([point(7, 0.3)], {}))
    assert "kid@cnn" in words(trend_figure([point(7, math.nan), point(14, math.nan)], {}))


def test_colours_follow_the_reader_and_bytes_the_values():
    drawing = bars(real=SOUND)
    assert not re.findall(r"(?:fill|stroke): ?#(?!f{6}|000000)", drawing.svg.decode())
    assert re.search(r"fill: ?var\(--c", drawing.svg.decode())
    assert b"prefers-color-scheme:dark" in drawing.svg
    assert drawing == bars(real=SOUND)


def test_shortened_names_keep_both_ends():
    assert shortened("a" * 20 + "b" * 20, 11) == "aaaaa\u2026bbbbb"
    assert shortened("two\nlines") == "two lines"


def test_titles_take_two_lines_at_most():
    assert wrapped("Balanced accuracy\nby arm", 17) == "Balanced accuracy\nby arm"
    assert wrapped("one two three four five", 9) == "one two\nthree\u2026"
