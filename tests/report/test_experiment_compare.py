"""Experiments side by side: what is compared, what is not, and why."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from helpers.example_experiment import ARMS, SKILL, made_experiment
from helpers.html_page import Page

from medzoo.errors import ConfigError
from medzoo.experiment.arms import parse_arms
from medzoo.experiment.statistics import paired_test
from medzoo.report.experiment.compare import Line, SideBySide, side_by_side, write_comparison

FEW = parse_arms(["real", "ldm"], targets=[500], controls=False)


@pytest.fixture
def beside(tmp_path):
    """Lay a plain experiment beside ones that differ as given."""

    def call(*others: dict[str, Any]) -> SideBySide:
        made = [
            made_experiment(tmp_path / f"{index}", **{"arms": FEW, "classifiers": ("cnn",), "folds": 3, **given})
            for index, given in enumerate([{"name": "first"}, *others])
        ]
        return side_by_side(made)

    return call


def line(found: SideBySide, arm: str) -> Line:
    return next(line for line in found.lines if line.arm == arm)


def test_differences_are_paired_over_the_same_folds(beside):
    found = beside({"name": "second", "skill": {**SKILL, "ldm": 3.0}})
    first, second = (
        [cell.value("balanced_accuracy") for cell in experiment.of("ldm", "cnn")]
        for experiment in found.experiments.values()
    )
    repeats = found.experiments["first"].comparisons[0].test.repeats
    difference = line(found, "ldm").sides[1].difference
    assert difference == paired_test(second, first, repeats=repeats).difference
    assert difference.mean > 0
    assert line(found, "real").sides[1].difference.mean == 0
    assert found.apart == {"second": ""}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"fingerprint": "aa" * 32}, "other data"),
        ({"classes": ("a", "b", "c")}, "other data"),
        ({"folds": 4}, "another test scheme"),
        ({"folds": 0, "seeds": 3}, "another test scheme"),
        ({"seeds": 2}, "another seeds"),
        ({"settings": {"seed": 7}}, "another seed"),
        ({"fingerprint": "aa" * 32, "settings": {"validation": 0.2}}, "other data and another validation"),
    ],
    ids=str,
)
def test_nothing_is_compared_across_data_or_test_schemes(beside, given, why):
    found = beside({"name": "second", **given})
    assert found.apart == {"second": why}
    assert {side.difference for line in found.lines for side in line.sides} == {None}
    assert {line.sides[1].reason for line in found.lines} == {why}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"steps": 400}, "400 optimiser steps against 200"),
        ({"arms": parse_arms(["real", "ldm"], targets=[900], controls=False)}, "another arm of the same name"),
    ],
    ids=["steps", "target"],
)
def test_arms_of_one_name_are_not_always_the_same(beside, given, why):
    found = beside({"name": "second", **given})
    assert found.apart == {"second": ""}
    assert line(found, "ldm").sides[1].reason == why
    assert line(found, "ldm").sides[1].difference is None


def test_arms_and_classifiers_that_one_lacks_are_left_blank(beside):
    found = beside({"name": "second", "arms": ARMS[:1], "classifiers": ("cnn", "resnet18")})
    assert [(line.arm, line.classifier) for line in found.lines] == [
        ("real", "cnn"),
        ("ldm", "cnn"),
        ("real", "resnet18"),
    ]
    assert [side.cell is None for side in line(found, "ldm").sides] == [False, True]
    assert found.lines[2].sides[0].cell is None
    assert found.lines[2].sides[1].difference is None


def test_failed_cells_make_a_difference_partial(beside):
    found = beside({"name": "second", "failed": frozenset({("ldm", "cnn", 1)})})
    difference = line(found, "ldm").sides[1].difference
    assert (difference.n, difference.n_failed) == (2, 1)


def test_settings_that_differ_are_listed(beside):
    found = beside({"name": "second", "settings": {"classifier.cnn.training.learning_rate": 0.01}})
    assert found.settings == {"classifier.cnn.training.learning_rate": (None, 0.01)}


def test_experiments_of_one_name_are_told_apart(beside):
    assert list(beside({"name": "first"}).experiments) == ["0", "1"]


def test_one_experiment_has_nothing_beside_it(beside):
    with pytest.raises(ConfigError, match="nothing to be compared with"):
        beside()


def test_the_page_and_the_table_say_it_all(beside, tmp_path):
    found = beside(
        {"name": "second", "failed": frozenset({("ldm", "cnn", 1)}), "settings": {"epochs": 20}},
        {"name": '<b>&"x', "fingerprint": "aa" * 32},
    )
    written = write_comparison(found, tmp_path / "out")
    assert [path.name for path in written] == ["compare.html", "compare.csv"]
    page = Page(written[0].read_text("utf-8"))
    for words in (
        'first, second and <b>&"x, in balanced accuracy. Differences are from first.',
        '<b>&"x cannot be compared with first: it has other data.',
        "second: Failed: cnn on ldm, fold 2.",
        "(n = 2)",
        "epochs 10 20 10",
    ):
        assert words in page.text
    assert not page.all("b")
    rows = list(csv.DictReader(io.StringIO(written[1].read_text("utf-8"))))
    assert len(rows) == 6
    assert {row["not_compared"] for row in rows} == {"", "other data"}
    assert {row["difference"] for row in rows if row["experiment"] == "second"} == {"0.0"}
    first = [path.read_bytes() for path in written]
    assert [path.read_bytes() for path in write_comparison(found, tmp_path / "again")] == first


def test_json_is_plain(beside):
    told = beside({"name": "second"}).to_dict()
    assert told["experiments"] == ["first", "second"]
    assert told["lines"][0]["sides"][1]["difference"]["mean"] == 0


def test_the_verb_prints_a_table_and_writes_a_page(beside, tmp_path, medzoo):
    beside({"name": "second", "failed": frozenset({("ldm", "cnn", 1)})}, {"name": "third", "fingerprint": "aa" * 32})
    folders = [tmp_path / name for name in "012"]
    outcome = medzoo("experiment", "compare", *folders, "--out", tmp_path / "out")
    assert outcome.code == 0
    head, *rows, path = outcome.out.splitlines()
    assert head.split() == ["classifier", "arm", "first", "second", "difference", "third"]
    assert [row.split()[:2] for row in rows] == [["cnn", "real"], ["cnn", "ldm"]]
    assert "(2 of 3)" in rows[1]
    assert Path(path) == tmp_path / "out" / "compare.html"
    assert "third cannot be compared with first: it has other data" in outcome.err
    assert '"not_comparable"' in medzoo("experiment", "compare", *folders, "--json").out
