"""The network of `ddpm`: its shapes, what the label and the patch do, and the presets of studies A and B."""

from __future__ import annotations

import pytest
import torch

import medzoo_ddpm
from medzoo import ImageSpec
from medzoo.cli.options import parse_overrides
from medzoo.config import resolve
from medzoo.errors import ConfigError

SPEC = medzoo_ddpm.register_generators()[0]


def build(preset, *overrides, classes=3, size=None, channels=None, device="cpu"):
    resolved = resolve(SPEC.config, presets=SPEC.presets, preset=preset, overrides=parse_overrides(overrides))
    flat = resolved.flat()
    names = tuple(f"class {k}" for k in range(classes))
    image = ImageSpec(size=size or flat["image.size"], channels=channels or flat["image.channels"], classes=names)
    torch.manual_seed(0)
    with torch.device(device):
        return SPEC.build(resolved.value, image, device)


@pytest.mark.parametrize(("patch", "channels"), [(1, 1), (2, 1), (2, 3)])
def test_network_output_shape(patch, channels):
    network = build("tiny", f"network.patch_size={patch}", channels=channels).network
    output = network(torch.rand(2, channels, 16, 16), torch.tensor([3, 40]), torch.tensor([0, 3]))
    assert output.shape == (2, channels, 16, 16)
    assert network.unet.config.in_channels == channels * patch**2


def test_network_label_and_timestep_reach_every_pixel():
    network = build("tiny").network.eval()
    noisy = torch.rand(1, 1, 16, 16)

    def at(step, label):
        with torch.no_grad():
            return network(noisy, torch.tensor([step]), torch.tensor([label]))

    assert (at(10, 0) - at(10, 1)).abs().min() > 0
    assert (at(10, 0) - at(10, 3)).abs().min() > 0, "row 3 of three classes is 'no label'"
    assert (at(10, 0) - at(30, 0)).abs().min() > 0
    assert network.unet.config.num_class_embeds == 4


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("network.block_out_channels=[8, 16, 32, 64, 64, 64]", "a side of 16 is not divisible by 32"),
        ("network.patch_size=3", "a side of 16 is not divisible by 6"),
        ("network.norm_num_groups=5", r"network.block_out_channels \[8, 16\] are not divisible by 5 groups"),
        ("network.block_out_channels=[]", "network.block_out_channels is empty"),
    ],
)
def test_build_invalid_network_raises(override, words):
    with pytest.raises(ConfigError, match=words):
        build("tiny", override)


def test_paper_preset_matches_study_a():
    model = build("paper", classes=4, device="meta")
    config = model.network.unet.config
    assert (model.image.size, config.in_channels, config.out_channels) == (256, 3, 3)
    settings = model.settings
    assert (settings.loss.pixel, settings.diffusion.beta_schedule) == ("charbonnier", "scaled_linear")
    assert settings.sampling.guidance_scale == 1.0
    training = model.settings.training
    assert (training.batch_size, training.epochs, training.learning_rate, training.ema_decay) == (6, 120, 5e-6, 0.9999)
    assert (training.lr_scheduler, training.class_balanced, training.horizontal_flip) == ("cosine", True, True)


def test_paper_b_preset_matches_study_b():
    model = build("paper-b", classes=2)
    assert (model.image.size, model.image.channels) == (28, 1)
    assert (model.settings.loss.pixel, model.settings.diffusion.beta_schedule) == ("l1", "cosine")
    training = model.settings.training
    assert (training.batch_size, training.epochs, training.learning_rate, training.validation_epochs) == (
        4,
        300,
        1e-4,
        5,
    )
    assert (training.beta1, training.beta2, training.weight_decay) == (0.9, 0.999, 0.0)
    assert model.settings.sampling.guidance_scale > 1.0
    assert model.settings.diffusion.label_dropout > 0.0
    with torch.no_grad():
        assert model.network(torch.rand(1, 1, 28, 28), torch.tensor([5]), torch.tensor([2])).shape == (1, 1, 28, 28)


def test_default_preset_size_in_half_precision():
    assert sum(value.numel() for value in build("default", classes=4, device="meta").parameters()) * 2 < 8 * 2**20
