"""Models in two stages: exact resume across them, latents, their statistics, and the first stage's quality."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.functional.image import structural_similarity_index_measure

from medzoo import ImageSpec
from medzoo.protocols import CheckpointStore, TrainingCallback
from medzoo.toolkit.diffusion.autoencoder import PatchDiscriminator, Reconstruction, quality, reconstruct, similarity
from medzoo.toolkit.diffusion.latent import LatentDiffusion, Latents, Standardizer, content_key, encode_all
from medzoo.toolkit.settings import (
    DiffusionSettings,
    LatentDiffusionSettings,
    ReconstructionSettings,
    SamplingSettings,
    TrainingSettings,
)
from medzoo.toolkit.training.batches import Batch

IMAGE = ImageSpec(size=16, channels=1, classes=("a", "b"))


class Images:
    """Ten 16-pixel images: six dark ones of class a, four bright ones of class b."""

    classes = ("a", "b")

    def __init__(self):
        self.labels = np.repeat(np.arange(2), (6, 4)).astype(np.int64)
        grain = np.random.default_rng(0).integers(0, 60, (10, 1, 16, 16))
        self.pixels = (grain + 150 * self.labels[:, None, None, None]).astype(np.uint8)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.pixels[index]


class Halving(nn.Module):
    """An autoencoder of one convolution each way."""

    latent_shape = (2, 8, 8)

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(1, 4, 2, stride=2)
        self.up = nn.ConvTranspose2d(2, 1, 2, stride=2)

    def encode(self, images):
        mean, log_variance = self.down(images).chunk(2, dim=1)
        return mean, log_variance - 4.0

    def decode(self, latents):
        return self.up(latents)

    def forward(self, images, noise):
        mean, log_variance = self.encode(images)
        return self.decode(mean + torch.exp(0.5 * log_variance) * noise), mean, log_variance


class Denoiser(nn.Module):
    """A network that sees the label as a plane of its own."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 2, 3, padding=1))

    def forward(self, noisy, steps, labels):
        plane = labels.to(noisy.dtype).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
        return self.layers(torch.cat([noisy, plane], dim=1))


class Log(TrainingCallback, CheckpointStore):
    """Records everything, can resume from a checkpoint, and can break off or end after a step."""

    def __init__(self, *, restored=None, stop=None, end=None):
        self.restored, self.stop, self.max_steps = restored, stop, end
        self.values, self.states, self.looks, self.notes, self.kept = [], {}, [], {}, {}

    def load_checkpoint(self):
        return self.restored

    def save_checkpoint(self, step, state):
        assert int(state["step"]) == step
        self.states[step] = {name: value.clone() for name, value in state.items()}

    def on_step_end(self, step, total, metrics):
        self.values.append((step, total, dict(metrics)))
        if step == self.stop:
            raise InterruptedError

    def on_preview(self, step, sample):
        self.looks.append((step, sample([3, 4, 3, 4], torch.tensor([0, 0, 1, 1]))))

    def log_metadata(self, name, value):
        self.notes[name] = value

    def warn(self, message):
        raise AssertionError(message)

    def cached(self, key, compute):
        self.kept[key] = compute()
        return self.kept[key]


