"""The training of classifiers: recipes, augmentation, weighting, early stopping, exact resume, standardisation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medzoo import ImageSpec
from medzoo.errors import ConfigError, DataError
from medzoo.testing import RecordingCallback
from medzoo.toolkit.classification import (
    ImageClassifier,
    Objective,
    Start,
    learning_rate_factor,
    mixup,
    pixel_statistics,
)
from medzoo.toolkit.settings import (
    AugmentationSettings,
    ClassifierSettings,
    ObjectiveSettings,
    RecipeSettings,
)
from medzoo.toolkit.training.augmentation import augment
from medzoo.toolkit.training.batches import Batch
from medzoo.toolkit.training.loop import EarlyStopping, make_optimizer

IMAGE = ImageSpec(size=8, channels=1, classes=("a", "b", "c"))


class Images:
    """Thirty 8-pixel images of three classes, 18, 8 and 4, each class with a stripe at its own place."""

    classes = IMAGE.classes

    def __init__(self, *, seed=0, labels=None):
        self.labels = np.repeat(np.arange(3), (18, 8, 4)).astype(np.int64) if labels is None else labels
        self.pixels = np.random.default_rng(seed).integers(0, 128, (30, 1, 8, 8), dtype=np.uint8)
        kinds = self.labels if self.labels.ndim == 1 else self.labels.argmax(1)
        for index, label in enumerate(kinds):
            self.pixels[index, :, 2 * label] += 90

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.pixels[index]


class NoImages(Images):
    def __len__(self):
        return 0


class Body(nn.Module):
    """A convolution with batch normalisation and dropout, and a layer."""

    def __init__(self, dropout=0.2):
        super().__init__()
        self.convolution = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(64, 3))

    def features(self, images):
        return self.convolution(images).mean(dim=3).flatten(1)

    def forward(self, images):
        return self.head(self.features(images))


def settings_of(*, augmentation=None, objective=None, **training):
    given = {
        "epochs": 4,
        "batch_size": 8,
        "mixed_precision": "fp32",
        "checkpointing_steps": 3,
        "learning_rate": 1e-2,
        **training,
    }
    return ClassifierSettings(
        augmentation=AugmentationSettings(**(augmentation or {})),
        objective=ObjectiveSettings(**(objective or {})),
        training=RecipeSettings(**given),
    )


def make(settings, *, image=IMAGE, **rest):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ImageClassifier(settings, image, Body(), side=8, **rest)


def fit(settings, *, run=None, data=None, validation=None, classifier=None):
    run = run or RecordingCallback()
    classifier = classifier or make(settings)
    classifier.fit(
        data or Images(),
        validation=Images(seed=1) if validation is None else validation,
        seed=3,
        callback=run,
        checkpoints=run,
    )
    return classifier, run


def same(one, other):
    first, second = one.state_dict(), other.state_dict()
    return all(torch.equal(value, second[name]) for name, value in first.items())


EVERYTHING = {
    "augmentation": {
        "vertical_flip": True,
        "rotation": 20.0,
        "translation": 0.1,
        "scale": 0.1,
        "randaugment_num_ops": 2,
        "mixup_alpha": 0.4,
    },
    "objective": {"label_smoothing": 0.1, "class_weighted": True},
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "sgd", "lr_scheduler": "warm-restarts", "lr_restart_epochs": 1, "weight_decay": 1e-2},
        {
            "optimizer": "adam",
            "lr_scheduler": "step",
            "lr_step_epochs": 1,
            "class_balanced": True,
            "color_jitter": 0.2,
            "warmup_steps": 3,
        },
        {"ema_decay": 0.9, "max_grad_norm": 1.0, "gradient_accumulation_steps": 2, "lr_scheduler": "constant"},
        {"learning_rate": 0.3, "optimizer": "sgd", "early_stopping_patience": 2, "epochs": 20},
        {"load_best_model_at_end": False, "max_steps": 10},
        EVERYTHING,
    ],
    ids=["adamw", "restarts", "step", "averaged", "stopped", "steps", "everything"],
)
def test_fit_resumed_has_the_same_weights(changes):
    settings = settings_of(**changes)
    whole, told = fit(settings)
    for step, _, state in told.checkpoints:
        resumed, run = fit(settings, run=RecordingCallback({}, restored=state))
        assert same(whole, resumed), f"resumed at step {step}"
        assert [entry[0] for entry in run.steps] == [entry[0] for entry in told.steps if entry[0] > step]
        assert run.notes["validation"] == told.notes["validation"]


def test_fit_early_stopping_keeps_best_weights():
    settings = settings_of(learning_rate=0.5, optimizer="sgd", early_stopping_patience=3, epochs=60)
    classifier, told = fit(settings)
    measured = {step: values["validation_loss"] for step, _, values in told.steps if "validation_loss" in values}
    best = min(measured, key=measured.get)
    last, total, _ = told.steps[-1]
    assert last < total == 60 * 4
    assert last == best + 3 * 4
    assert told.notes["validation"] == {"loss": measured[best], "at_step": best, "weights": "best"}
    assert told.checkpoints[-1][0] == last
    stopped, _ = fit(settings, run=RecordingCallback({}, stop=best))
    assert same(classifier, stopped)


def test_fit_without_best_model_keeps_last_weights():
    best, _ = fit(settings_of(learning_rate=0.5, optimizer="sgd"))
    last, told = fit(settings_of(learning_rate=0.5, optimizer="sgd", load_best_model_at_end=False))
    assert told.notes["validation"]["weights"] == "last"
    assert not same(best, last)
    state = told.checkpoints[-1][2]
    assert all(torch.equal(value, state[f"network.{name}"]) for name, value in last.network.state_dict().items())


def test_fit_validation_values_match_predict():
    classifier, told = fit(settings_of(epochs=1))
    _, _, values = told.steps[-1]
    data = Images(seed=1)
    found = classifier.predict(torch.from_numpy(data.pixels).float() / 255.0)
    labels = torch.from_numpy(data.labels)
    assert values["validation_loss"] == pytest.approx(F.nll_loss(found.log(), labels).item(), rel=1e-4)
    recalls = [(found.argmax(1)[labels == k] == k).double().mean().item() for k in range(3)]
    assert values["balanced_accuracy"] == pytest.approx(sum(recalls) / 3)


def test_fit_without_validation_images_cannot_select():
    with pytest.raises(DataError, match=r"no validation images.*load_best_model_at_end=false"):
        fit(settings_of(), validation=NoImages())
    _, told = fit(settings_of(load_best_model_at_end=False), validation=NoImages())
    assert "validation" not in told.notes
    assert len(told.steps) == 16


def test_fit_max_steps_overrides_epochs():
    assert [fit(settings_of(max_steps=n))[1].steps[-1][:2] for n in (3, 10)] == [(3, 3), (10, 10)]


def test_fit_depends_on_seed_not_on_global_random_state():
    settings = settings_of(**EVERYTHING)
    first, _ = fit(settings)
    torch.manual_seed(99)
    second, _ = fit(settings)
    assert same(first, second)
    other = make(settings)
    other.fit(Images(), validation=Images(seed=1), seed=4)
    assert not same(first, other)


def test_pixel_statistics_of_training_images():
    data = Images()
    mean, deviation = pixel_statistics(data)
    values = data.pixels.astype(np.float64) / 255.0
    assert mean == pytest.approx([values.mean()])
    assert deviation == pytest.approx([values.std()])
    classifier, told = fit(settings_of(epochs=1), data=data)
    state = classifier.state_dict()
    assert state["network.mean"].item() == pytest.approx(values.mean())
    assert state["network.deviation"].item() == pytest.approx(values.std())
    assert told.notes["weights"] == {"source": "scratch", "pixels_standardised_by": "the training images"}


def test_pixel_statistics_constant_images():
    data = Images()
    data.pixels[:] = 128
    assert pixel_statistics(data)[1] == pytest.approx([1 / 255])


def test_fit_again_keeps_start_weights_and_statistics():
    calls = []

    def start():
        calls.append(1)
        return Start(source="elsewhere", mean=[0.25], deviation=[0.5])

    settings = settings_of(epochs=1)
    classifier, told = fit(settings, classifier=make(settings, start=start))
    assert told.notes["weights"]["source"] == "elsewhere"
    _, again = fit(settings, classifier=classifier)
    assert again.notes["weights"]["source"] == "the classifier's own, from before this training"
    assert classifier.network.mean.item() == 0.25
    assert calls == [1]


def curve(steps=20, per_epoch=4, **training):
    factor = learning_rate_factor(RecipeSettings(**training), total=steps, steps_per_epoch=per_epoch)
    return [factor(step) for step in range(1, steps + 1)]


def torch_rates(scheduler_of, steps=20):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = scheduler_of(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_learning_rate_factor_matches_torch_schedulers():
    schedulers = torch.optim.lr_scheduler
    assert curve(lr_scheduler="constant") == [1.0] * 20
    assert curve(lr_scheduler="cosine") == pytest.approx(torch_rates(lambda o: schedulers.CosineAnnealingLR(o, 20)))
    steps = torch_rates(lambda o: schedulers.StepLR(o, 8, gamma=0.1))
    assert curve(lr_scheduler="step", lr_step_epochs=2) == pytest.approx(steps)
    restarts = torch_rates(lambda o: schedulers.CosineAnnealingWarmRestarts(o, T_0=4, T_mult=2))
    assert curve(lr_scheduler="warm-restarts", lr_restart_epochs=1, lr_restart_mult=2) == pytest.approx(restarts)
    assert curve(lr_scheduler="constant", warmup_steps=4)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_make_optimizer_applies_settings(name, kind):
    body = Body()
    body.convolution.requires_grad_(False)
    settings = RecipeSettings(learning_rate=0.5, beta1=0.8, beta2=0.95, weight_decay=0.01)
    optimizer = make_optimizer(body, settings, name)
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.01)
    assert (group["momentum"] if name == "sgd" else group["betas"]) == (0.8 if name == "sgd" else (0.8, 0.95))
    assert len(group["params"]) == 2


class Fixed(nn.Module):
    """A network that gives the same logits whatever it sees."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, images):
        return self.logits


