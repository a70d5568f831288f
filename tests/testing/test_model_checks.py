"""The conformance kit: an honest generator passes, and each broken promise fails the check that is named for it."""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import medzoo
from medzoo import GeneratorSpec
from medzoo.config import setting
from medzoo.plugins.lookup import load_plugins
from medzoo.testing import assert_generator, check_generator, monitor
from medzoo.toolkit.settings import ImageSettings
from medzoo.toolkit.validation import check_init_images, check_not_empty, check_sample_request


@dataclass(frozen=True, kw_only=True)
class GrainConfig:
    """Settings of the generators below."""

    image: ImageSettings = ImageSettings()
    epochs: int = setting(3, "steps of `fit`")


class Grain(nn.Module):
    """An honest generator: noise from the seed around the mean brightness of the class, learned step by step."""

    def __init__(self, config, image, device):
        super().__init__()
        self.config = config
        self.image = image
        self.brightness = nn.Parameter(torch.rand(len(image.classes), device=device))

    def fit(self, data, *, seed, callback, checkpoints):
        check_not_empty(data)
        start = 0
        if (state := checkpoints.load_checkpoint()) is not None:
            start = int(state["step"])
            self.load_state_dict({"brightness": state["brightness"]})
        pixels = torch.stack([torch.from_numpy(data[k]).float().mean() / 255.0 for k in range(len(data))])
        means = self.learned(pixels, torch.from_numpy(data.labels), callback, checkpoints)
        asked = callback.max_steps
        end = self.config.epochs if asked is None else min(asked, self.config.epochs)
        for step in range(start + 1, end + 1):
            with torch.no_grad():
                self.brightness += self.draw(seed, step) * (means - self.brightness)
            loss = (means - self.brightness.detach()).square().mean()
            callback.on_step_end(step, self.config.epochs, {"loss": float(loss)})
            checkpoints.save_checkpoint(step, {"step": torch.tensor(step), "brightness": self.brightness.detach()})
        callback.on_preview(self.config.epochs, self.sample)

    def learned(self, pixels, labels, callback, checkpoints):
        hot = labels if self.image.multi_label else nn.functional.one_hot(labels)
        return torch.stack([pixels[column > 0].mean() for column in hot.T])

    def draw(self, seed, step):
        return torch.rand((), generator=torch.Generator().manual_seed(seed + step))

    @torch.inference_mode()
    def sample(self, seeds, labels, *, init_images=None):
        check_sample_request(self.image, seeds, labels)
        return torch.stack([self.one(seed, label) for seed, label in zip(seeds, labels, strict=True)])

    def one(self, seed, label):
        shape = (self.image.channels, self.image.size, self.image.size)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        return (self.light(label) + 0.1 * noise).clamp(0.0, 1.0)

    def light(self, label):
        if not self.image.multi_label:
            return self.brightness[label]
        return self.brightness @ label / label.sum().clamp(min=1.0)


@pytest.fixture
def presets(tmp_path):
    (tmp_path / "tiny.toml").write_text("[image]\nsize = 8\n")
    (tmp_path / "default.toml").write_text("")
    return tmp_path


@pytest.fixture
def spec_of(presets):
    def make(build, **changes):
        fields = {
            "contract": 2,
            "name": "grain",
            "summary": "noise",
            "config": GrainConfig,
            "presets": presets,
            "build": build,
        }
        return GeneratorSpec(**{**fields, **changes})

    return make


def failures(spec):
    return {result.name: result.detail for result in check_generator(spec) if not result.passed}


def test_check_generator_valid_passes(spec_of):
    results = check_generator(spec_of(Grain))
    assert {result.name: result.detail for result in results if not result.passed} == {}
    assert [result.name for result in results] == [
        "spec", "preset", "build", "fit", "fit repeats", "fit resumes", "fit on nothing", "weights", "images",
        "seeds repeat", "seeds differ", "rebatching", "labels", "bad requests", "class conditioning", "save and load",
        "fit stops", "files", "network", "stdout", "time", "memory", "global random state",
    ]  # fmt: skip
    assert all(result.detail and "\n" not in result.detail and result.seconds >= 0 for result in results)
    assert_generator(spec_of(Grain))


class TooFew(Grain):
    def sample(self, seeds, labels, *, init_images=None):
        return super().sample(seeds, labels)[: max(len(seeds) - 1, 1)]


class ThreeChannels(Grain):
    def one(self, seed, label):
        return super().one(seed, label).expand(3, -1, -1)


class Double(Grain):
    def one(self, seed, label):
        return super().one(seed, label).double()


class MinusOneToOne(Grain):
    def one(self, seed, label):
        return super().one(seed, label) * 2.0 - 1.0


class NotFinite(Grain):
    def one(self, seed, label):
        return super().one(seed, label) / 0.0


class Arrays(Grain):
    def sample(self, seeds, labels, *, init_images=None):
        return super().sample(seeds, labels).numpy()


class WithGradients(Grain):
    def sample(self, seeds, labels, *, init_images=None):
        with torch.inference_mode(False):
            return torch.stack([self.one(seed, label) for seed, label in zip(seeds, labels, strict=True)])


class Raises(Grain):
    def one(self, seed, label):
        raise ValueError("no pictures\ntoday")


class ChangesLabels(Grain):
    def sample(self, seeds, labels, *, init_images=None):
        images = super().sample(seeds, labels)
        labels.zero_()
        return images