def build(*, pretrain=None, adversarial=0.1, **changes):
    short = {
        "batch_size": 5,
        "warmup_steps": 2,
        "mixed_precision": "fp32",
        "checkpointing_steps": 2,
        "learning_rate": 1e-2,
        "validation_epochs": 1,
    }
    settings = LatentDiffusionSettings(
        reconstruction=ReconstructionSettings(
            adversarial_weight=adversarial,
            discriminator_start_step=2,
            discriminator_channels=(4, 8),
            ssim_weight=0.1,
            kl_warmup_steps=3,
        ),
        first_stage=TrainingSettings(**{**short, "epochs": 3}),
        diffusion=DiffusionSettings(num_train_timesteps=20, prediction_type="v_prediction"),
        training=TrainingSettings(**{**short, "epochs": 2, **changes}),
        sampling=SamplingSettings(num_inference_steps=4, mixed_precision="fp32", guidance_scale=2.0),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LatentDiffusion(Halving(), Denoiser(), settings, image=IMAGE, pretrain=pretrain)


def fit(log=None, **changes):
    model, log = build(**changes), log or Log()
    model.fit(Images(), seed=1, callback=log, checkpoints=log)
    return model, log


def same(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_fit_reports_two_stages_as_one_run():
    model, log = fit()
    # 3 epochs of 2 steps; then 2 epochs over twice as many latents, the mirrored ones among them
    assert [(step, total) for step, total, _ in log.values] == [(step, 14) for step in range(1, 15)]
    assert [values["stage"] for _, _, values in log.values] == [1] * 6 + [2] * 8
    assert "adversary" not in build().state_dict()
    assert set(log.values[-1][2]) == {"loss", "mse", "learning_rate", "stage"}
    assert {"loss", "adversary", "l1", "kl", "ssim", "adversarial", "judged_real"} <= set(log.values[5][2])
    assert "adversarial" not in log.values[1][2]
    assert log.values[1][2]["adversary"] == 0.0
    assert log.notes["reconstruction"].keys() == {"psnr_db", "ssim", "images", "of"}
    assert log.notes["latents"]["encoded"] == 20
    deviation = model.standardise.deviation.square().mean().sqrt().item()
    assert log.notes["latents"]["scale_factor"] == pytest.approx(1.0 / deviation)


@pytest.mark.parametrize("stop", [3, 6, 7, 12])
def test_fit_resumed_in_either_stage_has_the_same_weights(stop):
    whole, log = fit()
    broken = Log(stop=stop)
    with pytest.raises(InterruptedError):
        fit(broken)
    newest = max(broken.states)
    resumed, rest = fit(Log(restored=broken.states[newest]))
    assert same(resumed, whole)
    assert rest.values == log.values[newest:]


@pytest.mark.parametrize("end", [4, 6])
def test_fit_stopped_in_first_stage_skips_second(end):
    stopped, log = fit(Log(end=end))
    assert [values["stage"] for _, _, values in log.values] == [1] * end
    assert log.kept == {}
    assert stopped.network.state_dict().keys() == build().network.state_dict().keys()
    fresh = build().network.state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in stopped.network.state_dict().items())
    assert stopped.sample([1, 2], torch.tensor([0, 1])).shape == (2, 1, 16, 16)


@pytest.mark.parametrize("end", [4, 6, 8, 14])
def test_fit_checkpoint_at_max_steps_is_the_stopped_model(end):
    _, whole = fit()
    stopped, log = fit(Log(end=end))
    restored, again = fit(Log(restored=whole.states[end], end=end))
    assert log.values == whole.values[:end]
    assert same(restored, stopped)
    assert again.values == []


def test_fit_checkpoint_epoch_and_first_image_step():
    _, log = fit()
    assert {int(state["images_from"]) for state in log.states.values()} == {6}
    assert log.states[4]["epoch"] == 2.0
    assert log.states[8]["epoch"] == 0.5


def test_fit_checkpoints_are_valid_safetensors():
    from safetensors.torch import save

    _, log = fit()
    for state in log.states.values():
        save(state)


def test_fit_pretrained_autoencoder_is_unchanged():
    filled = []

    def pretrain():
        nn.init.constant_(model.autoencoder.down.weight, 0.25)
        filled.append(True)

    model = build(pretrain=pretrain)
    log = Log()
    model.fit(Images(), seed=1, callback=log, checkpoints=log)
    assert filled == [True]
    assert {values["stage"] for _, _, values in log.values} == {1}
    assert torch.equal(model.autoencoder.down.weight, torch.full_like(model.autoencoder.down.weight, 0.25))


def test_fit_first_stage_previews_show_reconstructions():
    _, log = fit()
    step, shown = log.looks[0]
    assert step == 2
    known = torch.from_numpy(Images().pixels).float() / 255.0
    for place, own in ((0, known[:6]), (2, known[6:])):
        assert (shown[place] == own).flatten(1).all(dim=1).any()
        assert not (shown[place + 1] == own).flatten(1).all(dim=1).any()


def test_content_key_depends_on_images_weights_and_mirroring():
    data, network = Images(), Halving()
    key = content_key(data, network, "latents", True)
    assert key == content_key(data, network, "latents", True)
    assert len(key) == 64
    others = {content_key(data, network, "latents", False), content_key(data, Halving(), "latents", True)}
    data.pixels[3, 0, 0, 0] ^= 1
    others.add(content_key(data, network, "latents", True))
    assert len(others | {key}) == 4


def test_fit_caches_latents_under_content_key():
    model, log = fit()
    key = content_key(Images(), model.autoencoder, "latents", True)
    assert list(log.kept) == [key]
    assert log.kept[key]["latents"].shape == (20, 2, 8, 8)


def test_encode_all_appends_mirrored_images():
    latents = encode_all(
        Images(), lambda images: images.flatten(1), mirrored=True, batch_size=3, device=torch.device("cpu")
    )
    images = torch.from_numpy(Images().pixels).float() / 255.0
    assert torch.equal(latents, torch.cat([images, images.flip(-1)]).flatten(1))


@pytest.mark.parametrize("shape", [(3, 4, 4), (7,)], ids=str)
def test_standardizer_mean_0_std_1_round_trip(shape):
    latents = torch.randn(50, *shape, generator=torch.Generator().manual_seed(0)) * 3.0 + 5.0
    standardise = Standardizer(shape)
    standardise.fit(latents)
    values = standardise(latents)
    others = [axis for axis in range(values.ndim) if axis != 1]
    torch.testing.assert_close(values.mean(dim=others), torch.zeros(shape[0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(values.std(dim=others, correction=0), torch.ones(shape[0]))
    torch.testing.assert_close(standardise.inverse(values), latents)
    assert standardise.limit == values.abs().max()


def test_standardizer_constant_channel():
    standardise = Standardizer((2, 4, 4))
    standardise.fit(torch.zeros(5, 2, 4, 4))
    assert torch.equal(standardise(torch.zeros(1, 2, 4, 4)), torch.zeros(1, 2, 4, 4))


def test_sample_clips_to_measured_latent_range():
    model, _ = fit()
    seen = []
    decode = model.autoencoder.decode
    model.sample([1], torch.tensor([0]))
    model._fast[1].decode = lambda latents: seen.append(model.standardise(latents)) or decode(latents)
    model.sample([1, 2, 3], torch.tensor([0, 1, 1]))
    assert seen[0].abs().max() <= model.standardise.limit + 1e-4


def objective(**changes):
    settings = ReconstructionSettings(**{"kl_weight": 0.5, "adversarial_weight": 0.0, **changes})
    return Reconstruction(settings, latent_shape=(2, 8, 8), channels=1, device=torch.device("cpu"), seed=0)


def batch(step=0):
    return Batch(torch.from_numpy(Images().pixels).float() / 255.0, torch.from_numpy(Images().labels), step)


def test_objective_kl_matches_closed_form():
    def network(images, noise):
        return images, torch.full((10, 2, 8, 8), 0.3), torch.full((10, 2, 8, 8), -0.7)

    terms = objective()(network, batch(), torch.Generator())
    nats = 0.5 * (0.3**2 + np.exp(-0.7) - 1.0 + 0.7) * 2 * 8 * 8
    assert terms["kl"].item() == pytest.approx(0.5 * nats / 256, rel=1e-5)
    assert terms["l1"].item() == 0.0


def test_objective_kl_warmup():
    def network(images, noise):
        return images, torch.ones(10, 2, 8, 8), torch.zeros(10, 2, 8, 8)

    values = [objective(kl_warmup_steps=4)(network, batch(step), torch.Generator())["kl"].item() for step in range(6)]
    whole = objective()(network, batch(), torch.Generator())["kl"].item()
    assert values == pytest.approx([whole * share for share in (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)])


def test_objective_discriminator_hinge_loss():
    own = objective(adversarial_weight=1.0, discriminator_start_step=0, discriminator_channels=(4, 8))
    assert own.discriminator is not None
    terms = own.discriminator_loss(
        lambda images: images.mean(dim=(1, 2, 3)) * 0.0 + 0.25, Halving(), batch(), torch.Generator()
    )
    assert terms["judged_real"].item() == pytest.approx(0.75)
    assert terms["judged_made"].item() == pytest.approx(1.25)
    assert own.discriminator.network(torch.zeros(3, 1, 16, 16)).shape == (3, 1, 4, 4)


def test_patch_discriminator_independent_across_batch():
    discriminator = PatchDiscriminator(1, (4, 8)).eval()
    images = torch.rand(4, 1, 16, 16)
    torch.testing.assert_close(discriminator(images)[:1], discriminator(images[:1]))


@pytest.mark.parametrize("side", [8, 10, 11, 64])
def test_similarity_equals_torchmetrics(side):
    first, second = torch.rand(2, 3, 2, side, side)
    spread = 1.5 if side > 10 else 0.9
    expected = structural_similarity_index_measure(first, second, sigma=spread, data_range=1.0, reduction="none")
    torch.testing.assert_close(similarity(first, second), expected)


def test_similarity_identical_and_noisy_images():
    images = batch().images
    torch.testing.assert_close(similarity(images, images), torch.ones(10))
    noisy = (images + 0.2 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    assert (similarity(noisy, images) < 0.7).all()
    assert similarity(images[..., :8, :8], images[..., :8, :8]).isfinite().all()


def test_quality_uses_posterior_means():
    class Off(Halving):
        """Reconstructs everything 0.1 too bright, in [0, 1]."""

        def encode(self, images):
            return images, torch.full_like(images, 9.0)

        def decode(self, latents):
            return latents + 0.2

    found = quality(Off(), Images(), count=4, perceptual=None)
    assert found["psnr_db"] == pytest.approx(20.0, abs=0.2)
    assert found["images"] == 4
    assert reconstruct(Off(), batch().images).max() <= 1.0


def test_latents_as_training_data():
    latents = Latents(torch.randn(4, 3), labels=np.arange(4), classes=("a",))
    assert len(latents) == 4
    assert latents[2].dtype == np.float32
    assert hashlib.sha256(latents[0].tobytes()).digest() != hashlib.sha256(latents[1].tobytes()).digest()
