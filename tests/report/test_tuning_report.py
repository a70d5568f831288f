"""The report of a tuning: the verdict, the policy, the search, pools and time, and what may be missing."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.browser import BROWSER, PHONE, look
from helpers.example_tuning import BASELINES, made_tuning
from helpers.html_page import Page

from medzoo.report.tuning.levers import lever_values
from medzoo.report.tuning.report import write_report
from medzoo.report.tuning.text import describe_policy, without_gain
from medzoo.tuning.policy import Policy
from medzoo.tuning.results import TuningResult


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> TuningResult:
    """A finished tuning whose policy is above the controls."""
    return made_tuning(tmp_path_factory.mktemp("tuning") / "r")


@pytest.fixture(scope="module")
def page(result: TuningResult, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Its report."""
    report, trials = write_report(result, tmp_path_factory.mktemp("report"))
    assert (report.name, trials.name) == ("report.html", "trials.csv")
    rows = list(csv.DictReader(trials.read_text("utf-8").splitlines()))
    assert [int(row["number"]) for row in rows] == [trial.number for trial in result.trials]
    assert {row["param_loss_weight"] for row in rows} == {"1.0", "0.6", "0.3"}
    return Page(report.read_text("utf-8"))


def test_write_report_begins_with_the_verdict_and_the_policy(page: Page, result: TuningResult) -> None:
    head = page.text[: page.text.index("Read this first")]
    assert result.verdict in head
    assert "40 policies over 2 pools of 24 images were scored by 'frozen' in 3 inner folds" in head
    assert "tested once on 36 held-out images" in head
    assert "31.2 min of the 60 minutes of --budget" in head
    for words in ("each class is filled up to the size of the largest class", "counts 0.3 in the loss"):
        assert words in page.text
    assert 'weights_sha256 = "abab' in page.text


def test_write_report_shows_search_arms_pools_and_time(page: Page, result: TuningResult) -> None:
    best = result.best
    assert best is not None
    for name, score in BASELINES.items():
        assert f"{name} {score:.3f}" in page.text
    assert f"+{100 * (best.score - BASELINES['classic']):.1f}" in page.text
    assert page.text.count(" policy 0.") == 3  # one held out, two finalists
    assert (
        "real images, augmented to 300 per class with ddpm-var-busi@0.3, synthetic images of loss weight" in page.text
    )
    assert "folder:" not in page.text
    assert "Holm-adjusted p" in page.text
    assert "varies real images, strength 0.3" in page.text
    assert "Drawing the pools of images 5.2 min 17%" in page.text
    assert "way of using images = replace 0.5: the best of" in page.text
    assert "trained on images that the inner folds test on" in page.text


def test_write_report_page_is_self_contained_and_described(page: Page) -> None:
    images = page.all("img")
    assert all(str(image["src"]).startswith("data:") and image["alt"] for image in images)
    # Two classes with four images of each pool, above half of them their sources, and the figures.
    assert sum(str(image["alt"]).startswith("source, ") for image in images) == 8
    assert sum(str(image["alt"]).startswith("synthetic, ") for image in images) == 16
    assert any("in the order of the search" in str(image["alt"]) for image in images)
    assert not page.all("script")


def test_write_report_same_results_give_the_same_bytes(result: TuningResult, tmp_path: Path) -> None:
    quick = replace(result, trials=result.trials[:4], finalists=None, held_out=None)
    first, again = (write_report(quick, tmp_path / name)[0].read_bytes() for name in "ab")
    assert first == again


def test_write_report_of_a_policy_against_adding_says_so(result: TuningResult, tmp_path: Path) -> None:
    policy = replace(result.policy, augment=False)
    found = replace(result, policy=policy, trials=(), finalists=None, held_out=None)
    found = replace(found, verdict="Do not augment: nothing helps")
    text = Page(write_report(found, tmp_path)[0].read_text("utf-8")).text
    assert "Do not augment Do not augment: nothing helps." in text
    assert "medzoo augment --policy adds no images" in text
    assert "What came closest" in text


def test_write_report_without_trials_and_pools(result: TuningResult, tmp_path: Path) -> None:
    shutil.copytree(result.folder, tmp_path / "r")
    shutil.rmtree(tmp_path / "r" / "pools" / "ldm-busi")
    shutil.rmtree(tmp_path / "r" / "data")
    found = replace(result, folder=tmp_path / "r", trials=(), finalists=None, held_out=None, baselines={})
    found = replace(found, provenance={"classifier": "cnn", "data": {"path": str(tmp_path / "r" / "data")}})
    page = Page(write_report(found, tmp_path)[0].read_text("utf-8"))
    assert "The images are no longer in the tuning's folder." in page.text
    assert not any(str(image["alt"]).startswith("source") for image in page.all("img"))


def test_lever_values_sorts_numbers_and_leaves_out_what_was_not_varied(result: TuningResult) -> None:
    found = lever_values(result)
    assert [row.value for row in found["weight in the loss"]] == ["0.3", "0.6", "1"]
    assert "classes that get images" not in found
    assert sum(len(row.trials) for row in found["images"]) == len(result.trials)


def test_without_gain_names_values_below_the_best_control(result: TuningResult) -> None:
    lines = without_gain(result, lever_values(result))
    assert any(line.startswith("way of using images = replace 0.5") for line in lines)
    assert not without_gain(replace(result, baselines={}), lever_values(result))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target_share": 1.5}, "each class is filled up to 1.5 times the size of the largest class"),
        ({"fill": "all"}, "spread evenly over all classes"),
        ({"replace": 0.5}, "replaced by a synthetic one of its class with probability 0.5"),
        ({"batch_share": 0.25}, "25% of each batch is synthetic"),
        ({"stage": "refit"}, "then its last layer on balanced real ones"),
        ({"select": "agreement+novelty", "pool": 3.0}, "the best 1 of 3 drawn, by agreement and novelty"),
        ({"weighted": True}, "weights classes by inverse frequency"),
        ({}, "like real images"),
    ],
)
def test_describe_policy_says_what_each_lever_does(changes: dict[str, object], words: str) -> None:
    policy = replace(Policy(augment=True, generator="ldm-busi", classes=("a", "b")), **changes)  # type: ignore[arg-type]
    assert words in "; ".join(text for _, text in describe_policy(policy))


@pytest.mark.slow
@pytest.mark.xdist_group("experiment-report")
@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
@pytest.mark.parametrize("width", [PHONE, 1200])
def test_write_report_page_fits_phone_and_desktop(result: TuningResult, tmp_path: Path, width: int) -> None:
    report = write_report(result, tmp_path)[0]
    found, console = look(report.read_text("utf-8"), tmp_path, width)
    assert console == []
    assert found["broken"] == []
    assert found["wide"] == []
    assert found["width"] <= width
