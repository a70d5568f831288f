"""Comparisons of experiments: what is compared, what is not, and why."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from helpers.example_experiment import ARMS, SKILL, made_experiment
from helpers.html_page import Page

from medzoo.errors import ConfigError
from medzoo.experiment.config import parse_arms
from medzoo.experiment.statistics import paired_test
from medzoo.report.experiment.compare import (
    ComparisonRow,
    ExperimentComparison,
    compare_experiments,
    write_comparison,
)

FEW = parse_arms(["real", "ldm"], targets=[500], controls=False)


@pytest.fixture
def beside(tmp_path):
    """Lay a plain experiment beside ones that differ as given."""

    def call(*others: dict[str, Any]) -> ExperimentComparison:
        made = [
            made_experiment(tmp_path / f"{index}", **{"arms": FEW, "classifiers": ("cnn",), "folds": 3, **given})
            for index, given in enumerate([{"name": "first"}, *others])
        ]
        return compare_experiments(made)

    return call


def row(found: ExperimentComparison, arm: str) -> ComparisonRow:
    return next(row for row in found.rows if row.arm == arm)


def test_compare_experiments_pairs_differences_by_fold(beside):
    found = beside({"name": "second", "skill": {**SKILL, "ldm": 3.0}})
    first, second = (
        [cell.value("balanced_accuracy") for cell in experiment.of("ldm", "cnn")]
        for experiment in found.experiments.values()
    )
    overlap = found.experiments["first"].overlap
    difference = row(found, "ldm").scores[1].difference
    assert difference == paired_test(second, first, overlap=overlap).difference
    assert difference.mean > 0
    assert row(found, "real").scores[1].difference.mean == 0
    assert found.incomparable == {"second": ""}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"fingerprint": "aa" * 32}, "different data"),
        ({"classes": ("a", "b", "c")}, "different data"),
        ({"folds": 4}, "a different test split"),
        ({"folds": 0, "seeds": 3}, "a different test split"),
        ({"seeds": 2}, "different settings (seeds)"),
        ({"settings": {"seed": 7}}, "different settings (seed)"),
        (
            {"fingerprint": "aa" * 32, "settings": {"validation": 0.2}},
            "different data and different settings (validation)",
        ),
    ],
    ids=str,
)
def test_compare_experiments_refuses_other_data_or_splits(beside, given, why):
    found = beside({"name": "second", **given})
    assert found.incomparable == {"second": why}
    assert {score.difference for row in found.rows for score in row.scores} == {None}
    assert {row.scores[1].reason for row in found.rows} == {why}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"steps": 400}, "400 optimizer steps vs. 200"),
        ({"arms": parse_arms(["real", "ldm"], targets=[900], controls=False)}, "a different arm of the same name"),
    ],
    ids=["steps", "target"],
)
def test_compare_experiments_checks_arms_of_the_same_name(beside, given, why):
    found = beside({"name": "second", **given})
    assert found.incomparable == {"second": ""}
    assert row(found, "ldm").scores[1].reason == why
    assert row(found, "ldm").scores[1].difference is None


def test_compare_experiments_leaves_missing_arms_blank(beside):
    found = beside({"name": "second", "arms": ARMS[:1], "classifiers": ("cnn", "resnet18")})
    assert [(row.arm, row.classifier) for row in found.rows] == [
        ("real", "cnn"),
        ("ldm", "cnn"),
        ("real", "resnet18"),
    ]
    assert [score.summary is None for score in row(found, "ldm").scores] == [False, True]
    assert found.rows[2].scores[0].summary is None
    assert found.rows[2].scores[1].difference is None


def test_compare_experiments_failed_cells_make_a_difference_partial(beside):
    found = beside({"name": "second", "failed": frozenset({("ldm", "cnn", 1)})})
    difference = row(found, "ldm").scores[1].difference
    assert (difference.n, difference.n_failed) == (2, 1)


def test_compare_experiments_lists_differing_settings(beside):
    found = beside({"name": "second", "settings": {"classifier.cnn.training.rate": 0.01}})
    assert found.settings == {"classifier.cnn.training.rate": (None, 0.01)}


def test_compare_experiments_gives_unique_names(beside):
    assert list(beside({"name": "first"}).experiments) == ["0", "1"]


def test_compare_experiments_needs_two(beside):
    with pytest.raises(ConfigError, match="a comparison needs at least two"):
        beside()


def test_write_comparison_page_and_table(beside, tmp_path):
    found = beside(
        {"name": "second", "failed": frozenset({("ldm", "cnn", 1)}), "settings": {"epochs": 20}},
        {"name": '<b>&"x', "fingerprint": "aa" * 32},
    )
    written = write_comparison(found, tmp_path / "out")
    assert [path.name for path in written] == ["compare.html", "compare.csv"]
    page = Page(written[0].read_text("utf-8"))
    for words in (
        'first, second and <b>&"x, compared in balanced accuracy. Differences are relative to first.',
        '<b>&"x cannot be compared with first: it has different data.',
        "second: Failed: cnn on ldm, fold 2.",
        "(n = 2)",
        "epochs 10 20 10",
    ):
        assert words in page.text
    assert not page.all("b")
    table = list(csv.DictReader(io.StringIO(written[1].read_text("utf-8"))))
    assert len(table) == 6
    assert {record["not_compared"] for record in table} == {"", "different data"}
    assert {record["difference"] for record in table if record["experiment"] == "second"} == {"0.0"}
    first = [path.read_bytes() for path in written]
    assert [path.read_bytes() for path in write_comparison(found, tmp_path / "again")] == first


def test_to_dict_is_plain(beside):
    values = beside({"name": "second"}).to_dict()
    assert values["experiments"] == ["first", "second"]
    assert values["rows"][0]["scores"][1]["difference"]["mean"] == 0


def test_experiment_compare_prints_table_and_writes_page(beside, tmp_path, medzoo):
    beside({"name": "second", "failed": frozenset({("ldm", "cnn", 1)})}, {"name": "third", "fingerprint": "aa" * 32})
    folders = [tmp_path / name for name in "012"]
    outcome = medzoo("experiment", "compare", *folders, "--out", tmp_path / "out")
    assert outcome.code == 0
    head, *rows, path = outcome.out.splitlines()
    assert head.split() == ["classifier", "arm", "first", "second", "difference", "third"]
    assert [row.split()[:2] for row in rows] == [["cnn", "real"], ["cnn", "ldm"]]
    assert "(2 of 3)" in rows[1]
    assert Path(path) == tmp_path / "out" / "compare.html"
    assert "third cannot be compared with first: it has different data" in outcome.err
    assert '"not_comparable"' in medzoo("experiment", "compare", *folders, "--json").out
