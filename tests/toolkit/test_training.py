"""The training loop: exact resume, averaged weights, balance, accumulation, rates, and what it refuses."""

from __future__ import annotations

import math
import shutil
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medzoo.errors import ConfigError, ResourceError
from medzoo.protocols import CheckpointStore, TrainingCallback
from medzoo.toolkit.settings import TrainingSettings
from medzoo.toolkit.training.batches import epoch_order, vary
from medzoo.toolkit.training.loop import Discriminator, train


class Images:
    """Twenty 8-pixel images of three classes: twelve, five and three."""

    classes = ("a", "b", "c")

    def __init__(self):
        self.labels = np.repeat(np.arange(3), (12, 5, 3)).astype(np.int64)
        self.pixels = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return self.pixels[index]


class Log(TrainingCallback, CheckpointStore):
    """Records everything, can resume from a checkpoint, and can break off or end after a step."""

    def __init__(self, *, restored=None, stop=None, end=None):
        self.restored, self.stop, self.max_steps = restored, stop, end
        self.values, self.states, self.looks = [], {}, []

    def load_checkpoint(self):
        return self.restored

    def save_checkpoint(self, step, state):
        self.states[step] = {name: value.clone() for name, value in state.items()}

    def on_step_end(self, step, total, metrics):
        self.values.append((step, total, dict(metrics)))
        if step == self.stop:
            raise InterruptedError

    def on_preview(self, step, sample):
        self.looks.append((step, sample([1], torch.zeros(1, dtype=torch.int64))))


def make_network(dropout=0.0):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.SiLU(), nn.Dropout(dropout), nn.Conv2d(4, 1, 3, padding=1)
        )


def denoise(network, batch, random):
    """A loss that draws: remove noise from images."""
    noise = torch.randn(batch.images.shape, generator=random)
    return {"noise": (network(batch.images + noise) - noise).square().mean()}


def reproduce(network, batch, random):
    """A loss that draws nothing, in two terms."""
    error = network(batch.images) - batch.images
    return {"square": error.square().mean(), "tenth": 0.1 * error.abs().mean()}


def run(*, loss=denoise, log=None, seed=3, dropout=0.0, data=None, **changes):
    settings = {
        "epochs": 3,
        "batch_size": 8,
        "warmup_steps": 2,
        "mixed_precision": "fp32",
        "checkpointing_steps": 2,
        "learning_rate": 1e-2,
    }
    network, log = make_network(dropout), log or Log()
    train(
        network,
        loss,
        data or Images(),
        TrainingSettings(**{**settings, **changes}),
        seed=seed,
        callback=log,
        checkpoints=log,
        sample=lambda seeds, labels: torch.cat([weight.detach().flatten() for weight in network.parameters()]),
    )
    return torch.cat([weight.detach().flatten() for weight in network.parameters()]), log


def test_train_reports_steps_and_saves_checkpoints():
    weights, log = run(validation_epochs=2)
    assert [(step, total) for step, total, _ in log.values] == [(step, 9) for step in range(1, 10)]
    assert sorted(log.states) == [2, 4, 6, 8, 9]
    assert [step for step, _ in log.looks] == [6, 9]
    assert set(log.values[0][2]) == {"loss", "noise", "learning_rate"}
    assert log.values[-1][2]["loss"] < log.values[0][2]["loss"]
    assert not torch.equal(weights, run(seed=4)[0])


def test_train_loss_is_sum_of_terms():
    for _, _, values in run(loss=reproduce)[1].values:
        assert values["loss"] == pytest.approx(values["square"] + values["tenth"])


@pytest.mark.parametrize("stop", [3, 5, 8])
@pytest.mark.parametrize(
    "changes", [{}, {"dropout": 0.5}, {"gradient_accumulation_steps": 2}, {"class_balanced": False}], ids=str
)
def test_train_resumed_has_the_same_weights(stop, changes):
    weights, whole = run(**changes)
    broken = Log(stop=stop)
    with pytest.raises(InterruptedError):
        run(log=broken, **changes)
    newest = max(broken.states)
    assert newest == 2 * ((stop - 1) // 2)
    resumed, log = run(log=Log(restored=broken.states[newest]), **changes)
    assert torch.equal(resumed, weights)
    assert log.values == whole.values[newest:]
    assert log.states[9].keys() == whole.states[9].keys()
    assert all(torch.equal(value, whole.states[9][name]) for name, value in log.states[9].items())


def test_train_computes_with_cudnn_and_restores_it():
    seen = []

    def loss(network, batch, random):
        seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.deterministic))
        return reproduce(network, batch, random)

    before = torch.backends.cudnn.deterministic
    run(loss=loss, epochs=1)
    assert set(seen) == {(True, True)}
    assert torch.backends.cudnn.deterministic == before


