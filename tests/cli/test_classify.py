"""`medzoo classify` from the command line, with a classifier that learns in milliseconds."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny import make_model
from PIL import Image

PLUGIN = "from helpers.tiny_classifier import register_classifiers\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two classes of gray levels, in three parts."""
    for part, first in {"train": 0, "val": 10, "test": 20}.items():
        for name, level in {"bright": 200, "dark": 50}.items():
            for index in range(4):
                path = tmp_path / "data" / part / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (12, 12), level + first + index).save(path)
    return tmp_path / "data"


@pytest.fixture
def run(data: Path, tmp_path: Path, install_plugin: Callable, medzoo: Callable[..., Any]) -> Path:
    """A training run."""
    install_plugin("nearest-mean", PLUGIN)
    outcome = medzoo("classify", "train", "nearest-mean", "--data", data, "--out", tmp_path / "run")
    assert outcome.code == 0
    assert outcome.out.strip() == str(tmp_path / "run")
    assert "trained on 8 images; validation images: 8, the data's own val part" in outcome.err
    return tmp_path / "run"


def test_classify_train_finished(run, data, medzoo):
    outcome = medzoo("classify", "train", "nearest-mean", "--data", data, "--out", run)
    assert outcome.code == 0
    assert "already finished" in outcome.err


def test_classify_train_settings(data, tmp_path, install_plugin, medzoo):
    install_plugin("nearest-mean", PLUGIN)
    more = ("--preset", "tiny", "--set", "image.size=16", "--val", "0.25", "--seed", "3", "--json")
    outcome = medzoo("classify", "train", "nearest-mean", "--data", data, "--out", tmp_path / "run", *more)
    record = json.loads(outcome.out)
    assert (record["config"]["image.size"], record["config"]["training.epochs"]) == (16, 1)
    assert record["origins"]["training.epochs"] == "preset tiny"
    assert record["seeds"] == {"seed": 3}
    assert sum(record["data"]["validation"]["counts"].values()) == 2
    assert "2 of the 8 training images" in outcome.err


def test_classify_train_start(run, data, tmp_path, medzoo):
    command = (
        "classify",
        "train",
        "nearest-mean",
        "--data",
        data,
        "--out",
        tmp_path / "more",
        "--start",
        run,
        "--json",
    )
    assert json.loads(medzoo(*command).out)["started_from"]["tensors"] == "1 of 1"


def test_classify_test_skip_bad(run, data, tmp_path, medzoo):
    (data / "test" / "dark" / "0.png").write_bytes(b"no picture")
    assert medzoo("classify", "test", run, "--data", data).code == 5
    outcome = medzoo("classify", "test", run, "--data", data, "--skip-bad", "--json")
    assert json.loads(outcome.out)["scores"]["n"] == 7
    assert "left out dark/0.png: " in outcome.err


