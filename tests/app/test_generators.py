"""Which generators are offered: published, trained in the served folder, and without weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.tiny import CLASSES, make_model

from medzoo.app.generators import drawable_models, find_generator
from medzoo.app.paths import open_root
from medzoo.errors import ConfigError
from medzoo.hub.registry import load_registry, resolve
from medzoo.plugins.lookup import load_plugins


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "served").mkdir()
    return open_root(tmp_path / "served")


def test_drawable_models_are_generators_at_hand(root: Path) -> None:
    models = drawable_models(root)
    assert models["ddpm-busi"].steps in range(1, 1001)
    assert models["dcgan-busi"].steps is None
    assert models["ddpm-var-busi"].varies_images
    assert "cnn-busi" not in models
    assert (models["classic"].needs_images, models["classic"].classes) == (True, ("own-image",))
    assert "api-variation" not in models  # it may send images to a service


def test_drawable_models_of_training_runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_generator(root, "dcgan-busi").name == "dcgan-busi"
    for name in ("runs/mine", "ddpm-busi", "-odd"):
        make_model(root / name)
    found = drawable_models(root)
    assert {"runs/mine", "./ddpm-busi", "./-odd", "ddpm-busi"} <= found.keys()
    own = found["runs/mine"]
    assert (own.classes, own.varies_images, own.multi_label) == (CLASSES, True, False)
    assert isinstance(own.steps, int)
    monkeypatch.chdir(root)  # as jobs run
    plugins = load_plugins()
    for name in ("runs/mine", "./ddpm-busi", "./-odd"):
        assert resolve(name, load_registry(plugins=plugins), plugins).folder == Path(name)
    (root / "runs/mine/model.safetensors").unlink()
    with pytest.raises(ConfigError, match="there is no generator 'runs/mine' any more"):
        find_generator(root, "runs/mine")


@pytest.mark.parametrize("change", ["link", "classifier", "weightless", "unknown", "no object", "no classes"])
def test_drawable_models_leave_out_other_folders(root: Path, change: str) -> None:
    folder = make_model(root / "other")
    config = folder / "config.json"
    content = json.loads(config.read_text())
    if change == "link":
        outside = root.parent / "model.safetensors"
        (folder / "model.safetensors").rename(outside)
        (folder / "model.safetensors").symlink_to(outside)
    elif change == "no object":
        config.write_text("[]")
    else:
        other = {
            "classifier": {"kind": "classifier"},
            "weightless": {"plugin": "classic"},
            "unknown": {"plugin": "none"},
            "no classes": {"image": {**content["image"], "classes": []}},
        }[change]
        config.write_text(json.dumps({**content, **other}))
    assert "other" not in drawable_models(root)
