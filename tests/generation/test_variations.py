"""Variations of real images, GEN@STRENGTH: how they are asked for, what is written, and what is refused."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from helpers.augmentation import rows
from helpers.tiny import CLASSES

from medzoo.data.images import decode
from medzoo.data.pixels import prepare as square
from medzoo.errors import ConfigError, DataError
from medzoo.generation import augment, sample, writer
from medzoo.generation import run as filling
from medzoo.generation.mixture import make_source, parse_mixture, split_strength
from medzoo.plugins.lookup import load_plugins

QUIET = {"progress": lambda done, total: None}


def content(folder):
    """The bytes of every image below `folder` by path."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.png")}


def synthetic(folder):
    return [row for row in rows(folder) if row["origin"] == "synthetic"]


def test_split_strength_last_number():
    assert split_strength("ddpm-var-busi@0.3") == ("ddpm-var-busi", 0.3)
    assert split_strength("ddpm-var-busi@v2@.5") == ("ddpm-var-busi@v2", 0.5)
    assert split_strength("hf:org/name@main@1") == ("hf:org/name@main", 1.0)
    for name in ("ddpm-var-busi", "ddpm-var-busi@v2", "hf:org/name@main", "hf:org/name@1e5", "runs/a@b"):
        assert split_strength(name) == (name, None)


@pytest.mark.parametrize("strength", ["0", "1.01", "-0.3", "30"])
def test_split_strength_outside_raises(strength):
    with pytest.raises(ConfigError, match=rf"the strength in 'a@{strength}' must be above 0 and at most 1"):
        split_strength(f"a@{strength}")


def test_split_strength_of_a_folder(tmp_path):
    folder = tmp_path / "run@0.3"
    folder.mkdir()
    assert split_strength(str(folder)) == (str(folder), None)
    assert split_strength(f"{folder}@0.5") == (str(folder), 0.5)


def test_parse_mixture_strengths():
    assert [name for name, _ in parse_mixture(["a@0.3=0.5", "a@0.7=0.25", "a=0.25"])] == ["a@0.3", "a@0.7", "a"]
    with pytest.raises(ConfigError, match=r"the generator 'a@0\.30' is given twice"):
        parse_mixture(["a@0.3=0.5", "a@0.30=0.5"])


def test_augment_variations_name_source_and_strength(fill, model, images):
    folder = fill(generators=(f"{model}@0.5",)).folder
    made = synthetic(folder)
    assert {row["strength"] for row in made} == {"0.5"}
    assert {row["generator"] for row in made} == {"tiny-0.5"}
    assert made[0]["file_name"].endswith("/synthetic-tiny-0.5-000000.png")
    assert all(row["source_image"].startswith(f"{row['label']}/") for row in made)
    # Every source once before any twice.
    assert max(Counter(row["source_image"] for row in made if row["label"] == "normal").values()) == 1
    assert {row["strength"] for row in rows(folder) if row["origin"] == "real"} == {""}


def test_augment_sheet_shows_each_source_above_its_variation(fill, model, images, monkeypatch):
    shown = {}

    def keep(given, **options):
        shown.update(given)
        return contact_sheet(given, **options)

    contact_sheet = writer.contact_sheet
    monkeypatch.setattr(writer, "contact_sheet", keep)
    folder = fill(generators=(f"{model}@0.5",)).folder
    assert not any(title.endswith("real") for title in shown)
    side = shown["normal\nsource"].shape[-1]
    files = {row["file_name"]: row["source_image"] for row in synthetic(folder) if row["label"] == "normal"}
    for source, made in zip(shown["normal\nsource"], shown["normal\nsynthetic"], strict=True):
        (name,) = [name for name in files if np.array_equal(decode(folder / name), made[0])]
        assert np.array_equal(source, square(decode(images / files[name]), size=side, channels=1, crop="none"))


def test_augment_strength_as_setting(fill, model, tmp_path):
    asked = fill(generators=(f"{model}@0.5",)).folder
    setting = fill(generators=(str(model),), overrides=("sampling.strength=0.5",), out=tmp_path / "setting").folder
    assert content(asked) == content(setting)
    assert (asked / "metadata.csv").read_bytes() == (setting / "metadata.csv").read_bytes()


def test_augment_strength_one_is_without(fill, model, tmp_path):
    plain = fill().folder
    one = fill(generators=(f"{model}@1",), out=tmp_path / "one").folder
    assert content(plain) == content(one)
    assert (plain / "metadata.csv").read_bytes() == (one / "metadata.csv").read_bytes()
    assert {row["strength"] for row in rows(one)} == {""}


def test_augment_two_strengths_of_one_model(fill, model):
    folder = fill(generators=(f"{model}@0.3=0.5", f"{model}=0.25", f"{model}@0.8=0.25"), target=13).folder
    made = synthetic(folder)
    assert {row["generator"]: row["strength"] for row in made} == {"tiny": "", "tiny-0.3": "0.3", "tiny-0.8": "0.8"}
    assert len({row["seed"] for row in made}) == len(made)
    assert {row["generator"] for row in made if row["source_image"]} == {"tiny-0.3", "tiny-0.8"}