def loss_of(logits, labels, *, data, **objective):
    settings = ClassifierSettings(objective=ObjectiveSettings(**objective))
    terms = Objective(settings, data, device=torch.device("cpu"))
    batch = Batch(torch.rand(len(labels), 1, 8, 8), labels)
    (value,) = terms(Fixed(logits), batch, torch.Generator()).values()
    return value.item()


def test_objective_weighted_cross_entropy():
    data, logits = Images(), torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.from_numpy(data.labels)
    assert loss_of(logits, labels, data=data) == pytest.approx(F.cross_entropy(logits, labels).item())
    smooth = F.cross_entropy(logits, labels, label_smoothing=0.1).item()
    assert loss_of(logits, labels, data=data, label_smoothing=0.1) == pytest.approx(smooth)
    weights = 1.0 / torch.bincount(labels).float()
    weighted = F.cross_entropy(logits, labels, weight=weights).item()  # over a whole epoch the same
    assert loss_of(logits, labels, data=data, class_weighted=True) == pytest.approx(weighted)


def test_objective_multi_label_binary_cross_entropy():
    labels = (np.random.default_rng(0).random((30, 3)) < (0.5, 0.3, 0.1)).astype(np.float32)
    data, targets = Images(labels=labels), torch.from_numpy(labels)
    logits = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    plain = F.binary_cross_entropy_with_logits(logits, targets).item()
    assert loss_of(logits, targets, data=data) == pytest.approx(plain)
    weights = (30 - targets.sum(0)) / targets.sum(0)
    weighted = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights).item()
    assert loss_of(logits, targets, data=data, class_weighted=True) == pytest.approx(weighted)


