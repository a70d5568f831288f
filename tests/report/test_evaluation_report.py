"""What the report of an evaluation says, and the files beside it."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.example_evaluation import CLASSES, MadeImages, full_evaluation, kid, made_evaluation, made_images, rows
from helpers.html_page import Page
from PIL import Image

from medzoo.evaluation.results import FAKE, Baseline, Evaluation, MetricResult, PairwiseResult, SkippedMetric
from medzoo.protocols import Pair, Score
from medzoo.report.evaluation.images import file_names
from medzoo.report.evaluation.report import write_report
from medzoo.report.evaluation.text import (
    compare_with_baselines,
    describe_best_checkpoints,
    group_warnings,
    memorization_verdict,
)
from medzoo.report.formatting import as_sentence, format_interval, format_number, join_words, pluralize

NASTY = ('<b>&"x', "$\\frac{$", "../../etc/passwd", "Ünï-漢字", "a" * 300, "no-utf8-\udcff")


def write(evaluation: Evaluation, folder: Path, images: MadeImages | None = None) -> Page:
    """The page of a report written into `folder`, where nothing else is."""
    written = write_report(evaluation, images or made_images(evaluation.image.classes), folder)
    assert written[0] == folder / "report.html"
    assert {path.name for path in written} == {path.name for path in folder.iterdir()}
    return Page(written[0].read_text("utf-8"))


@pytest.fixture
def report(tmp_path):
    """Write a report and read its page."""

    def call(evaluation: Evaluation, images: MadeImages | None = None) -> Page:
        return write(evaluation, tmp_path, images)

    return call


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a report that has every section."""
    folder = tmp_path_factory.mktemp("report")
    write(full_evaluation(), folder)
    return folder


@pytest.fixture
def page(folder):
    """The page of a report that has every section."""
    return Page((folder / "report.html").read_text("utf-8"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-0.0031249, "\u22120.003125"),
        (23.91234, "23.91"),
        (math.nan, "not defined"),
        (-math.inf, "\u2212infinite"),
        (None, ""),
        (0.0, "0"),
        (125, "125"),
        (2048.0, "2,048"),
        (1234.56, "1235"),
        (98765.4, "98,765"),
        (0.1, "0.1000"),
        (0.0000123456, "1.235e\u22125"),
        (-3.2e12, "\u22123.200e12"),
    ],
)
def test_format_number_keeps_four_digits_and_the_sign(value, text):
    assert format_number(value) == text


def test_format_interval_pluralize_as_sentence_and_join_words():
    assert format_interval((-0.5, 0.25)) == "\u22120.5000 to 0.2500"
    assert format_interval(None) == ""
    assert (pluralize(1, "class", "classes"), pluralize(1200, "image")) == ("1 class", "1,200 images")
    assert (as_sentence("it is small"), as_sentence("Yes."), as_sentence("")) == ("It is small.", "Yes.", "")
    assert (join_words(["a"]), join_words(["a", "b", "c"])) == ("a", "a, b and c")


def test_write_report_page_has_every_section(page):
    for words in (
        "12 synthetic images were compared with 12 real images in 3 classes",
        "all at 16 \u00d7 16 pixels, grayscale, no crop.",
        "Memorization check failed",
        "2 warnings",
        "19 of 125 real images show the same scan as a training image",
        "\u22120.003120",
        "over subsets",
        "\u22120.005120 to \u22120.001120",
        "125 real, 500 synthetic",
        "64 x 64, gray repeated, bicubic",
        "Not measured: it needs sides over 160 pixels, these have 64",
        "insufficient: 18 of 50 real images",
        "std not defined",
        "distance 1.500",
        "medzoo pull inception",
        "medzoo evaluate --real busi/test --fake 'out/fake images'",
        "not for diagnosis",
    ):
        assert words in page.text


def test_write_report_page_is_accessible_and_self_contained(page):
    assert len(page.all("h1")) == 1
    assert page.all("html") == [{"lang": "en"}]
    assert all(image["alt"] for image in page.all("img"))
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    assert all(header.get("scope") in ("row", "col") for header in page.all("th"))
    assert not page.all("script")
    assert {link.get("href", "")[:1] for link in page.all("a")} == {"#"}
    anchors = {link["href"][1:] for link in page.all("a")}
    named = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert anchors <= set(named)
    assert len(named) == len(set(named))


def test_write_report_escapes_hostile_names(report):
    page = report(full_evaluation(NASTY), made_images(NASTY))
    assert not page.all("b")
    assert '<b>&"x' in page.text
    assert "$\\frac{$" in page.text


