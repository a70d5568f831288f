"""Training a classifier, its predictions, and what a test of it may be measured on."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_classifier import LEVELS, SPEC, make_classifier, plugins_with_it, write_images
from PIL import Image

from medzoo import config as settings
from medzoo.classification.predict import (
    Predictions,
    images_to_predict,
    predict,
    record_scores,
    score,
)
from medzoo.data.dataset import Dataset, open_dataset
from medzoo.errors import ConfigError, DataError, UnknownName
from medzoo.models.loading import LoadedModel, load_model
from medzoo.protocols import Classifier
from medzoo.runs.progress import Progress, no_progress
from medzoo.training.train import split_validation
from medzoo.training.train import train as run_training


class Stopped(Exception):
    """What a progress raises to stop a run."""


class Watch:
    """A progress that remembers after which step the run began, and can stop it."""

    def __init__(self, stop_at: int = -1) -> None:
        self.stop_at = stop_at
        self.began: int | None = None

    def __call__(self, done: int, total: int, note: str = "") -> None:
        self.began = done if self.began is None else self.began
        if done == self.stop_at:
            raise Stopped


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for seed, (part, count) in enumerate({"train": 8, "val": 3, "test": 5}.items()):
        write_images(tmp_path / "data" / part, dict.fromkeys(LEVELS, count), seed=seed)
    return tmp_path / "data"


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Path]:
    """Train the tiny classifier on a data set."""

    def call(data: Dataset, *, out: str = "run", progress: Progress = no_progress, share=None, **options) -> Path:
        config = settings.resolve(SPEC.config, presets=SPEC.presets)
        options = {"device": "cpu", **options}
        result = run_training(
            SPEC,
            config,
            data,
            tmp_path / out,
            plugins=plugins_with_it(),
            progress=progress,
            validation=share,
            **options,
        )
        return result.folder

    return call


def loaded(folder: Path) -> LoadedModel[Classifier]:
    return load_model(folder, kind="classifier", plugins=plugins_with_it(), device="cpu")


def quiet(done: int, total: int) -> None: ...


def test_train_classifier_files(data, train):
    images = open_dataset(data)
    run = train(images)
    record = json.loads((run / "run.json").read_text())
    description = json.loads((run / "config.json").read_text())
    assert (record["job"], record["data"]["counts"]) == ("classify train", {"bright": 8, "dark": 8})
    assert record["plugins"]["nearest-mean"]["distribution"] == "nearest-mean"
    assert record["notes"]["fit"] == {"images": 16, "validation_images": 6}
    assert (description["kind"], description["plugin"]) == ("classifier", "nearest-mean")
    assert json.loads((run / "fingerprints.json").read_text()) == {
        "images": sorted(images.fingerprints()),
        "validation": sorted(images.held_out["val"].fingerprints()),
    }
    assert not {"images"} & {*description["data"], *description["data"]["validation"]}
    assert len((run / "loss.csv").read_text().splitlines()) == 4
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert loaded(run).trained_on == {*images.fingerprints(), *images.held_out["val"].fingerprints()}


def test_train_classifier_resume(data, train):
    images = open_dataset(data)
    with pytest.raises(Stopped):
        train(images, progress=Watch(stop_at=2))
    again = Watch()
    broken = train(images, progress=again)
    assert again.began == 1
    whole = train(images, out="whole")
    assert (broken / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    notes = [json.loads((run / "run.json").read_text())["notes"] for run in (broken, whole)]
    assert notes[0] == notes[1] != {}


def test_train_classifier_finished_or_other_run(data, train):
    images = open_dataset(data)
    run = train(images)
    before = (run / "run.json").read_bytes()
    train(images, progress=Watch(stop_at=1))
    assert (run / "run.json").read_bytes() == before
    with pytest.raises(DataError, match="holds another job: its seed is 0"):
        train(images, seed=1)


def test_split_validation_whole_groups(tmp_path, train):
    folder = write_images(tmp_path / "flat", dict.fromkeys(LEVELS, 12), seed=3)
    for name in LEVELS:
        for index in range(4):
            (folder / name / f"copy{index}.png").write_bytes((folder / name / f"{index:03d}.png").read_bytes())
    images = open_dataset(folder)
    parts = split_validation(images, share=0.25, seed=0)
    assert sorted(parts.training.names + parts.validation.names) == sorted(images.names)
    assert set(parts.training.fingerprints()).isdisjoint(parts.validation.fingerprints())
    assert min(parts.validation.counts().values()) > 0
    assert parts.origin.startswith(f"{len(parts.validation)} of the 32 training images, whole groups of duplicates")
    assert split_validation(images, share=0.25, seed=0).validation.names == parts.validation.names
    assert len(split_validation(images, share=0, seed=0).validation) == 0


def test_split_validation_never_chooses_by_synthetic_images(tmp_path):
    write_images(tmp_path, dict.fromkeys(LEVELS, 12), seed=3)
    for file in sorted(tmp_path.glob("*/*.png"))[::2]:
        file.rename(file.with_name(f"synthetic-x-{file.name}"))
    images = open_dataset(tmp_path)
    split = split_validation(images, share=0.25, seed=0)
    assert len(split.training) + len(split.validation) == len(images)
    assert not split.validation.synthetic
    assert split.training.synthetic == images.synthetic
    assert not set(split.training.names) & set(split.validation.names)


def test_score_refuses_synthetic_images(data, train):
    model = loaded(train(open_dataset(data)))
    file = next((data / "test").glob("*/*.png"))
    file.rename(file.with_name("synthetic-x-000000.png"))
    with pytest.raises(DataError, match=r"holds a synthetic image, such as .*, which cannot test a classifier"):
        score(model, open_dataset(data), progress=no_progress)


def test_split_validation_leaves_held_out_data(data, train):
    images = open_dataset(data)
    own = split_validation(images, seed=0)
    assert (own.training.names, own.validation.names) == (images.names, images.held_out["val"].names)
    parts = split_validation(images, share=0.25, seed=0)
    held_out = {digest for part in images.held_out.values() for digest in part.fingerprints()}
    assert held_out.isdisjoint({*parts.training.fingerprints(), *parts.validation.fingerprints()})


def test_train_classifier_start(data, tmp_path, train):
    start = loaded(make_classifier(tmp_path / "start", trained_on=["0" * 16]))
    run = train(open_dataset(data), start=start)
    record = json.loads((run / "run.json").read_text())
    assert record["started_from"]["tensors"] == "1 of 1"
    assert "0" * 16 in json.loads((run / "fingerprints.json").read_text())["images"]
    other = loaded(make_classifier(tmp_path / "other", classes=("a", "b", "c")))
    with pytest.raises(ConfigError, match="no weights of 'other' fit"):
        train(open_dataset(data), start=other, out="again")


def test_train_classifier_multi_label_refused(tmp_path, data, train):
    table = tmp_path / "table.csv"
    table.write_text("file,labels\n" + "".join(f"data/train/bright/{k:03d}.png,a|b\n" for k in range(4)))
    with pytest.raises(ConfigError, match="takes one label per image"):
        train(open_dataset(table), share=0)


def test_predict_rows(data, train):
    model = loaded(train(open_dataset(data)))
    parts = images_to_predict(data, model.image.classes, part="", skip_bad=False)
    assert [len(part) for part in parts] == [16, 6, 10]
    found = [(part, predict(model, part, progress=quiet)) for part in parts]
    rows = list(csv.DictReader(Predictions.of(found, model.image.classes, multi_label=False).to_csv().splitlines()))
    assert [row["file"] for row in rows[:2]] == ["train/bright/000.png", "train/bright/001.png"]
    assert all(row["predicted"] == row["label"] for row in rows)
    assert all(abs(float(row["p_bright"]) + float(row["p_dark"]) - 1) < 1e-5 for row in rows)
    (test,) = images_to_predict(data, model.image.classes, part="test", skip_bad=False)
    assert np.array_equal(predict(model, test, progress=quiet), found[2][1])


@pytest.mark.parametrize("given", ["folder", "image"])
def test_predict_unlabeled_images(data, train, given):
    model = loaded(train(open_dataset(data)))
    path = data / "test" / "dark" / ("000.png" if given == "image" else "")
    (images,) = images_to_predict(path, model.image.classes, part="", skip_bad=False)
    table = Predictions.of(
        [(images, predict(model, images, progress=quiet))], model.image.classes, multi_label=False
    ).to_csv()
    rows = list(csv.DictReader(table.splitlines()))
    assert len(rows) == (1 if given == "image" else 5)
    assert {(row["label"], row["predicted"]) for row in rows} == {("", "dark")}
    assert rows[0]["file"] == "000.png"


def test_score_test_part(data, train):
    model = loaded(train(open_dataset(data)))
    (data / "test" / "dark" / "000.png").rename(data / "test" / "bright" / "moved.png")
    result = score(model, open_dataset(data), progress=quiet)
    assert (result.part, result.leaked, result.scores.n) == ("test", 0, 10)
    assert result.scores.accuracy == pytest.approx(0.9)
    assert result.scores.balanced_accuracy == pytest.approx((5 / 6 + 1) / 2)
    assert result.scores.confusion == ((5, 1), (0, 4))


def test_score_training_images(data, train):
    model = loaded(train(open_dataset(data)))
    for part, count in {"train": 16, "val": 6}.items():
        with pytest.raises(
            DataError, match=f"was trained on {count} of the {count} images, or its weights were chosen by them"
        ) as told:
            score(model, open_dataset(data), part=part, progress=quiet)
        assert "--allow-leak" in told.value.hint
        assert score(model, open_dataset(data), part=part, allow_leak=True, progress=quiet).leaked == count


def test_score_copied_image(data, train, tmp_path):
    model = loaded(train(open_dataset(data)))
    copied = Image.open(data / "train" / "dark" / "000.png")
    copied.save(data / "test" / "dark" / "other.bmp")
    with pytest.raises(DataError, match="was trained on 1 of the 11 images"):
        score(model, open_dataset(data), progress=quiet)


def test_score_leave_out_seen(data, train):
    model = loaded(train(open_dataset(data)))
    Image.open(data / "train" / "dark" / "000.png").save(data / "test" / "dark" / "other.bmp")
    result = score(model, open_dataset(data), leave_out_seen=True, progress=quiet)
    assert (result.scores.n, result.left_out, result.leaked) == (10, 1, 0)
    with pytest.raises(DataError, match="was trained on 16 of the 16 images"):
        score(model, open_dataset(data), part="train", leave_out_seen=True, progress=quiet)


def test_score_absent_class(data, train):
    model = loaded(train(open_dataset(data)))
    only = write_images(data.parent / "only", {"dark": 4}, seed=9)
    scores = score(model, open_dataset(only), progress=quiet).scores
    assert (scores.absent, scores.balanced_accuracy) == (("bright",), 1.0)
    assert np.isnan(scores.per_class[0].recall)


def test_score_near_duplicates(data, train):
    model = loaded(train(open_dataset(data)))
    near = np.asarray(Image.open(data / "train" / "dark" / "000.png")).copy()
    near[0, 0] += 5
    Image.fromarray(near).save(data / "test" / "dark" / "near.png")
    result = score(model, open_dataset(data), near=0.99, progress=quiet)
    assert result.near is not None
    assert (result.scores.n, result.near.count, result.near.scores.n) == (11, 1, 10)
    with pytest.raises(ConfigError, match="has no training part to compare with"):
        score(model, open_dataset(data / "test"), near=0.99, progress=quiet)


def test_score_unknown_part_or_class_raises(data, train, tmp_path):
    model = loaded(train(open_dataset(data)))
    with pytest.raises(UnknownName, match=r"unknown part 'tset'.*did you mean test"):
        score(model, open_dataset(data), part="tset", progress=quiet)
    (data / "test" / "dark").rename(tmp_path / "elsewhere")
    other = write_images(tmp_path / "other", {"bright": 2}, seed=11)
    (tmp_path / "elsewhere").rename(other / "purple")
    with pytest.raises(UnknownName, match="unknown class 'purple'"):
        score(model, open_dataset(other), progress=quiet)


def test_record_scores_in_run_notes(data, train):
    run = train(open_dataset(data))
    result = score(loaded(run), open_dataset(data), near=0.99, progress=quiet)
    record_scores(run, result)
    record_scores(run, result)
    notes = json.loads((run / "run.json").read_text())["notes"]
    assert notes["held_out"]["images"] == 10
    assert notes["held_out"]["recall dark"] == result.scores.per_class[1].recall
    assert notes["held_out_by_class"] == {"bright": 5, "dark": 5}
    assert notes["held_out_without_near_copies"]["images"] == 10
    assert notes["fit"] == {"images": 16, "validation_images": 6}


def test_record_scores_refused(data, train, tmp_path):
    run = train(open_dataset(data))
    leaked = score(loaded(run), open_dataset(data), part="train", allow_leak=True, progress=quiet)
    with pytest.raises(DataError, match="are not recorded"):
        record_scores(run, leaked)
    fair = score(loaded(run), open_dataset(data), progress=quiet)
    with pytest.raises(ConfigError, match="is not a finished one"):
        record_scores(make_classifier(tmp_path / "bare"), fair)
