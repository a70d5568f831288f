"""The checks of an extractor, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medzoo.protocols import Extractor, PerceptualExtractor
from medzoo.testing.models import ATOL
from medzoo.testing.monitor import global_states
from medzoo.testing.suite import CPU, CheckResult, Suite, expect, expect_tensor

if TYPE_CHECKING:
    from medzoo.specs import ExtractorSpec

_COUNT = 3


def check_extractor(
    spec: ExtractorSpec, *, weights: Mapping[str, Mapping[str, Tensor]] | None = None, side: int = 40
) -> list[CheckResult]:
    """Check the extractor contract of `spec`, one result per check; no error of a plugin is raised here.

    It is built on the CPU from `weights` (by asset id and name) and shown images of `side` pixels.
    """
    return _ExtractorSubject(spec, weights or {}, side).suite().results()


def assert_extractor(
    spec: ExtractorSpec, *, weights: Mapping[str, Mapping[str, Tensor]] | None = None, side: int = 40
) -> None:
    """Assert that `spec` passes every check. Raises: AssertionError, with a line for each failed check."""
    _ExtractorSubject(spec, weights or {}, side).suite().assert_passed()


class _ExtractorSubject:
    """An extractor under test and the images it is shown."""

    def __init__(self, spec: ExtractorSpec, weights: Mapping[str, Mapping[str, Tensor]], side: int) -> None:
        self.spec = spec
        self.weights = weights
        self.extractor: Any = None
        self.side = side

    def suite(self) -> Suite:
        """Return the checks."""
        checks: dict[str, Callable[[], str | None]] = {
            "build": self._check_build,
            "layers": self._check_layers,
            "channels": self._check_color,
            "rows": self._check_rows,
            "distance": self._check_distance,
        }
        return Suite(f"extractor '{self.spec.name}'", checks, required=("build",))

    def images(self, channels: int = 1, *, seed: int = 0) -> Tensor:
        """Return three images of noise, uint8."""
        shape = (_COUNT, channels, self.side, self.side)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))

    def extract(self, images: Tensor) -> Mapping[str, Tensor]:
        """Extract features of `images`. Raises: ContractError unless they are the layers of the spec."""
        given, before = images.clone(), global_states(CPU)
        extractor: Extractor = self.extractor
        layers = extractor(images)
        expect(before == global_states(CPU), "it touched the global random state")
        expect(torch.equal(given, images), "it changed the images it was given")
        declared = ", ".join(sorted(self.spec.layers)) or "none"
        expect(set(layers) == set(self.spec.layers), f"expected the layers {declared}, got {', '.join(sorted(layers))}")
        return {name: expect_tensor(found, name, shape=(len(images), "D")) for name, found in layers.items()}

    def _check_build(self) -> str:
        spec = self.spec
        before = global_states(CPU)
        extractor = spec.build(self.weights, "cpu")
        expect(before == global_states(CPU), "building it touched the global random state")
        expect(bool(spec.preprocessing), "expected a few words on its preprocessing")
        expect(bool(spec.layers) or spec.perceptual, "expected layers, or a perceptual distance")
        self.extractor = extractor
        return f"a {type(extractor).__name__}"

    def _check_layers(self) -> str:
        layers = self.extract(self.images())
        return ", ".join(f"{name} of {vectors.shape[1]}" for name, vectors in layers.items()) or "no layers"

    def _check_color(self) -> str:
        layers = self.extract(self.images(3))
        gray, repeated = self.extract(self.images()), self.extract(self.images().expand(-1, 3, -1, -1).clone())
        for name in layers:
            _expect_close(gray[name], repeated[name], f"'{name}' of gray images that are given as three equal channels")
        return "gray counts as three equal channels"

    def _check_rows(self) -> str:
        images = self.images()
        whole, backwards, alone = (self.extract(some) for some in (images, images.flip(0), images[:1]))
        for name, vectors in whole.items():
            _expect_close(vectors, backwards[name].flip(0), f"'{name}' in reverse order")
            _expect_close(vectors[:1], alone[name], f"'{name}' of an image alone")
        return "each row depends only on its own image"

    def _check_distance(self) -> str | None:
        if not self.spec.perceptual:
            return None
        extractor: PerceptualExtractor = self.extractor
        for channels in (1, 3):
            one, other = self.images(channels), self.images(channels, seed=1)
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