def test_train_after_a_run_on_another_kind_of_device(monkeypatch):
    from accelerate import PartialState

    weights, _ = run(epochs=1)
    monkeypatch.setitem(PartialState._shared_state, "device", torch.device("cuda"))  # what a run on a GPU leaves
    assert torch.equal(run(epochs=1)[0], weights)


def test_train_finished_run_does_nothing():
    weights, whole = run()
    again, log = run(log=Log(restored=whole.states[9]))
    assert torch.equal(again, weights)
    assert log.values == []


@pytest.mark.parametrize("end", [1, 4, 8])
def test_train_max_steps_ends_with_averaged_weights(end):
    _, whole = run(checkpointing_steps=1, ema_decay=0.9)
    weights, log = run(log=Log(end=end), ema_decay=0.9)
    assert log.values == whole.values[:end], "the rate follows the whole schedule"
    average = [value.flatten() for name, value in whole.states[end].items() if name.startswith("average.")]
    assert torch.equal(weights, torch.cat(average))
    assert [step for step, _ in log.looks][-1] == end == max(log.states)
    restored, again = run(log=Log(restored=whole.states[end], end=end), ema_decay=0.9)
    assert torch.equal(restored, weights)
    assert again.values == []
    assert again.looks == []
    assert again.states == {}


def test_train_max_steps_beyond_end():
    weights, log = run(log=Log(end=1000))
    assert torch.equal(weights, run()[0])
    assert log.values[-1][:2] == (9, 9)


def test_train_checkpoint_stores_epoch():
    _, log = run()
    assert {step: state["epoch"].item() for step, state in log.states.items()} == {
        step: pytest.approx(step / 3) for step in (2, 4, 6, 8, 9)
    }


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_train_keeps_global_random_state(dropout):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, _ = run(dropout=dropout)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(first, run(dropout=dropout)[0])


def test_train_ema_weights_with_warmup_decay():
    weights, log = run(ema_decay=0.3, checkpointing_steps=1)
    names = [name for name in log.states[1] if name.startswith("network.")]
    for name in names:
        average = log.states[1][name]
        assert torch.equal(log.states[1][name.replace("network", "average")], average), "at first all of it is new"
        for step in range(2, 10):
            decay = min(0.3, step / (9 + step))
            average = decay * average + (1 - decay) * log.states[step][name]
            assert torch.allclose(log.states[step][name.replace("network", "average")], average, atol=1e-6)
    final = torch.cat([log.states[9][name.replace("network", "average")].flatten() for name in names])
    assert torch.equal(weights, final)
    assert not torch.equal(weights, torch.cat([log.states[9][name].flatten() for name in names]))


def test_train_preview_uses_averaged_weights():
    weights, log = run(validation_epochs=1, checkpointing_steps=1, ema_decay=0.9)
    for step, seen in log.looks:
        state = log.states[step]
        names = [name for name in state if name.startswith("average.")]
        assert torch.equal(seen, torch.cat([state[name].flatten() for name in names]))
    assert torch.equal(weights, run(validation_epochs=1000, ema_decay=0.9)[0])


def test_train_calls_weights_changed():
    events = []
    log = Log()
    log.on_preview = lambda step, sample: events.append("preview")
    settings = TrainingSettings(epochs=1, batch_size=20, mixed_precision="fp32")
    train(
        make_network(), denoise, Images(), settings, seed=0, callback=log, checkpoints=log,
        sample=lambda seeds, labels: None, weights_changed=lambda: events.append("changed"),
    )  # fmt: skip
    assert events == ["changed", "preview", "changed", "changed"]


