"""Classifiers saved and loaded back: by folder, by id, by plugin; and what is no classifier is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from helpers.tiny import make_model
from helpers.tiny_classifier import CLASSES, SPEC, make_classifier, plugins_with_it

from medzoo.errors import ConfigError, IntegrityError, UnknownName
from medzoo.hub.registry import load_registry
from medzoo.models.loading import load_by_name, load_model, spec_to_train
from medzoo.plugins.lookup import load_plugins

IMAGES = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def load(given: object, **options):
    plugins = plugins_with_it()
    return load_by_name(
        str(given), kind="classifier", registry=load_registry(plugins=plugins), plugins=plugins, device="cpu", **options
    )


@pytest.fixture
def published(tmp_path, monkeypatch) -> Path:
    """A registry whose mirror holds the classifier `tell`, the default of its plugin; its folder."""
    folder = make_classifier(tmp_path / "mirror" / "tell")
    (folder / "README.md").write_text("A card.")
    files = ", ".join(
        f'{{ name = "{p.name}", sha256 = "{hashlib.sha256(p.read_bytes()).hexdigest()}", bytes = {p.stat().st_size} }}'
        for p in folder.iterdir()
    )
    registry = tmp_path / "registry.toml"
    registry.write_text(
        '[[model]]\nid = "tell"\nkind = "classifier"\nplugin = "nearest-mean"\nsummary = "s"\nmodality = "x-ray"\n'
        f'dataset = "d"\nclasses = {json.dumps(CLASSES)}\nsize = 8\nchannels = 1\nlicense = "mit"\nparameters = 128\n'
        f"default = true\nfiles = [{files}]\n"
    )
    monkeypatch.setenv("MEDZOO_REGISTRY", str(registry))
    monkeypatch.setenv("MEDZOO_MIRROR", str(tmp_path / "mirror"))
    return folder


def test_load_model_saved_classifier(tmp_path):
    folder = make_classifier(tmp_path / "run", trained_on=["aa", "bb"])
    loaded = load(folder)
    assert (loaded.name, loaded.spec, loaded.crop) == ("run", SPEC, "none")
    assert loaded.image.classes == CLASSES
    assert loaded.trained_on == {"aa", "bb"}
    assert loaded.weights_sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert json.loads((folder / "config.json").read_text())["kind"] == "classifier"
    assert torch.equal(loaded.model.predict(IMAGES), load(folder).model.predict(IMAGES))


@pytest.mark.parametrize("given", ["tell", "nearest-mean"])
def test_load_by_name_published_classifier(published, given):
    loaded = load(given)
    assert loaded.name == "tell"
    assert torch.equal(loaded.model.predict(IMAGES), load(published).model.predict(IMAGES))


def test_load_by_name_classifier_on_hub(tmp_path, hub_server):
    folder = make_classifier(tmp_path / "tell")
    hub_server.store.put("acme/tell", {path.name: path.read_bytes() for path in folder.iterdir()})
    assert torch.equal(load("hf:acme/tell").model.predict(IMAGES), load(folder).model.predict(IMAGES))


def test_load_model_only_inference_settings_can_change(tmp_path):
    folder = make_classifier(tmp_path / "run")
    loaded = load(folder, overrides={"prediction.sharpness": 0})
    assert loaded.model.predict(IMAGES).unique().tolist() == [0.5]
    assert loaded.config.origins["prediction.sharpness"] == "--set"
    with pytest.raises(ConfigError, match=r"image\.size cannot change in a trained model.*only prediction settings"):
        load(folder, overrides={"image.size": 16})
    with pytest.raises(UnknownName, match=r"unknown setting 'prediction\.sharpnes'"):
        load(folder, overrides={"prediction.sharpnes": 1})


def test_load_model_damaged_weights_raise(tmp_path):
    folder = make_classifier(tmp_path / "run")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(IntegrityError, match="is damaged"):
        load(folder)


def test_load_model_of_other_kind_raises(tmp_path):
    generator, classifier = make_model(tmp_path / "generator"), make_classifier(tmp_path / "classifier")
    with pytest.raises(ConfigError, match="is a generator, not a classifier"):
        load(generator)
    plugins = plugins_with_it()
    with pytest.raises(ConfigError, match="is a classifier, not a generator"):
        load_by_name(
            str(classifier), image=None, registry=load_registry(plugins=plugins), plugins=plugins, device="cpu"
        )


def test_spec_to_train_of_a_classifier():
    plugins = plugins_with_it()
    assert spec_to_train("nearest-mean", plugins, kind="classifier") == (SPEC, {})
    with pytest.raises(ConfigError, match="'ddpm' is a generator, not a classifier"):
        spec_to_train("ddpm", plugins, kind="classifier")
    with pytest.raises(UnknownName, match=r"unknown classifier 'nearest-men'.*did you mean nearest-mean"):
        spec_to_train("nearest-men", plugins, kind="classifier")
    with pytest.raises(ConfigError, match="'timm:' names no network"):
        spec_to_train("timm:", plugins, kind="classifier")


def test_load_model_maps_former_setting_names(tmp_path):
    folder = make_model(tmp_path / "model")
    today = json.loads((folder / "config.json").read_text())
    former = {"learning_rate": "rate", "num_inference_steps": "steps", "block_out_channels": "widths"}
    config = {}
    for key, value in today["config"].items():
        group, dot, name = key.rpartition(".")
        config[f"{group}{dot}{former.get(name, name)}"] = value
    assert {"sampling.steps", "network.widths", "training.rate"} < set(config)
    (folder / "config.json").write_text(json.dumps({**today, "config": config | {"image.crop": "centre"}}))
    loaded = load_model(folder, plugins=load_plugins(), device="cpu").config.flat()
    assert json.loads(json.dumps(loaded)) == today["config"] | {"image.crop": "center"}