def test_file_names_safe_and_unique(tmp_path):
    names = file_names([*NASTY, "A b", "a-b", ""])
    assert len({name.lower() for name in names.values()}) == len(names)
    assert all(0 < len(name) < 70 and "/" not in name and not name.startswith(".") for name in names.values())
    assert file_names(["benign", "nearest-train@pixels"]) == {
        "benign": "benign",
        "nearest-train@pixels": "nearest-train@pixels",
    }


def test_write_report_metrics_csv_row_per_number(folder):
    table = list(csv.DictReader(io.StringIO((folder / "metrics.csv").read_text("utf-8"))))
    first = table[0]
    assert (first["name"], first["class"], first["detail"]) == ("kid@cnn-busi", "", "")
    assert (float(first["value"]), first["spread_over"], first["n_fake"]) == (-0.00312, "subsets", "500")
    assert (float(first["baseline_fake"]), first["baseline_n"], first["better"]) == (0.0312, "62", "lower")
    assert [row["value"] for row in table if row["detail"] == "recall"] == ["0.05"]
    assert [row["value"] for row in table if row["detail"] == "std"] == ["nan"]
    assert [row["missing"] for row in table if row["class"] == "benign"] == ["insufficient: 18 of 50 real images"] * 2
    assert {row["failed"] for row in table if row["name"].startswith("nearest-train")} == {"True"}


def test_write_report_pairwise_and_trend_csv(folder):
    pairwise = list(csv.DictReader(io.StringIO((folder / "pairwise.csv").read_text("utf-8"))))
    assert len(pairwise) == 12
    assert (pairwise[1]["first"], pairwise[1]["second"]) == ("real", "train")
    trend = list(csv.DictReader(io.StringIO((folder / "trend.csv").read_text("utf-8"))))
    assert [row["step"] for row in trend] == ["500", "1000", "1500", "2000", "2500", "3000"]