IMAGES = {
    TooFew: "expected images of shape (8, 1, 8, 8), got (7, 1, 8, 8)",
    ThreeChannels: "expected images of shape (8, 1, 8, 8), got (8, 3, 8, 8)",
    Double: "expected float32 images, got torch.float64",
    MinusOneToOne: "expected pixels in [0, 1], got -",
    NotFinite: "expected finite images",
    Arrays: "expected a tensor of images, got ndarray",
    WithGradients: "expected images without gradients",
    Raises: "it raised ValueError: no pictures",
    ChangesLabels: "sample changed the labels it was given",
}


@pytest.mark.parametrize("broken", IMAGES, ids=lambda kind: kind.__name__)
def test_check_generator_invalid_images_stop_the_checks(broken, spec_of):
    results = check_generator(spec_of(broken))
    assert results[-1].name == "images"
    assert not results[-1].passed
    assert results[-1].detail.startswith(IMAGES[broken])


class GlobalSampling(Grain):
    def one(self, seed, label):
        return (super().one(seed, label) + 0.1 * torch.rand(1)).clamp(0.0, 1.0)


class OneImage(Grain):
    def one(self, seed, label):
        return super().one(0, label)


class BatchMean(Grain):
    def sample(self, seeds, labels, *, init_images=None):
        images = super().sample(seeds, labels)
        return (images + 0.1 * (images.mean() - 0.5)).clamp(0.0, 1.0)


class FirstSeed(Grain):
    @torch.inference_mode()
    def sample(self, seeds, labels, *, init_images=None):
        check_sample_request(self.image, seeds, labels)
        grain = torch.Generator().manual_seed(seeds[0])
        noise = torch.rand(len(seeds), 1, self.image.size, self.image.size, generator=grain)
        return 0.9 * self.brightness[labels].view(-1, 1, 1, 1) + 0.1 * noise


class FirstLabel(Grain):
    def sample(self, seeds, labels, *, init_images=None):
        check_sample_request(self.image, seeds, labels)
        return super().sample(seeds, labels[:1].expand(len(seeds)))


class ForgetsWeights(Grain):
    def fit(self, data, *, seed, callback, checkpoints):
        super().fit(data, seed=seed, callback=callback, checkpoints=checkpoints)
        self.extra = 0.05

    def one(self, seed, label):
        return (super().one(seed, label) + getattr(self, "extra", 0.0)).clamp(0.0, 1.0)


class LoadsNothing(Grain):
    def load_state_dict(self, state):
        if set(state) == {"brightness"} and not self.brightness.requires_grad:
            super().load_state_dict(state)


class SetsSeed(Grain):
    def one(self, seed, label):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        return super().one(seed, label)


SAMPLING = {
    GlobalSampling: {"seeds repeat", "rebatching", "labels", "save and load", "global random state"},
    OneImage: {"seeds differ"},
    BatchMean: {"rebatching", "labels"},
    FirstSeed: {"rebatching"},
    FirstLabel: {"rebatching", "labels"},
    ForgetsWeights: {"save and load"},
    LoadsNothing: {"save and load", "fit resumes", "fit stops"},
    SetsSeed: {"global random state"},
}


@pytest.mark.parametrize("broken", SAMPLING, ids=lambda kind: kind.__name__)
def test_check_generator_sampling_violation_fails_its_check(broken, spec_of):
    assert set(failures(spec_of(broken))) == SAMPLING[broken]


def test_check_generator_global_random_state_names_library(spec_of):
    detail = failures(spec_of(SetsSeed))["global random state"]
    assert detail.startswith("expected random draws from the seeds alone, but global state changed: numpy in fit")
    assert {"numpy in sample", "random in sample", "torch in sample"} < set(detail.partition(": ")[2].split(", "))


class GlobalFit(Grain):
    def draw(self, seed, step):
        return torch.rand(())


class NoProgress(Grain):
    def fit(self, data, *, seed, callback, checkpoints):
        pass


class NotANumber(Grain):
    def fit(self, data, *, seed, callback, checkpoints):
        callback.on_step_end(1, 1, {"loss": float("nan")})


class StopsShort(Grain):
    def fit(self, data, *, seed, callback, checkpoints):
        callback.on_step_end(1, 2, {"loss": 0.5})


class StartsAnew(Grain):
    def fit(self, data, *, seed, callback, checkpoints):
        checkpoints.load_checkpoint()
        checkpoints.load_checkpoint = lambda: None
        super().fit(data, seed=seed, callback=callback, checkpoints=checkpoints)


class NeverStops(Grain):
    def fit(self, data, *, seed, callback, checkpoints):
        callback.max_steps = None
        super().fit(data, seed=seed, callback=callback, checkpoints=checkpoints)


class StopsElsewhere(Grain):
    def fit(self, data, *, seed, callback, checkpoints):
        if (asked := callback.max_steps) is not None and checkpoints.load_checkpoint() is None:
            self.brightness.data += 0.1 * asked
        super().fit(data, seed=seed, callback=callback, checkpoints=checkpoints)


class ResumesElsewhere(Grain):
    def fit(self, data, *, seed, callback, checkpoints):
        if (state := checkpoints.load_checkpoint()) is not None:
            moved = {"step": state["step"], "brightness": state["brightness"] + 0.5}
            checkpoints.load_checkpoint = lambda: moved
        super().fit(data, seed=seed, callback=callback, checkpoints=checkpoints)


