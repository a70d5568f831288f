"""The checks of an extractor, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medzoo.protocols import Extractor, PerceptualExtractor
from medzoo.testing.contract import expect, global_states
from medzoo.testing.model_subject import ATOL
from medzoo.testing.results import CheckResult, assert_passed, run_check

if TYPE_CHECKING:
    from medzoo.specs import ExtractorSpec

_CPU = torch.device("cpu")
_COUNT = 3


class _Subject:
    """An extractor under test and the images it is shown."""

    def __init__(self, spec: ExtractorSpec, weights: Mapping[str, Mapping[str, Tensor]], side: int) -> None:
        self.spec = spec
        self.weights = weights
        self.extractor: Any = None
        self.side = side

    def images(self, channels: int = 1, *, seed: int = 0) -> Tensor:
        """Return three images of noise, uint8."""
        shape = (_COUNT, channels, self.side, self.side)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))

    def extract(self, images: Tensor) -> Mapping[str, Tensor]:
        """Extract features of `images`. Raises: ContractError unless they are the layers of the spec."""
        given, before = images.clone(), global_states(_CPU)
        extractor: Extractor = self.extractor
        layers = extractor(images)
        expect(before == global_states(_CPU), "it touched the global random state")
        expect(torch.equal(given, images), "it changed the images it was given")
        declared = ", ".join(sorted(self.spec.layers)) or "none"
        expect(set(layers) == set(self.spec.layers), f"expected the layers {declared}, got {', '.join(sorted(layers))}")
        for name, vectors in layers.items():
            expect(vectors.ndim == 2 and len(vectors) == len(images), f"expected '{name}' (N, D), got {vectors.shape}")
            expect(vectors.dtype == torch.float32, f"expected '{name}' in float32, got {vectors.dtype}")
            expect(bool(torch.isfinite(vectors).all()), f"expected finite '{name}', some are not")
            expect(not vectors.requires_grad, f"expected '{name}' without gradients")
        return layers


def check_extractor(
    spec: ExtractorSpec, *, weights: Mapping[str, Mapping[str, Tensor]] | None = None, side: int = 40
) -> list[CheckResult]:
    """Check the extractor contract of `spec`, one result per check; no error of a plugin is raised here.

    It is built on the CPU from `weights` (by asset id and name) and shown images of `side` pixels.
    """
    subject = _Subject(spec, weights or {}, side)
    results: list[CheckResult] = []
    for name, check in _CHECKS.items():
        result = run_check(name, _applied(check, subject), _CPU)
        if result is not None:
            results.append(result)
        if subject.extractor is None:
            break
    return results


def assert_extractor(
    spec: ExtractorSpec, *, weights: Mapping[str, Mapping[str, Tensor]] | None = None, side: int = 40
) -> None:
    """Assert that `spec` passes every check. Raises: AssertionError, with a line for each failed check."""
    assert_passed(f"extractor '{spec.name}'", check_extractor(spec, weights=weights, side=side))


def _applied(check: Callable[[_Subject], str | None], subject: _Subject) -> Callable[[], str | None]:
    return lambda: check(subject)


def _build(subject: _Subject) -> str:
    spec = subject.spec
    before = global_states(_CPU)
    extractor = spec.build(subject.weights, "cpu")
    expect(before == global_states(_CPU), "building it touched the global random state")
    expect(bool(spec.preprocessing), "expected a few words on its preprocessing")
    expect(bool(spec.layers) or spec.perceptual, "expected layers, or a perceptual distance")
    subject.extractor = extractor
    return f"a {type(extractor).__name__}"


def _layers(subject: _Subject) -> str:
    layers = subject.extract(subject.images())
    return ", ".join(f"{name} of {vectors.shape[1]}" for name, vectors in layers.items()) or "no layers"


def _color(subject: _Subject) -> str:
    layers = subject.extract(subject.images(3))
    gray, repeated = subject.extract(subject.images()), subject.extract(subject.images().expand(-1, 3, -1, -1).clone())
    for name in layers:
        _expect_close(gray[name], repeated[name], f"'{name}' of gray images that are given as three equal channels")
    return "gray counts as three equal channels"


def _rows(subject: _Subject) -> str:
    images = subject.images()
    whole, backwards, alone = (subject.extract(some) for some in (images, images.flip(0), images[:1]))
    for name, vectors in whole.items():
        _expect_close(vectors, backwards[name].flip(0), f"'{name}' in reverse order")
        _expect_close(vectors[:1], alone[name], f"'{name}' of an image alone")
    return "each row depends only on its own image"


def _distance(subject: _Subject) -> str | None:
    if not subject.spec.perceptual:
        return None
    extractor: PerceptualExtractor = subject.extractor
    for channels in (1, 3):
        one, other = subject.images(channels), subject.images(channels, seed=1)
        apart = extractor.distance(one, other)
        expect(apart.shape == (_COUNT,), f"expected a distance a pair, ({_COUNT},), got {tuple(apart.shape)}")
        expect(apart.dtype == torch.float32, f"expected distances in float32, got {apart.dtype}")
        expect(bool((apart > 0).all()), "expected distances over 0 for images that differ")
        expect(not bool(extractor.distance(one, one).any()), "expected 0 for equal images")
        _expect_close(apart[:1], extractor.distance(one[:1], other[:1]), "the distance of a pair alone")
    return f"{apart[0].item():.3g} between images of noise, 0 for equal ones"


def _expect_close(one: Tensor, other: Tensor, what: str) -> None:
    scale = max(1.0, float(one.abs().max()))
    expect(torch.allclose(one, other, rtol=0.0, atol=ATOL * scale), f"expected the same, other numbers came for {what}")


_CHECKS: Mapping[str, Callable[[_Subject], str | None]] = {
    "build": _build,
    "layers": _layers,
    "channels": _color,
    "rows": _rows,
    "distance": _distance,
}
