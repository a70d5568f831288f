"""`api-variation` by a pipeline on this machine: which is run, what an image depends on, and that nothing leaves."""

from __future__ import annotations

import json
import shutil
import socket

import numpy as np
import pytest
import torch
from helpers.tiny_pipeline import make_text_pipeline, make_variation_pipeline
from PIL import Image

from medzoo import ImageSpec
from medzoo.cli.options import parse_overrides
from medzoo.config import resolve
from medzoo.errors import ConfigError, DataError, HubError
from medzoo.plugins.lookup import load_plugins

IMAGE = ImageSpec(size=16, channels=3, classes=("a", "b"))


@pytest.fixture(scope="session")
def text_pipeline(tmp_path_factory):
    """The folder of a tiny text-to-image pipeline."""
    return make_text_pipeline(tmp_path_factory.mktemp("pipelines") / "text")


@pytest.fixture
def scans(tmp_path):
    """Class folders with two images and one."""
    grain = np.random.default_rng(0).integers(0, 256, (3, 20, 20), dtype=np.uint8)
    for name, pixels in zip(("a/1", "a/2", "b/1"), grain, strict=True):
        path = tmp_path / "scans" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "scans"


def build(model, *overrides, image=IMAGE):
    spec = load_plugins().generator("api-variation")
    settings = [f"diffusers.model={model}", *overrides]
    resolved = resolve(spec.config, presets=spec.presets, preset="tiny", overrides=parse_overrides(settings))
    return spec.build(resolved.value, image, "cpu")


def sample(generator, seeds=(1, 2), labels=(0, 1), shift=0.0):
    init_images = torch.rand(len(seeds), 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.5 + shift
    return generator.sample(seeds, torch.tensor(labels), init_images=init_images)


def test_sample_depends_on_seed_and_source_image(pipeline):
    generator = build(pipeline)
    first = sample(generator)
    assert torch.equal(first, sample(build(pipeline)))
    assert torch.equal(first[:1], sample(generator, seeds=[1], labels=[0]))
    assert (first != sample(generator, seeds=(3, 4))).flatten(1).any(dim=1).all()
    assert (first != sample(generator, shift=0.4)).flatten(1).any(dim=1).all()


def test_sample_text_to_image_pipeline_as_image_to_image(text_pipeline):
    generator = build(text_pipeline, "diffusers.num_inference_steps=4", "diffusers.strength=0.5")
    first = sample(generator)
    assert type(generator.provider._pipeline).__name__ == "StableDiffusionImg2ImgPipeline"
    assert torch.equal(first, sample(generator))
    assert not torch.equal(first, sample(generator, shift=0.4))
    assert not torch.equal(first, sample(generator, labels=(1, 0)))  # the prompt names the class
    assert not torch.equal(
        first, sample(build(text_pipeline, "diffusers.num_inference_steps=4", "diffusers.strength=1.0"))
    )


def test_sample_bf16(pipeline):
    images = sample(build(pipeline, "diffusers.mixed_precision=bf16"))
    assert images.dtype == torch.float32
    assert (images - sample(build(pipeline))).abs().max() < 0.1


def test_sample_too_low_strength_raises(text_pipeline):
    with pytest.raises(ConfigError, match="leaves no denoising step"):
        sample(build(text_pipeline, "diffusers.num_inference_steps=1", "diffusers.strength=0.5"))


def test_sample_makes_no_connection(medzoo, pipeline, scans, tmp_path, monkeypatch):
    def refuse(*address):
        raise AssertionError(f"connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    local = ("--set", "provider=diffusers", "--set", f"diffusers.model={pipeline}", "--set", "diffusers.size=16")
    command = ("augment", "--gen", "api-variation", "--data", scans, "--to", 4, "--out", tmp_path / "out", *local)
    assert medzoo(*command, "--set", "diffusers.num_inference_steps=1").code == 0
    assert len(list((tmp_path / "out").glob("*/synthetic-*.png"))) == 5
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["config"]["api-variation.diffusers.model"] == str(pipeline)
    assert record["requests"] == {}
    assert not list((tmp_path / "out").glob(".medzoo-requests*"))


def test_sample_pickled_weights_raise(tmp_path):
    folder = make_variation_pipeline(tmp_path / "pickled", safe=False)
    assert list(folder.glob("unet/*.bin"))
    with pytest.raises(HubError, match="cannot be loaded"):
        sample(build(folder))


def test_sample_missing_folder_raises(tmp_path):
    with pytest.raises(HubError, match=r"cannot be loaded.*model_index\.json"):
        sample(build(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    "name", ["DDPMPipeline", "NoSuchPipeline", "StableDiffusionInpaintPipelineLegacy", None, ["my", "code"]]
)
def test_sample_pipeline_without_img2img_raises(pipeline, tmp_path, name):
    folder = shutil.copytree(pipeline, tmp_path / "other")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": name}))
    with pytest.raises(ConfigError, match="is not image-to-image"):
        sample(build(folder))


def test_sample_without_pipeline_or_init_images_raises(pipeline):
    with pytest.raises(ConfigError, match=r"diffusers\.model"):
        sample(build(""))
    with pytest.raises(DataError, match=r"varies real images.* got none"):
        build(pipeline).sample([1], torch.tensor([0]))


def test_sample_without_transformers_names_pip_extra(pipeline, monkeypatch):
    monkeypatch.setattr("medzoo_api_variation.diffusers_provider.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"medzoo\[variation\]"):
        sample(build(pipeline))
