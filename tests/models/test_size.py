"""A config.json that describes a larger model than its weights are is refused before memory is taken for it."""

from __future__ import annotations

import json
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from medzoo import ImageSpec
from medzoo import config as settings
from medzoo.errors import DataError, IntegrityError, ResourceError
from medzoo.models.folder import save_model
from medzoo.models.loading import build_model, load_model
from medzoo.plugins.lookup import load_plugins
from medzoo.specs import ModelSpec
from medzoo.storage.files import sha256_file

IMAGE = ImageSpec(size=32, channels=1, classes=("a", "b"))
HUGE = 10**9
# One setting of each first-party model on which the size of its network depends.
WIDTHS: Mapping[str, Mapping[str, Any]] = {
    "ddpm": {"network.block_out_channels": [32, HUGE]},
    "ddpm-var": {"network.block_out_channels": [32, HUGE], "network.cross_attention_dim": HUGE},
    "ldm": {"network.block_out_channels": [32, HUGE], "autoencoder.block_out_channels": [32, HUGE]},
    "latent-ddpm": {"network.hidden_dim": HUGE, "autoencoder.bottleneck_channels": HUGE},
    "dcgan": {"network.base_channels": HUGE, "network.latent_dim": HUGE},
    "cnn": {"network.block_out_channels": [32, HUGE], "network.hidden_dims": [HUGE, HUGE], "network.pool_size": HUGE},
    "swin_tiny": {"network.embed_dim": 32 * 10**7},
    "resnet50-frozen": {"network.hidden_dim": HUGE},
}
BOMBS = [(name, key, value) for name, sets in WIDTHS.items() for key, value in sets.items()]


def save_tiny(name: str, folder: Path) -> ModelSpec[Any]:
    plugins = load_plugins()
    spec: Any = plugins.generators.get(name) or plugins.classifiers[name]
    config = settings.resolve(spec.config, presets=spec.presets, preset="tiny")
    model = build_model(spec, config, IMAGE, device="cpu")
    save_model(folder, model, spec=spec, config=config, data={"name": "test", "images": []})
    return spec


def change(folder: Path, key: str, value: object, group: str = "config") -> None:
    description = json.loads((folder / "config.json").read_text())
    assert key in description[group]
    description[group][key] = value
    (folder / "config.json").write_text(json.dumps(description))


@pytest.mark.parametrize(("name", "key", "value"), BOMBS, ids=[f"{name} {key}" for name, key, _ in BOMBS])
def test_load_model_of_a_huge_network(tmp_path: Path, name: str, key: str, value: object) -> None:
    spec = save_tiny(name, tmp_path)
    kind: Any = "classifier" if name in load_plugins().classifiers else "generator"
    change(tmp_path, key, value)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(IntegrityError, match=r"config.json describes a larger model than the [\d,]+ numbers"):
        load_model(tmp_path, plugins=load_plugins(), device="cpu", kind=kind)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KB
    assert spec.name == name


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("ddpm", "network.layers_per_block", HUGE),
        ("ddpm", "diffusion.num_train_timesteps", HUGE),
        ("ddpm", "sampling.num_inference_steps", HUGE),
        ("ddpm", "image.size", HUGE),
        ("swin_tiny", "network.depths", [HUGE]),
        ("swin_tiny", "network.input_size", HUGE),
    ],
)
def test_load_model_of_huge_settings(tmp_path: Path, name: str, key: str, value: object) -> None:
    save_tiny(name, tmp_path)
    kind: Any = "classifier" if name in load_plugins().classifiers else "generator"
    change(tmp_path, key, value)
    with pytest.raises(IntegrityError, match=f"{key} = .*{HUGE}.* is out of range"):
        load_model(tmp_path, plugins=load_plugins(), device="cpu", kind=kind)


def test_load_model_of_huge_images(tmp_path: Path) -> None:
    save_tiny("cnn", tmp_path)
    change(tmp_path, "size", HUGE, group="image")
    with pytest.raises(IntegrityError, match=f"image size must be 1 to 4096 pixels, not {HUGE}"):
        load_model(tmp_path, plugins=load_plugins(), device="cpu", kind="classifier")


def test_load_model_of_nan(tmp_path: Path) -> None:
    save_tiny("cnn", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = sorted(tensors)[0]
    tensors[name].view(-1)[0] = torch.nan
    save_file(tensors, tmp_path / "model.safetensors")
    description = json.loads((tmp_path / "config.json").read_text())
    description["weights_sha256"] = sha256_file(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(description))
    with pytest.raises(DataError, match=f"the weights {name} in .* are NaN: the model diverged"):
        load_model(tmp_path, plugins=load_plugins(), device="cpu", kind="classifier")


def test_save_model_of_nan(tmp_path: Path) -> None:
    plugins = load_plugins()
    spec = plugins.classifiers["cnn"]
    config = settings.resolve(spec.config, presets=spec.presets, preset="tiny")
    model: Any = build_model(spec, config, IMAGE, device="cpu")
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(ResourceError, match=r"training diverged: the weights .* are NaN, so no model is written"):
        save_model(tmp_path / "out", model, spec=spec, config=config, data={})
    assert not (tmp_path / "out").exists()
