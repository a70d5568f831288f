"""DCGAN: its networks, GAN loss, batch-norm statistics, the collapse warning, and what fitting leaves behind."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import medzoo_dcgan
from medzoo import ImageSpec
from medzoo.cli.options import parse_overrides
from medzoo.config import resolve
from medzoo.errors import ConfigError
from medzoo.protocols import CheckpointStore, TrainingCallback
from medzoo.toolkit.training.batches import Batch
from medzoo_dcgan.batch_norm import batch_norm_batches, set_batch_norm_statistics
from medzoo_dcgan.collapse import CollapseMonitor, pairwise_distance
from medzoo_dcgan.gan_loss import GANLoss
from medzoo_dcgan.networks import DiscriminatorNetwork

SPEC = medzoo_dcgan.register_generators()[0]


def configured(preset, *overrides):
    return resolve(SPEC.config, presets=SPEC.presets, preset=preset, overrides=parse_overrides(overrides)).value


def build(preset, *overrides, classes=3, device="cpu"):
    config = configured(preset, *overrides)
    image = ImageSpec(
        size=config.image.size, channels=config.image.channels, classes=tuple(f"class {k}" for k in range(classes))
    )
    torch.manual_seed(0)
    with torch.device(device):
        return SPEC.build(config, image, device)


def discriminator_of(model):
    torch.manual_seed(0)
    return DiscriminatorNetwork(model.config.discriminator, model.image, conditional=model.config.network.conditional)


def layers_of(network, kind):
    return [module for module in network.modules() if isinstance(module, kind)]


class Data:
    """Images of three classes, noisy about a brightness of their own; the last class has one image."""

    classes = ("class 0", "class 1", "class 2")
    labels = np.array([0] * 12 + [1] * 8 + [2], dtype=np.int64)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        grain = np.random.default_rng(index).integers(0, 128, (1, 16, 16))
        return (grain + 60 * self.labels[index]).astype(np.uint8)


class Log(TrainingCallback, CheckpointStore):
    """Records everything."""

    def __init__(self):
        self.values, self.looks, self.notes, self.warnings, self.states = [], [], {}, [], []

    def save_checkpoint(self, step, state):
        self.states.append(dict(state))

    def on_step_end(self, step, total, metrics):
        self.values.append(dict(metrics))

    def on_preview(self, step, sample):
        self.looks.append(sample([1, 2, 3], torch.tensor([0, 1, 2])))

    def log_metadata(self, name, value):
        self.notes[name] = dict(value)

    def warn(self, message):
        self.warnings.append(message)


# the networks


@pytest.mark.parametrize("size", [16, 32, 64, 128])
@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_networks_shapes_for_each_image_size(size, norm):
    model = build("tiny", f"image.size={size}", "image.channels=3", f"discriminator.norm={norm}")
    labels = torch.tensor([0, 2])
    images = model.network(torch.randn(2, 8), labels)
    assert images.shape == (2, 3, size, size)
    assert images.abs().max() <= 1.0
    ups = layers_of(model.network, nn.ConvTranspose2d)
    assert [up.out_channels for up in ups] == [8 * size // 8 >> level for level in range(len(ups) - 1)] + [3]
    discriminator = discriminator_of(model)
    downs = layers_of(discriminator, nn.Conv2d)
    assert [down.out_channels for down in downs] == [*(8 << level for level in range(len(downs) - 1)), 1]
    assert discriminator(images, labels).shape == (2,)


@pytest.mark.parametrize("size", [8, 28, 48, 96])
def test_build_invalid_image_size_raises(size):
    with pytest.raises(ConfigError, match=rf"image.size = {size} is not .*16, 32, 64 or 128"):
        build("tiny", f"image.size={size}")


def test_networks_match_paper():
    model = build("paper")
    ups = layers_of(model.network, nn.ConvTranspose2d)
    assert [up.in_channels for up in ups] == [100 + 16, 1024, 512, 256, 128]
    assert [type(layer).__name__ for layer in model.network.layers] == [
        *["ConvTranspose2d", "BatchNorm2d", "ReLU"] * 4,
        "ConvTranspose2d",
    ]
    discriminator = discriminator_of(model)
    assert [type(layer).__name__ for layer in discriminator.layers] == [
        *["Conv2d", "LeakyReLU"],
        *["Conv2d", "BatchNorm2d", "LeakyReLU"] * 3,
    ]
    assert [layer.negative_slope for layer in layers_of(discriminator, nn.LeakyReLU)] == [0.2] * 4
    for network in (model.network.layers, discriminator):
        for name, weight in network.named_parameters():
            norm = isinstance(network.get_submodule(name.rpartition(".")[0]), nn.BatchNorm2d)
            if name.endswith("bias"):
                assert (weight == 0).all()
            elif weight.numel() > 1000:
                assert weight.mean().item() == pytest.approx(float(norm), abs=0.003)
                assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    training, other = model.config.training, model.config.discriminator
    assert (
        training.learning_rate,
        other.learning_rate,
        training.beta1,
        training.batch_size,
        training.epochs,
    ) == (*(2e-4, 2e-4, 0.5, 128, 50),)
    assert (other.color, other.translation, other.cutout, other.norm) == (
        0.0,
        0.0,
        0.0,
        "batch",
    )
    assert (training.max_grad_norm, training.warmup_steps, training.lr_scheduler) == (0.0, 0, "constant")


def test_discriminator_spectral_norm_replaces_batch_norm():
    discriminator = discriminator_of(build("tiny", "discriminator.norm=spectral"))
    assert not layers_of(discriminator, nn.BatchNorm2d)
    for _ in range(100):  # each pass sharpens the estimate of the largest singular value
        discriminator(torch.rand(2, 1, 16, 16), torch.tensor([0, 1]))
    weights = [layer.weight for layer in layers_of(discriminator, nn.Conv2d | nn.Embedding)]
    assert len(weights) == 4
    for weight in weights:
        assert torch.linalg.matrix_norm(weight.flatten(1), ord=2).item() == pytest.approx(1.0, abs=0.02)


def test_discriminator_projects_class_embedding():
    discriminator = discriminator_of(build("tiny", "discriminator.norm=batch")).eval()
    images = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        seen = discriminator.layers(images).sum(dim=(2, 3))[0]
        one, other = (discriminator(images, torch.tensor([label])).item() for label in (0, 2))
    table = discriminator.projection.weight
    assert one - other == pytest.approx(((table[0] - table[2]) @ seen).item(), abs=1e-6)
    assert one != other


def test_generator_class_enters_through_embedding():
    network = build("tiny").network.eval()
    latents = torch.randn(1, 8)

    def at(label):
        with torch.no_grad():
            return network(latents, torch.tensor([label]))

    assert (at(0) - at(2)).abs().max() > 0
    with torch.no_grad():
        network.embedding.weight.zero_()
    assert torch.equal(at(0), at(2))


def test_build_unconditional_takes_one_class():
    with pytest.raises(ConfigError, match=r"network.conditional=false cannot tell 3 classes apart") as error:
        build("tiny", "network.conditional=false")
    assert "each class's images alone" in error.value.hint
    model = build("tiny", "network.conditional=false", classes=1)
    discriminator = discriminator_of(model)
    assert model.network.embedding is None
    assert discriminator.projection is None
    assert not any("embedding" in name for name in model.state_dict())
    images = model.network(torch.randn(2, 8), torch.zeros(2, dtype=torch.int64))
    assert discriminator(images, torch.zeros(2, dtype=torch.int64)).shape == (2,)


def test_default_preset_size_in_half_precision():
    model = build("default", device="meta")
    assert (model.image.size, model.image.channels) == (64, 1)
    assert sum(value.numel() for value in model.state_dict().values()) * 2 < 2.0e6


# the GAN loss


class Critic(nn.Module):
    """Gives every image the logit `verdict` times its mean, and keeps what it was shown."""

    def __init__(self, verdict):
        super().__init__()
        self.verdict, self.shown = nn.Parameter(torch.tensor(verdict)), []

    def forward(self, images, labels):
        self.shown.append((images, labels))
        return self.verdict * images.mean(dim=(1, 2, 3))


class Painter(nn.Module):
    """Paints every image in its one brightness, and keeps what it was given."""

    def __init__(self, brightness):
        super().__init__()
        self.brightness, self.given = nn.Parameter(torch.tensor(brightness)), []

    def forward(self, latents, labels):
        self.given.append((latents, labels))
        return self.brightness.expand(len(labels), 1, 8, 8)


OFF = ("discriminator.color=0", "discriminator.translation=0", "discriminator.cutout=0")
WHITE = Batch(torch.ones(4, 1, 8, 8), torch.tensor([0, 1, 2, 0]))


def softplus(value):
    return math.log1p(math.exp(value))


@pytest.mark.parametrize(
    ("loss", "of_real", "of_fake", "of_generator"),
    [
        ("non-saturating", lambda r: softplus(-r), softplus, lambda f: softplus(-f)),
        ("hinge", lambda r: max(0.0, 1.0 - r), lambda f: max(0.0, 1.0 + f), lambda f: -f),
    ],
)
@pytest.mark.parametrize("verdict", [0.3, -0.7, 4.0])
def test_gan_loss_matches_formula(loss, of_real, of_fake, of_generator, verdict):
    gan_loss, random = GANLoss(configured("tiny", f"loss={loss}", *OFF)), torch.Generator()
    critic, painter = Critic(verdict), Painter(-0.5)
    terms = gan_loss.discriminator_loss(critic, painter, WHITE, random)
    assert {name: term.item() for name, term in terms.items()} == {
        "real": pytest.approx(of_real(verdict)),
        "fake": pytest.approx(of_fake(-0.5 * verdict)),
    }
    terms = gan_loss.generator_loss(painter, critic, WHITE, random)
    assert {name: term.item() for name, term in terms.items()} == {
        loss: pytest.approx(of_generator(-0.5 * verdict), abs=1e-6)
    }


def test_gan_loss_generator_gradient_only_in_its_turn():
    gan_loss, random = GANLoss(configured("tiny", *OFF)), torch.Generator()
    critic, painter = Critic(1.0), Painter(-0.5)
    sum(gan_loss.discriminator_loss(critic, painter, WHITE, random).values()).backward()
    assert painter.brightness.grad is None
    assert critic.verdict.grad is not None
    sum(gan_loss.generator_loss(painter, critic, WHITE, random).values()).backward()
    assert painter.brightness.grad < 0, "brighter is what this critic scores as real"


def test_gan_loss_real_and_generated_share_range_and_labels():
    gan_loss, random = GANLoss(configured("tiny", *OFF)), torch.Generator().manual_seed(0)
    critic, painter = Critic(1.0), Painter(-0.5)
    gan_loss.discriminator_loss(critic, painter, WHITE, random)
    gan_loss.generator_loss(painter, critic, WHITE, random)
    assert [images.mean().item() for images, _ in critic.shown] == [1.0, -0.5, -0.5]
    assert all(torch.equal(labels, WHITE.labels) for _, labels in [*critic.shown, *painter.given])
    first, second = (latents for latents, _ in painter.given)
    assert first.shape == (4, 8)
    assert not torch.equal(first, second)


def test_gan_loss_augments_real_and_generated_in_both_turns():
    gan_loss, random = (
        GANLoss(configured("tiny", *OFF[:2], "discriminator.cutout=0.5")),
        torch.Generator().manual_seed(0),
    )
    critic, painter = Critic(1.0), Painter(-0.5)
    gan_loss.discriminator_loss(critic, painter, WHITE, random)
    gan_loss.generator_loss(painter, critic, WHITE, random)
    assert [sorted(images.unique().tolist()) for images, _ in critic.shown] == [[0.0, 1.0], [-0.5, 0.0], [-0.5, 0.0]]


# batch-norm statistics


def test_set_batch_norm_statistics_depends_on_weights():
    model = build("tiny")
    data = Data()
    batches = batch_norm_batches(data, model.config, seed=0, device=torch.device("cpu"))
    assert [(latents.shape, labels.shape) for latents, labels in batches] == [((8, 8), (8,))] * 16
    shares = torch.cat([labels for _, labels in batches]).bincount(minlength=3) / 128
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.15), "classes as often as in training"
    network = set_batch_norm_statistics(model.network, batches)
    first, norm = network.layers[:2]
    with torch.no_grad():
        given = [
            torch.cat([latents, network.embedding(labels)], dim=1)[:, :, None, None] for latents, labels in batches
        ]
        means = torch.stack([first(some).mean(dim=(0, 2, 3)) for some in given])
    assert torch.allclose(norm.running_mean, means.mean(dim=0), atol=1e-6)
    assert norm.momentum == 0.1
    before = {name: value.clone() for name, value in network.state_dict().items()}
    set_batch_norm_statistics(network, batches)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


# fitting


@pytest.fixture(scope="module")
def fitted():
    model, log = build("tiny"), Log()
    model.fit(Data(), seed=0, callback=log, checkpoints=log)
    return model, log


def test_fit_logs_both_losses_and_terms(fitted):
    for values in fitted[1].values:
        assert values["loss"] == pytest.approx(values["non-saturating"])
        assert values["adversary"] == pytest.approx(values["real"] + values["fake"])


def test_fit_samples_match_last_preview(fitted):
    model, log = fitted
    assert torch.equal(log.looks[-1], model.sample([1, 2, 3], torch.tensor([0, 1, 2])))
    assert not torch.equal(log.looks[0], log.looks[-1])


def test_fit_batch_norm_statistics_of_ema_weights(fitted):
    model, _ = fitted
    again = build("tiny")
    again.load_state_dict(model.state_dict())
    set_batch_norm_statistics(
        again.network, batch_norm_batches(Data(), model.config, seed=0, device=torch.device("cpu"))
    )
    found = again.network.layers[1].running_var
    assert torch.allclose(model.network.layers[1].running_var, found, rtol=1e-4)
    set_batch_norm_statistics(
        again.network, batch_norm_batches(Data(), model.config, seed=1, device=torch.device("cpu"))
    )
    assert not torch.allclose(model.network.layers[1].running_var, found, rtol=1e-4)


def test_fit_discriminator_in_checkpoints_but_not_in_model(fitted):
    model, log = fitted
    assert all(name.startswith("network.") for name in model.state_dict())
    assert any(name.startswith("adversary.layers.") for name in log.states[-1])


def test_fresh_discriminator_depends_only_on_seed():
    model = build("tiny")

    def weights(seed, elsewhere):
        torch.manual_seed(elsewhere)
        return model._fresh_discriminator(seed).state_dict()

    first, second, third = weights(0, 1), weights(0, 2), weights(1, 1)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    name = "head.parametrizations.weight.original"
    assert not torch.equal(first[name], third[name])


def test_fit_unconditional_one_class():
    class One(Data):
        classes = ("class 0",)
        labels = np.zeros(12, dtype=np.int64)

    class OneLog(Log):
        def on_preview(self, step, sample):
            self.looks.append(sample([1], torch.tensor([0])))

    model, log = build("tiny", "network.conditional=false", classes=1), OneLog()
    model.fit(One(), seed=0, callback=log, checkpoints=log)
    assert len(log.values) == 4
    assert model.sample([1, 2], torch.zeros(2, dtype=torch.int64)).shape == (2, 1, 16, 16)


# collapse


def test_pairwise_distance_is_mean_rms_over_pairs():
    images = torch.stack([torch.full((1, 32, 32), brightness) for brightness in (0.0, 0.3, 0.9)])
    assert pairwise_distance(images) == pytest.approx((0.3 + 0.9 + 0.6) / 3, rel=1e-5)
    grain = 0.5 * (torch.arange(32).view(1, -1) + torch.arange(32).view(-1, 1)).remainder(2)
    assert pairwise_distance(torch.stack([grain, 0.5 - grain])[:, None]) == pytest.approx(0.0, abs=1e-6)


def looked_at(draw, *, warn_below=0.5, since=0):
    log = Log()
    CollapseMonitor(Data(), draw, warn_below=warn_below, since=since, seed=0, callback=log)(7)
    return log


def real_images(seeds, labels):
    """Real images of the class, chosen by seed."""
    data = Data()
    members = np.flatnonzero(data.labels == int(labels[0]))
    return torch.stack([torch.from_numpy(data[members[i % len(members)]]) for i in range(len(seeds))]).float() / 255.0


def black(seeds, labels):
    return torch.zeros(len(seeds), 1, 16, 16)


def test_collapse_monitor_warns_of_similar_images():
    def draw(seeds, labels):
        images = real_images(seeds, labels)
        return images if labels[0] != 1 else images[:1] + 0.01 * (images - images[:1])

    log = looked_at(draw)
    (shares,) = log.notes.values()
    assert set(shares) == {"class 0", "class 1"}, "one image of class 2 has no distance"
    assert shares["class 0"] == pytest.approx(1.0, abs=0.15)
    assert shares["class 1"] == pytest.approx(0.01, abs=0.005)
    (warning,) = log.warnings
    assert "step 7" in warning
    assert "class 1 1%" in warning
    assert "class 0" not in warning
    assert "discriminator.color=1" in warning
    assert "at least 50% expected" in warning


def test_collapse_monitor_diverse_images_or_threshold_0_no_warning():
    assert looked_at(real_images).warnings == []
    same = looked_at(black, warn_below=0.0)
    assert same.warnings == []
    assert set(same.notes.popitem()[1].values()) == {0.0}


def test_collapse_monitor_early_steps_no_warning():
    early = looked_at(black, since=8)
    assert (len(early.notes), early.warnings) == (1, [])
    assert len(looked_at(black, since=7).warnings) == 1


def test_collapse_monitor_uses_same_seeds():
    seen = []

    def draw(seeds, labels):
        seen.append((tuple(seeds), int(labels[0])))
        return real_images(seeds, labels)

    monitor = CollapseMonitor(Data(), draw, warn_below=0.5, since=0, seed=0, callback=Log())
    monitor(1)
    monitor(2)
    assert seen[:2] == seen[2:]
    assert len(set(seen[0][0])) == len(seen[0][0]) > 1
