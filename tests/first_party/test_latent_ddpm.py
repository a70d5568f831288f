"""`latent-ddpm`: its two networks, its presets, and several labels per image from a CSV to the samples."""

from __future__ import annotations

import csv
import itertools
import json

import numpy as np
import pytest
import torch

import medzoo_latent_ddpm
from medzoo import ImageSpec
from medzoo.cli.app import run
from medzoo.cli.options import parse_overrides
from medzoo.config import resolve
from medzoo.data.images import decode, write_image
from medzoo.errors import ConfigError

pytestmark = pytest.mark.xdist_group("latent-ddpm")  # one process makes what its tests share

SPEC = medzoo_latent_ddpm.register_generators()[0]


def build(preset, *overrides, size=None, channels=1, multi_label=False, device="cpu"):
    resolved = resolve(SPEC.config, presets=SPEC.presets, preset=preset, overrides=parse_overrides(overrides))
    size = size or resolved.flat()["image.size"]
    image = ImageSpec(size=size, channels=channels, classes=("a", "b", "c"), multi_label=multi_label)
    torch.manual_seed(0)
    with torch.device(device):
        return SPEC.build(resolved.value, image, device)


@pytest.mark.parametrize(
    ("size", "channels", "overrides"),
    [
        (16, 1, ()),
        (20, 3, ()),
        (24, 3, ("autoencoder.patch_size=2", "autoencoder.block_out_channels=[8, 16, 32]")),
        (
            16,
            1,
            (
                "autoencoder.encoder_layers_per_block=2",
                "autoencoder.decoder_layers_per_block=3",
                "autoencoder.latent_dim=5",
            ),
        ),
        (16, 1, ("autoencoder.block_out_channels=[8]",)),
    ],
)
def test_autoencoder_round_trip_shapes(size, channels, overrides):
    autoencoder = build("tiny", *overrides, size=size, channels=channels).autoencoder
    images = torch.rand(3, channels, size, size) * 2 - 1
    mean, log_variance = autoencoder.encode(images)
    assert mean.shape == log_variance.shape == (3, *autoencoder.latent_shape)
    assert autoencoder.decode(mean).shape == images.shape


def test_autoencoder_every_pixel_reaches_latent_and_back():
    autoencoder = build("tiny", size=32).autoencoder.eval()
    images = torch.rand(1, 1, 32, 32, requires_grad=True)
    mean, log_variance = autoencoder.encode(images)
    (reach,) = torch.autograd.grad(mean.square().sum() + log_variance.square().sum(), images)
    assert reach.abs().min() > 0
    made = autoencoder.decode(mean.detach())
    for dimension in range(mean.shape[1]):
        moved = mean.detach().clone()
        moved[0, dimension] += 1.0
        assert (autoencoder.decode(moved) - made).abs().amax() > 0


def test_autoencoder_posterior_uses_given_noise():
    autoencoder = build("tiny").autoencoder.eval()
    images, noise = torch.rand(2, 1, 16, 16), torch.randn(2, 16)
    with torch.no_grad():
        made, mean, log_variance = autoencoder(images, noise)
        assert torch.equal(made, autoencoder.decode(mean + torch.exp(0.5 * log_variance) * noise))
        assert torch.equal(autoencoder(images, torch.zeros(2, 16))[0], autoencoder.decode(mean))


def test_autoencoder_extreme_variance_stays_finite():
    autoencoder = build("tiny").autoencoder.eval()
    with torch.no_grad():
        autoencoder.encoder[-1].bias[16:] = 1e4
        _, log_variance = autoencoder.encode(torch.rand(2, 1, 16, 16))
    assert torch.isfinite(torch.exp(log_variance)).all()


def test_network_timestep_and_labels_reach_every_dimension():
    network = build("tiny", multi_label=True).network.eval()
    noisy = torch.randn(1, 16)

    @torch.no_grad()
    def at(step, *labels):
        return network(noisy, torch.tensor([step]), torch.tensor([labels], dtype=torch.float32))

    plain = at(10, 0, 0, 0)
    none = at(10, -1, -1, -1)
    outputs = [plain, at(40, 0, 0, 0), at(10, 1, 0, 0), at(10, 0, 1, 0), at(10, 1, 1, 0), none]
    assert all((one - other).abs().min() > 0 for one, other in itertools.combinations(outputs, 2))
    with torch.no_grad():
        network.labels.weight[1] = 0.0
        assert torch.equal(at(10, 1, 1, 0), at(10, 1, 0, 0)), "the rows of both labels are summed"


