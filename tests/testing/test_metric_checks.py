"""The checks of metrics and extractors: honest ones pass, each broken promise fails the check named for it."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import medzoo
from medzoo import ExtractorSpec, MetricSpec, Score
from medzoo.errors import DataError
from medzoo.protocols import Histogram, Pair
from medzoo.testing import assert_extractor, assert_metric, check_extractor, check_metric

PIXELS = {"needs_pixels": True}
FEATURES = {"needs_features": ("features",)}


class Brightness:
    """An honest metric: the distance of the mean gray levels of some images of each set, drawn from the seed."""

    def __call__(self, real, fake, *, seed):
        means = [self.mean(sample, seed) for sample in (real, fake)]
        return self.score(real, fake, means)

    def mean(self, sample, seed):
        return sample.pixels[self.draw(sample, seed)].mean().item()

    def draw(self, sample, seed):
        return np.random.default_rng(seed).permutation(sample.size)[: max(2, sample.size // 2)].tolist()

    def value(self, means):
        return abs(means[1] - means[0])

    def score(self, real, fake, means):
        return Score(value=self.value(means), n_real=real.size, n_fake=fake.size, details={"real": means[0]})


class Nearness:
    """An honest memorization check in features."""

    def __call__(self, real, fake, *, train, seed):
        apart = torch.cdist(fake.features["features"], train.features["features"]).min(dim=1)
        share = (apart.values < 0.01).double().mean().item()
        return Score(value=share, n_real=real.size, n_fake=fake.size, pairs=self.pairs(apart))

    def pairs(self, apart):
        order = apart.values.argsort()[:2].tolist()
        return tuple(Pair(fake=k, train=int(apart.indices[k]), distance=float(apart.values[k])) for k in order)


def spec_of(metric, **changes):
    fields = {
        "contract": 2,
        "name": "brightness",
        "summary": "gray",
        "unit": "levels",
        "higher_is_better": False,
        "baseline": True,
        **PIXELS,
    }
    return MetricSpec(**{**fields, "build": metric, **changes})


COPIES = {"needs_pixels": False, **FEATURES, "needs_train": ("features",), "baseline": False}


def failures(spec):
    return {result.name: result.detail for result in check_metric(spec) if not result.passed}


def test_check_metric_valid_passes():
    results = check_metric(spec_of(Brightness))
    assert {result.name: result.detail for result in results if not result.passed} == {}
    assert [result.name for result in results] == [
        "spec", "build", "score", "identity", "direction", "seed repeats", "inputs", "few images",
        "constant images", "color", "files", "network", "stdout", "time", "memory", "global random state",
    ]  # fmt: skip
    assert all(result.detail and "\n" not in result.detail for result in results)
    assert_metric(spec_of(Brightness))


def test_check_metric_memorization_metric_skips_inapplicable_checks():
    results = check_metric(spec_of(Nearness, **COPIES))
    assert {result.name: result.detail for result in results if not result.passed} == {}
    assert {"identity", "color"}.isdisjoint(result.name for result in results)


class Number(Brightness):
    def score(self, real, fake, means):
        return self.value(means)


class Swapped(Brightness):
    def score(self, real, fake, means):
        return super().score(fake, real, means)


class Integer(Brightness):
    def score(self, real, fake, means):
        return replace(super().score(real, fake, means), details={"images": 3})


class NotANumber(Brightness):
    def value(self, means):
        return float("nan")


class SpreadOfNothing(Brightness):
    def score(self, real, fake, means):
        return replace(super().score(real, fake, means), spread=0.1)


class Backwards(Brightness):
    def score(self, real, fake, means):
        return replace(super().score(real, fake, means), interval=(1.0, 0.0))


class Lopsided(Brightness):
    def score(self, real, fake, means):
        histogram = Histogram(title="", unit="", edges=(0.0, 0.5, 1.0), shares={"real": (0.5, 0.6)})
        return replace(super().score(real, fake, means), histogram=histogram)


class Raises(Brightness):
    def value(self, means):
        raise ZeroDivisionError("no\nvalue")


SCORES = {
    Number: "expected a Score, got float",
    Swapped: "expected n_real, n_fake = (22, 20)",
    Integer: "expected floats, finite or NaN, but 'images' is not one",
    NotANumber: "expected a finite value",
    SpreadOfNothing: "expected spread and spread_over both or neither",
    Backwards: "expected an interval from low to high",
    Lopsided: "expected the shares of 'real' to sum to 1",
    Raises: "it raised ZeroDivisionError: no",
}


@pytest.mark.parametrize("broken", SCORES, ids=lambda kind: kind.__name__)
def test_check_metric_invalid_score_stops_the_checks(broken):
    results = check_metric(spec_of(broken))
    assert (results[-1].name, results[-1].passed) == ("score", False)
    assert results[-1].detail.startswith(SCORES[broken])


class FartherFirst(Nearness):
    def pairs(self, apart):
        return super().pairs(apart)[::-1]


class OutOfRange(Nearness):
    def pairs(self, apart):
        return tuple(replace(pair, train=pair.train + 1000) for pair in super().pairs(apart))


@pytest.mark.parametrize(
    ("broken", "told"), [(FartherFirst, "the closest pairs first"), (OutOfRange, "expected indices into")]
)
def test_check_metric_pairs_must_be_sorted_and_name_images(broken, told):
    assert told in failures(spec_of(broken, **COPIES))["score"]


class NeverNought(Brightness):
    def value(self, means):
        return super().value(means) + 0.5


class Inverted(Brightness):
    def value(self, means):
        return -super().value(means)


class RealAlone(Brightness):
    def value(self, means):
        return means[0]


class GlobalDraw(Brightness):
    def draw(self, sample, seed):
        return torch.randperm(sample.size)[:4].tolist()


class SetsSeed(Brightness):
    def draw(self, sample, seed):
        np.random.seed(seed % 2**32)
        random.seed(seed)
        return super().draw(sample, seed)


class Spoils(Nearness):
    def __call__(self, real, fake, *, train, seed):
        score = super().__call__(real, fake, train=train, seed=seed)
        fake.features["features"].zero_()
        return score


class WantsThree(Brightness):
    def draw(self, sample, seed):
        if sample.size < 3:
            raise DataError("three images are needed")
        return super().draw(sample, seed)


class Divides(Brightness):
    def value(self, means):
        return super().value(means) / max(abs(means[0] - 0.5), 1e-9) if means[0] != 0.5 else float("inf")


class GrayAlone(Brightness):
    def mean(self, sample, seed):
        assert sample.pixels[[0]].shape[1] == 1, "one channel"
        return super().mean(sample, seed)


class Reads(Brightness):
    def value(self, means):
        (Path(__file__).parents[2] / "pyproject.toml").read_text()
        return super().value(means)


class Asks(Brightness):
    def value(self, means):
        with contextlib.suppress(OSError):
            socket.getaddrinfo("localhost", 80)
        return super().value(means)


class Lopsided(Brightness):
    def value(self, means):
        return super().value(means) * (1.0 + means[0])


CHECKS = {
    NeverNought: {"identity"},
    Inverted: {"direction"},
    RealAlone: {"identity", "direction"},
    GlobalDraw: {"seed repeats", "global random state"},
    SetsSeed: {"global random state"},
    WantsThree: {"few images"},
    Divides: {"constant images"},
    GrayAlone: {"color"},
    Reads: {"files"},
    Asks: {"network"},
}


@pytest.mark.parametrize("broken", CHECKS, ids=lambda kind: kind.__name__)
def test_check_metric_violation_fails_its_check(broken):
    assert set(failures(spec_of(broken))) == CHECKS[broken]


def test_check_metric_symmetric_is_verified():
    results = {result.name: result for result in check_metric(spec_of(Brightness, symmetric=True))}
    assert results["symmetry"].passed
    assert set(failures(spec_of(Lopsided, symmetric=True))) == {"symmetry"}
    assert failures(spec_of(Lopsided)) == {}


def test_check_metric_memory_limit(monkeypatch):
    held = []

    class Heavy(Brightness):
        def value(self, means):
            held[:] = [torch.ones(30_000_000)]  # kept, as a peak between two samples of the memory goes unseen
            return super().value(means)

    monkeypatch.setattr("medzoo.testing.monitor.MAX_MEMORY", 100_000_000)
    assert set(failures(spec_of(Heavy))) == {"memory"}


def test_check_metric_slow_score_reports_seconds_and_passes(monkeypatch):
    class Ponders(Brightness):
        def value(self, means):
            end = time.process_time() + 0.05
            while time.process_time() < end:
                pass
            return super().value(means)

    monkeypatch.setattr("medzoo.testing.monitor.GUIDE_SECONDS", 0.01)
    results = {result.name: result for result in check_metric(spec_of(Ponders))}
    assert [name for name, result in results.items() if not result.passed] == []
    told = r"score (\d+\.\d\d) s of processor time \(a guide: 0\.01 s on a current CPU\)"
    found = re.fullmatch(told, results["time"].detail)
    assert found, results["time"].detail
    assert float(found[1]) >= 0.05


def test_metric_checks_each_check_is_a_test(pytester, monkeypatch):
    monkeypatch.setattr(medzoo, "SPEC_UNDER_TEST", spec_of(NeverNought), raising=False)
    pytester.makepyfile(
        "from medzoo import SPEC_UNDER_TEST\nfrom medzoo.testing import metric_checks\n\n"
        "@metric_checks(SPEC_UNDER_TEST)\ndef test_contract(check):\n    check()\n"
    )
    result = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider", "-W", "error")
    result.assert_outcomes(passed=15, failed=1, skipped=2)


def test_check_metric_changed_samples_fail():
    assert failures(spec_of(Spoils, **COPIES))["inputs"] == "it changed the samples it was given"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"higher_is_better": "up"}, "expected higher_is_better to be True, False or None, it is 'up'"),
        ({"min_samples": 0}, "expected min_samples to be 1 or more"),
        ({"unit": ""}, "expected a summary and a unit"),
        ({"needs_pixels": False}, "expected the spec to ask for pixels or for features"),
        ({"extractors": ("inception",)}, "it names extractors it does not need"),
    ],
)
def test_check_metric_invalid_spec_fails(changes, told):
    (result,) = [result for result in check_metric(spec_of(Brightness, **changes)) if not result.passed]
    assert result.name == "spec"
    assert told in result.detail


def test_assert_metric_message_names_failed_checks():
    with pytest.raises(AssertionError, match="metric 'brightness' breaks its contract\n  identity: expected about 0"):
        assert_metric(spec_of(NeverNought))


class Means:
    """An honest extractor: the mean and the largest value of an image."""

    def __call__(self, images):
        gray = images.float().mean(dim=1).flatten(1)
        return {"features": self.rows(torch.stack([gray.mean(dim=1), gray.amax(dim=1)], dim=1))}

    def rows(self, vectors):
        return vectors

    def distance(self, first, second):
        return (first.float() - second.float()).abs().mean(dim=(1, 2, 3))


def extractor_of(kind, **changes):
    fields = {"contract": 2, "name": "means", "summary": "means", "layers": ("features",), "preprocessing": "none"}
    return ExtractorSpec(**{**fields, "build": lambda weights, device: kind(), "perceptual": True, **changes})


def test_check_extractor_valid_passes():
    results = check_extractor(extractor_of(Means))
    assert [(result.name, result.passed) for result in results] == [
        (name, True) for name in ("build", "layers", "channels", "rows", "distance")
    ]
    assert_extractor(extractor_of(Means))


class OfTheBatch(Means):
    def rows(self, vectors):
        return vectors - vectors.mean(dim=0)


class Double(Means):
    def rows(self, vectors):
        return vectors.double()


class Flat(Means):
    def rows(self, vectors):
        return vectors.flatten()


class FirstChannel(Means):
    def __call__(self, images):
        return super().__call__(images * (1 if images.shape[1] == 1 else 2))


class Draws(Means):
    def rows(self, vectors):
        return vectors + torch.rand(1)


class NeverNear(Means):
    def distance(self, first, second):
        return super().distance(first, second) + 1.0


EXTRACTORS = {
    OfTheBatch: {"rows"},
    Double: {"layers", "channels", "rows"},
    Flat: {"layers", "channels", "rows"},
    FirstChannel: {"channels"},
    Draws: {"layers", "channels", "rows"},
    NeverNear: {"distance"},
}


@pytest.mark.parametrize("broken", EXTRACTORS, ids=lambda kind: kind.__name__)
def test_check_extractor_violation_fails_its_check(broken):
    found = {result.name for result in check_extractor(extractor_of(broken)) if not result.passed}
    assert found == EXTRACTORS[broken]


def test_check_extractor_build_error_stops_the_checks():
    results = check_extractor(extractor_of(Means, build=lambda weights, device: weights["missing"]))
    (result,) = results
    assert result.name == "build"
    assert result.detail.startswith("it raised KeyError: 'missing' (testing/test_metric_checks.py:")
