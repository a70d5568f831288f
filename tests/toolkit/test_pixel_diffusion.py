"""The training objective against independent calculations, and the sampler's care with its weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from medzoo import ImageSpec
from medzoo.errors import ConfigError
from medzoo.protocols import CheckpointStore, TrainingCallback
from medzoo.toolkit.diffusion.pixel import Objective, PixelDiffusion
from medzoo.toolkit.nn.unet import unet_arguments
from medzoo.toolkit.settings import (
    DiffusionSettings,
    LossSettings,
    PixelDiffusionSettings,
    SamplingSettings,
    TrainingSettings,
    UNetSettings,
)
from medzoo.toolkit.training import losses
from medzoo.toolkit.training.batches import Batch

IMAGE = ImageSpec(size=8, channels=1, classes=("a", "b", "c"))
COUNT = 64


class Canned(nn.Module):
    """Answers with what it was told to, and remembers what it was asked."""

    def __init__(self, *, outputs=1):
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(outputs, 8, 8))
        self.answer = lambda noisy, steps, labels: torch.zeros_like(noisy)
        self.asked = []

    def forward(self, noisy, steps, labels):
        self.asked.append((noisy, steps, labels))
        return self.answer(noisy, steps, labels) + self.offset


def make_model(network=None, *, learned=False, diffusion=None, loss=None, sampling=None):
    return PixelDiffusion(
        network or Canned(outputs=2 if learned else 1),
        PixelDiffusionSettings(
            diffusion=diffusion or DiffusionSettings(prediction_type="epsilon"),
            loss=loss or LossSettings(),
            training=TrainingSettings(epochs=2, batch_size=4, learning_rate=0.1, mixed_precision="fp32"),
            sampling=sampling or SamplingSettings(mixed_precision="fp32", num_inference_steps=4),
        ),
        image=IMAGE,
        learned_variance=learned,
    )


@pytest.fixture
def batch():
    images = torch.rand(COUNT, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.arange(COUNT) % 3)


def terms_of(model, batch, seed=0):
    return Objective(model)(model.network, batch, torch.Generator().manual_seed(seed))


def test_objective_adds_noise_by_schedule(batch):
    model = make_model(diffusion=DiffusionSettings(prediction_type="epsilon", label_dropout=0.0))
    objective = Objective(model)
    terms = objective(model.network, batch, torch.Generator().manual_seed(0))
    noisy, steps, labels = model.network.asked[0]
    assert torch.equal(labels, batch.labels)
    assert (steps.min() >= 0, steps.max() < 1000, len(steps.unique()) > 40) == (True, True, True)
    process = objective.add_noise
    alpha, sigma = (scale[steps].view(-1, 1, 1, 1) for scale in (process.alpha, process.sigma))
    noise = (noisy - alpha * (batch.images * 2 - 1)) / sigma
    assert noise.mean().abs() < 0.06
    assert noise.std().item() == pytest.approx(1.0, abs=0.05)
    assert terms["mse"].item() == pytest.approx(noise.square().mean().item(), rel=1e-3), "against an answer of nought"


def test_objective_samples_last_timestep(batch):
    model = make_model(diffusion=DiffusionSettings(prediction_type="epsilon", num_train_timesteps=4))
    terms_of(model, batch)
    assert model.network.asked[0][1].unique().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_objective_perfect_prediction_has_zero_loss(prediction, batch):
    clean = batch.images * 2 - 1
    settings = DiffusionSettings(prediction_type=prediction)
    model = make_model(diffusion=settings, loss=LossSettings(pixel="mse", edge_weight=1.0))
    objective = Objective(model)
    process = objective.add_noise

    def perfect(noisy, steps, labels):
        alpha, sigma = (scale[steps].view(-1, 1, 1, 1) for scale in (process.alpha, process.sigma))
        noise = (noisy - alpha * clean) / sigma
        return noise if prediction == "epsilon" else alpha * noise - sigma * clean

    model.network.answer = perfect
    terms = objective(model.network, batch, torch.Generator().manual_seed(0))
    assert terms["mse"].item() == pytest.approx(0.0, abs=1e-6)
    assert terms["edge"].item() == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("kind", ["charbonnier", "l1", "mse"])
def test_objective_only_weighted_terms(kind, batch):
    assert set(terms_of(make_model(loss=LossSettings(pixel=kind)), batch)) == {kind}
    once = terms_of(make_model(loss=LossSettings(pixel=kind, edge_weight=0.5)), batch)
    twice = terms_of(make_model(loss=LossSettings(pixel=kind, edge_weight=1.0)), batch)
    assert set(once) == {kind, "edge"}
    assert twice["edge"].item() == pytest.approx(2 * once["edge"].item())
    assert once[kind] == twice[kind]


def test_objective_perceptual_term_weighted_by_signal_power(batch, monkeypatch):
    class Stub(nn.Module):
        def __init__(self, *, network, weights):
            super().__init__()
            Stub.made = (network, weights)

        def forward(self, first, second):
            Stub.range = (first.min().item(), first.max().item())
            assert torch.equal(second, batch.images * 2 - 1)
            return torch.ones(len(first))

    monkeypatch.setattr(losses, "PerceptualDistance", Stub)
    settings = LossSettings(perceptual_weight=0.25, perceptual_network="lpips", perceptual_weights_file="w.pth")
    model = make_model(loss=settings)
    objective = Objective(model)
    terms = objective(model.network, batch, torch.Generator().manual_seed(0))
    power = objective.add_noise.alpha[model.network.asked[0][1]] ** 2
    assert Stub.made == ("lpips", "w.pth")
    assert Stub.range[0] >= -1.0
    assert Stub.range[1] <= 1.0
    assert terms["perceptual"].item() == pytest.approx(0.25 * power.mean().item(), rel=1e-5)


def test_objective_label_dropout_rate(batch):
    model = make_model(diffusion=DiffusionSettings(label_dropout=0.5))
    for seed in range(20):
        terms_of(model, batch, seed)
    labels = torch.cat([asked[2] for asked in model.network.asked])
    assert (labels == 3).double().mean().item() == pytest.approx(0.5, abs=0.07)


def test_objective_repeats_by_generator(batch):
    model = make_model()
    assert terms_of(model, batch, 1)["mse"] == terms_of(model, batch, 1)["mse"]
    assert terms_of(model, batch, 1)["mse"] != terms_of(model, batch, 2)["mse"]


def bound_by_numpy(clean, noisy, estimate, variance, step, *, steps):
    """Nichol & Dhariwal 2021, eq. 4 to 7 and 15, in bits per dimension, from the betas alone."""
    betas = np.linspace(1e-4, 0.02, steps)
    kept = np.cumprod(1 - betas)

    def posterior_variance(t):
        return (1 - kept[t - 1]) / (1 - kept[t]) * betas[t]

    before = kept[step - 1] if step else 1.0
    by_clean = np.sqrt(before) * betas[step] / (1 - kept[step])
    by_noisy = np.sqrt(1 - betas[step]) * (1 - before) / (1 - kept[step])
    place = (variance + 1) / 2
    lower = posterior_variance(max(step, 1))
    spread = np.exp((place * np.log(betas[step]) + (1 - place) * np.log(lower)) / 2)
    mean = by_clean * estimate + by_noisy * noisy
    if step == 0:
        upper = np.where(clean > 0.999, 1.0, stats.norm.cdf(clean + 1 / 255, mean, spread))
        under = np.where(clean < -0.999, 0.0, stats.norm.cdf(clean - 1 / 255, mean, spread))
        return -np.log2(np.maximum(upper - under, 1e-12)).mean()
    true_mean, true_spread = by_clean * clean + by_noisy * noisy, np.sqrt(lower)
    nats = np.log(spread / true_spread) + (true_spread**2 + (true_mean - mean) ** 2) / (2 * spread**2) - 0.5
    return (nats / np.log(2)).mean()


@pytest.mark.parametrize("steps", [10, 1000])
def test_variational_bound_matches_reference(steps):
    random = np.random.default_rng(0)
    times = [0, 1, 2, steps // 2, steps - 1]
    clean = random.integers(0, 256, (5, 1, 4, 4)) / 127.5 - 1
    noisy, estimate = random.normal(size=(2, 5, 1, 4, 4))
    estimate = np.clip(clean + 0.02 * estimate, -1, 1)
    variance = random.uniform(-1, 1, (5, 1, 4, 4))
    model = make_model(learned=True, diffusion=DiffusionSettings(beta_schedule="linear", num_train_timesteps=steps))
    found = Objective(model).variational_bound(
        *(torch.tensor(values, dtype=torch.float32) for values in (clean, noisy, estimate, variance)),
        torch.tensor(times),
    )
    expected = [
        bound_by_numpy(clean[k], noisy[k], estimate[k], variance[k], step, steps=steps) for k, step in enumerate(times)
    ]
    assert found.tolist() == pytest.approx(expected, rel=2e-3, abs=5e-9)


def test_variational_bound_zero_for_true_posterior():
    model = make_model(learned=True, diffusion=DiffusionSettings(beta_schedule="linear", num_train_timesteps=10))
    clean, noisy = torch.rand(1, 1, 4, 4), torch.randn(1, 1, 4, 4)
    bound = Objective(model).variational_bound(clean, noisy, clean, torch.full_like(clean, -1.0), torch.tensor([5]))
    assert bound.item() == pytest.approx(0.0, abs=1e-6)


def test_objective_variational_term_trains_only_variance(batch):
    diffusion = DiffusionSettings(prediction_type="epsilon", num_train_timesteps=100)
    model = make_model(learned=True, diffusion=diffusion, loss=LossSettings(vlb_weight=0.001))
    model.network.answer = lambda noisy, steps, labels: torch.zeros(COUNT, 2, 8, 8)
    terms = terms_of(model, batch)
    assert set(terms) == {"mse", "variational"}
    (gradient,) = torch.autograd.grad(terms["variational"], model.network.offset, retain_graph=True)
    assert (gradient[0] == 0).all(), "the prediction's channel"
    assert (gradient[1] != 0).all(), "the variance's channel"
    (gradient,) = torch.autograd.grad(terms["mse"], model.network.offset)
    assert (gradient[0] != 0).all()
    assert (gradient[1] == 0).all()


def test_objective_variational_weight_covers_all_steps(batch):
    def term(steps, weight):
        diffusion = DiffusionSettings(prediction_type="epsilon", beta_schedule="linear", num_train_timesteps=steps)
        model = make_model(learned=True, diffusion=diffusion, loss=LossSettings(vlb_weight=weight))
        model.network.answer = lambda noisy, steps, labels: torch.zeros(COUNT, 2, 8, 8)
        seen = []
        objective = Objective(model)
        bound = objective.variational_bound
        objective.variational_bound = lambda *values: seen.append(bound(*values)) or seen[0]
        return objective(model.network, batch, torch.Generator().manual_seed(0))["variational"], seen[0].mean()

    for steps, weight in ((10, 0.001), (50, 0.001), (50, 1.0)):
        value, mean = term(steps, weight)
        assert value.item() == pytest.approx(steps * weight * mean.item(), rel=1e-5)


def test_objective_without_variational_weight(batch):
    model = make_model(learned=True, loss=LossSettings(vlb_weight=0.0))
    model.network.answer = lambda noisy, steps, labels: torch.zeros(COUNT, 2, 8, 8)
    assert set(terms_of(model, batch)) == {"mse"}


def test_sample_returns_prediction_in_unit_range():
    def answer(noisy, steps, labels):
        return noisy * 0 + 1e6 * (labels.view(-1, 1, 1, 1).to(noisy.dtype) - 0.5)

    for precision in ("fp32", "bf16"):
        model = make_model(sampling=SamplingSettings(mixed_precision=precision, num_inference_steps=3))
        model.network.answer = answer
        images = model.sample([1, 2], torch.tensor([0, 1]))
        assert (images.dtype, images.shape) == (torch.float32, (2, 1, 8, 8))
        assert images.is_contiguous()
        assert (images[0] == 1.0).all(), "predicted noise of -infinity leaves white"
        assert (images[1] == 0.0).all()


def test_sample_guidance_uses_null_label():
    asked = []

    def answer(noisy, steps, labels):
        asked.append(labels.tolist())
        return torch.zeros_like(noisy)

    model = make_model(sampling=SamplingSettings(mixed_precision="fp32", num_inference_steps=2, guidance_scale=2.0))
    model.network.answer = answer
    model.sample([1, 2], torch.tensor([2, 0]))
    assert asked == [[2, 0, 3, 3]] * 2


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_sample_guidance_interval_and_batches(strength):
    """Outside the interval only labeled rows are computed, of variations too, and batches change no image."""
    rows = []

    def answer(noisy, steps, labels):
        rows.append(len(noisy))
        return noisy * 0.1 + 0.05 * labels.view(-1, 1, 1, 1)

    settings = {"mixed_precision": "fp32", "num_inference_steps": 12, "guidance_scale": 2.0, "strength": strength}
    model = make_model(sampling=SamplingSettings(**settings, guidance_interval=(0.3, 0.8)))
    model.network.answer = answer
    given = {"init_images": torch.rand(4, 1, 8, 8)} if strength < 1.0 else {}
    seeds, labels = [1, 2, 3, 4], torch.tensor([2, 0, 1, 0])
    together = model.sample(seeds, labels, **given)
    assert set(rows) == {4, 8}
    parts = [
        model.sample(seeds[part], labels[part], **{name: images[part] for name, images in given.items()})
        for part in (slice(0, 1), slice(1, 4))
    ]
    assert torch.equal(together, torch.cat(parts))
    everywhere = make_model(sampling=SamplingSettings(**settings))
    everywhere.network.answer = answer
    assert not torch.equal(together, everywhere.sample(seeds, labels, **given))


def test_sample_copy_follows_weights_outside_state_dict():
    model = make_model()
    first = model.sample([1], torch.tensor([0]))
    assert list(model.state_dict()) == ["network.offset"]
    model.load_state_dict({"network.offset": torch.full((1, 8, 8), 0.3)})
    second = model.sample([1], torch.tensor([0]))
    assert not torch.equal(first, second)
    assert torch.equal(second, model.sample([1], torch.tensor([0])))


class Log(TrainingCallback, CheckpointStore):
    """Records previews."""

    def __init__(self):
        self.looks = []

    def on_preview(self, step, sample):
        self.looks.append(sample([1], torch.tensor([0])))


def test_fit_samples_averaged_weights_of_last_preview():
    class Data:
        classes = IMAGE.classes
        labels = np.array([0, 1, 2, 0])

        def __len__(self):
            return 4

        def __getitem__(self, index):
            return np.full((1, 8, 8), 60 * index, dtype=np.uint8)

    model, log = make_model(), Log()
    model.network.answer = lambda noisy, steps, labels: noisy
    untrained = model.sample([1], torch.tensor([0]))
    model.fit(Data(), seed=0, callback=log, checkpoints=log)
    trained = model.sample([1], torch.tensor([0]))
    assert not torch.equal(untrained, trained)
    assert torch.equal(log.looks[-1], trained)
    assert trained.unique().numel() > 32, "not all black and white, where the weights would hardly show"


@pytest.mark.parametrize(
    ("widths", "size", "patch", "groups", "words"),
    [
        ((8, 16), 16, 1, 4, None),
        ((8, 16, 32), 28, 1, 8, None),
        ((8,), 15, 1, 8, None),
        ((8, 16), 15, 1, 4, "a side of 15 is not divisible by 2 .2 resolutions and network.patch_size=1 need"),
        ((8, 16), 30, 2, 4, "a side of 30 is not divisible by 4"),
        ((8, 18), 16, 1, 4, r"network.block_out_channels \[18\] are not divisible by 4 groups"),
        ((), 16, 1, 4, "network.block_out_channels is empty"),
    ],
)
def test_unet_arguments_invalid_widths_raise(widths, size, patch, groups, words):
    network = UNetSettings(block_out_channels=widths, patch_size=patch, norm_num_groups=groups, attention_from=1)
    image = ImageSpec(size=size, channels=1, classes=("a",))
    if words is None:
        arguments = unet_arguments(network, size=image.size, attention="AttnDownBlock2D")
        blocks = ["DownBlock2D", *["AttnDownBlock2D"] * (len(widths) - 1)]
        assert arguments["down_block_types"] == tuple(blocks)
        assert arguments["up_block_types"] == tuple(block.replace("Down", "Up") for block in reversed(blocks))
        assert arguments["sample_size"] == size // patch
        return
    with pytest.raises(ConfigError, match=words):
        unet_arguments(network, size=image.size, attention="AttnDownBlock2D")
