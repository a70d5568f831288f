"""What the conformance kit measures with a metric: made-up sets of three classes, good, bad and odd ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from medzoo.protocols import Sample
from medzoo.testing.contract import expect
from medzoo.testing.fake_images import CLASSES

if TYPE_CHECKING:
    from medzoo.specs import MetricSpec

WIDTH = 16  # of made-up features


class Read:
    """A Pixels that is nothing more: its images are read by slice or by a sequence of numbers."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice | Sequence[int]) -> Tensor:
        """Return a copy of the images at `index`."""
        expect(isinstance(index, slice | Sequence), f"expected pixels asked for by a slice or a list, not by {index!r}")
        return self.images[index if isinstance(index, slice) else list(index)].clone()


class FakeSamples:
    """Makes the samples that `spec` asks for, of images with `side` pixels.

    `good` images are drawn as the real ones are. `bad` ones are brighter, coarser and of half the contrast, their
    features far off, their logits flat; where training images are needed, they are copies of those. `fault` says so.
    """

    def __init__(self, spec: MetricSpec, *, side: int) -> None:
        self.spec = spec
        self.side = side
        seen = "brighter, coarser ones of half the contrast" if spec.needs_pixels else "ones with features far off"
        self.fault = "copies of training images" if spec.needs_train else seen

    def good(self, count: int, *, seed: int = 0, channels: int = 1) -> Sample:
        """Return `count` good images."""
        source = torch.Generator().manual_seed(seed)
        grain = torch.rand(count, channels, self.side, self.side, generator=source)
        smooth = functional.avg_pool2d(grain, 3, stride=1, padding=1, count_include_pad=False)
        features = {
            "features": torch.randn(count, WIDTH, generator=source),
            "logits": 3.0 * torch.randn(count, WIDTH, generator=source),
        }
        return self._sample(0.7 * smooth, features)

    def bad(self, count: int, train: Sample) -> Sample:
        """Return `count` images that every metric should score badly."""
        good = self.good(count, seed=1)
        pixels = _corrupted(good.pixels[:]) if good.pixels is not None else torch.empty(count, 1, 1, 1)
        features = {
            "features": 4.0 + good.features.get("features", torch.empty(0)),
            "logits": torch.zeros(count, WIDTH),
        }
        if self.spec.needs_train:
            features = {name: vectors[:count] for name, vectors in train.features.items()}
        return self._sample(pixels, features)

    def constant(self, count: int) -> Sample:
        """Return `count` images of one gray."""
        zeros = torch.zeros(count, WIDTH)
        return self._sample(torch.full((count, 1, self.side, self.side), 0.5), {"features": zeros, "logits": zeros})

    def train(self, count: int) -> Sample:
        """Return `count` training images."""
        source = torch.Generator().manual_seed(2)
        features = {name: torch.randn(count, WIDTH, generator=source) for name in self.spec.needs_train}
        return Sample(size=count, features=features)

    def _sample(self, pixels: Tensor, features: dict[str, Tensor]) -> Sample:
        spec, count = self.spec, len(pixels)
        return Sample(
            size=count,
            pixels=Read(pixels) if spec.needs_pixels else None,
            labels=torch.arange(count) % len(CLASSES) if spec.needs_labels else None,
            features={name: features[name] for name in spec.needs_features},
            distance=_distance if spec.needs_distance else None,
        )


def _corrupted(images: Tensor) -> Tensor:
    """Return images brighter by 0.3, of half the contrast, in blocks of 4x4 pixels."""
    blocks = functional.avg_pool2d(images, 4).repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-2)
    return 0.5 * (blocks - blocks.mean()) + blocks.mean() + 0.3


def tensors_of(sample: Sample) -> list[Tensor]:
    """Return all tensors of `sample`."""
    held = list(sample.features.values())
    held += [sample.pixels.images] if isinstance(sample.pixels, Read) else []
    return held if sample.labels is None else [*held, sample.labels]


def _distance(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).abs().mean(dim=(1, 2, 3))
