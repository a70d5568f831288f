"""Running out of memory is one line with the setting to lower, in every verb that computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.image_sets import write_folder
from helpers.memory import ON_A_CPU
from helpers.tiny import CLASSES, make_model
from helpers.tiny_classifier import NearestMean, make_classifier

import medzoo_dcgan.model
from medzoo.cli import app
from medzoo.evaluation import features
from medzoo.evaluation.metric_computation import MetricComputer
from medzoo.toolkit.classification import ImageClassifier
from medzoo.toolkit.diffusion.pixel import PixelDiffusion

EXPERIMENT = 'classifiers = ["cnn"]\narms = ["real"]\nbaseline = "real"\ncontrols = false\nfolds = 2\npreset = "tiny"\n'
VERBS = [
    (
        medzoo_dcgan.model.DCGAN,
        "fit",
        "train dcgan --preset tiny --set training.batch_size=8 --data scans --out out",
        "training 'dcgan'\n  lower training.batch_size (now 8) or image.size (now 16), as --set training.batch_size=4",
    ),
    (
        ImageClassifier,
        "fit",
        "classify train cnn --preset tiny --set training.batch_size=1 --set image.size=16 --data scans --out out",
        "training 'cnn'\n  lower training.batch_size (now 1) or image.size (now 16)\n",
    ),
    (
        NearestMean,
        "predict",
        "classify test CLASSIFIER --data scans --out out",
        "classifying 64 images at once with 'classifier'\n  use a --batch-size below 64\n",
    ),
    (
        NearestMean,
        "predict",
        "classify predict CLASSIFIER --batch-size 2 --data scans --out out.csv",
        "classifying 2 images at once with 'classifier'\n  use a --batch-size below 2\n",
    ),
    (
        PixelDiffusion,
        "sample",
        "sample MODEL --n 3 --out out",
        "sampling 9 images at once with 'model'\n  use a --batch-size below 9\n",
    ),
    (
        PixelDiffusion,
        "sample",
        "augment --gen MODEL --data scans --to 7 --batch-size 1 --out out",
        "sampling 1 images at once with 'model'\n  use a model of a smaller image.size\n",
    ),
    (
        PixelDiffusion,
        "sample",
        "evaluate MODEL --real scans --metric intensity --n 2 --out out",
        "sampling 6 images at once with 'model'\n  use a --batch-size below 6\n",
    ),
    (
        features,
        "_extract",
        "evaluate --real scans --fake others --metric kid@cnn-udder --batch-size 5 --out out",
        "extracting features of 5 images at once by 'cnn-udder'\n  use a --batch-size below 5\n",
    ),
    (
        MetricComputer,
        "_measure",
        "evaluate --real scans --fake others --metric intensity --out out",
        "computing 'intensity'\n  lower --size, or give fewer images\n",
    ),
    (
        ImageClassifier,
        "fit",
        "experiment run grid.toml --data scans --out out",
        "training 'cnn' (lower classifier.cnn.training.batch_size (now ",
    ),
    (app, "_report_usage", "--nonsense", "\n  lower --batch-size, training.batch_size or image.size\n"),
]


@pytest.mark.parametrize(
    ("place", "name", "command", "message"), VERBS, ids=[f"{row[2][:14]} {row[1]}" for row in VERBS]
)
def test_out_of_memory(
    medzoo: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    install_plugin: Callable[..., Path],
    place: object,
    name: str,
    command: str,
    message: str,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError(ON_A_CPU)

    monkeypatch.chdir(tmp_path)
    for folder, seed in (("scans", 0), ("others", 1)):
        write_folder(tmp_path / folder, dict.fromkeys(CLASSES, 6), seed=seed, side=16)
    (tmp_path / "grid.toml").write_text(EXPERIMENT)
    if "MODEL" in command:
        command = command.replace("MODEL", str(make_model(tmp_path / "model")))
    if "CLASSIFIER" in command:
        command = command.replace("CLASSIFIER", str(make_classifier(tmp_path / "classifier", classes=CLASSES)))
        install_plugin("nearest-mean", "from helpers.tiny_classifier import register_classifiers\n")
    monkeypatch.setattr(place, name, full)
    outcome = medzoo(*command.split())
    assert outcome.code == 6, outcome.err
    assert f"out of memory{' ' if message[0] != chr(10) else ''}{message}" in outcome.err
    assert "Traceback" not in outcome.err


def test_train_again_with_a_smaller_batch(
    medzoo: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError(ON_A_CPU)

    write_folder(tmp_path / "scans", dict.fromkeys(CLASSES, 4), side=16)
    command = ("train", "dcgan", "--preset", "tiny", "--data", tmp_path / "scans", "--out", tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr(medzoo_dcgan.model.DCGAN, "fit", full)
        assert medzoo(*command).code == 6
    outcome = medzoo(*command, "--set", "training.batch_size=4", "--set", "training.epochs=1")
    assert outcome.code == 0, outcome.err
