"""The conformance kit: an honest classifier passes, and each broken promise fails the check that is named for it."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

import medzoo
from medzoo import ClassifierSpec
from medzoo.config import setting
from medzoo.testing import assert_classifier, check_classifier
from medzoo.toolkit.settings import ImageSettings
from medzoo.toolkit.validation import check_images, check_not_empty


@dataclass(frozen=True, kw_only=True)
class LightConfig:
    """Settings of the classifiers below."""

    image: ImageSettings = ImageSettings()
    epochs: int = setting(40, "steps of `fit`")


class Light(nn.Module):
    """An honest classifier: softmax regression on powers of an image's mean brightness, by gradient descent."""

    def __init__(self, config, image, device):
        super().__init__()
        self.config = config
        self.image = image
        self.layer = nn.Linear(4, len(image.classes), device=device)

    def fit(self, data, *, validation, seed, callback, checkpoints):
        check_not_empty(data)
        start = 0
        if (state := checkpoints.load_checkpoint()) is not None:
            start = int(state["step"])
            self.layer.load_state_dict({"weight": state["weight"], "bias": state["bias"]})
        pixels = torch.stack([torch.from_numpy(data[k]).float() / 255.0 for k in range(len(data))])
        labels = torch.from_numpy(data.labels)
        stop = self.config.epochs if callback.max_steps is None else callback.max_steps
        for step in range(start + 1, stop + 1):
            loss = self.loss(self.layer(self.features(pixels)), labels)
            gradients = torch.autograd.grad(loss, list(self.layer.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(self.layer.parameters(), gradients, strict=True):
                    parameter.sub_(self.rate(seed, step) * gradient)
            callback.on_step_end(step, self.config.epochs, {"loss": float(loss.detach())})
            weights = {name: value.detach() for name, value in self.layer.state_dict().items()}
            checkpoints.save_checkpoint(step, {"step": torch.tensor(step), **weights})

    def loss(self, logits, labels):
        if self.image.multi_label:
            return nn.functional.binary_cross_entropy_with_logits(logits, labels)
        return nn.functional.cross_entropy(logits, labels)

    def rate(self, seed, step):
        return 8.0 + torch.rand((), generator=torch.Generator().manual_seed(seed + step))

    @torch.no_grad()
    def features(self, images):
        check_images(self.image, images)
        light = 2.0 * images.mean(dim=(1, 2, 3)) - 1.0
        return torch.stack([light, light**2, light**3, light**4], dim=1)

    @torch.no_grad()
    def predict(self, images):
        logits = self.layer(self.features(images))
        return logits.sigmoid() if self.image.multi_label else logits.softmax(dim=1)


@pytest.fixture
def spec_of(tmp_path):
    (tmp_path / "tiny.toml").write_text("[image]\nsize = 8\n")
    (tmp_path / "default.toml").write_text("")

    def make(build, **changes):
        fields = {
            "contract": 2,
            "name": "light",
            "summary": "brightness",
            "config": LightConfig,
            "presets": tmp_path,
            "build": build,
        }
        return ClassifierSpec(**{**fields, **changes})

    return make


def failures(spec):
    return {result.name: result.detail for result in check_classifier(spec) if not result.passed}


def test_check_classifier_valid_passes(spec_of):
    results = check_classifier(spec_of(Light))
    assert {result.name: result.detail for result in results if not result.passed} == {}
    assert [result.name for result in results] == [
        "spec", "preset", "build", "fit", "fit repeats", "fit resumes", "fit on nothing", "weights",
        "probabilities", "features", "rebatching", "save and load", "fit stops", "learns", "bad images", "files",
        "network", "stdout", "time", "memory", "global random state",
    ]  # fmt: skip
    assert all(result.detail and "\n" not in result.detail and result.seconds >= 0 for result in results)
    assert_classifier(spec_of(Light))


def test_check_classifier_multi_label_runs_both_ways(spec_of):
    results = check_classifier(spec_of(Light, multi_label=True))
    assert {result.name: result.detail for result in results if not result.passed} == {}
    assert len(results) == 2 * 21 - 3


def test_check_classifier_without_sample_weights(spec_of):
    assert failures(spec_of(Light, contract=3, sample_weights=True)) == {
        "sample weights": "a fit in which half of the images have a weight of 0.1 gave the same model"
    }


class NoFeatures(nn.Module):
    fit = Light.fit

    def __init__(self, config, image, device):
        super().__init__()


class Wrong(Light):
    @property
    def image(self):
        return self.__dict__["told"]

    @image.setter
    def image(self, value):
        self.__dict__["told"] = type(value)(size=value.size + 1, channels=value.channels, classes=value.classes)


class Silent(Light):
    def fit(self, data, *, validation, seed, callback, checkpoints):
        pass


class Idle(Light):
    def rate(self, seed, step):
        return 0.0


class GlobalFit(Light):
    def rate(self, seed, step):
        return 8.0 + torch.rand(())


class ForgetsStep(Light):
    def fit(self, data, *, validation, seed, callback, checkpoints):
        kept = checkpoints.save_checkpoint
        checkpoints.save_checkpoint = lambda step, state: kept(step, {**state, "bias": torch.zeros(3)})
        super().fit(data, validation=validation, seed=seed, callback=callback, checkpoints=checkpoints)


class NeverStops(Light):
    def fit(self, data, *, validation, seed, callback, checkpoints):
        callback.max_steps = None
        super().fit(data, validation=validation, seed=seed, callback=callback, checkpoints=checkpoints)


class Double(Light):
    def state_dict(self, *args, **kwargs):
        return {name: value.double() for name, value in super().state_dict(*args, **kwargs).items()}


class Logits(Light):
    def predict(self, images):
        return self.layer(self.features(images)).detach()


class HalfProbabilities(Light):
    def predict(self, images):
        return super().predict(images) / 2.0


class OneColumn(Light):
    def predict(self, images):
        return super().predict(images)[:, :1]


class SameFeatures(Light):
    def features(self, images):
        return torch.ones(len(images), 4)


class BatchNormalized(Light):
    def predict(self, images):
        features = self.features(images)
        return self.layer(features - features.mean(dim=0)).softmax(dim=1).detach()


class Unsaved(Light):
    def __init__(self, config, image, device):
        super().__init__(config, image, device)
        self.offset = torch.rand(3)

    def predict(self, images):
        return (self.layer(self.features(images)) + self.offset).softmax(dim=1).detach()


class Confused(Light):
    def loss(self, logits, labels):
        return super().loss(logits, labels.roll(1))


class Anything(Light):
    @torch.no_grad()
    def features(self, images):
        light = 2.0 * images.mean(dim=(1, 2, 3)) - 1.0
        return torch.stack([light, light**2, light**3, light**4], dim=1)


class FitsNothing(Light):
    def fit(self, data, *, validation, seed, callback, checkpoints):
        if len(data):
            super().fit(data, validation=validation, seed=seed, callback=callback, checkpoints=checkpoints)


class Fetches(Light):
    def predict(self, images):
        with contextlib.suppress(OSError), socket.socket() as client:
            client.connect(("127.0.0.1", 9))
        return super().predict(images)


class Ponders(Light):
    def features(self, images):
        end = time.process_time() + 0.01
        while time.process_time() < end:
            pass
        return super().features(images)


class Draws(Light):
    def predict(self, images):
        np.random.rand()
        random.random()
        return super().predict(images)


@pytest.mark.parametrize(
    ("broken", "check", "detail"),
    [
        (NoFeatures, "build", "has no 'predict'"),
        (Wrong, "build", "expected the ImageSpec it was built for"),
        (Silent, "fit", "made no call of callback.on_step_end"),
        (Idle, "fit", "fit changed no weight"),
        (GlobalFit, "fit repeats", "a second fit from the same seed"),
        (ForgetsStep, "fit resumes", "a fit resumed at step 1"),
        (NeverStops, "fit stops", "its last step was 40"),
        (Double, "weights", "is torch.float64"),
        (Logits, "probabilities", "expected probabilities in [0, 1]"),
        (HalfProbabilities, "probabilities", "they are off by 0.5"),
        (OneColumn, "probabilities", "of shape (8, 3), got (8, 1)"),
        (SameFeatures, "features", "all are equal"),
        (BatchNormalized, "rebatching", "probabilities changed by"),
        (Unsaved, "save and load", "gives other probabilities"),
        (Confused, "learns", "right of black, gray and white"),
        (Anything, "bad images", "expected a MedzooError for no image in predict, none was raised"),
        (FitsNothing, "fit on nothing", "none was raised"),
        (Fetches, "network", "predict: 127.0.0.1"),
        (Draws, "global random state", "numpy in predict, random in predict"),
    ],
)
def test_check_classifier_violation_fails_its_check(spec_of, broken, check, detail):
    found = failures(spec_of(broken))
    assert check in found, found
    assert detail in found[check]
    # whoever draws from global state cannot resume either, and a bad checkpoint is bad where a fit stops
    others = {GlobalFit: {"fit resumes", "global random state"}, ForgetsStep: {"fit stops"}}.get(broken, set())
    assert set(found) == {check} | others, found


class Frozen(Light):
    """An honest FeatureClassifier: the same regression, on features of one view."""

    def fit(self, data, *, validation, seed, callback, checkpoints):
        check_not_empty(data)
        pixels = torch.stack([torch.from_numpy(data[k]).float() / 255.0 for k in range(len(data))])
        features, labels = self.extract(pixels), torch.from_numpy(data.labels)
        self.fit_features(features, labels, validation=(features, labels), seed=seed)
        callback.on_step_end(1, 1, {"loss": 0.0})

    def extract(self, images):
        return self.features(images)[:, None]

    def fit_features(self, features, labels, *, weights=None, validation, seed):
        for step in range(1, self.config.epochs + 1):
            loss = self.loss(self.layer(features[:, 0]), labels)
            gradients = torch.autograd.grad(loss, list(self.layer.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(self.layer.parameters(), gradients, strict=True):
                    parameter.sub_(self.rate(seed, step) * gradient)

    @torch.no_grad()
    def predict_features(self, features):
        logits = self.layer(features[:, 0])
        return logits.sigmoid() if self.image.multi_label else logits.softmax(dim=1)


class Drifts(Frozen):
    """Its features change with training."""

    def extract(self, images):
        return super().extract(images) + self.layer.bias.detach().sum()


class Differs(Frozen):
    """It predicts something else from features than from images."""

    def predict_features(self, features):
        return super().predict_features(-features)


def test_check_classifier_frozen_features(spec_of):
    results = {result.name: result for result in check_classifier(spec_of(Frozen, contract=3, converges=True))}
    assert {name: result.detail for name, result in results.items() if not result.passed} == {}
    assert results["frozen features"].detail == "1 x 4 an image; fit and predict give the same from images"
    assert "those of a fitted one differ" in failures(spec_of(Drifts))["frozen features"]
    assert "predict_features and predict after fit_features differ" in failures(spec_of(Differs))["frozen features"]


def test_check_classifier_slow_call_reports_seconds_and_passes(spec_of, monkeypatch):
    monkeypatch.setattr("medzoo.testing.monitor.GUIDE_SECONDS", 0.25)
    results = {result.name: result for result in check_classifier(spec_of(Ponders))}
    assert [name for name, result in results.items() if not result.passed] == []
    told = results["time"].detail
    assert told.endswith(" of processor time (a guide: 0.25 s on a current CPU)")
    spent = {call: float(seconds) for call, seconds in re.findall(r"(\w+) (\d+\.\d\d) s", told.partition(" of ")[0])}
    assert {"fit", "predict"} <= spent.keys()
    assert spent["fit"] > 0.25  # it asks for features in each step


def test_classifier_checks_each_check_is_a_test(pytester, spec_of, monkeypatch):
    monkeypatch.setattr(medzoo, "SPEC_UNDER_TEST", spec_of(Confused), raising=False)
    pytester.makepyfile(
        "from medzoo import SPEC_UNDER_TEST\nfrom medzoo.testing import classifier_checks\n\n"
        "@classifier_checks(SPEC_UNDER_TEST)\ndef test_contract(check):\n    check()\n"
    )
    result = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider", "-W", "error")
    result.assert_outcomes(passed=20, failed=1, skipped=3)


def test_assert_classifier_message_names_failed_checks(spec_of):
    with pytest.raises(AssertionError, match=r"classifier 'light' breaks its contract\n  probabilities: expected"):
        assert_classifier(spec_of(Logits))