def test_classify_predict_csv(run, data, tmp_path, medzoo):
    outcome = medzoo("classify", "predict", run, "--data", data, "--part", "test", "--out", tmp_path / "said.csv")
    assert (outcome.code, outcome.out.strip()) == (0, str(tmp_path / "said.csv"))
    with (tmp_path / "said.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "label", "predicted", "p_bright", "p_dark"]
    assert [row["file"] for row in rows][:2] == ["test/bright/0.png", "test/bright/1.png"]
    assert all(row["label"] == row["predicted"] for row in rows)


def test_classify_parts_beside_a_train_folder(run, data, tmp_path, medzoo):
    measured = medzoo("classify", "test", run, "--data", data / "train")
    assert measured.code == 0, measured.err
    assert "the test part is scored; choose another with --part" in measured.err
    predicted = medzoo("classify", "predict", run, "--data", data / "train", "--out", tmp_path / "said.csv")
    assert "all are predicted; choose one with --part" in predicted.err
    alone = medzoo("classify", "test", run, "--data", data / "train", "--part", "test")
    assert "part is scored" not in alone.err


def test_classify_predict_npz_class_names(run, tmp_path, medzoo):
    arrays = {"train_images": np.full((3, 12, 12), 210, np.uint8), "train_labels": np.zeros((3, 1), np.uint8)}
    np.savez(tmp_path / "levels.npz", **arrays)
    command = ("classify", "predict", run, "--data", tmp_path / "levels.npz", "--classes", "bright,dark")
    assert medzoo(*command, "--out", tmp_path / "said.csv").code == 0
    lines = (tmp_path / "said.csv").read_text().splitlines()[1:]
    assert [line.split(",")[1:3] for line in lines] == [["bright", "bright"]] * 3


def test_classify_test_scores_and_folder(run, data, tmp_path, medzoo):
    outcome = medzoo("classify", "test", run, "--data", data, "--out", tmp_path / "scores", "--record")
    assert outcome.code == 0
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["accuracy", "1.000"] in lines
    assert ["bright", "4", "1.000", "1.000", "1.000", "1.000"] in lines
    assert ["actual", "dark", "0", "4"] in lines
    assert {path.name for path in (tmp_path / "scores").iterdir()} == {"predictions.csv", "scores.json", "run.json"}
    record = json.loads((tmp_path / "scores" / "run.json").read_text())
    assert (record["job"], record["allow_leak"], record["scores"]["scores"]["accuracy"]) == ("classify test", False, 1)
    assert json.loads((run / "run.json").read_text())["notes"]["held_out"]["accuracy"] == 1
    again = medzoo("classify", "test", run, "--data", data, "--out", tmp_path / "scores")
    assert (again.code, "holds other files" in again.err) == (5, True)


def test_classify_test_leak(run, data, tmp_path, medzoo):
    refused = medzoo("classify", "test", run, "--data", data, "--part", "train")
    assert refused.code == 5
    assert "was trained on 8 of the 8 images" in refused.err
    command = ("classify", "test", run, "--data", data, "--part", "train", "--allow-leak")
    allowed = medzoo(*command, "--out", tmp_path / "scores")
    assert allowed.code == 0
    assert (
        "the model was trained on 8 of these images, or its weights were chosen by them: the scores are too good"
        in allowed.err
    )
    record = json.loads((tmp_path / "scores" / "run.json").read_text())
    assert (record["allow_leak"], record["scores"]["trained_on"]) == (True, 8)
    assert json.loads(medzoo(*command, "--json").out)["trained_on"] == 8


def test_classify_test_absent_class(run, data, medzoo):
    for path in (data / "test" / "dark").iterdir():
        path.unlink()
    (data / "test" / "dark").rmdir()
    outcome = medzoo("classify", "test", run, "--data", data)
    assert "no test images of dark: left out of all means" in outcome.err
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["dark", "0", "-", "-", "-", "-"] in lines
    assert ["balanced", "accuracy", "1.000"] in lines


def test_classify_other_kind(run, data, tmp_path, medzoo):
    generator = make_model(tmp_path / "generator")
    for arguments in (
        ("classify", "predict", generator, "--data", data, "--out", tmp_path / "x.csv"),
        ("sample", run, "--n", "1", "--out", tmp_path / "images"),
        ("classify", "train", "ddpm", "--data", data, "--out", tmp_path / "x"),
        ("train", "nearest-mean", "--data", data, "--out", tmp_path / "x"),
    ):
        outcome = medzoo(*arguments)
        assert outcome.code == 2
        assert " is a generator, not a classifier" in outcome.err or (
            " is a classifier, not a generator" in outcome.err
        )
    assert "`medzoo classify train nearest-mean`" in outcome.err


def test_classify_train_timm_network(data, tmp_path, medzoo):
    outcome = medzoo("classify", "train", "timm:no-such-network", "--data", data, "--out", tmp_path / "run")
    assert outcome.code == 2
    assert "no-such-network" in outcome.err


def test_classify_multi_label(data, tmp_path, medzoo):
    rows = [
        f"{path.relative_to(tmp_path)},{'bright|round' if path.parent.name == 'bright' else ''},{part}"
        for part in ("train", "val", "test")
        for path in sorted((data / part).glob("*/*.png"))
    ]
    table = tmp_path / "several.csv"
    table.write_text("\n".join(["file,labels,split", *rows]) + "\n")
    trained = medzoo("classify", "train", "cnn", "--preset", "tiny", "--data", table, "--out", tmp_path / "run")
    assert trained.code == 0
    tested = medzoo("classify", "test", tmp_path / "run", "--data", table, "--json")
    scores = json.loads(tested.out)["scores"]
    assert (scores["n"], scores["multi_label"], scores["confusion"]) == (8, True, [])
    assert [score["support"] for score in scores["per_class"]] == [4, 4]
    shown = medzoo("classify", "test", tmp_path / "run", "--data", table).out
    assert shown.splitlines()[1].split()[:2] == ["exact", "match"]
    said = tmp_path / "said.csv"
    assert medzoo("classify", "predict", tmp_path / "run", "--data", table, "--part", "test", "--out", said).code == 0
    with said.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert {row["label"] for row in found} == {"bright|round", ""}
    for row in found:
        likely = [name for name in ("bright", "round") if float(row[f"p_{name}"]) >= 0.5]
        assert row["predicted"] == "|".join(likely)
