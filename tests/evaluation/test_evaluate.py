"""Evaluations: what is measured, the floor, classes, pairs of sets, warnings, and what is never done twice."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from helpers.evaluation_sets import MEANS, source_of_tests, write_metadata, write_set

from medzoo.data.dataset import Dataset, open_dataset
from medzoo.data.images import write_image
from medzoo.errors import ConfigError, DataError, HubError, UnknownName
from medzoo.evaluation.evaluate import EvaluateRequest, evaluate
from medzoo.evaluation.metric_computation import MetricComputer
from medzoo.evaluation.results import FAKE, OTHER, REAL, TRAIN
from medzoo.hub.registry import WEIGHTS, load_registry
from medzoo.storage.paths import features_root, scores_root


@pytest.fixture
def paths(tmp_path):
    return {
        "real": write_set(tmp_path / "real", {"a": 6, "b": 4}, seed=1),
        "fake": write_set(tmp_path / "fake", {"a": 6, "b": 4}, seed=2, shift=20),
    }


@pytest.fixture
def measure(paths):
    source = source_of_tests()

    def call(**changes):
        MEANS.seen = 0
        watched = []
        measured = evaluate(EvaluateRequest(**paths | changes), source, progress=lambda *seen: watched.append(seen))
        measure.watched = watched
        return measured.evaluation

    measure = call
    return call


def rows(evaluation, label=""):
    found = [*evaluation.results, *evaluation.per_class]
    return {row.name: row for row in found if row.label == label}


def test_evaluate_default_metrics(measure, logged):
    evaluation = measure()
    assert set(rows(evaluation)) == {"mean-distance@means", "brightness", "large", "look@means"}
    left_out = {one.name: one.hint for one in evaluation.skipped}
    assert left_out["mean-distance@absent"] == "medzoo pull inception-fid"
    assert left_out["nearest-train@means"] == "--train DIR"
    (told,) = [text for text in logged if text.startswith("skipped metrics: ")]
    assert "mean-distance@absent, nearest-train@absent, look@absent (medzoo pull inception-fid)" in told
    assert "nearest-train@means (--train DIR)" in told
    row = rows(evaluation)["mean-distance@means"]
    assert row.score.value == pytest.approx(40, abs=4)  # 20 gray levels in each of four quarters
    assert (row.preprocessing, row.score.n_real, row.score.n_fake) == ("quarters", 10, 10)
    assert rows(evaluation)["brightness"].score.value == pytest.approx(20 / 255, abs=0.01)
    assert rows(evaluation)["large"].missing == "large needs sides over 160 pixels"


def test_evaluate_named_metrics(measure):
    assert set(rows(measure(metrics=("brightness", "mean-distance")))) == {"brightness", "mean-distance@means"}
    assert set(rows(measure(metrics=("mean-distance@means",)))) == {"mean-distance@means"}


@pytest.mark.parametrize(
    ("metric", "error", "match"),
    [
        ("brightnes", UnknownName, "brightness"),
        ("mean-distance@mean", UnknownName, "means"),
        ("brightness@means", UnknownName, "needs no extractor"),
        ("look@cnn-busi", UnknownName, "extractor"),
        ("mean-distance@absent", HubError, "inception-fid"),
        ("nearest-train", DataError, "the training images"),
    ],
)
def test_evaluate_unavailable_metrics(measure, metric, error, match):
    with pytest.raises(error, match=match) as raised:
        measure(metrics=(metric,))
    assert raised.value.hint or error is UnknownName


def test_evaluate_nothing_computable(measure):
    with pytest.raises(DataError, match="nothing could be measured: large: large needs sides over 160"):
        measure(metrics=("large",))


def test_evaluate_baseline_of_equal_n(measure, tmp_path):
    sets = {"real": write_set(tmp_path / "r", {"a": 11}), "fake": write_set(tmp_path / "f", {"a": 4}, shift=20)}
    floor = rows(measure(**sets))["mean-distance@means"].baseline
    assert (floor.n, floor.draws) == (4, 4)
    assert floor.real < 10
    assert floor.fake > 30
    assert floor.real_spread > 0


def test_evaluate_too_few_images(measure, tmp_path):
    fake = write_set(tmp_path / "two", {"a": 2})
    row = rows(measure(fake=fake))["brightness"]
    assert row.score is None
    assert row.missing == "insufficient: it needs 3 images per set, there are 2 synthetic"


def test_evaluate_per_class(measure, tmp_path):
    evaluation = measure(per_class=True)
    of_a = rows(evaluation, "a")
    assert "needs 50 images per set, there are 6 real and 6 synthetic" in of_a["mean-distance@means"].missing
    assert of_a["brightness"].score.details["real"] == pytest.approx(40 / 255, abs=0.01)
    assert rows(evaluation, "b")["brightness"].score.n_real == 4
    many = {"real": write_set(tmp_path / "r", {"a": 50}), "fake": write_set(tmp_path / "f", {"a": 50})}
    assert rows(measure(**many, per_class=True), "a")["mean-distance@means"].score.value == pytest.approx(0)


def test_evaluate_class_order(measure, tmp_path):
    fake = write_set(tmp_path / "only-b", {"b": 4, "c": 4}, shift=40)
    evaluation = measure(fake=fake, per_class=True)
    assert rows(evaluation, "b")["brightness"].score.value == pytest.approx(0, abs=0.01)
    assert rows(evaluation, "c")["brightness"].missing.endswith("there are 0 real")
    told = " ".join(evaluation.warnings)
    assert "class 'a' has no synthetic image" in told
    assert "class 'c' has no real image" in told
    assert "class proportions differ (real a 60%, b 40%; synthetic b 50%, c 50%)" in told


def test_evaluate_training_images(measure, paths, tmp_path):
    train = write_set(tmp_path / "train", {"a": 5, "b": 5}, seed=3)
    copied = open_dataset(train).pixels(7)
    write_image(paths["fake"] / "a" / "000.png", copied[None, :, ::-1])
    evaluation = measure(train=train)
    row = rows(evaluation)["nearest-train@means"]
    assert row.score.failed
    assert (row.score.pairs[0].fake, row.score.pairs[0].train) == (0, 7)
    assert {facts.role for facts in evaluation.sets} == {REAL, FAKE, TRAIN}


def test_evaluate_pairwise(measure, tmp_path, monkeypatch):
    monkeypatch.setattr("medzoo.evaluation.evaluate._PAIRWISE", ("mean-distance", "look"))
    train = write_set(tmp_path / "train", {"a": 6, "b": 4}, seed=3)
    other = write_set(tmp_path / "other", {"shirt": 4}, seed=4, shift=150)
    table = {(row.first, row.second, row.name): row.score.value for row in measure(train=train, other=other).pairwise}
    assert len(table) == 6 * 2
    assert table[TRAIN, REAL, "mean-distance@means"] > 0
    assert table[TRAIN, REAL, "mean-distance@means"] < table[TRAIN, FAKE, "mean-distance@means"]
    assert table[FAKE, OTHER, "mean-distance@means"] > table[TRAIN, FAKE, "mean-distance@means"]


def test_evaluate_uses_caches(measure, monkeypatch):
    first = measure(seed=3)
    assert MEANS.seen == 20

    def refuse(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(Dataset, "all_pixels", refuse)
    monkeypatch.setattr(Dataset, "pixels", refuse)
    assert measure(seed=3).results == first.results
    assert MEANS.seen == 0


def test_evaluate_again_computes_no_score(measure, tmp_path, monkeypatch, logged):
    monkeypatch.setattr("medzoo.evaluation.evaluate._PAIRWISE", ("mean-distance",))
    given = {"train": write_set(tmp_path / "train", {"a": 5, "b": 5}, seed=3), "per_class": True}
    first = measure(**given)
    assert not any("scores are from an earlier evaluation" in text for text in logged)
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(MetricComputer, "_measure", lambda _, one, *__, **___: asked.append(one.name) or None)
        again = measure(**given)
    assert set(asked) <= {"large"}, "only what could not be measured is asked again"
    for part in ("results", "per_class", "pairwise"):
        kept = [[row for row in getattr(each, part) if row.name != "large"] for each in (first, again)]
        assert kept[0] == kept[1] != []
    told = [text for text in logged if "of the same images; `medzoo cache remove scores`" in text]
    count = sum(row.score is not None for row in (*first.results, *first.per_class, *first.pairwise))
    assert [text.partition(" scores")[0] for text in told] == [f"{count} of {count}"]
    shutil.rmtree(scores_root())
    assert (measure(**given).results, told) == (first.results, [text for text in logged if text in told])


def test_evaluate_score_cache_depends_on_labels_and_seed(measure, paths):
    first = measure(per_class=True, metrics=("brightness",))
    kept = len(list(scores_root().iterdir()))
    for number in (4, 5):  # the same pixels in the same order, of other classes
        (paths["fake"] / "a" / f"{number:03d}.png").rename(paths["fake"] / "b" / f"-{number}.png")
    moved = measure(per_class=True, metrics=("brightness",))
    assert rows(moved, "b")["brightness"].score.n_fake == rows(first, "b")["brightness"].score.n_fake + 2
    measure(per_class=True, metrics=("brightness",), seed=1)
    assert len(list(scores_root().iterdir())) == 3 * kept


def test_evaluate_cache_depends_on_pixels(measure, paths, tmp_path):
    measure()
    paths["fake"].rename(tmp_path / "moved")
    measure(fake=tmp_path / "moved")
    kept = sorted(features_root().iterdir())
    assert MEANS.seen <= 10  # while a set is being decoded, nobody knows yet that it was seen before
    write_image(tmp_path / "moved" / "a" / "001.png", np.zeros((1, 12, 12), np.uint8))
    measure(fake=tmp_path / "moved")
    assert MEANS.seen == 10
    assert len(list(features_root().iterdir())) == len(kept) + 1


def test_evaluate_batch_size(measure):
    values = [rows(measure(batch_size=size, seed=5))["look@means"].score.value for size in (1, 3, 64)]
    assert values[0] == values[1] == values[2]


def test_evaluate_truncated_image(measure, paths):
    file = paths["real"] / "a" / "000.png"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"000\.png cannot be read") as raised:
        measure(metrics=("brightness",))
    assert "--skip-bad" in raised.value.hint
    assert rows(measure(metrics=("brightness",), skip_bad=True))["brightness"].score.n_real == 9


def test_evaluate_leakage(measure, paths, logged, tmp_path):
    train = write_set(tmp_path / "train", {"a": 5, "b": 5}, seed=3)
    write_image(train / "a" / "000.png", open_dataset(paths["real"]).pixels(0)[None])
    with pytest.raises(DataError, match=r"1 of the 10 real images are among the training images") as raised:
        measure(train=train)
    assert "--allow-leak" in raised.value.hint
    evaluation = measure(train=train, allow_leak=True)
    assert any("1 of the 10 real images" in text for text in evaluation.warnings)
    (known,) = evaluation.provenance["lineage"]["trained"]
    assert (known["who"], known["trained_on"], known["real_among_them"]) == ("training images", 10, 1)
    evaluation = measure(train=train, leave_out_seen=True)
    assert evaluation.summary(REAL).counts == {"a": 5, "b": 4}
    assert rows(evaluation)["brightness"].score.n_real == 9
    assert evaluation.provenance["lineage"]["left_out"] == 1
    assert any("left out 1 of the 10 real images" in text for text in logged)
    with pytest.raises(DataError, match="every real image was used in training"):
        measure(train=paths["real"], leave_out_seen=True)


def test_evaluate_leakage_by_weights(measure, paths, monkeypatch, logged):
    row = load_registry().model("ddpm-busi")
    weights = next(file.sha256 for file in row.files if file.name == WEIGHTS)
    write_metadata(paths["fake"], generator="ddpm-busi", weights=weights)
    (facts,) = measure().provenance["lineage"]["trained"]
    assert facts["who"] == "ddpm-busi"
    assert facts["trained_on"] > 300
    assert facts["real_among_them"] == 0
    trained = open_dataset(paths["real"]).fingerprints()[:2]
    monkeypatch.setattr(
        "medzoo.evaluation.leakage.read_description", lambda folder: {"data": {"images": list(trained)}}
    )
    with pytest.raises(DataError, match="'ddpm-busi' was trained on 2 of the 10 real images"):
        measure()
    write_metadata(paths["fake"], generator="mine", weights="0" * 64)
    measure()
    assert any("'mine' is in no registry here" in text for text in logged)


def test_evaluate_dataset_warnings(measure, paths):
    from PIL import Image

    write_image(paths["fake"] / "a" / "003.png", np.full((1, 12, 12), 9, np.uint8))
    Image.new("L", (12, 12)).save(paths["real"] / "a" / "x.jpg")
    told = " ".join(measure().warnings)
    assert "1 synthetic images have a single gray level or color: a/003.png" in told
    assert "different image codecs (real JPEG/PNG, synthetic PNG)" in told


def test_evaluate_datasets_in_memory(measure, paths):
    real, fake = (open_dataset(path) for path in paths.values())
    arrays = [np.stack([data.pixels(k) for k in range(len(data))]) for data in (real, fake)]
    sets = {
        role: Dataset(path=data.path, classes=data.classes, labels=data.labels, names=data.names, array=array)
        for role, data, array in zip(paths, (real, fake), arrays, strict=True)
    }
    assert rows(measure(**sets))["mean-distance@means"].score == rows(measure())["mean-distance@means"].score


@pytest.mark.parametrize("change", [{"crop": "middle"}, {"size": 4}, {"batch_size": 0}])
def test_evaluate_out_of_range(measure, change):
    with pytest.raises(ConfigError):
        measure(**change)