def test_mixup_mixes_images_and_targets_alike():
    images = torch.eye(4).view(4, 1, 2, 2)
    mixed, targets = mixup(images, torch.eye(4), alpha=0.4, random=torch.Generator().manual_seed(1))
    assert torch.equal(mixed.flatten(1), targets)
    assert targets.sum(dim=1).tolist() == pytest.approx([1.0] * 4)
    assert ((targets > 0.0) & (targets < 1.0)).any()
    again, _ = mixup(images, torch.eye(4), alpha=0.4, random=torch.Generator().manual_seed(1))
    assert torch.equal(mixed, again)


def draw(images, seed=0, **settings):
    return augment(images, AugmentationSettings(**settings), torch.Generator().manual_seed(seed))


def test_augment_off_is_identity():
    images = torch.rand(4, 1, 8, 8)
    assert torch.equal(draw(images), images)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "settings",
    [{"vertical_flip": True}, {"rotation": 30.0}, {"translation": 0.2}, {"scale": 0.3}, {"randaugment_num_ops": 2}],
    ids=lambda settings: next(iter(settings)),
)
def test_augment_varies_each_image_by_the_generator(settings, channels):
    picture = torch.rand(1, channels, 16, 16, generator=torch.Generator().manual_seed(5))
    images = picture.expand(32, -1, -1, -1).contiguous()
    state = torch.get_rng_state()
    varied = draw(images, **settings)
    assert torch.equal(torch.get_rng_state(), state)
    assert varied.shape == images.shape
    assert 0.0 <= varied.min() <= varied.max() <= 1.0
    assert len(varied.flatten(1).unique(dim=0)) > 1
    assert torch.equal(varied, draw(images, **settings))
    assert not torch.equal(varied, draw(images, seed=1, **settings))
    assert torch.equal(images[0], picture[0])