def test_evaluation_json_holds_everything_without_nan(folder):
    found = json.loads((folder / "evaluation.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert found["results"][3]["score"]["details"] == {"std": None}
    assert found["results"][0]["score"]["interval"] == pytest.approx([-0.00512, -0.00112])
    assert found["results"][4]["score"]["pairs"][0] == {"fake": 0, "train": 1, "distance": 1.5}
    assert found["sets"][0]["counts"] == dict.fromkeys(CLASSES, 4)
    assert found["image"]["size"] == 16


def test_write_report_saves_every_figure_as_png(folder):
    names = {path.name for path in folder.glob("*.png")}
    assert names == {
        "baselines.png",
        "trend.png",
        "curve-grain.png",
        "histogram-intensity.png",
        "histogram-nearest-train@pixels.png",
        "nearest-train@pixels.png",
        "samples-benign.png",
        "samples-malignant.png",
        "samples-normal.png",
    }
    for name in names:
        with Image.open(folder / name) as image:
            assert min(image.size) > 100


def test_write_report_is_reproducible(report, folder, tmp_path):
    report(full_evaluation())
    assert (tmp_path / "report.html").read_bytes() == (folder / "report.html").read_bytes()


def test_write_report_without_training_images(report):
    evaluation = made_evaluation(results=(rows()[1],))
    asked = report(evaluation, made_images())
    assert "Memorization check not run" in asked.text
    assert "it was not requested" in asked.text
    page = report(replace(evaluation, sets=evaluation.sets[:2]), made_images(train=False))
    assert "no training images were given" in page.text
    assert not {"nearest", "trend", "pairwise", "per-class", "histograms"} & {tag.get("id") for _, tag in page.tags}


def test_write_report_without_metrics(report):
    page = report(made_evaluation(results=()))
    assert "No warnings" in page.text
    assert "No metric was measured" in page.text


def test_write_report_class_without_synthetic_images(report, tmp_path):
    images = made_images()
    images.of[FAKE] = images.of[FAKE][:2]
    page = report(made_evaluation(results=rows(pairs=0)), images)
    assert "No synthetic images of this class." in page.text
    with Image.open(tmp_path / "samples-normal.png") as one, Image.open(tmp_path / "samples-benign.png") as two:
        assert one.height < two.height


def test_write_report_of_large_images_stays_small(report, tmp_path):
    classes = tuple(f"finding {index}" for index in range(15))
    many = tuple(
        MetricResult(name=f"metric{index}@cnn", unit="", better="lower", score=kid(), baseline=rows()[0].baseline)
        for index in range(30)
    )
    images = made_images(classes, size=192, channels=3, each=2)
    report(full_evaluation(classes, results=(*many, *rows()), size=192, channels=3), images)
    assert (tmp_path / "report.html").stat().st_size < 5_000_000


def test_write_report_thumbnails_of_small_images_keep_size(report):
    page = report(made_evaluation(size=28), made_images(size=28))
    tiles = [image for image in page.all("img") if image.get("class") == "coarse"]
    assert {image["width"] for image in tiles} == {"28"}


def test_memorization_verdict_cases():
    def verdict(*found: MetricResult) -> tuple[str, str]:
        found_verdict = memorization_verdict(made_evaluation(results=found))
        return found_verdict.state, found_verdict.sentence

    def row(name: str, **given: object) -> MetricResult:
        return MetricResult(name=name, unit="", better="lower", **given)

    good = row("nearest-train@pixels", score=Score(value=0.01, n_real=9, n_fake=9))
    bad = row("nearest-train@cnn", score=Score(value=0.2, n_real=9, n_fake=9, failed=True))
    assert verdict(good)[0] == "passed"
    state, sentence = verdict(good, bad)
    assert state == "failed"
    assert "nearest-train@cnn" in sentence
    assert "pixels" not in sentence
    assert verdict(row("nearest-train@pixels", missing="1 training image is too few"))[1].endswith("too few.")
    assert verdict()[0] == "not run"


def test_compare_with_baselines_uses_spread_and_direction():
    def compare(better: str, real: float, fake: float, spread: float = 0.1) -> str:
        floor = Baseline(n=9, draws=5, real=real, real_spread=spread, fake=fake, fake_spread=spread)
        row = MetricResult(name="m", unit="", better=better, score=kid(), baseline=floor)
        return compare_with_baselines(made_evaluation(results=(row,)))[0][1]

    assert compare("lower", 1.0, 2.0).startswith("worse")
    assert compare("higher", 1.0, 2.0).startswith("better")
    assert compare("lower", 1.0, 1.2) == "not distinguishable from real images"
    assert compare("lower", 1.0, 2.0, math.nan) == "cannot be compared"
    assert compare("neither", 1.0, 2.0) == compare("neither", 2.0, 1.0) == "different from real images"


def test_describe_best_checkpoints_with_what_follows():
    (sentence,) = describe_best_checkpoints(full_evaluation())
    assert sentence.startswith("By kid@cnn-busi, the best of 6 checkpoints is epoch 40 (step 2,000), with 0.03000")
    assert "later checkpoints are no better" in sentence
    points = full_evaluation().trend
    (sentence,) = describe_best_checkpoints(full_evaluation(trend=points[:4]))
    assert "longer training may help" in sentence
    assert describe_best_checkpoints(full_evaluation(trend=points[:1])) == []


def test_group_warnings_lists_each_once():
    twice = tuple(
        MetricResult(name=name, unit="", better="lower", score=kid(), warnings=("too few images",))
        for name in ("fid@a", "fid@b")
    )
    warnings = group_warnings(made_evaluation(results=twice))
    assert warnings == {"too few images": ["fid@a", "fid@b"]}


def test_evaluation_json_keeps_pairs_beyond_those_shown(report, tmp_path):
    pairs = tuple(Pair(fake=index % 12, train=index % 12, distance=float(index)) for index in range(20))
    row = MetricResult(
        name="nearest-train@pixels", unit="", better="lower", score=Score(value=0.0, n_real=9, n_fake=9, pairs=pairs)
    )
    page = report(made_evaluation(results=(row,)))
    assert page.text.count("nearest training image:") == 8
    found = json.loads((tmp_path / "evaluation.json").read_text("utf-8"))
    assert len(found["results"][0]["score"]["pairs"]) == 20
    assert np.isfinite([pair["distance"] for pair in found["results"][0]["score"]["pairs"]]).all()


def test_write_report_states_a_common_reason_once(report):
    small = "MS-SSIM needs sides over 160 pixels"
    rows = tuple(
        MetricResult(name="ms-ssim", unit="", better="neither", label=label, missing=small)
        for label in ("benign", "normal")
    )
    sides = (("train", "real"), ("train", "synthetic"))
    pairs = tuple(PairwiseResult(first=first, second=second, name="ms-ssim", missing=small) for first, second in sides)
    page = report(made_evaluation(per_class=rows, pairwise=pairs))
    assert page.text.count(small) == 2


def test_write_report_groups_skipped_metrics(report):
    left = [
        SkippedMetric(name=f"{name}@inception", reason="no weights", hint="medzoo pull inception")
        for name in ("fid", "kid")
    ]
    page = report(made_evaluation(skipped=tuple(left)))
    assert "fid@inception, kid@inception: no weights" in page.text
    assert page.text.count("medzoo pull inception") == 1


def test_write_report_warning_names_a_few_metrics(report):
    many = tuple(
        MetricResult(name=f"m{k}@a", unit="", better="lower", score=kid(), warnings=("too few",)) for k in range(9)
    )
    assert "Too few. (m0@a, m1@a, m2@a, m3@a, m4@a, m5@a and 3 more)" in report(made_evaluation(results=many)).text
