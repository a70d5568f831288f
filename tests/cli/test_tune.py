"""`medzoo tune` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.example_experiment import made_experiment

import medzoo as api
from medzoo.data.phantom import write_phantom
from medzoo.tuning.policy import Policy
from medzoo.tuning.results import PoolInfo, TrialResult, TuningResult


@pytest.fixture
def result(tmp_path: Path) -> TuningResult:
    """A made-up result."""
    params = {"pool": "ldm", "target": 1.0, "loss_weight": 1.0, "use": "together", "classes": "all", "select": "none"}
    return TuningResult(
        folder=tmp_path / "r",
        settings={"metric": "balanced_accuracy"},
        origins={"metric": "default"},
        trials=(TrialResult(number=0, params=params, arm={"images": "folder:/x"}, score=0.7, sd=0.1, seconds=2.0),),
        baselines={"real": 0.6},
        pools=(PoolInfo(name="ldm", generator="ldm", strength=None, settings={}, images=10, seconds=3.0),),
        finalists=made_experiment(tmp_path / "r" / "finalists", classifiers=("cnn",)),
        held_out=made_experiment(tmp_path / "r" / "held-out", classifiers=("cnn",), folds=0),
        policy=Policy(augment=False),
        verdict="Do not augment: it was made up.",
        seconds={"drawing": 3.0, "search": 90.0},
        budget=None,
        provenance={"classifier": "cnn"},
        winner=0,
        control="real",
    )


def test_tune_prints_the_verdict(medzoo, result, monkeypatch):
    given = {}
    monkeypatch.setattr(api, "tune", lambda **options: given.update(options) or result)
    (result.folder / "report.html").write_text("")
    options = ["--data", "split", "--classifier", "cnn", "--out", "r"]
    found = medzoo(
        "tune",
        *options,
        "--gen",
        "ldm",
        "--trials",
        9,
        "--budget",
        30,
        "--set",
        "folds=4",
        "--seed",
        2,
        "--window",
        "lung",
    )
    assert found.code == 0, found.err
    asked = {"gen": ["ldm"], "trials": 9, "budget": 30.0, "settings": {"folds": 4}, "seed": 2, "jobs": 1, "test": None}
    asked["reading"] = {"window": "lung"}
    assert {name: given[name] for name in asked} == asked
    lines = found.out.splitlines()
    assert lines[0].split() == ["images", "arm", "balanced", "accuracy", "95", "%"]
    assert any(line.startswith("inner folds  real ") for line in lines)
    assert any(line.startswith("held out     ddpm-var ") for line in lines)
    assert "Do not augment: it was made up." in lines
    assert "drawing 3.0 s, search 1.5 min" in lines
    assert lines[-2:] == [str(result.folder / "policy.toml"), str(result.folder / "report.html")]
    printed = json.loads(medzoo("tune", *options, "--json").out)
    assert (printed["verdict"], printed["winner"]) == (result.verdict, 0)
    assert printed["held_out"]["held_out"] is True


def test_tune_what_cannot_be(medzoo, tmp_path):
    write_phantom(tmp_path / "all", counts={"normal": 8, "thick-wall": 6}, size=16, seed=3)
    options = ["--data", tmp_path / "all", "--classifier", "cnn", "--out", tmp_path / "r"]
    found = medzoo("tune", *options)
    assert found.code == 5
    assert "has no test part, on which the verdict is measured" in found.err
    assert "medzoo data split" in found.err
    found = medzoo("tune", *options, "--set", "trial=3")
    assert found.code == 2
    assert "did you mean trials" in found.err
    assert not (tmp_path / "r").exists()