def test_train_gradient_accumulation_matches_full_batch():
    still = {"loss": reproduce, "horizontal_flip": False, "color_jitter": 0.0}
    whole, log = run(**still)
    parts, parts_log = run(**still, gradient_accumulation_steps=4)
    assert torch.allclose(whole, parts, atol=1e-5)
    for (_, _, one), (_, _, other) in zip(log.values, parts_log.values, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


# Python 3.12 warns of any fork in a process with threads, and torch always has some.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_train_num_workers_keeps_weights():
    assert torch.equal(run(num_workers=2)[0], run(num_workers=0)[0])


def rates(**changes):
    return [values["learning_rate"] / 1e-2 for _, _, values in run(**changes)[1].values]


def test_train_learning_rate_warmup_and_cosine():
    found = rates(warmup_steps=2)
    assert found[:2] == pytest.approx([0.5, 1.0])
    assert found[2:] == pytest.approx([(1 + math.cos(math.pi * k / 7)) / 2 for k in range(1, 8)], abs=1e-6)
    assert found[-1] == pytest.approx(0.0, abs=1e-9)


def test_train_learning_rate_constant():
    assert rates(warmup_steps=4, lr_scheduler="constant") == pytest.approx([0.25, 0.5, 0.75] + [1.0] * 6)
    assert rates(warmup_steps=0, lr_scheduler="constant") == pytest.approx([1.0] * 9)


def test_train_warmup_longer_than_run():
    assert rates(warmup_steps=100) == pytest.approx([k / 9 for k in range(1, 10)])


def test_train_max_grad_norm_bounds_step():
    def steep(network, batch, random):
        return {"steep": 1e4 * network(batch.images).mean()}

    # Adam's first step has one size whatever the gradient's; its second moment tells what the gradient was
    norms = {}
    for clip in (0.0, 0.5):
        state = run(loss=steep, max_grad_norm=clip, checkpointing_steps=1, horizontal_flip=False, color_jitter=0.0)[
            1
        ].states[1]
        squares = [value.sum() for name, value in state.items() if name.endswith("exp_avg_sq")]
        norms[clip] = math.sqrt(sum(squares).item() / 0.001)
    assert norms[0.5] == pytest.approx(0.5, rel=1e-3)
    assert norms[0.0] > 100


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_train_non_finite_loss_raises_with_hint(value):
    def diverging(network, batch, random):
        return {"bad": network(batch.images).mean() * value}

    with pytest.raises(ResourceError, match=rf"loss is -?{value} at step 1; .*lower training.learning_rate"):
        run(loss=diverging)


def test_train_batch_not_divisible_raises():
    with pytest.raises(ConfigError, match=r"training.batch_size = 8 is not divisible by 3"):
        run(gradient_accumulation_steps=3)


def test_train_fp16_without_gpu_raises():
    with pytest.raises(ResourceError, match="fp16 needs a GPU"):
        run(mixed_precision="fp16")


def test_train_bf16_keeps_float32_weights():
    weights, log = run(mixed_precision="bf16")
    assert weights.dtype == torch.float32
    assert all(value.dtype == torch.float32 for name, value in log.states[9].items() if name != "step")
    assert torch.allclose(weights, run()[0], atol=0.05)
    assert not torch.equal(weights, run()[0])


def test_epoch_order_balanced_draws_classes_equally():
    labels = torch.tensor([0] * 90 + [1] * 9 + [2])
    order = epoch_order(labels, count=30_000, balanced=True, seed=0, epoch=0)
    counts = torch.bincount(labels[order])
    assert (counts - 10_000).abs().max() < 400  # five standard deviations of 82
    images = torch.bincount(order, minlength=100)
    assert images[:90].min() > 60, "every image of a class is as likely as the others"
    assert images[:90].max() < 165


def test_epoch_order_unbalanced_visits_each_image():
    labels = torch.tensor([0] * 9 + [1])
    order = epoch_order(labels, count=24, balanced=False, seed=0, epoch=0)
    assert sorted(order[:10].tolist()) == sorted(order[10:20].tolist()) == list(range(10))
    assert len(set(order[20:].tolist())) == 4
    assert order[:10].tolist() != order[10:20].tolist()


@pytest.mark.parametrize("balanced", [True, False])
def test_epoch_order_depends_on_seed_and_epoch(balanced):
    labels = torch.arange(50) % 5

    def order(seed, epoch):
        return epoch_order(labels, count=50, balanced=balanced, seed=seed, epoch=epoch).tolist()

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_epoch_order_multi_label_weighs_by_rarest_class():
    hot = torch.zeros(100, 3)
    hot[:, 0] = 1.0
    hot[:5, 1] = 1.0
    hot[99] = 0.0
    drawn = torch.bincount(epoch_order(hot, count=20_000, balanced=True, seed=0, epoch=0), minlength=100).double()
    assert (drawn[:5].mean() / drawn[5:99].mean()).item() == pytest.approx(20 * 0.99, rel=0.1)
    assert (drawn[99] / drawn[5:99].mean()).item() == pytest.approx(1.0, rel=0.5)


def picture(count=400):
    return torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)).expand(count, -1, -1, -1) * 0.6 + 0.2


