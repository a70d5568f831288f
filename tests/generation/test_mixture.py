"""What a job starts from: mixtures, the choice of real images, classes, lineage; and what is refused, with the mend."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers.augmentation import rows
from helpers.tiny import CLASSES, make_model

from medzoo.data.dataset import open_dataset
from medzoo.data.images import decode, write_image
from medzoo.data.phantom import write_phantom
from medzoo.data.pixels import prepare as square
from medzoo.errors import ConfigError, DataError, PluginError, UnknownName
from medzoo.generation import run as filling
from medzoo.generation import sample
from medzoo.generation.mixture import PHANTOM_COUNTS, make_source, parse_mixture
from medzoo.generation.plan import exact_shares
from medzoo.plugins.lookup import load_plugins


@pytest.fixture(scope="session")
def other(tmp_path_factory):
    """Another tiny model, its classes in another order, with one more."""
    folder = tmp_path_factory.mktemp("models") / "other"
    return make_model(folder, classes=("extra", *sorted(CLASSES)), seed=1)


def test_prepare_exact_shares(fill, model, other):
    outcome = fill(generators=(f"{model}=0.8", f"{other}=0.2"), target=19)
    made = Counter((row["label"], row["generator"]) for row in rows(outcome.folder) if row["origin"] == "synthetic")
    assert made == {
        ("normal", "tiny"): 8,
        ("normal", "other"): 2,
        ("thick-wall", "tiny"): 12,
        ("thick-wall", "other"): 3,
        ("narrow-canal", "tiny"): 13,
        ("narrow-canal", "other"): 3,
    }
    assert len({row["weights_sha256"] for row in rows(outcome.folder)}) == 3


def test_prepare_models_of_one_name(fill, model, tmp_path):
    twin = shutil.copytree(model, tmp_path / "runs" / "tiny")
    folder = fill(generators=(f"{model}=0.5", f"{twin}=0.5")).folder
    assert {row["generator"] for row in rows(folder)} == {"", "tiny", "tiny-2"}


def test_prepare_oversampling_beside_a_model(fill, model, images):
    folder = fill(generators=(f"{model}=0.5", "duplicate=0.5"), target=20).folder
    repeated = [row for row in rows(folder) if row["generator"] == "duplicate"]
    assert Counter(row["label"] for row in repeated) == {"normal": 5, "thick-wall": 8, "narrow-canal": 8}
    for row in repeated:
        assert row["source_image"].startswith(f"{row['label']}/")
        seen = square(decode(images / row["source_image"]), size=16, channels=1, crop="none")
        assert (decode(folder / row["file_name"]) == seen[0]).all()
    # Four images twice each; three images two or three times each.
    uses = Counter(row["source_image"] for row in repeated)
    assert sorted(count for name, count in uses.items() if name.startswith("thick")) == [2, 2, 2, 2]
    assert sorted(count for name, count in uses.items() if name.startswith("narrow")) == [2, 3, 3]


def test_prepare_classic_image_size(fill, prepare):
    outcome = fill(generators=("classic",))
    assert decode(next(outcome.folder.glob("normal/synthetic-*"))).shape == (24, 24)
    asked = prepare(generators=("classic",), overrides=("image.size=32", "image.channels=3"), out=None)
    assert (asked.sampler.models[0].image.size, asked.sampler.models[0].image.channels) == (32, 3)


def test_prepare_classic_color(fill, tmp_path):
    for index in range(3):
        gray, color = np.full((1, 20, 30), 50, np.uint8), np.full((3, 40, 20), (index,), np.uint8)
        write_image(tmp_path / "rgb" / "a" / f"{index}.png", gray if index else color)
    folder = fill(generators=("duplicate",), data=tmp_path / "rgb", target=5).folder
    assert {decode(path).shape for path in folder.glob("a/synthetic-*")} == {(20, 20, 3)}


def test_prepare_overrides_by_generator(prepare, model):
    both = {"generators": (f"{model}=0.5", "classic=0.5")}
    job = prepare(**both, overrides=("sampling.num_inference_steps=3", "rotation=7"))
    assert job.sampler.models[0].config.flat()["sampling.num_inference_steps"] == 3
    assert job.sampler.models[1].config.flat()["rotation"] == 7
    with pytest.raises(UnknownName, match="rotaton"):
        prepare(**both, overrides=("rotaton=7",))


def test_prepare_over_another_run(fill, prepare, other):
    fill()
    for change, key in (
        ({"target": 13}, "to is 12, this one's is 13"),
        ({"seed": 1}, "seed is 0, this one's is 1"),
        ({"batch_size": 6}, "batch_size"),
        ({"originals": "copy"}, "originals"),
        (
            {"overrides": ("sampling.num_inference_steps=3",)},
            "generators.tiny.config.sampling.num_inference_steps is 4, this one's is 3",
        ),
        ({"generators": (str(other),)}, "generators.other"),
    ):
        with pytest.raises(DataError, match=key) as caught:
            prepare(**change)
        assert "another --out" in caught.value.hint


def test_prepare_over_a_run_of_other_weights(fill, prepare, model, tmp_path):
    copy = shutil.copytree(model, tmp_path / "tiny")
    fill(generators=(str(copy),))
    make_model(copy, seed=9)
    with pytest.raises(DataError, match="weights_sha256"):
        prepare(generators=(str(copy),))


def test_prepare_over_a_run_of_other_images(fill, prepare, images, tmp_path):
    fill()
    copy = shutil.copytree(images, tmp_path / "scans")
    next(copy.glob("normal/*")).unlink()
    with pytest.raises(DataError, match="counts"):
        prepare(data=copy)


@pytest.mark.parametrize("make", [lambda out: out.write_text("x"), lambda out: (out / "sub").mkdir(parents=True)])
def test_prepare_folder_in_use(prepare, tmp_path, make):
    make(tmp_path / "out")
    with pytest.raises(DataError, match=r"is a file|holds other files"):
        prepare()


def test_prepare_folder_of_hidden_files(fill, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "..medzoo-plan.json.00.part").touch()
    assert not fill().missing


def test_prepare_invalid_plan_file(prepare, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".medzoo-plan.json").write_text("[1")
    with pytest.raises(DataError, match="not a job's plan"):
        prepare()


@pytest.mark.parametrize("place", [".", "aug", "normal/aug"])
def test_prepare_folder_inside_the_data(prepare, images, place):
    with pytest.raises(DataError, match="is inside the data folder"):
        prepare(out=images / place)


def test_prepare_unknown_classes(prepare, images, tmp_path):
    copy = shutil.copytree(images, tmp_path / "scans")
    (copy / "normal").rename(copy / "healthy")
    with pytest.raises(DataError) as caught:
        prepare(data=copy)
    assert "does not know the class healthy" in caught.value.message
    assert "it knows thick-wall, normal, narrow-canal" in caught.value.message
    assert "the data has healthy, narrow-canal, thick-wall" in caught.value.message
    assert "medzoo train ddpm" in caught.value.hint


def test_prepare_unknown_class_that_is_full(fill, images, tmp_path):
    copy = shutil.copytree(images, tmp_path / "scans")
    (copy / "normal").rename(copy / "healthy")
    outcome = fill(data=copy, target=9)
    assert {row.label: row.synthetic for row in outcome.classes} == {"healthy": 0, "narrow-canal": 6, "thick-wall": 5}


def test_prepare_classes_absent_from_the_data(prepare, other, logged):
    prepare(generators=(str(other),))
    assert "known to the model but not in the data, so not sampled: extra" in logged


def test_prepare_npz(fill, prepare, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (9, 28, 28), dtype=np.uint8)
    labels = np.array([0, 1, 1, 2, 2, 2, 1, 1, 0])
    np.savez(tmp_path / "x.npz", train_images=images, train_labels=labels)
    with pytest.raises(DataError, match="the data has 0, 1, 2") as caught:
        prepare(data=tmp_path / "x.npz", target=4)
    assert "--classes thick-wall,normal,narrow-canal" in caught.value.hint
    outcome = fill(data=tmp_path / "x.npz", target=4, classes=CLASSES)
    assert {row.label: (row.real, row.synthetic) for row in outcome.classes} == {
        "thick-wall": (2, 2),
        "normal": (4, 0),
        "narrow-canal": (3, 1),
    }
    real = [row for row in rows(outcome.folder) if row["origin"] == "real"]
    for row, pixels in zip(real, images, strict=True):
        assert (decode(outcome.folder / row["file_name"]) == pixels).all()
    assert real[0]["source_image"] == "train/00000"


def test_prepare_class_without_images(fill, prepare, tmp_path, logged):
    images = np.zeros((3, 28, 28), np.uint8)
    np.savez(tmp_path / "x.npz", train_images=images, train_labels=np.array([0, 1, 1]))
    given = {"data": tmp_path / "x.npz", "classes": CLASSES, "target": 2}
    outcome = fill(**given)
    assert outcome.classes[2].synthetic == 2
    assert any("'narrow-canal' has no real image" in text for text in logged)
    with pytest.raises(DataError, match="'duplicate' varies real images, and class 'narrow-canal' has none"):
        prepare(**given, generators=("duplicate",), out=tmp_path / "other")


def test_prepare_multi_label_data(prepare, tmp_path):
    np.savez(tmp_path / "x.npz", train_images=np.zeros((2, 8, 8), np.uint8), train_labels=np.array([[1, 1], [0, 1]]))
    with pytest.raises(DataError, match="'tiny' makes images of one label each"):
        prepare(data=tmp_path / "x.npz")
    source = make_source(load_plugins(), device="cpu")
    with pytest.raises(DataError, match="is multi-label: an image may have several classes"):
        sample.prepare("duplicate", source, data=tmp_path / "x.npz")


@pytest.fixture
def parted(images, tmp_path):
    """The scans as training part, three others held out for tests."""
    shutil.copytree(images, tmp_path / "parted" / "train")
    write_phantom(tmp_path / "parted" / "test", counts={"normal": 2, "thick-wall": 1}, size=24, seed=77)
    return tmp_path / "parted"


def test_prepare_model_trained_on_held_out_images(prepare, fill, parted, tmp_path):
    seen = open_dataset(parted).held_out["test"].fingerprints()[:2]
    leaky = make_model(tmp_path / "leaky", trained_on=[*seen, *open_dataset(parted).fingerprints()])
    given = {"generators": (str(leaky),), "data": parted}
    with pytest.raises(DataError, match="trained on 2 of the 3 test images") as caught:
        prepare(**given)
    assert "--allow-leak" in caught.value.hint
    record = json.loads((fill(**given, allow_leak=True).folder / "run.json").read_text())
    assert record["lineage"] == {
        "allow_leak": True,
        "models": {"leaky": {"trained_on": 18, "among_the_real": 16, "held_out": {"test": 2}}},
    }


def test_prepare_held_out_images_are_not_augmented(fill, parted, tmp_path, logged):
    honest = make_model(tmp_path / "honest", trained_on=open_dataset(parted).fingerprints())
    outcome = fill(generators=(str(honest),), data=parted)
    assert sum(row.real for row in outcome.classes) == 16
    assert len(list((parted / "test").rglob("*.png"))) == 3
    assert any("3 test images are held out" in text for text in logged)


def test_prepare_synthetic_data(fill, prepare, tmp_path):
    made = fill().folder
    for data in (made, made / "metadata.csv"):
        with pytest.raises(DataError, match="holds 20 synthetic images"):
            prepare(data=data, out=tmp_path / "again", target=20)


def test_prepare_default_data(prepare, images, tmp_path, monkeypatch, logged):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(images, tmp_path / "datasets" / "train")
    job = prepare(data=None)
    assert job.real.counts()["normal"] == 9
    assert any("./datasets/train" in text for text in logged)


def test_prepare_demo_dataset(prepare, model, tmp_path, monkeypatch, logged):
    monkeypatch.chdir(tmp_path)
    own = make_model(tmp_path / "own", classes=tuple(PHANTOM_COUNTS), embedded="phantom")
    job = prepare(data=None, generators=(str(own),), out=None, target=24)
    assert job.real.counts() == PHANTOM_COUNTS
    assert any("simulated ultrasound" in text for text in logged)
    assert job.folder == Path("augmented-own-24")
    with pytest.raises(DataError, match="'tiny' has no demo dataset") as caught:
        prepare(data=None)
    assert "--data" in caught.value.hint
    with pytest.raises(DataError, match="none of their own"):
        prepare(data=None, generators=("classic",))


def test_demo_dataset_is_reproducible(fill, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = make_model(tmp_path / "own", classes=tuple(PHANTOM_COUNTS), embedded="phantom")
    given = {"data": None, "generators": (str(own),), "target": 22}
    first = fill(**given)
    assert len(list(first.folder.glob("normal/real-*"))) == 20
    assert fill(**given).already_done


def test_prepare_unreadable_headers(prepare, fill, images, tmp_path, logged):
    copy = shutil.copytree(images, tmp_path / "scans")
    (copy / "normal" / "bad.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"bad\.png"):
        prepare(data=copy)
    outcome = fill(data=copy, skip_bad=True)
    assert {row.label: row.real for row in outcome.classes}["normal"] == 9
    assert any("left out normal/bad.png" in text for text in logged)
    record = json.loads((outcome.folder / "run.json").read_text())
    assert record["left_out"][0][0] == "normal/bad.png"


def test_prepare_unreadable_pixels(prepare, images, tmp_path):
    copy = shutil.copytree(images, tmp_path / "scans")
    broken = next(copy.glob("normal/*"))
    broken.write_bytes(broken.read_bytes()[:-200])
    with pytest.raises(DataError, match=broken.name):
        prepare(data=copy)
    assert not (tmp_path / "out").exists()


def test_prepare_nothing_to_do(prepare):
    with pytest.raises(ConfigError, match="every class has at least 3 images"):
        prepare(target=3, originals="omit")


@pytest.mark.parametrize("change", [{"target": 0}, {"batch_size": 0}, {"originals": "move"}])
def test_prepare_out_of_range(prepare, change):
    with pytest.raises(ConfigError):
        prepare(**change)


def test_run_generator_that_breaks_its_contract(prepare):
    job = prepare()
    lying = replace(job.sampler.models[0], image=replace(job.sampler.models[0].image, size=8))
    job.sampler.models = (lying,)
    with pytest.raises(PluginError, match=r"'ddpm' returned \(5, 1, 16, 16\) instead of \(5, 1, 8, 8\)"):
        filling.run(job, progress=lambda done, total: None)


def test_parse_mixture_one_generator():
    assert parse_mixture(["ddpm"]) == [("ddpm", Fraction(1))]
    assert parse_mixture(["ddpm=1"]) == [("ddpm", Fraction(1))]


def test_parse_mixture_exact_shares():
    assert parse_mixture(["a=0.8", "b=0.2"]) == [("a", Fraction(4, 5)), ("b", Fraction(1, 5))]
    thirds = parse_mixture(["a=0.3333333", "b=0.3333333", "c=1/3"])
    assert sum(share for _, share in thirds) == 1


def test_parse_mixture_folder_with_an_equals_sign(tmp_path):
    folder = tmp_path / "lr=0.1"
    folder.mkdir()
    assert parse_mixture([str(folder)]) == [(str(folder), Fraction(1))]
    assert parse_mixture([f"{folder}=0.5", "b=0.5"])[0] == (str(folder), Fraction(1, 2))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no generator"),
        (["a", "b"], "'a' has none"),
        (["a=0.5", "b"], "'b' has none"),
        (["a=0.5", "a=0.5"], "'a' is given twice"),
        (["a=0.5", "b=0.4"], "sum to 0.9"),
        (["a=1.5", "b=-0.5"], "more than 0"),
        (["a=1", "b=0"], "more than 0"),
        (["a=0.8", "b=x"], "must be a number"),
        (["a=nan", "b=1"], "must be a number"),
        (["a=1/0", "b=1"], "must be a number"),
    ],
)
def test_parse_mixture_invalid(given, message):
    with pytest.raises(ConfigError, match=message):
        parse_mixture(given)


@pytest.mark.parametrize(
    ("total", "shares", "counts"),
    [
        (10, ["4/5", "1/5"], [8, 2]),
        (7, ["1/2", "1/2"], [4, 3]),
        (10, ["1/3", "1/3", "1/3"], [4, 3, 3]),
        (0, ["1/2", "1/2"], [0, 0]),
        (1, ["1/10", "9/10"], [0, 1]),
    ],
)
def test_exact_shares_sum_to_the_total(total, shares, counts):
    assert exact_shares(total, [Fraction(share) for share in shares]) == counts


def test_lineage_unknown_is_said(prepare, tmp_path, logged):
    folder = make_model(tmp_path / "secret", trained_on=None)
    job = prepare(generators=(str(folder),))
    assert "'secret' does not say which images it was trained on: real images given here may be among them" in logged
    assert job.facts["lineage"]["models"]["secret"]["trained_on"] is None