class BadCheckpoint(Grain):
    def fit(self, data, *, seed, callback, checkpoints):
        super().fit(data, seed=seed, callback=callback, checkpoints=checkpoints)
        checkpoints.save_checkpoint(3, {"step": 3})


class BadPreview(Grain):
    def fit(self, data, *, seed, callback, checkpoints):
        super().fit(data, seed=seed, callback=callback, checkpoints=checkpoints)
        callback.on_preview(3, lambda seeds, labels: torch.zeros(len(seeds), 1, 4, 4))


class Tells(Grain):
    """Says what it can of its fit, and keeps what it computed."""

    def learned(self, pixels, labels, callback, checkpoints):
        callback.log_metadata("reconstruction", {"psnr": 31.5, "images": 24, "extractor": "none"})
        callback.warn("it collapsed")
        digest = hashlib.sha256(pixels.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
        kept = checkpoints.cached(digest, lambda: {"means": Grain.learned(self, pixels, labels, callback, checkpoints)})
        assert checkpoints.cached(digest, lambda: pytest.fail("it was made before"))["means"].equal(kept["means"])
        return kept["means"]


class NotesNoNumber(Tells):
    def learned(self, pixels, labels, callback, checkpoints):
        callback.log_metadata("reconstruction", {"psnr": float("inf")})
        return super().learned(pixels, labels, callback, checkpoints)


class NotesATensor(Tells):
    def learned(self, pixels, labels, callback, checkpoints):
        callback.log_metadata("reconstruction", {"psnr": pixels.mean()})
        return super().learned(pixels, labels, callback, checkpoints)


class WarnsAtLength(Tells):
    def learned(self, pixels, labels, callback, checkpoints):
        callback.warn("it\ncollapsed")
        return super().learned(pixels, labels, callback, checkpoints)


class KeepsUnderAPath(Tells):
    def learned(self, pixels, labels, callback, checkpoints):
        return checkpoints.cached("latents/1", lambda: {"means": pixels[:3]})["means"]


class KeepsNumbers(Tells):
    def learned(self, pixels, labels, callback, checkpoints):
        return checkpoints.cached("means", lambda: {"means": 3})["means"]


class KeepsOneKeyForAll(Tells):
    def learned(self, pixels, labels, callback, checkpoints):
        return checkpoints.cached("means", lambda: {"means": torch.rand(3)})["means"]


FITTING = {
    GlobalFit: ("fit repeats", "1 of 1 weights differ in a second fit from the same seed: brightness"),
    NoProgress: ("fit", "fit made no call of callback.on_step_end"),
    NotANumber: ("fit", "expected finite loss values, got loss = nan"),
    StopsShort: ("fit", "expected the last callback.on_step_end to be step 2 of 2, got 1 of 2"),
    StartsAnew: ("fit resumes", "expected a restored fit to go on at step 2, its first step was 1"),
    NeverStops: ("fit stops", "expected a fit asked to stop after step 1 to end there, its last step was 3"),
    StopsElsewhere: (
        "fit stops",
        "1 of 1 weights differ in a fit restored at step 1 from one stopped there: brightness",
    ),
    ResumesElsewhere: ("fit resumes", "1 of 1 weights differ in a fit resumed at step 1: brightness"),
    BadCheckpoint: ("fit", "expected tensors in a checkpoint, but 'step' is not one"),
    BadPreview: ("fit", "expected images of shape (3, 1, 8, 8), got (3, 1, 4, 4)"),
    NotesNoNumber: ("fit", "expected texts and finite numbers in the metadata 'reconstruction', but 'psnr' is neither"),
    NotesATensor: ("fit", "expected texts and finite numbers in the metadata 'reconstruction', but 'psnr' is neither"),
    WarnsAtLength: ("fit", "expected a warning of one line, got 'it\\ncollapsed'"),
    KeepsUnderAPath: ("fit", "expected a key of letters, digits, '-' and '_', got 'latents/1'"),
    KeepsNumbers: ("fit", "expected tensors in what is cached, but 'means' is not one"),
    KeepsOneKeyForAll: ("fit repeats", "expected a key that distinguishes tensors, 'means' stood for others before"),
}


@pytest.mark.parametrize("broken", FITTING, ids=lambda kind: kind.__name__)
def test_check_generator_fit_violation_fails_its_check(broken, spec_of):
    check, detail = FITTING[broken]
    assert failures(spec_of(broken))[check] == detail


class HalfWeights(Grain):
    def __init__(self, config, image, device):
        super().__init__(config, image, device)
        self.half()


class GrowsKeys(Grain):
    def fit(self, data, *, seed, callback, checkpoints):
        super().fit(data, seed=seed, callback=callback, checkpoints=checkpoints)
        self.register_buffer("seen", torch.ones(1))


class Unrepeatable(Grain):
    built = 0

    def __init__(self, config, image, device):
        super().__init__(config, image, device)
        Unrepeatable.built += 1
        self.brightness.data += Unrepeatable.built


def test_check_generator_weights_dtype_and_names(spec_of):
    assert (
        failures(spec_of(HalfWeights))["weights"]
        == "expected float32 weights or whole numbers, 'brightness' is torch.float16"
    )
    assert failures(spec_of(GrowsKeys))["weights"] == "state_dict has other keys than in a fresh model: seen"


def test_check_generator_invalid_build_stops_the_checks(spec_of):
    assert set(failures(spec_of(Unrepeatable))) == {"build"}
    assert "has no 'fit'" in failures(spec_of(lambda config, image, device: nn.Identity()))["build"]
    made = [result.name for result in check_generator(spec_of(lambda config, image, device: 1 / 0))]
    assert made == ["spec", "preset", "build"]
    assert failures(spec_of(lambda config, image, device: 1 / 0))["build"].startswith("it raised ZeroDivisionError")


def test_check_generator_changed_image_spec_fails(spec_of):
    def build(config, image, device):
        generator = Grain(config, image, device)
        generator.image = None
        return generator

    assert failures(spec_of(build))["build"] == "expected the ImageSpec it was built for, its image is None"


def test_check_generator_missing_or_invalid_preset_fails(spec_of, presets):
    (presets / "tiny.toml").rename(presets / "small.toml")
    assert failures(spec_of(Grain)) == {"preset": "expected a preset tiny.toml for tests, found: default, small"}
    (presets / "tiny.toml").write_text("epoch = 3\n")
    assert "unknown setting 'epoch'" in failures(spec_of(Grain))["preset"]


def test_check_generator_settings_without_image_size_fail(spec_of, presets):
    @dataclass(frozen=True, kw_only=True)
    class Bare:
        epochs: int = 1

    (presets / "tiny.toml").write_text("epochs = 1\n")
    detail = failures(spec_of(Grain, config=Bare))["preset"]
    assert "Bare has no setting image.size" in detail


class ShowsTokens(Grain):
    """Tells its brightness twice as the tokens of a label."""

    no_label = None

    def label_tokens(self, labels):
        return self.brightness.detach()[labels].view(-1, 1, 1).repeat(1, 2, 1)


class ShowsAttention(ShowsTokens):
    def attention_maps(self, seeds, labels):
        return self.sample(seeds, labels), torch.full((len(seeds), 2, 4, 4), 0.5)


class TokensOfTheBatch(ShowsTokens):
    def label_tokens(self, labels):
        return super().label_tokens(labels[:1].expand(len(labels)))


class FlatTokens(ShowsTokens):
    def label_tokens(self, labels):
        return super().label_tokens(labels)[:, 0]


class SameTokens(ShowsTokens):
    def label_tokens(self, labels):
        return torch.ones(len(labels), 2, 1)


class OtherImages(ShowsAttention):
    def attention_maps(self, seeds, labels):
        images, maps = super().attention_maps(seeds, labels)
        return images.flip(0), maps


class ChangesItself(ShowsAttention):
    def attention_maps(self, seeds, labels):
        shown = super().attention_maps(seeds, labels)
        self.brightness.data += 0.1
        return shown


class AttendsTooMuch(ShowsAttention):
    def attention_maps(self, seeds, labels):
        images, maps = super().attention_maps(seeds, labels)
        return images, 2 * maps


class MapsOneToken(ShowsAttention):
    def attention_maps(self, seeds, labels):
        images, _ = super().attention_maps(seeds, labels)
        return images, torch.ones(len(images), 1, 4, 4)


SHOWING = {
    TokensOfTheBatch: ("label tokens", "the tokens of a label depend on the labels beside it"),
    FlatTokens: ("label tokens", "expected tokens of shape (3, 'tokens', 'width'), got (3, 1)"),
    SameTokens: ("label tokens", "expected other tokens for another label, two are equal"),
    OtherImages: ("attention maps", "expected the images that sample gives"),
    ChangesItself: ("attention maps", "sample gives other images afterwards"),
    AttendsTooMuch: ("attention maps", "expected maps that sum to 1 over tokens, they are off by 1"),
    MapsOneToken: ("attention maps", "expected maps of shape (8, 2, 'h', 'w'), got (8, 1, 4, 4)"),
}


@pytest.mark.parametrize("broken", SHOWING, ids=lambda kind: kind.__name__)
def test_check_generator_wrong_label_tokens_or_attention_maps_fail(broken, spec_of):
    assert failures(spec_of(broken)) == dict([SHOWING[broken]])


def test_check_generator_label_tokens_only_where_offered(spec_of):
    names = [
        {result.name for result in check_generator(spec_of(kind))} for kind in (Grain, ShowsTokens, ShowsAttention)
    ]
    assert names[1] - names[0] == {"label tokens"}
    assert names[2] - names[1] == {"attention maps"}
    assert failures(spec_of(ShowsAttention)) == {}


class Varies(Grain):
    """Adds grain to its init_images."""

    def sample(self, seeds, labels, *, init_images=None):
        init_images = check_init_images(self.image, seeds, labels, init_images)
        images = super().sample(seeds, labels)
        return (0.9 * init_images + 0.1 * images).clamp(0.0, 1.0)


class IgnoresSources(Varies):
    def sample(self, seeds, labels, *, init_images=None):
        check_init_images(self.image, seeds, labels, init_images)
        return Grain.sample(self, seeds, labels)


class MixesSources(Varies):
    def sample(self, seeds, labels, *, init_images=None):
        check_init_images(self.image, seeds, labels, init_images)
        return super().sample(seeds, labels, init_images=(init_images + init_images.mean(dim=0)) / 2.0)


class ChangesSources(Varies):
    def sample(self, seeds, labels, *, init_images=None):
        images = super().sample(seeds, labels, init_images=init_images)
        init_images.mul_(0.5)
        return images


class SameMemory(Varies):
    def sample(self, seeds, labels, *, init_images=None):
        return init_images


def test_check_generator_init_images(spec_of):
    def found(build):
        return failures(spec_of(build, needs_init_images=True, trainable=False))

    names = [r.name for r in check_generator(spec_of(Varies, needs_init_images=True, trainable=False)) if r.passed]
    assert {"init_images", "rebatching"} <= set(names)
    assert not {"fit", "fit repeats", "fit resumes", "seeds differ"} & set(names)
    assert found(Varies) == {}
    assert found(IgnoresSources) == {"init_images": "an image stayed the same when its source was inverted"}
    assert set(found(MixesSources)) == {"rebatching", "init_images"}
    assert found(ChangesSources) == {"images": "sample changed the init_images it was given"}
    assert found(SameMemory) == {"images": "expected new images, sample gave the init_images' own memory back"}


@dataclass(frozen=True, kw_only=True)
class StrengthSettings:
    """Sampling of the generators below."""

    strength: float = setting(1.0, "share of the grain; below 1, over a real image", above=0.0, max=1.0)


@dataclass(frozen=True, kw_only=True)
class StrengthConfig(GrainConfig):
    """Settings of generators that vary images by a strength."""

    sampling: StrengthSettings = StrengthSettings()


class ByStrength(Grain):
    """Mixes its init_images with its own images by the strength."""

    def sample(self, seeds, labels, *, init_images=None):
        images, strength = super().sample(seeds, labels), self.config.sampling.strength
        if strength == 1.0:
            return images
        init_images = check_init_images(self.image, seeds, labels, init_images)
        return self.mixed(images, init_images, strength)

    def mixed(self, images, init_images, strength):
        return strength * images + (1.0 - strength) * init_images


class UsesSourcesAlways(ByStrength):
    def sample(self, seeds, labels, *, init_images=None):
        images = super().sample(seeds, labels, init_images=init_images)
        return images if init_images is None else 0.5 * images + 0.5 * init_images


class NoSourceIsFine(ByStrength):
    def sample(self, seeds, labels, *, init_images=None):
        return (
            Grain.sample(self, seeds, labels)
            if init_images is None
            else super().sample(seeds, labels, init_images=init_images)
        )


class StrengthBackwards(ByStrength):
    def mixed(self, images, init_images, strength):
        return super().mixed(images, init_images, 1.0 - strength)


class MixesSourcesByStrength(ByStrength):
    def mixed(self, images, init_images, strength):
        return super().mixed(images, (init_images + init_images.mean(dim=0)) / 2.0, strength)


class StrengthOfGlobalDraws(ByStrength):
    def mixed(self, images, init_images, strength):
        return super().mixed(images, init_images, strength * float(0.9 + 0.1 * torch.rand(())))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (UsesSourcesAlways, "expected the images of no strength at strength 1, whatever the init_images"),
        (NoSourceIsFine, "no init_images at strength 0.5"),
        (StrengthBackwards, "expected images nearer to their sources at strength 0.1 than at 0.9"),
        (MixesSourcesByStrength, "at strength 0.5, 1 + 7 instead of 8 at once"),
        (StrengthOfGlobalDraws, "the same seeds and init_images gave other images at strength 0.5"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_check_generator_bad_variations(spec_of, build, message):
    found = failures(spec_of(build, contract=3, config=StrengthConfig, varies_images=True))
    assert message in found["variations"]


def test_check_generator_variations(spec_of):
    spec = spec_of(ByStrength, contract=3, config=StrengthConfig, varies_images=True)
    results = {result.name: result for result in check_generator(spec)}
    assert all(result.passed for result in results.values())
    assert re.match(
        r"strength 1 is as none; from plain .* 0\.\d+ at 0\.1, 0\.\d+ at 0\.9", results["variations"].detail
    )
    without = failures(spec_of(Grain, contract=3, varies_images=True))
    assert without["variations"] == "expected a setting sampling.strength with the default 1.0, found none"


def test_check_generator_fit_counts_callback_calls(spec_of):
    results = {result.name: result for result in check_generator(spec_of(Tells))}
    assert all(result.passed for result in results.values())
    assert results["fit"].detail == "3 steps, 3 checkpoints, 1 previews, 1 notes, 1 warnings"


class LearnsUnlabeled(Grain):
    """Leaves images of the null label out."""

    def learned(self, pixels, labels, callback, checkpoints):
        known = (labels >= 0).all(dim=1) if self.image.multi_label else labels < len(self.image.classes)
        return super().learned(pixels[known], labels[known], callback, checkpoints)


class BreaksOnUnlabeled(LearnsUnlabeled):
    def learned(self, pixels, labels, callback, checkpoints):
        null = (labels < 0).any() if self.image.multi_label else (labels == len(self.image.classes)).any()
        return super().learned(pixels, labels, callback, checkpoints) + (float("nan") if null else 0.0)


def test_check_generator_unlabeled_images(spec_of):
    spec = spec_of(LearnsUnlabeled, contract=3, takes_unlabeled=True)
    assert failures(spec) == {}
    assert "unlabeled images" in {result.name for result in check_generator(spec)}
    broken = failures(replace(spec, build=BreaksOnUnlabeled))
    assert list(broken) == ["unlabeled images"]


class StrongestLabel(Grain):
    def light(self, label):
        return self.brightness[label.argmax() if label.ndim else label]


class FirstOfLabels(Grain):
    def light(self, label):
        first = nn.functional.one_hot(label.argmax(), 3) if label.any() else label
        return super().light(first.float()) if label.ndim else super().light(label)


class NeedsALabel(Grain):
    def light(self, label):
        return self.brightness[label.nonzero()[0]] if label.ndim else super().light(label)


class ChangesMultiHot(Grain):
    def sample(self, seeds, labels, *, init_images=None):
        images = super().sample(seeds, labels)
        if labels.ndim == 2:
            labels[:, 0] = 1.0
        return images


class PooledLabels(Grain):
    def sample(self, seeds, labels, *, init_images=None):
        check_sample_request(self.image, seeds, labels)
        return super().sample(seeds, labels.amax(dim=0).expand_as(labels) if labels.ndim == 2 else labels)


class GlobalMultiFit(Grain):
    def draw(self, seed, step):
        return torch.rand(()) if self.image.multi_label else super().draw(seed, step)


class SingleOnly(Grain):
    def learned(self, pixels, labels, callback, checkpoints):
        return torch.stack([pixels[labels == k].mean() for k in range(3)])

    def light(self, label):
        return self.brightness[label]


class SaysSingle(Grain):
    def __init__(self, config, image, device):
        super().__init__(config, replace(image, multi_label=False), device)


MULTI = {
    StrongestLabel: {"multi-label combinations"},
    FirstOfLabels: {"multi-label combinations"},
    NeedsALabel: {"multi-label images"},
    ChangesMultiHot: {"multi-label images"},
    PooledLabels: {"multi-label rebatching", "multi-label labels"},
    GlobalMultiFit: {"multi-label fit repeats", "multi-label fit resumes", "multi-label global random state"},
    SingleOnly: {"multi-label fit", "multi-label fit repeats", "multi-label images"},
    SaysSingle: {"multi-label build"},
}


@pytest.mark.parametrize("broken", MULTI, ids=lambda kind: kind.__name__)
def test_check_generator_multi_label_violation_fails_its_check(broken, spec_of):
    assert set(failures(spec_of(broken, multi_label=True))) == MULTI[broken]
    assert failures(spec_of(broken)) == {}


def test_check_generator_multi_label_runs_both_ways(spec_of):
    both = check_generator(spec_of(Tells, multi_label=True))
    assert all(result.passed for result in both), [result for result in both if not result.passed]
    single = [result.name for result in check_generator(spec_of(Tells))]
    multi = [f"multi-label {name}" for name in single if name not in ("spec", "preset", "fit stops")]
    multi.insert(multi.index("multi-label labels") + 1, "multi-label combinations")
    assert [result.name for result in both] == single + multi


def test_check_generator_multi_label_waits_for_single_label_images(spec_of):
    assert check_generator(spec_of(Double, multi_label=True))[-1].name == "images"
    assert set(failures(spec_of(OneImage, multi_label=True))) == {"seeds differ", "multi-label seeds differ"}


class NoLabels(Grain):
    def light(self, label):
        return self.brightness.mean()


def test_check_generator_names_indistinguishable_label_combinations(spec_of):
    for broken, detail in (
        (StrongestLabel, "no label gave that of the first"),
        (FirstOfLabels, "the first gave that of both"),
    ):
        found = failures(spec_of(broken, multi_label=True))["multi-label combinations"]
        assert found == f"expected another image for other labels, {detail}"


def test_check_generator_ignored_labels_fail(spec_of):
    results = {result.name: result for result in check_generator(spec_of(NoLabels, multi_label=True))}
    assert {name for name, result in results.items() if not result.passed} == {
        "class conditioning",
        "multi-label class conditioning",
    }
    assert results["multi-label combinations"].detail == "labels make no difference"
    assert "expected other images for another label" in results["class conditioning"].detail


class ReadsAFile(Grain):
    def sample(self, seeds, labels, *, init_images=None):
        with open(LEFT_HERE) as file:
            file.read()
        return super().sample(seeds, labels)


class AsksAHost(Grain):
    def learned(self, pixels, labels, callback, checkpoints):
        with contextlib.suppress(OSError), socket.socket() as client:
            client.connect(("127.0.0.1", 9))
        return super().learned(pixels, labels, callback, checkpoints)


class Ponders(Grain):
    def learned(self, pixels, labels, callback, checkpoints):
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
        return super().learned(pixels, labels, callback, checkpoints)


class TakesMemory(Grain):
    held: ClassVar[list[torch.Tensor]] = []

    def sample(self, seeds, labels, *, init_images=None):
        self.held[:] = [torch.ones(50_000_000)]  # kept, as a peak between two samples of the memory goes unseen
        return super().sample(seeds, labels)


class TakesAnyRequest(Grain):
    def sample(self, seeds, labels, *, init_images=None):
        if not len(seeds):
            return torch.empty(0, 1, self.image.size, self.image.size)
        return super().sample(seeds, labels)


class RefusesNothing(Grain):
    @torch.inference_mode()
    def sample(self, seeds, labels, *, init_images=None):
        return torch.stack([self.one(seed, label) for seed, label in zip(seeds, labels, strict=True)])


class StartsAProgram(Grain):
    def learned(self, pixels, labels, callback, checkpoints):
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        return super().learned(pixels, labels, callback, checkpoints)


class AsksForTheGpus(Grain):
    """Starts nvidia-smi, as accelerate does."""

    def learned(self, pixels, labels, callback, checkpoints):
        with contextlib.suppress(FileNotFoundError):
            subprocess.run(["nvidia-smi"], check=False, capture_output=True)
        return super().learned(pixels, labels, callback, checkpoints)


class Prints(Grain):
    def sample(self, seeds, labels, *, init_images=None):
        sys.stdout.write("drawing\n")
        return super().sample(seeds, labels)


class FitsNothing(Grain):
    def fit(self, data, *, seed, callback, checkpoints):
        if len(data):
            super().fit(data, seed=seed, callback=callback, checkpoints=checkpoints)


class SwapsClasses(Grain):
    def learned(self, pixels, labels, callback, checkpoints):
        return super().learned(pixels, labels, callback, checkpoints).flip(0)


LEFT_HERE = None
SECONDS = r"fit (?P<fit>\d+\.\d\d) s, sample \d+\.\d\d s of processor time \(a guide: 0\.2 s on a current CPU\)"
BOUNDS = {
    ReadsAFile: ("files", "core does all reading and writing: fit: "),
    AsksAHost: ("network", "weights are pulled by core: fit: 127.0.0.1"),
    TakesMemory: ("memory", "more memory, fit 2"),
    TakesAnyRequest: ("bad requests", "expected a MedzooError for no image, none was raised"),
    RefusesNothing: ("bad requests", "expected a MedzooError for no image, it raised RuntimeError"),
    StartsAProgram: ("files", "fit: the program "),
    Prints: ("stdout", "expected nothing printed to stdout, where results go: fit: 'drawing"),
    FitsNothing: ("fit on nothing", "expected a MedzooError for no images to train on, none was raised"),
    SwapsClasses: ("class conditioning", "got 33% (means 0.87, 0.52, 0.10)"),
}


@pytest.mark.parametrize("broken", BOUNDS, ids=lambda kind: kind.__name__)
def test_check_generator_resource_violation_fails_its_check(broken, spec_of, tmp_path, monkeypatch):
    (tmp_path / "weights.bin").write_text("0")
    monkeypatch.setattr(f"{__name__}.LEFT_HERE", tmp_path / "weights.bin")
    monkeypatch.setattr(monitor, "MAX_MEMORY", 100_000_000)
    check, detail = BOUNDS[broken]
    found = failures(spec_of(broken))
    assert set(found) == {check}
    assert detail in found[check]


def test_check_generator_nvidia_smi_may_be_started(spec_of):
    assert failures(spec_of(AsksForTheGpus)) == {}


def test_check_generator_slow_call_reports_seconds_and_passes(spec_of, monkeypatch):
    monkeypatch.setattr(monitor, "GUIDE_SECONDS", 0.2)
    results = {result.name: result for result in check_generator(spec_of(Ponders))}
    assert [name for name, result in results.items() if not result.passed] == []
    found = re.fullmatch(SECONDS, results["time"].detail)
    assert found, results["time"].detail
    assert float(found["fit"]) >= 0.3


def test_check_generator_may_read_a_file_named_in_settings(spec_of, tmp_path, monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class Named(GrainConfig):
        weights_file: str = setting(str(tmp_path / "weights.bin"), "a file")

    (tmp_path / "weights.bin").write_text("0")
    monkeypatch.setattr(f"{__name__}.LEFT_HERE", tmp_path / "weights.bin")
    assert failures(spec_of(ReadsAFile, config=Named)) == {}


def test_check_generator_ignores_files_of_other_threads(spec_of, tmp_path):
    (tmp_path / "log.txt").write_text("0")
    done = threading.Event()

    def read():
        while not done.wait(0.001):
            (tmp_path / "log.txt").read_text()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert failures(spec_of(Grain)) == {}
    finally:
        done.set()
        reader.join()


class KeepsTheLastAlone(Grain):
    def fit(self, data, *, seed, callback, checkpoints):
        kept = checkpoints.save_checkpoint
        checkpoints.save_checkpoint = lambda step, state: kept(step, state) if step == self.config.epochs else None
        super().fit(data, seed=seed, callback=callback, checkpoints=checkpoints)


class KeepsNone(Grain):
    def fit(self, data, *, seed, callback, checkpoints):
        checkpoints.save_checkpoint = lambda step, state: None
        super().fit(data, seed=seed, callback=callback, checkpoints=checkpoints)


def test_check_generator_resuming_needs_an_intermediate_checkpoint(spec_of):
    found = failures(spec_of(KeepsTheLastAlone))
    assert set(found) == {"fit resumes"}
    assert "expected a checkpoint before the last of 3 steps" in found["fit resumes"]
    results = {result.name: result for result in check_generator(spec_of(KeepsNone))}
    assert "an interrupted fit starts from the beginning" in results["fit resumes"].detail


def test_check_generator_validates_presets_and_defaults(spec_of, presets):
    @dataclass(frozen=True, kw_only=True)
    class Impossible(GrainConfig):
        depth: int = setting(0, "layers", min=1)

    found = failures(spec_of(Grain, config=Impossible))
    assert set(found) == {"preset"}
    assert "depth = 0 is out of range" in found["preset"]
    (presets / "paper.toml").write_text("epoch = 3\n")
    assert "unknown setting 'epoch'" in failures(spec_of(Grain))["preset"]
    (presets / "paper.toml").unlink()
    (presets / "default.toml").unlink()
    assert "expected a preset default.toml" in failures(spec_of(Grain))["preset"]


def test_check_generator_broken_plugin_fails_registration(install_plugin):
    broken = "import os\nif 'FAR' not in os.environ:\n    raise OSError('no license')\n" + PLUGIN.format(heavy="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAR", "1")
        site = install_plugin("far", broken)
        (site / "presets").mkdir()
        spec = load_plugins().generator("far")
    (result,) = [result for result in check_generator(spec) if result.name == "registration"]
    assert not result.passed
    assert "is broken: OSError: no license" in result.detail


def test_check_generator_late_imports_may_read_files(spec_of, tmp_path, monkeypatch):
    (tmp_path / "late.py").write_text("from pathlib import Path\nPath(__file__).with_suffix('.txt').read_text()\n")
    (tmp_path / "late.txt").write_text("table")
    monkeypatch.syspath_prepend(tmp_path)

    class ImportsLate(Grain):
        def one(self, seed, label):
            import late  # noqa: F401

            return super().one(seed, label)

    assert failures(spec_of(ImportsLate)) == {}


def test_check_generator_invalid_spec_fails(spec_of):
    @dataclass(frozen=True, kw_only=True)
    class Silent(GrainConfig):
        depth: int = 3

    for changes, detail in (
        ({"summary": ""}, "expected a summary of one line"),
        ({"summary": "two\nlines"}, "expected a summary of one line"),
        ({"summary": "x" * 121}, "at most 120 characters"),
        ({"config": Silent}, "these say nothing: depth"),
    ):
        found = failures(spec_of(Grain, **changes))
        assert set(found) == {"spec"}
        assert detail in found["spec"]


def test_check_generator_longer_preset_where_tiny_is_too_short(spec_of, presets):
    class Slow(Grain):
        def draw(self, seed, step):
            return 0.02

    assert set(failures(spec_of(Slow))) == {"class conditioning"}
    (presets / "quick.toml").write_text("epochs = 300\nimage.size = 16\n")
    assert failures(spec_of(Slow)) == {}


PLUGIN = """
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
import medzoo
from medzoo.config import setting
from medzoo.toolkit.settings import ImageSettings
{heavy}

@dataclass(frozen=True, kw_only=True)
class Config:
    image: ImageSettings = ImageSettings()


def build(config, image, device):
    raise NotImplementedError


@medzoo.hookimpl
def register_generators():
    presets = Path(__file__).parent / "presets"
    return [medzoo.GeneratorSpec(contract=2, name="far", summary="far", config=Config, presets=presets, build=build)]
"""


@pytest.mark.parametrize(("heavy", "loaded"), [("", None), ("import torch", "torch"), ("import numpy", "numpy")])
def test_check_generator_installed_plugin_registration(install_plugin, heavy, loaded):
    site = install_plugin("far", PLUGIN.format(heavy=heavy))
    (site / "presets").mkdir()
    spec = load_plugins().generator("far")
    (result,) = [result for result in check_generator(spec) if result.name == "registration"]
    assert result.passed == (loaded is None)
    assert loaded is None or f"it loads {loaded}" in result.detail


def outcomes(pytester, spec_line, checks):
    pytester.makepyfile(
        f"from medzoo.testing import {checks}\n{spec_line}\n\n@{checks}(SPEC)\ndef test_contract(check):\n    check()\n"
    )
    return pytester.runpytest_inprocess("-q", "-rs", "-p", "no:cacheprovider", "-W", "error")


def test_generator_checks_each_check_is_a_test(pytester, spec_of, monkeypatch):
    monkeypatch.setattr(medzoo, "SPEC_UNDER_TEST", spec_of(OneImage), raising=False)
    result = outcomes(pytester, "from medzoo import SPEC_UNDER_TEST as SPEC", "generator_checks")
    result.assert_outcomes(passed=22, failed=1, skipped=7)
    result.stdout.fnmatch_lines(["*generator 'grain': expected another image for each seed, two differ by 0*"])
    result.stdout.fnmatch_lines(["*does not apply to generator 'grain'*"])


def test_generator_checks_skip_after_failed_build(pytester, spec_of, monkeypatch):
    monkeypatch.setattr(medzoo, "SPEC_UNDER_TEST", spec_of(Unrepeatable), raising=False)
    result = outcomes(pytester, "from medzoo import SPEC_UNDER_TEST as SPEC", "generator_checks")
    result.stdout.fnmatch_lines(["*'build' failed before it*"])
    assert result.parseoutcomes()["failed"] == 1


def test_assert_generator_message_names_failed_checks(spec_of):
    with pytest.raises(AssertionError, match=r"'grain' breaks its contract\n  seeds differ: expected another image"):
        assert_generator(spec_of(OneImage))


def test_check_generator_interrupt_propagates_and_exit_fails(spec_of):
    def interrupted(config, image, device):
        raise KeyboardInterrupt

    def leaving(config, image, device):
        raise SystemExit(3)

    with pytest.raises(KeyboardInterrupt):
        check_generator(spec_of(interrupted))
    found = failures(spec_of(leaving))
    assert set(found) == {"build"}
    assert found["build"].startswith("it raised SystemExit: 3 (testing/test_model_checks.py:")
    (result,) = [result for result in check_generator(spec_of(leaving)) if not result.passed]
    assert "raise SystemExit(3)" in result.traceback


def test_check_generator_keeps_global_random_state(spec_of):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    check_generator(spec_of(GlobalFit))
    check_generator(spec_of(SetsSeed))
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert before[2] == random.getstate()
