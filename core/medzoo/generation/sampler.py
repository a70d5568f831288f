"""Sample images from generators: used by every command and the Python API."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medzoo.data.dataset import Dataset
from medzoo.data.marks import Mark
from medzoo.data.pixels import prepare, to_float, to_uint8
from medzoo.errors import DataError, PluginError, memory_errors
from medzoo.generation.plan import Plan, PlannedImage
from medzoo.models.labels import label_tensor
from medzoo.models.loading import LoadedModel
from medzoo.protocols import Generator
from medzoo.runs.progress import Progress, no_progress
from medzoo.toolkit.devices import keep_freed_memory

_TIMED_IMAGES = 8
_TIMED_SECONDS = 1.0
# Real images that generators vary are kept prepared up to this size in bytes.
_CACHE_BYTES = 128 * 1024**2


class Sampler:
    """Sample the images of `plan`: `models[k]` is the plan's generator k and varies `real` images where it needs any.

    An image depends on its model, its label, the plan's seed and its index; up to rounding, it does not depend on the
    other images of its batch. So `augment`, `sample`, `evaluate`, `experiment` and the Python API give the same images.

    Raises:
        DataError: a generator that varies real images would sample a class that has none.
    """

    def __init__(self, models: Sequence[LoadedModel[Generator]], plan: Plan, *, real: Dataset | None = None) -> None:
        keep_freed_memory()
        self.models = models
        self.plan = plan
        self.real = real
        self._by_label: dict[str, np.ndarray] = {}
        largest = max(model.image.channels * model.image.size**2 for model in models)
        self._prepared = functools.lru_cache(maxsize=max(1, _CACHE_BYTES // largest))(self._prepare)
        counts = real.counts() if real is not None else {}
        for cell in plan.cells:
            if models[cell.generator].needs_init_images and not counts.get(cell.label):
                raise DataError(
                    f"'{models[cell.generator].sampling_name}' varies real images, and class '{cell.label}' has none",
                    "use a generator that needs no real images, or give --data with images of that class",
                )

    def sample(self, batch: Sequence[PlannedImage]) -> np.ndarray:
        """Sample a batch of one generator's images: uint8 (N, C, H, W).

        Raises:
            PluginError: the generator breaks its contract.
            ResourceError: out of memory.
        """
        model = self.models[batch[0].generator]
        init_images = None
        if model.needs_init_images:
            init_images = torch.from_numpy(to_float(np.stack([self.source_pixels(image) for image in batch])))
        lower = f"use a --batch-size below {len(batch)}" if len(batch) > 1 else "use a model of a smaller image.size"
        with memory_errors(f"sampling {len(batch)} images at once with '{model.name}'", lower):
            images = model.model.sample(
                [self.plan.seed_of(image) for image in batch],
                label_tensor(model.image, [image.label for image in batch]),
                init_images=init_images,
            )
            expected = (len(batch), model.image.channels, model.image.size, model.image.size)
            if not isinstance(images, Tensor) or tuple(images.shape) != expected:
                got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
                raise PluginError(
                    f"'{model.spec.name}' returned {got} instead of {expected}",
                    f"run `medzoo plugin check {model.spec.name}`",
                )
            return to_uint8(images)

    def sample_all(self, *, progress: Progress = no_progress) -> np.ndarray:
        """Sample the whole plan of a single generator: uint8 (N, C, H, W) in the plan's order. Raises: as `sample`."""
        image = self.models[0].image
        pixels = np.empty((self.plan.total, image.channels, image.size, image.size), np.uint8)
        done = 0
        progress(done, len(pixels))
        for batch in self.plan.batches():
            pixels[done : done + len(batch)] = self.sample(batch)
            done += len(batch)
            progress(done, len(pixels))
        return pixels

    def source(self, image: PlannedImage) -> int | None:
        """Return the index of the real image that `image` varies, or None if its generator needs none."""
        if not self.models[image.generator].needs_init_images:
            return None
        assert self.real is not None  # checked on construction
        if image.label not in self._by_label:
            label = self.real.classes.index(image.label)
            self._by_label[image.label] = np.flatnonzero(self.real.labels == label)
        own = self._by_label[image.label]
        return int(own[self.plan.source_of(image, len(own))])

    def source_name(self, image: PlannedImage) -> str:
        """Return the name of the real image that `image` varies, "" if its generator needs none."""
        source = self.source(image)
        return self.real.names[source] if self.real is not None and source is not None else ""

    def mark(self, image: PlannedImage) -> Mark:
        """Return what the file of `image` says of its making."""
        model = self.models[image.generator]
        return Mark(
            source_type=model.digital_source_type,
            generator=image.generator_name,
            weights_sha256=model.weights_sha256,
            seed=self.plan.seed_of(image),
            label=image.label,
            strength=model.strength,
        )

    def source_pixels(self, image: PlannedImage) -> np.ndarray:
        """Return the real image that `image` varies, as its generator reads it: uint8 (C, H, W)."""
        return self._prepared(image.generator, self.source(image))

    def seconds_per_image(self, generator: int) -> float:
        """Time a few images, fewer the slower they are; the first call is not counted, as it includes one-time work."""
        images = list(itertools.islice(self.plan.images(generator=generator), _TIMED_IMAGES))

        def timed(batch: Sequence[PlannedImage]) -> float:
            started = time.perf_counter()
            self.sample(batch)
            return time.perf_counter() - started

        if (seconds := timed(images[:1])) > 10 * _TIMED_SECONDS:
            return seconds
        return seconds if (seconds := timed(images[:1])) > _TIMED_SECONDS else timed(images) / len(images)

    def _prepare(self, generator: int, index: int | None) -> np.ndarray:
        assert self.real is not None
        assert index is not None
        model = self.models[generator]
        return prepare(self.real.pixels(index), size=model.image.size, channels=model.image.channels, crop=model.crop)
