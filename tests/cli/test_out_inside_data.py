"""No verb writes into the images it reads, where the next one would find its pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.image_sets import write_folder
from helpers.tiny_classifier import make_classifier

EXPERIMENT = 'classifiers = ["cnn"]\narms = ["real"]\nbaseline = "real"\ncontrols = false\nfolds = 2\npreset = "tiny"\n'
VERBS = {
    "train": "train dcgan --preset tiny --data scans --out {}",
    "classify train": "classify train cnn --preset tiny --data scans --out {}",
    "classify test": "classify test CLASSIFIER --data scans --out {}",
    "classify predict": "classify predict CLASSIFIER --data scans --out {}/predictions.csv",
    "augment": "augment --gen classic --data scans --to 4 --out {}",
    "sample": "sample classic --data scans --n 1 --out {}",
    "sample --grid": "sample classic --data scans --n 1 --grid {}/grid.png",
    "evaluate --real": "evaluate --real scans --fake others --metric intensity --out {}",
    "evaluate --fake": "evaluate --real others --fake scans --metric intensity --out {}",
    "evaluate --train": "evaluate --real others --fake others --train scans --metric intensity --out {}",
    "evaluate --other": "evaluate --real others --fake others --other scans --metric intensity --out {}",
    "experiment run": "experiment run grid.toml --data scans --out {}",
    "experiment run --test": "experiment run grid.toml --folds 0 --data others --test scans --out {}",
    "data split": "data split scans --out {}",
    "data check": "data check scans --out {}",
}


@pytest.mark.parametrize("verb", VERBS)
def test_out_inside_data(
    medzoo: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, seed in (("scans", 0), ("others", 1)):
        write_folder(tmp_path / name, {"normal": 3, "thick-wall": 3}, seed=seed, side=16)
    (tmp_path / "link").symlink_to("scans")
    (tmp_path / "grid.toml").write_text(EXPERIMENT)
    command = VERBS[verb].format("link/x")
    if "CLASSIFIER" in command:
        command = command.replace("CLASSIFIER", str(make_classifier(tmp_path / "classifier")))
    before = sorted((tmp_path / "scans").rglob("*"))
    outcome = medzoo(*command.split())
    assert outcome.code == 5, outcome.err
    assert "is inside the data folder scans\n  choose another --out" in outcome.err
    assert sorted((tmp_path / "scans").rglob("*")) == before


def test_predict_over_its_own_table(medzoo: Callable[..., Any], tmp_path: Path) -> None:
    write_folder(tmp_path, {"normal": 1})
    (image,) = (tmp_path / "normal").iterdir()
    table = tmp_path / "set.csv"
    table.write_text(f"file,label\nnormal/{image.name},normal\n")
    classifier = make_classifier(tmp_path / "classifier")
    outcome = medzoo("classify", "predict", classifier, "--data", table, "--out", table)
    assert outcome.code == 5
    assert f"{table} is the data itself" in outcome.err
    assert table.read_text().startswith("file,label")


def test_sample_into_its_own_folder_inside_data(
    medzoo: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_folder(tmp_path / "scans", {"normal": 2}))
    outcome = medzoo("sample", "classic", "--data", ".", "--n", "1")
    assert outcome.code == 5
    assert "samples-classic is inside the data folder ." in outcome.err
