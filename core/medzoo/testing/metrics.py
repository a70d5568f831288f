"""The checks of a metric, in the order in which they are made."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from medzoo.errors import DataError
from medzoo.protocols import Histogram, Score
from medzoo.specs import CONTRACT
from medzoo.testing.bounds import BOUNDS
from medzoo.testing.contract import expect, global_seed
from medzoo.testing.fake_samples import tensors_of
from medzoo.testing.metric_subject import SIDES, MetricSubject
from medzoo.testing.registration import light_registration
from medzoo.testing.results import CheckResult, assert_passed
from medzoo.testing.suite import Stage, Suite

if TYPE_CHECKING:
    from medzoo.specs import MetricSpec

_CPU = torch.device("cpu")
_ROUNDING = 1e-5


def check_metric(spec: MetricSpec) -> list[CheckResult]:
    """Check the metric contract of `spec`, one result per check; no error of a plugin is raised here.

    It measures made-up sets of three classes. Checks that cannot apply are left out: identity of what is no distance (a
    baseline, lower is better), direction where neither way is better, symmetry where it is not declared, and all that
    follows a failure to build or to give a score.
    """
    return metric_suite(spec).results()


def metric_suite(spec: MetricSpec) -> Suite[MetricSubject]:
    """Return the checks of `check_metric` without running them."""
    return Suite(f"metric '{spec.name}'", _STAGES, {"": MetricSubject(spec)})


def assert_metric(spec: MetricSpec) -> None:
    """Assert that `spec` passes every check. Raises: AssertionError, with a line for each failed check."""
    assert_passed(f"metric '{spec.name}'", check_metric(spec))


def _spec(subject: MetricSubject) -> str:
    spec = subject.spec
    expect(
        spec.higher_is_better in (True, False, None),
        f"expected higher_is_better to be True, False or None, it is {spec.higher_is_better!r}",
    )
    expect(spec.min_samples >= 1, f"expected min_samples to be 1 or more, it is {spec.min_samples}")
    expect(bool(spec.summary and spec.unit), "expected a summary and a unit")
    needed = spec.needs_pixels or spec.needs_features
    expect(bool(needed), "expected the spec to ask for pixels or for features")
    expect(
        not spec.extractors or bool(spec.needs_features or spec.needs_distance), "it names extractors it does not need"
    )
    return f"contract {spec.contract} of {CONTRACT}, {spec.better} is better, {spec.min_samples} images per set"


def _registration(subject: MetricSubject) -> str | None:
    return light_registration("metric", subject.spec)


def _build(subject: MetricSubject) -> str:
    subject.metric = subject.spec.build()
    expect(callable(subject.metric), f"expected a Metric to call, got {type(subject.metric).__name__}")
    return f"a {type(subject.metric).__name__}"


def _score(subject: MetricSubject) -> str:
    try:
        score = subject.score()
    except DataError:
        subject.use(SIDES[1])
        score = subject.score()
    _expect_numbers(score)
    expect(math.isfinite(score.value), f"expected a finite value for images without a fault, got {score.value}")
    given, reported = (subject.reals, subject.fakes), (score.n_real, score.n_fake)
    expect(
        given == reported,
        f"expected n_real, n_fake = {given} for {given[0]} real and {given[1]} synthetic images, got {reported}",
    )
    if score.histogram is not None:
        _expect_histogram(score.histogram)
    for pair in score.pairs:
        inside = 0 <= pair.fake < subject.fakes and 0 <= pair.train < subject.train.size
        expect(inside, f"expected indices into the synthetic and the training images, got {pair}")
    apart = [pair.distance for pair in score.pairs]
    expect(apart == sorted(apart), "expected the closest pairs first")
    return f"{score.value:.4g} with {len(score.details)} details, images of {subject.sets.side} pixels"


def _identity(subject: MetricSubject) -> str | None:
    if not subject.spec.baseline or subject.spec.higher_is_better is not False:
        return None
    same = subject.score(subject.real, subject.real).value
    bad = subject.score(fake=subject.sets.bad(subject.fakes, subject.train)).value
    expect(
        abs(same) <= 0.1 * abs(bad), f"expected about 0 for equal sets, got {same:.3g} beside {bad:.3g} for bad images"
    )
    return f"{same:.3g} for equal sets"


def _direction(subject: MetricSubject) -> str | None:
    if subject.spec.higher_is_better is None:
        return None
    good = subject.score().value
    bad = subject.score(fake=subject.sets.bad(subject.fakes, subject.train)).value
    right = good > bad if subject.spec.higher_is_better else good < bad
    expect(
        right,
        f"{subject.spec.better} should be better, but images like the real ones give {good:.3g}, {subject.sets.fault} "
        f"{bad:.3g}",
    )
    return f"{good:.3g} for good images, {bad:.3g} for bad ones"


def _symmetry(subject: MetricSubject) -> str | None:
    if not subject.spec.symmetric:
        return None
    there, back = subject.score().value, subject.score(subject.fake, subject.real).value
    allowed = _ROUNDING * max(abs(there), abs(back))
    expect(
        abs(there - back) <= allowed, f"it says it is symmetric, but gives {there:.6g} one way, {back:.6g} the other"
    )
    return f"{there:.4g} both ways"


def _repeats(subject: MetricSubject) -> str:
    first = subject.score()
    with global_seed(1, _CPU):
        second = subject.score()
    same = repr(first) == repr(second)  # in words, for NaN is not equal to itself
    expect(same, f"the same seed gave {first.value!r}, then {second.value!r} or other details")
    return "the same seed gives the same score, whatever the global random state"


def _inputs(subject: MetricSubject) -> str:
    subject.use(subject.sets.side)  # others than the metric has had in its hands
    held = [tensor for sample in (subject.real, subject.fake, subject.train) for tensor in tensors_of(sample)]
    before = [tensor.clone() for tensor in held]
    subject.score()
    expect(all(map(torch.equal, before, held)), "it changed the samples it was given")
    return "the samples stay as they were"


def _few_images(subject: MetricSubject) -> str:
    few = subject.spec.min_samples
    _expect_numbers(subject.score(subject.sets.good(few), subject.sets.good(few, seed=1)))
    return f"{few} images per set are enough"


def _constant(subject: MetricSubject) -> str:
    flat = subject.sets.constant(subject.fakes)
    values = []
    for real, fake in ((flat, flat), (subject.real, flat)):
        score = subject.score(real, fake)
        _expect_numbers(score)
        values.append(score.value)
    return f"{values[0]:.3g} between constant images, {values[1]:.3g} for constant synthetic ones"


def _color(subject: MetricSubject) -> str | None:
    if not subject.spec.needs_pixels:
        return None
    real, fake = subject.sets.good(subject.reals, channels=3), subject.sets.good(subject.fakes, seed=1, channels=3)
    return f"{subject.score(real, fake).value:.4g} for color images"


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
        expect(
            abs(sum(shares) - 1.0) < 1e-6, f"expected the shares of '{name}' to sum to 1, they sum to {sum(shares):.4g}"
        )


_STAGES: tuple[Stage[MetricSubject], ...] = (
    Stage(checks={"registration": _registration}),
    Stage(checks={"spec": _spec, "build": _build}, required=True),
    Stage(checks={"score": _score}, required=True),
    Stage(
        checks={
            "identity": _identity,
            "direction": _direction,
            "symmetry": _symmetry,
            "seed repeats": _repeats,
            "inputs": _inputs,
            "few images": _few_images,
            "constant images": _constant,
            "color": _color,
            **BOUNDS,
        }
    ),
)