def test_augment_translation_within_limit():
    images = torch.zeros(200, 1, 21, 21)
    images[:, :, 10, 10] = 1.0
    varied = draw(images, translation=0.2)
    places = torch.arange(21.0) - 10
    rows, columns = (varied.sum(dim=axis)[:, 0] for axis in (3, 2))
    for share in (rows, columns):
        shift = (share * places).sum(dim=1) / share.sum(dim=1)
        assert shift.abs().max() <= 0.2 * 21 + 1e-3
        assert shift.abs().max() > 0.15 * 21
        assert shift.mean().abs() < 0.1 * 21


def test_augment_rotation_turns_about_center():
    images = torch.zeros(50, 1, 33, 33)
    images[:, :, 16, 26] = 1.0
    varied = draw(images, rotation=30.0)
    places = torch.arange(33.0) - 16
    down, right = ((varied.sum(dim=axis)[:, 0] * places).sum(dim=1) / varied.sum(dim=(1, 2, 3)) for axis in (3, 2))
    assert torch.hypot(down, right).tolist() == pytest.approx([10.0] * 50, abs=0.3)
    angles = torch.rad2deg(torch.atan2(down, right))
    assert 25.0 < angles.max() <= 30.5
    assert -30.5 <= angles.min() < -25.0


def test_augment_randaugment_magnitude_0():
    images = torch.rand(64, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    images = (images * 255).round() / 255
    changed = (draw(images, randaugment_num_ops=1, randaugment_magnitude=0) - images).abs().flatten(1).amax(dim=1)
    # autocontrast and equalize have no strength; solarize at 0 inverts what is at least white
    assert (changed > 1e-6).float().mean() < 0.45


def test_early_stopping_counts_from_lowest_loss():
    losses = itertools.chain([3.0, 2.0, 2.5, 1.0, 1.0, 1.5], itertools.repeat(math.nan))
    network = nn.Linear(1, 1)
    stopping = EarlyStopping(network, lambda: {"validation_loss": next(losses)}, patience=3, keep_best=True)
    for step in range(1, 7):
        with torch.no_grad():
            network.weight.fill_(step)
        assert not stopping.stopped
        stopping.evaluate(step)
    stopping.evaluate(7)  # what is not a number is no lower
    assert stopping.stopped
    assert (stopping.best_step, stopping.lowest) == (4, 1.0)
    stopping.finish()
    assert network.weight.item() == 4.0


def test_early_stopping_counts_what_all_processes_agree_on():
    stopping = EarlyStopping(nn.Linear(1, 1), lambda: {"validation_loss": 2.0}, patience=1, keep_best=False)
    for step, agreed in ((1, 1.0), (2, 1.5)):
        values = stopping.evaluate(step, agree=lambda values, agreed=agreed: {**values, "validation_loss": agreed})
        assert values == {"validation_loss": agreed}
    assert (stopping.lowest, stopping.best_step, stopping.stopped) == (1.0, 1, True)


class Weighted(Images):
    """Images with loss weights."""

    def __init__(self, weights, **given):
        super().__init__(**given)
        self.weights = np.asarray(weights, np.float32)


def test_objective_image_weights_multiply_losses_over_the_count():
    data = Weighted(np.where(np.arange(30) % 2, 0.3, 1.0))
    logits = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels, weights = torch.from_numpy(data.labels), torch.from_numpy(data.weights)
    terms = Objective(ClassifierSettings(), data, device=torch.device("cpu"))
    batch = Batch(torch.rand(30, 1, 8, 8), labels, weights=weights)
    (found,) = terms(Fixed(logits), batch, torch.Generator()).values()
    (own,) = torch.autograd.grad(found, logits)
    plain = F.cross_entropy(logits, labels)
    (unweighted,) = torch.autograd.grad(plain, logits)
    assert found.item() == pytest.approx((F.cross_entropy(logits, labels, reduction="none") * weights).mean().item())
    assert torch.allclose(own, unweighted * weights[:, None])


def test_objective_image_weights_count_in_class_frequencies():
    labels = np.repeat(np.arange(3), 10).astype(np.int64)
    settings = ClassifierSettings(objective=ObjectiveSettings(class_weighted=True))
    data = Weighted(np.repeat([1.0, 0.5, 0.1], 10), labels=labels)
    terms = Objective(settings, data, device=torch.device("cpu"))
    pulls = []
    for k in range(3):
        own = torch.full((10,), k)
        batch = Batch(torch.rand(10, 1, 8, 8), own, weights=torch.from_numpy(data.weights[labels == k]))
        (value,) = terms(Fixed(torch.zeros(10, 3)), batch, torch.Generator()).values()
        pulls.append(value.item())
    assert pulls == pytest.approx([pulls[0]] * 3)


def test_objective_image_weights_multi_label():
    labels = (np.random.default_rng(0).random((30, 3)) < 0.4).astype(np.float32)
    data, targets = Weighted(np.linspace(0.1, 1.0, 30), labels=labels), torch.from_numpy(labels)
    logits = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    weights = torch.from_numpy(data.weights)
    terms = Objective(ClassifierSettings(), data, device=torch.device("cpu"))
    batch = Batch(torch.rand(30, 1, 8, 8), targets, weights=weights)
    (value,) = terms(Fixed(logits), batch, torch.Generator()).values()
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)
    assert value.item() == pytest.approx((losses * weights).mean().item())


