"""The checks of a metric: the sets it measures, and its scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from medzoo.errors import DataError
from medzoo.protocols import Curve, Histogram, Sample, Score
from medzoo.specs import CONTRACT
from medzoo.testing.fakes import FakeSamples, tensors_of
from medzoo.testing.monitor import Subject
from medzoo.testing.suite import CPU, CheckResult, ContractError, Suite, expect, global_seed, light_registration

if TYPE_CHECKING:
    import pytest

    from medzoo.specs import MetricSpec

_SIDES = (32, 192)
_SEED = 2**62 + 5
_ROUNDING = 1e-5


def check_metric(spec: MetricSpec) -> list[CheckResult]:
    """Check the metric contract of `spec`, one result per check; no error of a plugin is raised here.

    It measures made-up sets of three classes. Checks that cannot apply are left out: identity of what is no distance (a
    baseline, lower is better), direction where neither way is better, symmetry where it is not declared, and all that
    follows a failure to build or to give a score.
    """
    return MetricSubject(spec).suite().results()


def assert_metric(spec: MetricSpec) -> None:
    """Assert that `spec` passes every check. Raises: AssertionError, with a line for each failed check."""
    MetricSubject(spec).suite().assert_passed()


def metric_checks(spec: MetricSpec) -> pytest.MarkDecorator:
    """Return the decorator of `generator_checks` for a metric."""
    return MetricSubject(spec).suite().as_tests()


class MetricSubject(Subject):
    """A metric under test and the sets it is tested with.

    Images have 32 pixels a side, or 192 where it takes no smaller ones, of which there are then fewer.
    """

    def __init__(self, spec: MetricSpec) -> None:
        super().__init__()
        self.spec = spec
        self.metric: Any = None
        self.use(_SIDES[0])

    def suite(self) -> Suite:
        """Return the checks."""
        checks: dict[str, Callable[[], str | None]] = {
            "registration": lambda: light_registration("metric", self.spec),
            "spec": self._check_spec,
            "build": self._check_build,
            "score": self._check_score,
            "identity": self._check_identity,
            "direction": self._check_direction,
            "symmetry": self._check_symmetry,
            "seed repeats": self._check_repeats,
            "inputs": self._check_inputs,
            "few images": self._check_few_images,
            "constant images": self._check_constant,
            "color": self._check_color,
            **self.limits,
        }
        return Suite(f"metric '{self.spec.name}'", checks, required=("spec", "build", "score"))

    def use(self, side: int) -> None:
        """Make the sets of images of this size."""
        self.sets = FakeSamples(self.spec, side=side)
        few = 4 if side > _SIDES[0] else 20
        self.fakes = max(few, self.spec.min_samples)
        self.reals = self.fakes + 2
        self.real, self.fake = self.sets.good(self.reals), self.sets.good(self.fakes, seed=1)
        self.train = self.sets.train(self.fakes + 4)

    def score(self, real: Sample | None = None, fake: Sample | None = None, *, seed: int = _SEED) -> Score:
        """Score `fake` against `real`, good images where omitted. Raises: what the metric raises."""
        real, fake = real or self.real, fake or self.fake
        more = {"train": self.train} if self.spec.needs_train else {}
        with self.observed("score"):
            score = self.metric(real, fake, seed=seed, **more)
        if not isinstance(score, Score):
            raise ContractError(f"expected a Score, got {type(score).__name__}")
        return score

    def _check_spec(self) -> str:
        spec = self.spec
        expect(
            spec.higher_is_better in (True, False, None),
            f"expected higher_is_better to be True, False or None, it is {spec.higher_is_better!r}",
        )
        expect(spec.min_samples >= 1, f"expected min_samples to be 1 or more, it is {spec.min_samples}")
        expect(bool(spec.summary and spec.unit), "expected a summary and a unit")
        expect(bool(spec.needs_pixels or spec.needs_features), "expected the spec to ask for pixels or for features")
        used = bool(spec.needs_features or spec.needs_distance)
        expect(used or not spec.extractors, "it names extractors it does not need")
        return f"contract {spec.contract} of {CONTRACT}, {spec.better} is better, {spec.min_samples} images per set"

    def _check_build(self) -> str:
        self.metric = self.spec.build()
        expect(callable(self.metric), f"expected a Metric to call, got {type(self.metric).__name__}")
        return f"a {type(self.metric).__name__}"

    def _check_score(self) -> str:
        try:
            score = self.score()
        except DataError:
            self.use(_SIDES[1])
            score = self.score()
        _expect_numbers(score)
        expect(math.isfinite(score.value), f"expected a finite value for images without a fault, got {score.value}")
        given, reported = (self.reals, self.fakes), (score.n_real, score.n_fake)
        expect(
            given == reported,
            f"expected n_real, n_fake = {given} for {given[0]} real and {given[1]} synthetic images, got {reported}",
        )
        if score.histogram is not None:
            _expect_histogram(score.histogram)
        if score.curve is not None:
            _expect_curve(score.curve)
        for pair in score.pairs:
            inside = 0 <= pair.fake < self.fakes and 0 <= pair.train < self.train.size
            expect(inside, f"expected indices into the synthetic and the training images, got {pair}")
        apart = [pair.distance for pair in score.pairs]
        expect(apart == sorted(apart), "expected the closest pairs first")
        return f"{score.value:.4g} with {len(score.details)} details, images of {self.sets.side} pixels"

    def _check_identity(self) -> str | None:
        if not self.spec.baseline or self.spec.higher_is_better is not False:
            return None
        ideal = self.spec.ideal or 0.0
        same = self.score(self.real, self.real).value
        bad = self.score(fake=self.sets.bad(self.fakes, self.train)).value
        found = f"got {same:.3g} beside {bad:.3g} for bad images"
        expect(abs(same - ideal) <= 0.1 * abs(bad - ideal), f"expected about {ideal:.3g} for equal sets, {found}")
        return f"{same:.3g} for equal sets"

    def _check_direction(self) -> str | None:
        if self.spec.higher_is_better is None:
            return None
        good = self.score().value
        bad = self.score(fake=self.sets.bad(self.fakes, self.train)).value
        right = good > bad if self.spec.higher_is_better else good < bad
        expect(
            right,
            f"{self.spec.better} should be better, but images like the real ones give {good:.3g}, {self.sets.fault} "
            f"{bad:.3g}",
        )
        return f"{good:.3g} for good images, {bad:.3g} for bad ones"

    def _check_symmetry(self) -> str | None:
        if not self.spec.symmetric:
            return None
        there, back = self.score().value, self.score(self.fake, self.real).value
        same = abs(there - back) <= _ROUNDING * max(abs(there), abs(back))
        expect(same, f"it says it is symmetric, but gives {there:.6g} one way, {back:.6g} the other")
        return f"{there:.4g} both ways"

    def _check_repeats(self) -> str:
        first = self.score()
        with global_seed(1, CPU):
            second = self.score()
        same = repr(first) == repr(second)  # in words, for NaN is not equal to itself
        expect(same, f"the same seed gave {first.value!r}, then {second.value!r} or other details")
        return "the same seed gives the same score, whatever the global random state"

    def _check_inputs(self) -> str:
        self.use(self.sets.side)  # others than the metric has had in its hands
        held = [tensor for sample in (self.real, self.fake, self.train) for tensor in tensors_of(sample)]
        before = [tensor.clone() for tensor in held]
        self.score()
        expect(all(map(torch.equal, before, held)), "it changed the samples it was given")
        return "the samples stay as they were"

    def _check_few_images(self) -> str:
        few = self.spec.min_samples
        _expect_numbers(self.score(self.sets.good(few), self.sets.good(few, seed=1)))
        return f"{few} images per set are enough"

    def _check_constant(self) -> str:
        flat = self.sets.constant(self.fakes)
        values = []
        for real, fake in ((flat, flat), (self.real, flat)):
            score = self.score(real, fake)
            _expect_numbers(score)
            values.append(score.value)
        return f"{values[0]:.3g} between constant images, {values[1]:.3g} for constant synthetic ones"

    def _check_color(self) -> str | None:
        if not self.spec.needs_pixels:
            return None
        real, fake = self.sets.good(self.reals, channels=3), self.sets.good(self.fakes, seed=1, channels=3)
        return f"{self.score(real, fake).value:.4g} for color images"


def _expect_numbers(score: Score) -> None:
    """Raise ContractError unless all numbers of `score` are floats, finite or NaN, and consistent."""
    numbers = {"value": score.value, **score.details, **({} if score.spread is None else {"spread": score.spread})}
    strange = [name for name, number in numbers.items() if not isinstance(number, float) or math.isinf(number)]
    expect(not strange, f"expected floats, finite or NaN, but '{strange[0] if strange else ''}' is not one")
    expect((score.spread is None) == (score.spread_over == ""), "expected spread and spread_over both or neither")
    if score.interval is not None:
        low, high = score.interval
        expect(low <= high, f"expected an interval from low to high, got {low:.3g} to {high:.3g}")


def _expect_histogram(histogram: Histogram) -> None:
    edges = list(histogram.edges)
    expect(edges == sorted(set(edges)), "expected rising edges of the histogram")
    for name, shares in histogram.shares.items():
        expect(len(shares) == len(edges) - 1, f"expected {len(edges) - 1} shares of '{name}', got {len(shares)}")
        total = sum(shares)
        expect(abs(total - 1.0) < 1e-6, f"expected the shares of '{name}' to sum to 1, they sum to {total:.4g}")


def _expect_curve(curve: Curve) -> None:
    x = list(curve.x)
    expect(bool(x) and x[0] > 0 and x == sorted(set(x)), "expected positive, rising x of the curve")
    expect(bool(curve.lines), "expected a line in the curve")
    for name, line in curve.lines.items():
        expect(len(line) == len(x), f"expected {len(x)} values of '{name}', got {len(line)}")
