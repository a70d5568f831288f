"""`medzoo study` on the command line: a study, the scores of its answers, and how many readers it takes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.image_sets import write_folder
from helpers.reading_study import answers_of, simulated_reader, write_answers

from medzoo.study.key import read_study


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Real and synthetic images of two classes."""
    root = tmp_path_factory.mktemp("sets")
    counts = {"benign": 8, "malignant": 8}
    return write_folder(root / "real", counts, side=24), write_folder(root / "fake", counts, side=24, seed=700)


def test_study_from_images_to_a_verdict(medzoo, sets, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda size: "ab" * size)  # the order of images, and so the answers
    given = ("--real", sets[0], "--fake", sets[1], "--out", tmp_path / "study", "--per-class", 8)
    made = medzoo("study", "new", *given)
    assert made.code == 0, made.err
    assert made.out.split() == [str(tmp_path / "study" / "study.html")]
    assert f"send {tmp_path / 'study' / 'study.html'} to readers, and nothing else of {tmp_path / 'study'}" in made.err
    assert "with 5 readers and 16 images of each set, the power" in made.err
    assert "nothing to do" in medzoo("study", "new", *given).err

    study, random = read_study(tmp_path / "study"), np.random.default_rng(0)
    for k in range(3):
        write_answers(tmp_path / "answers", answers_of(study, f"reader {k}", simulated_reader(2.0, random)))
    scored = medzoo("study", "score", tmp_path / "study", tmp_path / "answers")
    assert scored.code == 0, scored.err
    assert scored.out.splitlines()[0].split("  ")[0] == "measure"
    assert "3 readers tell synthetic from real images: an ROC area of 0." in scored.out
    scores = tmp_path / "study" / "scores"
    assert scored.out.splitlines()[-1] == str(scores / "report.html")

    values = json.loads(medzoo("study", "score", tmp_path / "study", tmp_path / "answers", "--json").out)
    assert values["pooled"]["auc"]["value"] > 0.75
    assert study.secret not in json.dumps(values)
    rows = list(csv.DictReader((scores / "answers.csv").read_text("utf-8").splitlines()))
    assert len(rows) == 3 * len(study.trials)
    assert {row["truth"] for row in rows} == {"real", "synthetic"}
    first = [row for row in rows if row["repeat"] == "0"]
    right = np.mean([(int(row["answer_origin"]) > 3) == (row["truth"] == "synthetic") for row in first])
    assert right == pytest.approx(values["pooled"]["accuracy"]["value"])
    readers = list(csv.DictReader((scores / "readers.csv").read_text("utf-8").splitlines()))
    assert {row["reader"] for row in readers} == {"reader 0", "reader 1", "reader 2", "all readers"}
    page = (scores / "report.html").read_text("utf-8")
    assert "Told apart" in page
    assert "<script" not in page


def test_study_score_refusals_are_one_line(medzoo, sets, tmp_path) -> None:
    found = medzoo("study", "score", tmp_path, tmp_path)
    assert found.code == 5
    assert found.err.splitlines() == [
        f"error: {tmp_path} holds no reading study: key.json is missing",
        "  give the folder that `medzoo study new --out` wrote",
    ]


def test_study_new_texts_that_cannot_be_read(medzoo, sets, tmp_path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n")
    found = medzoo("study", "new", "--real", sets[0], "--fake", sets[1], "--out", tmp_path / "s", "--consent", empty)
    assert found.code == 2
    assert f"--consent {empty} is empty" in found.err


def test_study_power_prints_both_tables(medzoo) -> None:
    found = medzoo("study", "power", "--readers", 5, "--images", 50, "--images", 100)
    assert found.code == 0
    lines = found.out.splitlines()
    assert lines[1].split() == ["readers", "50", "100", "for", "80%"]
    assert lines[2].split() == ["5", "45%", "82%", "94"]
    assert "chance are above it" in lines[4]
    [row] = json.loads(medzoo("study", "power", "--readers", 5, "--images", 50, "--json").out)
    assert row["needed"] == 94
