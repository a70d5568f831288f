"""`medzoo experiment` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medzoo.data.phantom import write_phantom

DESIGN = """
classifiers = ["cnn"]
arms = ["duplicate"]
target = 8
folds = 2
epochs = 1
preset = "tiny"
controls = false
baseline = "duplicate"
"""


@pytest.fixture
def given(tmp_path: Path) -> list[object]:
    """An experiment of two cells, and its images."""
    write_phantom(tmp_path / "data", counts={"normal": 8, "thick-wall": 6}, size=16, seed=3)
    (tmp_path / "design.toml").write_text(DESIGN)
    return [tmp_path / "design.toml", "--data", tmp_path / "data", "--device", "cpu"]


def test_experiment_presets(medzoo):
    listed = json.loads(medzoo("experiment", "presets", "--json").out)
    assert {"udder-scale", "udder-models", "udder-mix", "pretrain", "traditional-vs-generated", "latent"} == {
        row["name"] for row in listed
    }


def test_experiment_plan_writes_nothing(medzoo, given, tmp_path):
    found = medzoo("experiment", "plan", *given, "--seeds", 2, "--json")
    assert found.code == 0, found.err
    plan = json.loads(found.out)
    assert (plan["cells"], plan["missing"], len(plan["cells_in_order"])) == (4, 4, 4)
    assert plan["steps_per_cell"] == {"cnn": 2}
    assert plan["seconds"] > 0
    assert plan["disk"] > 0
    # Of 14 images, 7 test and 2 choose weights in each fold; the other 5 are filled to 8 a class, by whole batches.
    assert {row["name"]: row["images"] for row in plan["models"]} == {"cnn": 0, "duplicate": 2 * 2 * 16}
    assert plan["arms"] == [{"name": "duplicate", "real": 5, "synthetic": 11, "cells": 4, "missing": 4}]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "design.toml"]
    told = medzoo("experiment", "plan", *given, "--no-estimate")
    assert "2 cells (1 arms x 1 classifiers x 2 folds x 1 seeds), 2 to do" in told.err
    assert "warning: controls = false" in told.err
    assert "?" in told.out


def test_experiment_run_again_does_nothing(medzoo, given, tmp_path):
    first = medzoo("experiment", "run", *given, "--out", tmp_path / "x")
    assert first.code == 0, first.err
    assert first.out.splitlines()[0].split() == ["classifier", "arm", "balanced", "accuracy", "95", "%", "n"]
    assert first.out.splitlines()[-1] == str(tmp_path / "x")
    assert (tmp_path / "x" / "report.html").is_file()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "x" / "cells").rglob("*")}
    again = medzoo("experiment", "run", *given, "--out", tmp_path / "x", "--json")
    assert json.loads(again.out)["baseline"] == "duplicate"
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "x" / "cells").rglob("*")} == before


def test_experiment_invalid_arguments(medzoo, given, tmp_path):
    for arguments, code, message in (
        (("plan", *given, "--set", "tarrget=3"), 2, "unknown setting 'tarrget'\n  did you mean target"),
        (("plan", *given, "--folds", "1"), 2, "folds = 1 leaves nothing to train on"),
        (("plan", *given, "--folds", "0"), 5, "has no test part"),
        (("plan", *given, "--set", "target=2"), 2, "adds no image: every class has 2 or more"),
        (("run", *given, "--out", tmp_path), 5, "holds other files"),
        (("run", *given, "--out", tmp_path / "x", "--set", "classifiers=dcgan"), 2, "'dcgan' is a generator"),
    ):
        found = medzoo("experiment", *arguments)
        assert found.code == code
        assert message in found.err


def test_experiment_run_failed_cells_exit_code(medzoo, given, tmp_path):
    failing = ["--set", "classifier.cnn.training.learning_rate=1e30", "--set", "classifier.cnn.training.optimizer=sgd"]
    found = medzoo("experiment", "run", *given, "--out", tmp_path / "x", *failing, "--epochs", 9)
    assert found.code == 2  # there is no such option
    found = medzoo("experiment", "run", *given, "--out", tmp_path / "x", *failing, "--set", "epochs=9")
    assert found.code == 1
    assert "FAILED: training diverged" in found.err
    assert "2 failed" in found.out
    page = tmp_path / "x" / "report.html"
    page.unlink()
    assert medzoo("experiment", "report", tmp_path / "x").out == f"{page}\n"
    assert "training diverged" in page.read_text("utf-8")


def test_experiment_plan_several_test_sets(medzoo, given, tmp_path):
    tests = []
    for seed, name in ((7, "second"), (8, "third")):
        write_phantom(tmp_path / name, counts={"normal": 3, "thick-wall": 2}, size=16, seed=seed)
        tests += ["--test", tmp_path / name]
    found = medzoo("experiment", "plan", *given, *tests, "--no-estimate", "--json")
    assert found.code == 0, found.err
    keys = {cell["key"] for cell in json.loads(found.out)["cells_in_order"]}
    fewer = json.loads(medzoo("experiment", "plan", *given, *tests[:2], "--no-estimate", "--json").out)
    assert keys.isdisjoint(cell["key"] for cell in fewer["cells_in_order"])
    leaking = medzoo("experiment", "plan", *given, "--test", tmp_path / "data", "--no-estimate")
    assert leaking.code == 5
    assert "are also training or validation images" in leaking.err