def test_network_single_label_matches_multi_hot():
    network = build("tiny").network.eval()
    noisy, steps = torch.randn(3, 16), torch.tensor([1, 20, 40])
    with torch.no_grad():
        assert torch.allclose(
            network(noisy, steps, torch.tensor([2, 0, 3])),
            network(noisy, steps, torch.tensor([[0.0, 0, 1], [1, 0, 0], [-1, -1, -1]])),
        )


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("autoencoder.block_out_channels=[8, 16, 32, 64, 64, 64]", "a side of 16 is not divisible by 32"),
        ("autoencoder.patch_size=3", "a side of 16 is not divisible by 6"),
        ("autoencoder.norm_num_groups=5", r"autoencoder.block_out_channels \[8, 8\] are not divisible by 5 groups"),
        ("autoencoder.block_out_channels=[]", "autoencoder.block_out_channels is empty"),
    ],
)
def test_build_invalid_network_raises(override, words):
    with pytest.raises(ConfigError, match=words):
        build("tiny", override)


def test_paper_preset_matches_study_d():
    model = build("paper", multi_label=True, device="meta")
    own = model.settings.reconstruction
    assert (model.image.size, model.image.channels, model.autoencoder.latent_shape) == (256, 1, (256,))
    assert (own.pixel, own.perceptual_network, own.adversarial_weight) == ("mse", "lpips", 0.0)
    assert min(own.perceptual_weight, own.kl_weight, own.kl_warmup_steps) > 0
    assert (model.settings.sampling.scheduler, model.settings.sampling.guidance_scale) == ("ddpm", 1.0)
    assert model.settings.sampling.num_inference_steps == model.settings.diffusion.num_train_timesteps == 1000


def test_default_preset_size_in_half_precision():
    assert sum(value.numel() for value in build("default", device="meta").parameters()) <= 1_900_000


SIZE = 16
# Where on the image each finding shows, and what the images carry.
CORNERS = {"atelectasis": (0, 0), "edema": (0, 8), "effusion": (8, 0)}
LABELS = ("", "atelectasis", "edema", "effusion", "edema|effusion", "effusion|atelectasis", "atelectasis|edema")
SETTINGS = {
    "reconstruction.ssim_weight": 0,
    "reconstruction.adversarial_weight": 0,
    "first_stage.epochs": 50,
    "first_stage.batch_size": 14,
    "first_stage.learning_rate": 3e-3,
    "first_stage.ema_decay": 0.95,
    "first_stage.horizontal_flip": "false",
    "first_stage.validation_epochs": 50,
    "first_stage.checkpointing_steps": 1000,
    "network.hidden_dim": 64,
    "diffusion.prediction_type": "v_prediction",
    "training.epochs": 250,
    "training.batch_size": 42,
    "training.learning_rate": 3e-3,
    "training.ema_decay": 0.95,
    "training.horizontal_flip": "false",
    "training.validation_epochs": 250,
    "training.checkpointing_steps": 1000,
    "sampling.num_inference_steps": 10,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a model that `medzoo train` made of a CSV of dark images with a bright square for each label."""
    folder = tmp_path_factory.mktemp("findings")
    random = np.random.default_rng(0)
    with (folder / "findings.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("file", "label"))
        for number, label in enumerate(LABELS * 12):
            pixels = random.integers(20, 60, (1, SIZE, SIZE), np.uint8)
            for name in filter(None, label.split("|")):
                top, left = CORNERS[name]
                pixels[:, top : top + 8, left : left + 8] += random.integers(120, 160, dtype=np.uint8)
            write_image(folder / f"scan-{number}.png", pixels)
            rows.writerow((f"scan-{number}.png", label))
    overrides = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    command = ["train", "latent-ddpm", "--preset", "tiny", "--data", str(folder / "findings.csv")]
    assert run([*command, "--out", str(folder / "run"), *overrides]) == 0
    return folder / "run"


def shown(path):
    """The findings that a picture shows: where it is bright."""
    pixels = decode(path)
    return {name for name, (top, left) in CORNERS.items() if pixels[..., top : top + 8, left : left + 8].mean() > 100}


@pytest.mark.parametrize("asked", [("effusion",), ("edema",), ("effusion", "edema"), ("edema", "atelectasis")])
def test_sample_multi_label_shows_requested_labels(trained, medzoo, tmp_path, asked):
    chosen = [word for label in asked for word in ("--label", label)]
    assert medzoo("sample", trained, *chosen, "--n", 20, "--out", tmp_path / "out").code == 0
    pictures = list((tmp_path / "out" / "+".join(sorted(asked))).iterdir())
    right = sum(shown(path) == set(asked) for path in pictures)
    assert len(pictures) == 20
    assert right >= 18, f"{right} of 20 pictures show {asked} and nothing else"


def test_train_records_reconstruction_quality(trained):
    for file in ("run.json", "config.json"):
        facts = json.loads((trained / file).read_text())["notes"]
        assert facts["reconstruction"]["psnr_db"] > 15
        assert 0 < facts["reconstruction"]["ssim"] <= 1
        assert facts["latents"]["encoded"] == len(LABELS) * 12
