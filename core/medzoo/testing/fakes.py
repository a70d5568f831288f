"""The made-up data of the conformance kit: images to train on, and samples for metrics to measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medzoo.protocols import Sample
from medzoo.specs import ImageSpec
from medzoo.testing.suite import expect

if TYPE_CHECKING:
    from medzoo.specs import MetricSpec

CLASSES = ("first", "second", "third")
BRIGHTNESS = (24, 128, 232)
_WIDTH = 16  # of made-up features


class _Images:
    """`_pixels`, uint8 (N, C, H, W), and their `labels`."""

    labels: np.ndarray
    _pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return a copy of image `index`: uint8 (C, H, W)."""
        pixels: np.ndarray = self._pixels[index]
        return pixels.copy()


class FakeImages(_Images):
    """24 noisy images of three classes, twelve, eight and four, brighter from class to class.

    Multi-label: every label brightens, seven images have two and three have none.
    """

    def __init__(self, image: ImageSpec) -> None:
        self.classes = image.classes
        if image.multi_label:
            kinds = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [0, 0, 0]], np.float32)
            self.labels = np.repeat(kinds, (6, 5, 3, 4, 3, 3), axis=0)
            light = self.labels @ np.array([16, 48, 80])
        else:
            self.labels = np.repeat(np.arange(3), (12, 8, 4)).astype(np.int64)
            light = 64 * self.labels
        grain = np.random.default_rng(0).integers(0, 96, (24, image.channels, image.size, image.size))
        self._pixels = (grain + light[:, None, None, None]).astype(np.uint8)


class WeightedFakeImages(FakeImages):
    """The images of `FakeImages`, every other one with the loss weight `low`."""

    def __init__(self, image: ImageSpec, *, low: float) -> None:
        super().__init__(image)
        self.weights = np.where(np.arange(len(self.labels)) % 2, low, 1.0).astype(np.float32)


class PlainImages(_Images):
    """72 images of one brightness each, `BRIGHTNESS` by class or by label, so that nothing is easier to learn."""

    def __init__(self, image: ImageSpec) -> None:
        self.classes = image.classes
        turns = 24
        if image.multi_label:
            self.labels = np.tile(np.eye(len(BRIGHTNESS), dtype=np.float32), (turns, 1))
        else:
            self.labels = np.tile(np.arange(len(BRIGHTNESS), dtype=np.int64), turns)
        light = np.tile(np.array(BRIGHTNESS), turns) + np.random.default_rng(0).integers(-8, 9, 3 * turns)
        self._pixels = np.empty((len(light), image.channels, image.size, image.size), np.uint8)
        self._pixels[:] = light[:, None, None, None]


class NoImages(_Images):
    """A set of three classes without an image."""

    def __init__(self, image: ImageSpec) -> None:
        self.classes = image.classes
        self.labels = np.empty((0, len(CLASSES)), np.float32) if image.multi_label else np.empty(0, np.int64)
        self._pixels = np.empty((0, image.channels, image.size, image.size), np.uint8)


class _BatchedPixels:
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
    features far off and like those of another class, their logits flat; where training images are needed, they are
    copies of those. `fault` says so.
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
            "features": torch.randn(count, _WIDTH, generator=source),
            "logits": 3.0 * torch.randn(count, _WIDTH, generator=source),
        }
        if self.spec.needs_labels:
            features = {name: vectors + _of_classes(_labels(count)) for name, vectors in features.items()}
        return self._sample(0.7 * smooth, features)

    def bad(self, count: int, train: Sample) -> Sample:
        """Return `count` images that every metric should score badly."""
        good = self.good(count, seed=1)
        pixels = torch.empty(count, 1, 1, 1)
        if good.pixels is not None:
            blocks = functional.avg_pool2d(good.pixels[:], 4).repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-2)
            pixels = 0.5 * (blocks - blocks.mean()) + blocks.mean() + 0.3
        features = {
            "features": 4.0 + good.features.get("features", torch.empty(0)),
            "logits": torch.zeros(count, _WIDTH),
        }
        if self.spec.needs_labels:
            features["features"] = features["features"] + _of_classes(_labels(count) + 1) - _of_classes(_labels(count))
        if self.spec.needs_train:
            features = {name: vectors[:count] for name, vectors in train.features.items()}
        return self._sample(pixels, features)

    def constant(self, count: int) -> Sample:
        """Return `count` images of one gray."""
        zeros = torch.zeros(count, _WIDTH)
        return self._sample(torch.full((count, 1, self.side, self.side), 0.5), {"features": zeros, "logits": zeros})

    def train(self, count: int) -> Sample:
        """Return `count` training images."""
        source = torch.Generator().manual_seed(2)
        features = {name: torch.randn(count, _WIDTH, generator=source) for name in self.spec.needs_train}
        return Sample(size=count, features=features)

    def _sample(self, pixels: Tensor, features: dict[str, Tensor]) -> Sample:
        spec, count = self.spec, len(pixels)
        return Sample(
            size=count,
            pixels=_BatchedPixels(pixels) if spec.needs_pixels else None,
            labels=_labels(count) if spec.needs_labels else None,
            classes=CLASSES if spec.needs_labels else (),
            features={name: features[name] for name in spec.needs_features},
            distance=_distance if spec.needs_distance else None,
        )


def tensors_of(sample: Sample) -> list[Tensor]:
    """Return all tensors of `sample`."""
    held = list(sample.features.values())
    held += [sample.pixels.images] if isinstance(sample.pixels, _BatchedPixels) else []
    return held if sample.labels is None else [*held, sample.labels]


def _labels(count: int) -> Tensor:
    return torch.arange(count) % len(CLASSES)


def _of_classes(labels: Tensor) -> Tensor:
    """Return what features and logits of images of these classes have more than others, float32 (N, _WIDTH)."""
    return 8.0 * torch.eye(_WIDTH)[labels % len(CLASSES)]


def _distance(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).abs().mean(dim=(1, 2, 3))