def test_augment_variations_in_shards(prepare, fill, model, tmp_path):
    asked = (f"{model}@0.5",)
    whole = fill(generators=asked, out=tmp_path / "whole").folder
    assert filling.run(prepare(generators=asked, shard=(2, 2)), **QUIET).missing > 0
    parts = filling.run(prepare(generators=asked, shard=(1, 2)), **QUIET)
    assert not parts.missing
    assert content(parts.folder) == content(whole)


def test_augment_variations_resume(prepare, fill, model, tmp_path):
    asked = (f"{model}@0.5",)
    whole = fill(generators=asked, out=tmp_path / "whole").folder
    out = fill(generators=asked).folder
    (out / "run.json").unlink()
    for file in sorted(out.rglob("synthetic-*.png"))[::2]:
        file.unlink()
    assert sum(row.drawn for row in filling.run(prepare(generators=asked), **QUIET).classes) > 0
    assert content(out) == content(whole)
    with pytest.raises(DataError, match=r"generators\.tiny-0\.6"):
        prepare(generators=(f"{model}@0.6",))


def test_augment_small_strength_is_near_its_source(fill, model, images, tmp_path):
    def distance(strength):
        folder = fill(generators=(f"{model}@{strength}",), out=tmp_path / str(strength), overrides=steps).folder
        apart = []
        for row in synthetic(folder):
            source = square(decode(images / row["source_image"]), size=16, channels=1, crop="none")[0]
            apart.append(np.abs(decode(folder / row["file_name"]) - source.astype(float)).mean())
        return np.mean(apart)

    steps = ("sampling.num_inference_steps=20",)
    assert distance(0.05) < distance(0.5)


@pytest.mark.parametrize(
    ("asked", "overrides", "message"),
    [
        ("classic@0.3", (), "'classic' takes no strength"),
        ("{model}@0.3", ("sampling.strength=0.4",), r"sampling\.strength = 0\.4 ask for different strengths"),
        ("{model}@2", (), "must be above 0 and at most 1"),
        ("{model}", ("sampling.strength=0",), r"sampling\.strength = 0\.0 is out of range"),
    ],
)
def test_augment_bad_strength_raises(prepare, model, asked, overrides, message):
    with pytest.raises(ConfigError, match=message):
        prepare(generators=(asked.format(model=model),), overrides=overrides)


def test_augment_setting_equal_to_strength(prepare, model):
    job = prepare(generators=(f"{model}@0.3=0.5", "duplicate=0.5"), overrides=("sampling.strength=0.3",))
    assert job.sampler.models[0].strength == 0.3


def test_sample_variations_need_real_images(model, images, tmp_path, monkeypatch):
    source = make_source(load_plugins(), device="cpu")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="no real images") as caught:
        sample.prepare(f"{model}@0.3", source, out=tmp_path / "out")
    assert "--data DIR" in caught.value.hint
    with pytest.raises(ConfigError, match="does not vary real images") as caught:
        sample.prepare(str(model), source, data=images, out=tmp_path / "out")
    assert caught.value.hint == "leave --data out, or give a strength below 1: tiny@0.3"
    job = sample.prepare(f"{model}@0.3", source, data=images, out=tmp_path / "out", count=2)
    assert [row["label"] for row in synthetic(filling.run(job, **QUIET).folder)] == [c for c in CLASSES for _ in "ab"]


def test_sample_variations_of_an_unknown_class_raises(model, images, tmp_path):
    source = make_source(load_plugins(), device="cpu")
    data = tmp_path / "scans"
    for label in ("normal", "cyst"):
        (data / label).mkdir(parents=True)
        for file in sorted((images / "normal").iterdir())[:2]:
            (data / label / file.name).write_bytes(file.read_bytes())
    with pytest.raises(DataError, match="'tiny' does not know the class cyst"):
        sample.prepare(f"{model}@0.3", source, data=data, out=tmp_path / "out")
    asked = sample.prepare(f"{model}@0.3", source, labels=["normal"], data=data, out=tmp_path / "out")
    assert asked.labels == ("normal",)


def test_augment_variations_of_a_held_out_part_are_never_made(model, images, tmp_path):
    """Sources are of the training part; a model that was trained on held-out images is refused as ever."""
    data = tmp_path / "split"
    for part, chosen in (("train", slice(0, 2)), ("test", slice(2, 3))):
        for label in CLASSES:
            (data / part / label).mkdir(parents=True)
            for file in sorted((images / label).iterdir())[chosen]:
                (data / part / label / f"{part}-{file.name}").write_bytes(file.read_bytes())
    source = make_source(load_plugins(), device="cpu")
    job = augment.prepare((f"{model}@0.5",), source, target=6, data=data, out=tmp_path / "out")
    made = synthetic(filling.run(job, **QUIET).folder)
    assert made
    assert all("/train-" in row["source_image"] for row in made)
