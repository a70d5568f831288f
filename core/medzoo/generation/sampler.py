"""Pictures drawn batch by batch: seeds, labels and real images in, uint8 pixels out."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medzoo.data.dataset import Dataset
from medzoo.data.images import prepare, to_float, to_uint8
from medzoo.errors import DataError, PluginError, ResourceError
from medzoo.generation.plan import Picture, Plan
from medzoo.models.labels import label_tensor
from medzoo.models.loading import LoadedModel
from medzoo.protocols import Generator

_PROBE_SIZE = 8
_PROBE_PATIENCE = 1.0
# Real images that generators vary are kept prepared up to this size in bytes.
_CACHE_BYTES = 128 * 1024**2


class Studio:
    """The models of a job with the real images they may vary."""

    def __init__(self, models: Sequence[LoadedModel[Generator]], plan: Plan, *, real: Dataset | None) -> None:
        self.models = models
        self.plan = plan
        self.real = real
        self._by_label: dict[str, np.ndarray] = {}
        largest = max(model.image.channels * model.image.size**2 for model in models)
        self._square = functools.lru_cache(maxsize=max(1, _CACHE_BYTES // largest))(self._prepare)

    def draw(self, pictures: Sequence[Picture]) -> np.ndarray:
        """The pictures, all of one generator, as uint8 (N, C, H, W).

        Raises:
            PluginError: the generator does not keep its contract.
            ResourceError: out of memory.
        """
        model = self.models[pictures[0].generator]
        init_images = self._sources(pictures) if model.needs_init_images else None
        try:
            images = model.model.sample(
                [self.plan.seed_of(picture) for picture in pictures],
                label_tensor(model.image, [picture.label for picture in pictures]),
                init_images=init_images,
            )
            _check(images, model, count=len(pictures))
            return to_uint8(images)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise ResourceError(
                f"out of memory drawing {len(pictures)} images at once with '{model.name}'", "lower --batch-size"
            ) from error

    def source(self, picture: Picture) -> int | None:
        """The index of the real image a picture varies; None where its generator needs none."""
        if not self.models[picture.generator].needs_init_images:
            return None
        own = self._indices(picture.label)
        return int(own[self.plan.source_of(picture, len(own))])

    def source_pixels(self, picture: Picture) -> np.ndarray:
        """The real image a picture varies, as its generator sees it: uint8 (C, H, W)."""
        return self._square(picture.generator, self.source(picture))

    def seconds_an_image(self, generator: int) -> float:
        """Measured on a few images, fewer the slower they are; the first one alone pays for what happens once."""
        pictures = list(itertools.islice(self.plan.pictures(generator=generator), _PROBE_SIZE))
        seconds = self._seconds(pictures[:1])
        if seconds > 10 * _PROBE_PATIENCE:
            return seconds
        seconds = self._seconds(pictures[:1])
        return seconds if seconds > _PROBE_PATIENCE else self._seconds(pictures) / len(pictures)

    def _seconds(self, pictures: Sequence[Picture]) -> float:
        started = time.perf_counter()
        self.draw(pictures)
        return time.perf_counter() - started

    def _indices(self, label: str) -> np.ndarray:
        assert self.real is not None  # generators that vary real images are refused without data
        if label not in self._by_label:
            self._by_label[label] = np.flatnonzero(self.real.labels == self.real.classes.index(label))
        return self._by_label[label]

    def _sources(self, pictures: Sequence[Picture]) -> Tensor:
        """float32 (N, C, H, W) in [0, 1] on the CPU."""
        return torch.from_numpy(to_float(np.stack([self.source_pixels(picture) for picture in pictures])))

    def _prepare(self, generator: int, index: int | None) -> np.ndarray:
        """A real image as the generator sees it, uint8 (C, H, W)."""
        assert self.real is not None
        assert index is not None
        model = self.models[generator]
        return prepare(self.real.pixels(index), size=model.image.size, channels=model.image.channels, crop=model.crop)


def refuse_without_sources(models: Sequence[LoadedModel[Generator]], plan: Plan, real: Dataset | None) -> None:
    """Nothing. Raises: DataError for a generator that varies real images of a class without any."""
    counts = real.counts() if real is not None else {}
    for cell in plan.cells:
        model = models[cell.generator]
        if model.needs_init_images and not counts.get(cell.label):
            raise DataError(
                f"'{model.name}' varies real images, and class '{cell.label}' has none",
                "fill it with a generator that needs no real images, or give --data with images of it",
            )


def _check(images: Tensor, model: LoadedModel[Generator], *, count: int) -> None:
    expected = (count, model.image.channels, model.image.size, model.image.size)
    if not isinstance(images, Tensor) or tuple(images.shape) != expected:
        got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise PluginError(
            f"'{model.spec.name}' gave {got} for {expected}", f"run `medzoo plugin check {model.spec.name}`"
        )
