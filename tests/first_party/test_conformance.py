"""Every first-party generator: the contract, the three presets, and what its settings say of themselves."""

from __future__ import annotations

import dataclasses
import importlib
import tomllib
from pathlib import Path

import pytest
import torch

from medzoo import ImageSpec
from medzoo.cli.options import parse_overrides
from medzoo.config import build, flatten, keys, preset_names, read_preset, resolve
from medzoo.testing import check_generator

ROOT = Path(__file__).resolve().parents[2]

ENTRY_POINTS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]["medzoo"]
MODULES = [importlib.import_module(module) for module in ENTRY_POINTS.values()]
GENERATORS = [spec for module in MODULES for spec in getattr(module, "register_generators", list)()]
PRESETS = [(spec, preset) for spec in GENERATORS for preset in preset_names(spec.presets)]

every_generator = pytest.mark.parametrize("spec", GENERATORS, ids=lambda spec: spec.name)
every_preset = pytest.mark.parametrize(
    ("spec", "preset"), PRESETS, ids=[f"{spec.name}-{preset}" for spec, preset in PRESETS]
)


def test_register_generators_provides_entry_point_names():
    assert {"ddpm", "ddpm-var", "classic", "duplicate", "api-variation"} <= {spec.name for spec in GENERATORS}
    assert {spec.name for spec in GENERATORS} <= set(ENTRY_POINTS)


@every_generator
def test_check_generator_first_party_plugin_passes(spec, overrides):
    settings = overrides(spec)
    results = check_generator(spec, overrides=parse_overrides(settings))
    assert {result.name: result.detail for result in results if not result.passed} == {}
    names = {result.name for result in results}
    assert {"registration", "seeds repeat", "rebatching", "bad requests", "files"} <= names
    assert ("class conditioning" in names) == spec.trainable
    assert ("variations" in names) == spec.varies_images
    for check in ("fit resumes", "fit stops"):
        assert (check in names) == spec.trainable
    shown = {check: check in names for check in ("label tokens", "attention maps")}
    assert shown == {"label tokens": spec.trainable, "attention maps": spec.name in ("ddpm-var", "ldm")}


@every_generator
def test_presets_required_names(spec):
    assert {"tiny", "default", "paper"} <= set(preset_names(spec.presets))


@every_preset
def test_presets_resolve_and_build_on_meta(spec, preset):
    resolved = resolve(spec.config, presets=spec.presets, preset=preset)
    assert build(spec.config, resolved.flat()) == resolved.value
    flat = resolved.flat()
    image = ImageSpec(size=flat["image.size"], channels=flat["image.channels"], classes=("a", "b", "c"))
    with torch.device("meta"):
        generator = spec.build(resolved.value, image, "meta")
    assert generator.image == image
    assert all(value.device.type == "meta" for value in generator.state_dict().values())


@every_preset
def test_read_preset_is_not_empty(spec, preset):
    assert read_preset(spec.presets, preset), "an empty preset says nothing about the model it stands for"


@every_generator
def test_config_every_setting_has_help(spec):
    def leaves(kind):
        for field in dataclasses.fields(kind):
            default = getattr(kind(), field.name)
            if dataclasses.is_dataclass(default):
                yield from leaves(type(default))
            else:
                yield field.name, field.metadata.get("help")

    assert [name for name, about in leaves(spec.config) if not about] == []
    assert {"image.size", "image.channels", "image.crop"} <= set(keys(spec.config))
    assert list(flatten(spec.config())) == keys(spec.config)


@every_generator
def test_sample_rgb_images_of_two_classes(spec, overrides):
    settings = ["image.channels=3", *overrides(spec)]
    resolved = resolve(spec.config, presets=spec.presets, preset="tiny", overrides=parse_overrides(settings))
    image = ImageSpec(size=16, channels=3, classes=("a", "b"))
    torch.manual_seed(0)
    init_images = torch.rand(3, 3, 16, 16) if spec.needs_init_images else None
    images = spec.build(resolved.value, image, "cpu").sample(
        [1, 2, 3], torch.tensor([0, 1, 1]), init_images=init_images
    )
    assert images.shape == (3, 3, 16, 16)
    assert 0.0 <= images.min() <= images.max() <= 1.0