def test_fit_weights_of_one_change_no_bit():
    plain, _ = fit(settings_of(**EVERYTHING))
    ones, _ = fit(settings_of(**EVERYTHING), data=Weighted(np.ones(30)))
    assert same(plain, ones)
    lower, told = fit(settings_of(**EVERYTHING), data=Weighted(np.where(np.arange(30) < 18, 1.0, 0.3)))
    assert not same(plain, lower)
    step, _, state = told.checkpoints[1]
    resumed, _ = fit(
        settings_of(**EVERYTHING),
        run=RecordingCallback({}, restored=state),
        data=Weighted(np.where(np.arange(30) < 18, 1.0, 0.3)),
    )
    assert same(lower, resumed), f"resumed at step {step}"


def test_fit_follows_the_images_of_weight():
    """Every image is there a second time under a wrong label, which hardly weighs."""
    right = Images()
    both = Weighted(np.repeat([1.0, 0.02], 30))
    both.labels = np.concatenate([right.labels, (right.labels + 1) % 3])
    both.pixels = np.concatenate([right.pixels, right.pixels])
    classifier, _ = fit(settings_of(epochs=12, load_best_model_at_end=False), data=both)
    found = classifier.predict(torch.from_numpy(right.pixels).float() / 255.0).argmax(1).numpy()
    assert (found == right.labels).mean() > 0.9


def test_fit_freeze_backbone_trains_the_last_layer_alone():
    classifier = make(settings_of(freeze_backbone=True))
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    fit(classifier.config, classifier=classifier)
    changed = {name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in changed if "body" in name} == {"network.body.head.1.weight", "network.body.head.1.bias"}
    classifier.network.body.head = nn.Identity()
    with pytest.raises(ConfigError, match="no linear last layer"):
        fit(classifier.config, classifier=classifier)
