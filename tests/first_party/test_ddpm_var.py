"""The network of `ddpm-var`: eight label tokens, two outputs a channel, and the preset of study A."""

from __future__ import annotations

import pytest
import torch

import medzoo_ddpm_var
from medzoo import ImageSpec
from medzoo.cli.options import parse_overrides
from medzoo.config import resolve
from medzoo.toolkit.diffusion.pixel import Objective
from medzoo.toolkit.training.batches import Batch

SPEC = medzoo_ddpm_var.register_generators()[0]


def build(preset, *overrides, classes=3, channels=None, device="cpu"):
    resolved = resolve(SPEC.config, presets=SPEC.presets, preset=preset, overrides=parse_overrides(overrides))
    flat = resolved.flat()
    names = tuple(f"class {k}" for k in range(classes))
    image = ImageSpec(size=flat["image.size"], channels=channels or flat["image.channels"], classes=names)
    torch.manual_seed(0)
    with torch.device(device):
        return SPEC.build(resolved.value, image, device)


@pytest.mark.parametrize(("patch", "channels"), [(1, 1), (2, 1), (1, 3), (2, 3)])
def test_network_output_has_variance_channels(patch, channels):
    network = build("tiny", f"network.patch_size={patch}", channels=channels).network
    output = network(torch.rand(2, channels, 16, 16), torch.tensor([3, 40]), torch.tensor([0, 3]))
    assert output.shape == (2, 2 * channels, 16, 16)


@pytest.mark.parametrize("patch", [1, 2])
def test_network_first_half_of_output_is_prediction(patch):
    network = build("tiny", f"network.patch_size={patch}", channels=3).network.eval()
    with torch.no_grad():
        network.unet.conv_out.weight.zero_()
        count = 3 * patch**2
        network.unet.conv_out.bias.copy_(torch.cat([torch.full((count,), 1.0), torch.full((count,), 2.0)]))
        output = network(torch.rand(1, 3, 16, 16), torch.tensor([3]), torch.tensor([0]))
    assert (output[:, :3] == 1.0).all()
    assert (output[:, 3:] == 2.0).all()


def test_network_label_enters_through_tokens():
    network = build("tiny").network.eval()
    noisy = torch.rand(1, 1, 16, 16)

    def at(label):
        with torch.no_grad():
            return network(noisy, torch.tensor([10]), torch.tensor([label]))

    assert (at(0) - at(1)).abs().max() > 0
    assert (at(0) - at(3)).abs().max() > 0, "row 3 of three classes is 'no label'"
    with torch.no_grad():
        network.embedding.project[2].weight.zero_()
    assert torch.equal(at(0), at(1))


def test_network_told_of_geometry_changes():
    plain, told = build("tiny"), build("tiny", "augmentation.probability=0.1")
    assert told.network.state_dict().keys() - plain.network.state_dict().keys() == {
        "unet.time_embedding.cond_proj.weight"
    }
    inputs = torch.rand(1, 1, 16, 16), torch.tensor([10]), torch.tensor([0])
    changes = torch.tensor([[1.0] + 7 * [0.0]])
    with torch.no_grad():
        network = told.network.eval()
        assert torch.equal(network(*inputs), network(*inputs, torch.zeros(1, 8)))
        assert not torch.equal(network(*inputs), network(*inputs, changes))


def test_training_changes_geometry():
    model = build("tiny", "augmentation.probability=1")
    seen = []
    model.network.register_forward_hook(lambda module, given, output: seen.append(given))
    images = torch.rand(8, 1, 16, 16)
    terms = Objective(model)(model.network, Batch(images, torch.zeros(8).long()), torch.Generator().manual_seed(0))
    torch.stack(list(terms.values())).sum().backward()
    assert seen[0][3].shape == (8, 8)
    assert model.network.unet.time_embedding.cond_proj.weight.grad.abs().max() > 0


def test_paper_preset_matches_study_a():
    model = build("paper", classes=4, device="meta")
    network = model.network
    assert model.image.size == 256
    assert (network.unet.config.in_channels, network.unet.config.out_channels) == (3, 6)
    tokens = network.embedding(torch.zeros(2, dtype=torch.int64, device="meta"))
    assert tokens.shape == (2, 8, 256)
    assert network.embedding.table.weight.shape == (5, 256)
    assert network.embedding.project[0].weight.shape == (512, 256)
    assert network.embedding.project[2].weight.shape == (8 * 256, 512)
    assert network.unet.config.cross_attention_dim == 256
    assert (model.learned_variance, model.settings.diffusion.beta_schedule, model.settings.sampling.guidance_scale) == (
        True,
        "cosine",
        5.0,
    )
    assert (model.settings.diffusion.label_dropout, model.settings.loss.pixel) == (0.1, "mse")
    assert (
        min(model.settings.loss.vlb_weight, model.settings.loss.perceptual_weight, model.settings.loss.edge_weight)
        > 0.0
    )
    training = model.settings.training
    assert (training.batch_size, training.epochs, training.learning_rate, training.ema_decay) == (13, 50, 5e-5, 0.9999)


def test_default_preset_size_in_half_precision():
    assert sum(value.numel() for value in build("default", classes=4, device="meta").parameters()) * 2 < 8 * 2**20
