"""Scores come back from the cache as they were, and a damaged file or another file's code is noticed."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest

from medzoo.evaluation.results import Baseline
from medzoo.evaluation.score_cache import code_of, read_score, write_score
from medzoo.protocols import Curve, Histogram, Pair, Score

FULL = Score(
    value=np.float32(0.5),
    n_real=3,
    n_fake=4,
    spread=0.25,
    spread_over="pairs",
    interval=(0.1, 0.9),
    details={"within": 0.125},
    method="pairs",
    warnings=("few",),
    histogram=Histogram(title="t", unit="u", edges=(0.0, 1.0), shares={"real": (1.0,)}),
    curve=Curve(title="c", x_label="x", y_label="y", x=(1.0, 2.0), lines={"real": (0.5, 1.5)}, marked=(1.0, 2.0)),
    pairs=(Pair(fake=1, train=2, distance=0.5),),
    failed=True,
)


def test_write_score_read_back(tmp_path):
    baseline = Baseline(n=2, draws=4, real=0.0, real_spread=0.1, fake=0.5, fake_spread=0.2)
    write_score(tmp_path / "full.json", FULL, baseline)
    assert read_score(tmp_path / "full.json") == (FULL, baseline)
    write_score(tmp_path / "nan.json", Score(value=math.nan, n_real=1, n_fake=1), None)
    score, none = read_score(tmp_path / "nan.json")
    assert math.isnan(score.value)
    assert none is None


@pytest.mark.parametrize("damage", [(-9, ""), (1, "]"), (None, "0.126")])
def test_read_score_damaged_file(tmp_path, logged, damage):
    path = tmp_path / "score.json"
    assert read_score(path) is None
    assert not logged
    write_score(path, FULL, None)
    kept, added = damage
    text = path.read_text()
    path.write_text(text.replace("0.125", added) if kept is None else text[:kept] + added)
    assert read_score(path) is None
    assert any("is damaged" in text and "computing it again" in text for text in logged)


def test_write_score_foreign_value_not_cached(tmp_path):
    write_score(tmp_path / "score.json", Score(value=0.0, n_real=1, n_fake=1, details={"odd": object()}), None)
    assert not (tmp_path / "score.json").exists()


def test_code_of_follows_files(tmp_path):
    file = tmp_path / "metric.py"
    file.write_text("one")
    first = code_of(tmp_path)
    assert first == code_of(tmp_path)
    assert code_of(None) != code_of(file)
    os.utime(file, ns=(1, 1))
    assert code_of(tmp_path) != first