def test_vary_flips_half_of_images():
    images = picture()
    varied = vary(images, flip=True, jitter=0.0, random=torch.Generator().manual_seed(0))
    mirrored = (varied == images.flip(-1)).flatten(1).all(dim=1)
    assert (mirrored | (varied == images).flatten(1).all(dim=1)).all()
    assert 150 < mirrored.sum() < 250


def test_vary_color_jitter_bounds():
    images = picture()
    varied = vary(images, flip=False, jitter=0.1, random=torch.Generator().manual_seed(0))
    brightness = varied.mean(dim=(1, 2, 3)) / images.mean(dim=(1, 2, 3))
    contrast = varied.std(dim=(1, 2, 3)) / images.std(dim=(1, 2, 3))
    for change in (brightness, contrast):
        assert 0.899 < change.min() < 0.91
        assert 1.09 < change.max() < 1.101
    assert abs(np.corrcoef(brightness, contrast)[0, 1]) < 0.2
    bright = vary(torch.ones(50, 1, 4, 4), flip=False, jitter=1.0, random=torch.Generator().manual_seed(0))
    assert 0.0 <= bright.min() < bright.max() == 1.0


def test_vary_off_is_identity():
    images = picture(3)
    assert torch.equal(vary(images, flip=False, jitter=0.0, random=torch.Generator()), images)


def test_train_compiled_matches_plain():
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("compiling needs a C++ compiler")
    plain, compiled = run(epochs=1)[0], run(epochs=1, compile=True)[0]
    assert torch.allclose(plain, compiled, atol=1e-4)


def test_train_compiles_for_the_shapes_of_its_batches(monkeypatch):
    # For any shape, as torch would after a first stage of another shape, the U-Net of 16 x 16 latents fails to compile.
    monkeypatch.setenv("CXX", sys.executable)  # it is only looked for
    asked = []
    monkeypatch.setattr(torch, "compile", lambda network, **options: asked.append(options) or network)
    run(epochs=1, compile=True)
    assert [options["dynamic"] for options in asked] == [False]


def test_train_compile_without_compiler_raises(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ResourceError, match="needs a C\\+\\+ compiler, and no-such-compiler is not found"):
        run(compile=True)


class Vectors(Images):
    """Float data, as latents are."""

    def __getitem__(self, index):
        return super().__getitem__(index).astype(np.float32) - 300.0


def test_train_float_data_reaches_loss_unchanged():
    def look(network, batch, random):
        assert batch.images.max() < 0.0
        assert (batch.images == batch.images.round()).all()
        return reproduce(network, batch, random)

    run(loss=look, data=Vectors(), epochs=1, color_jitter=0.5, horizontal_flip=True)


def discriminate(discriminator, network, batch, random):
    """Tell real images from what the network makes of noise."""
    with torch.no_grad():
        made = network(torch.randn(batch.images.shape, generator=random))
    return {"real": F.relu(1.0 - discriminator(batch.images)).mean(), "made": F.relu(1.0 + discriminator(made)).mean()}


def deceive(network, discriminator, batch, random):
    """Make of noise what passes for real."""
    return {"deceit": -discriminator(network(torch.randn(batch.images.shape, generator=random))).mean()}


def run_against(*, log=None, rate=1e-2, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        discriminator = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.Dropout(0.2), nn.Conv2d(4, 1, 3)
        )
    network, log = make_network(), log or Log()
    settings = {
        "epochs": 3,
        "batch_size": 8,
        "warmup_steps": 2,
        "mixed_precision": "fp32",
        "checkpointing_steps": 2,
        "learning_rate": 1e-2,
    }
    train(
        network,
        deceive,
        Images(),
        TrainingSettings(**{**settings, **changes}),
        seed=3,
        callback=log,
        checkpoints=log,
        sample=lambda seeds, labels: torch.zeros(1),
        discriminator=Discriminator(network=discriminator, loss=discriminate, learning_rate=rate),
    )
    return torch.cat([p.detach().flatten() for p in (*network.parameters(), *discriminator.parameters())]), log


