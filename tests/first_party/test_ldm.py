"""The networks of `ldm`, a published autoencoder's way in, and the preset of study A."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

import medzoo_ldm
from medzoo import ImageSpec
from medzoo.cli.options import parse_overrides
from medzoo.config import resolve
from medzoo.errors import ConfigError, HubError
from medzoo.protocols import TrainingCallback
from medzoo.toolkit.diffusion.latent import Objective
from medzoo.toolkit.training import losses
from medzoo.toolkit.training.batches import Batch

SPEC = medzoo_ldm.register_generators()[0]
# As the tiny preset's autoencoder, but on three colors.
SHAPE = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (8, 8),
    "layers_per_block": 1,
    "latent_channels": 2,
    "norm_num_groups": 4,
    "mid_block_add_attention": False,
}


def build(preset, *overrides, classes=3, channels=None, device="cpu"):
    resolved = resolve(SPEC.config, presets=SPEC.presets, preset=preset, overrides=parse_overrides(overrides))
    flat = resolved.flat()
    names = tuple(f"class {k}" for k in range(classes))
    image = ImageSpec(size=flat["image.size"], channels=channels or flat["image.channels"], classes=names)
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(0)
        return SPEC.build(resolved.value, image, device)


@pytest.mark.parametrize(("patch", "channels"), [(1, 1), (2, 1), (4, 3)])
def test_autoencoder_round_trip_shapes(patch, channels):
    autoencoder = build("tiny", f"autoencoder.patch_size={patch}", channels=channels).autoencoder
    side = 16 // (2 * patch)
    assert autoencoder.latent_shape == (2, side, side)
    mean, log_variance = autoencoder.encode(torch.rand(3, channels, 16, 16))
    assert mean.shape == log_variance.shape == (3, 2, side, side)
    assert autoencoder.decode(mean).shape == (3, channels, 16, 16)


def test_autoencoder_reconstruction_depends_on_noise():
    autoencoder = build("tiny").autoencoder
    images = torch.rand(2, 1, 16, 16)
    still, mean, log_variance = autoencoder(images, torch.zeros(2, 2, 8, 8))
    assert torch.equal(still, autoencoder.decode(mean))
    assert torch.equal(mean, autoencoder.encode(images)[0])
    assert not torch.equal(still, autoencoder(images, torch.ones(2, 2, 8, 8))[0])
    assert log_variance.shape == mean.shape


def test_build_image_size_not_divisible_raises():
    with pytest.raises(ConfigError, match=r"a side of 18 is not divisible by 4"):
        build("tiny", "image.size=18", "autoencoder.patch_size=2")


@pytest.fixture
def published(tmp_path):
    """A folder with an autoencoder of random weights, as diffusers writes it."""
    with torch.random.fork_rng():
        torch.manual_seed(9)
        AutoencoderKL(**SHAPE).save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


class Images:
    """Eight noisy 16-pixel images."""

    classes = ("class 0", "class 1", "class 2")
    labels = np.arange(8) % 3

    def __init__(self, channels=1):
        self.pixels = np.random.default_rng(0).integers(0, 256, (8, channels, 16, 16), dtype=np.uint8)

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self.pixels[index]


class Notes(TrainingCallback):
    """Records metadata."""

    def __init__(self):
        self.notes = {}

    def log_metadata(self, name, value):
        self.notes[name] = value


@pytest.mark.parametrize("channels", [1, 3])
def test_fit_pretrained_autoencoder_is_unchanged(published, channels):
    model = build("tiny", f"autoencoder.pretrained={published}", channels=channels)
    log = Notes()
    model.fit(Images(channels), seed=0, callback=log)
    theirs = AutoencoderKL.from_pretrained(published).eval()
    assert all(torch.equal(v, model.autoencoder.vae.state_dict()[k]) for k, v in theirs.state_dict().items())
    assert model.sample([1, 2], torch.tensor([0, 1])).shape == (2, channels, 16, 16)
    with torch.no_grad():
        images = torch.from_numpy(Images(channels).pixels).float() / 127.5 - 1.0
        means = theirs.encode(images.expand(-1, 3, -1, -1)).latent_dist.mean
        mirrored = theirs.encode(images.flip(-1).expand(-1, 3, -1, -1)).latent_dist.mean
    spread = torch.cat([means, mirrored]).std(dim=(0, 2, 3), correction=0).square().mean().sqrt().item()
    assert log.notes["latents"]["scale_factor"] == pytest.approx(1.0 / spread, rel=1e-4)


def test_load_state_dict_without_pretrained_autoencoder(published):
    """The weights are in the model; only training needs to read them from elsewhere."""
    trained = build("tiny", f"autoencoder.pretrained={published}")
    trained.fit(Images(), seed=0)
    again = build("tiny", "autoencoder.pretrained=nobody/nothing")
    again.load_state_dict(trained.state_dict())
    images = [model.sample([5], torch.tensor([2])) for model in (trained, again)]
    assert torch.equal(*images)


def test_fit_pretrained_autoencoder_of_other_shape_raises(published):
    model = build("tiny", f"autoencoder.pretrained={published}", "autoencoder.block_out_channels=[8,16]")
    with pytest.raises(
        ConfigError, match=r"another shape .*autoencoder.block_out_channels=\[8, 8\], autoencoder.norm_num_groups=4"
    ):
        model.fit(Images(), seed=0)


def test_fit_pretrained_autoencoder_unavailable_raises(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = build("tiny", "autoencoder.pretrained=stabilityai/sd-vae-ft-mse")
    with pytest.raises(HubError, match=r"'stabilityai/sd-vae-ft-mse' cannot be loaded.*give its folder as autoencoder"):
        model.fit(Images(), seed=0)
    (tmp_path / "empty").mkdir()
    model = build("tiny", f"autoencoder.pretrained={tmp_path / 'empty'}")
    with pytest.raises(HubError, match=r"should hold config\.json and diffusion_pytorch_model\.safetensors"):
        model.fit(Images(), seed=0)


def test_fit_pickled_weights_raise(published):
    weights = published / "diffusion_pytorch_model.safetensors"
    weights.rename(published / "diffusion_pytorch_model.bin")
    model = build("tiny", f"autoencoder.pretrained={published}")
    with pytest.raises(HubError, match="cannot be loaded"):
        model.fit(Images(), seed=0)


def test_objective_perceptual_term_weighted_by_signal_power(tmp_path, monkeypatch):
    from torchvision.models import vgg16

    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(vgg16(weights=None).state_dict(), tmp_path / "vgg16.pth")
    digest = hashlib.sha256((tmp_path / "vgg16.pth").read_bytes()).hexdigest()
    monkeypatch.setattr(losses, "VGG16_SHA256", digest)
    model = build("tiny", "loss.perceptual_weight=2.0", f"loss.perceptual_weights_file={tmp_path / 'vgg16.pth'}")
    objective = Objective(model)
    batch = Batch(torch.randn(4, 2, 8, 8), torch.tensor([0, 1, 2, 0]))
    terms = objective(model.network, batch, torch.Generator().manual_seed(0))
    assert terms["perceptual"].item() > 0
    terms["perceptual"].backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in model.network.parameters())
    assert all(p.grad is None for p in model.autoencoder.parameters())


def test_paper_preset_matches_study_a():
    model = build("paper", classes=4, device="meta")
    settings = model.settings
    assert model.image.size == 512
    assert model.autoencoder.latent_shape == (4, 64, 64)
    assert settings.autoencoder.pretrained == "stabilityai/sd-vae-ft-mse"
    assert sum(p.numel() for p in model.autoencoder.parameters()) == 83_653_863  # as its model page says: 83.7 M
    assert model.network.embedding.table.weight.shape == (5, 512)
    assert model.network.embedding.project[2].weight.shape == (8 * 512, 512)
    assert (settings.training.batch_size, settings.training.epochs, settings.training.learning_rate) == (1, 100, 5e-6)
    assert settings.sampling.scheduler == "dpm-solver++"
    assert settings.loss.perceptual_weight > 0