def test_train_discriminator_alternates_and_reports_both_losses():
    weights, log = run_against()
    values = log.values[-1][2]
    assert set(values) == {"loss", "deceit", "adversary", "real", "made", "learning_rate"}
    assert values["loss"] == pytest.approx(values["deceit"])
    assert values["adversary"] == pytest.approx(values["real"] + values["made"])
    idle, _ = run_against(rate=0.0)
    changed = (weights != idle).float()
    assert changed.mean() > 0.9  # the discriminator's rate moves both: its own weights, and the network's through it
    assert all(p.requires_grad for p in make_network().parameters())


@pytest.mark.parametrize("stop", [3, 8])
@pytest.mark.parametrize("changes", [{}, {"gradient_accumulation_steps": 2}], ids=str)
def test_train_discriminator_resumed_has_the_same_weights(stop, changes):
    weights, whole = run_against(**changes)
    broken = Log(stop=stop)
    with pytest.raises(InterruptedError):
        run_against(log=broken, **changes)
    newest = max(broken.states)
    resumed, log = run_against(log=Log(restored=broken.states[newest]), **changes)
    assert torch.equal(resumed, weights)
    assert log.values == whole.values[newest:]


def test_train_discriminator_gradients_are_separate():
    """In the network's turn the discriminator's weights gather no gradient."""
    seen = []

    def watch(network, discriminator, batch, random):
        seen.append([p.requires_grad for p in discriminator.parameters()])
        return deceive(network, discriminator, batch, random)

    discriminator = nn.Conv2d(1, 1, 3)
    train(
        make_network(),
        watch,
        Images(),
        TrainingSettings(epochs=1, batch_size=8, mixed_precision="fp32"),
        seed=0,
        callback=Log(),
        checkpoints=Log(),
        sample=lambda seeds, labels: torch.zeros(1),
        discriminator=Discriminator(network=discriminator, loss=discriminate, learning_rate=1e-3),
    )
    assert seen
    assert not any(flag for flags in seen for flag in flags)
    assert all(p.requires_grad for p in discriminator.parameters())


def test_train_monitor_sees_averaged_weights_before_preview():
    network, log, seen = make_network(), Log(), []
    train(
        network,
        reproduce,
        Images(),
        TrainingSettings(
            epochs=2, batch_size=8, mixed_precision="fp32", validation_epochs=1, ema_decay=0.5, learning_rate=1e-2
        ),
        seed=0,
        callback=log,
        checkpoints=log,
        sample=lambda seeds, labels: network[0].weight.detach().clone(),
        monitor=lambda step: seen.append((step, network[0].weight.detach().clone())),
    )
    assert [step for step, _ in seen] == [step for step, _ in log.looks]
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(seen, log.looks, strict=True))


@pytest.mark.parametrize(
    ("step", "saved", "last"),
    [
        (9, "the last good checkpoint is of step 8", 8),  # its loss is still finite
        (4, "the last good checkpoint is of step 2", 2),
        (2, "no checkpoint was saved before", None),
    ],
)
def test_train_never_saves_weights_that_are_not_finite(step, saved, last):
    def diverging(network, batch, random):
        value = network(batch.images).square().mean()
        return {"loss of 1": value + (value * 0.0).sqrt() if batch.step == step - 1 else value}

    log = Log()
    told = rf"training diverged: the weights \S+ are not finite at step {step}; {saved} .*learning_rate \(now 0.01\)"
    with pytest.raises(ResourceError, match=told):
        run(loss=diverging, log=log, validation_epochs=1)
    assert max(log.states, default=None) == last
    assert all(torch.isfinite(value).all() for state in log.states.values() for value in state.values())
    assert all(torch.isfinite(images).all() for _, images in log.looks)


def test_train_names_the_checkpoint_it_resumed_from():
    log = Log(end=4)
    run(log=log)

    def diverging(network, batch, random):
        return {"loss": network(batch.images).mean() * math.nan}

    with pytest.raises(ResourceError, match=r"loss is nan at step 5; the last good checkpoint is of step 4"):
        run(loss=diverging, log=Log(restored=log.states[4]))


def test_train_whose_samples_are_not_finite():
    network, log = make_network(), Log()
    settings = TrainingSettings(epochs=2, batch_size=8, checkpointing_steps=2, validation_epochs=1)
    told = "sampled images are not finite at step 3; the last good checkpoint is of step 2"
    with pytest.raises(ResourceError, match=told):
        train(
            network,
            denoise,
            Images(),
            settings,
            seed=0,
            callback=log,
            checkpoints=log,
            sample=lambda seeds, labels: torch.full((len(seeds), 1, 8, 8), math.nan),
        )
    assert sorted(log.states) == [2]
