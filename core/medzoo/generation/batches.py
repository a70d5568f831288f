"""Sample batches of a plan: in this process, or in another, which builds the models again and encodes the images."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from medzoo.data.dataset import Dataset
from medzoo.data.images import encode_image
from medzoo.distributed.workers import Work
from medzoo.generation.plan import Plan, PlannedImage
from medzoo.generation.sampler import Sampler
from medzoo.hub.registry import WEIGHTS
from medzoo.models.loading import LoadedModel, build_again
from medzoo.plugins.lookup import load_plugins
from medzoo.storage.files import write_file


@dataclass(frozen=True)
class Drawn:
    """The images of a batch, in its order, and the seconds they took.

    An image is uint8 (C, H, W), or the bytes of its file, or None where its file was written already.
    """

    images: Sequence[np.ndarray | bytes | None]
    seconds: float


@dataclass(frozen=True)
class BatchWork(Work[list[PlannedImage], Drawn]):
    """Sample batches with models that are loaded here."""

    sampler: Sampler

    def __call__(self, batch: list[PlannedImage]) -> Drawn:
        """Sample a batch. Raises: as `Sampler.sample`."""
        started = time.perf_counter()
        return Drawn([*self.sampler.sample(batch)], time.perf_counter() - started)


@dataclass(frozen=True, kw_only=True)
class RemoteBatchWork(Work[list[PlannedImage], Drawn]):
    """Sample and encode batches in another process, or write them to `folder`, which it shares.

    `models` lack their networks and specs, which are built there by the `specs`' names, with the weights' files.
    """

    ahead: ClassVar[int] = 1
    models: tuple[LoadedModel[Any], ...]
    specs: tuple[str, ...]
    plan: Plan
    real: Dataset | None
    device: str
    folder: Path | None

    @classmethod
    def of(cls, sampler: Sampler, *, device: str, folder: Path | None) -> RemoteBatchWork:
        """Return the work of a sampler."""
        bare: dict[str, Any] = {"model": None, "spec": None, "trained_on": frozenset()}
        varied = any(model.needs_init_images for model in sampler.models)
        return cls(
            models=tuple(replace(model, **bare) for model in sampler.models),
            specs=tuple(model.spec.name for model in sampler.models),
            plan=sampler.plan,
            real=replace(sampler.real, held_out={}) if varied and sampler.real is not None else None,
            device=device,
            folder=folder,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @cached_property
    def sampler(self) -> Sampler:
        """The sampler, whose models are built on the device."""
        plugins = load_plugins()
        models = [
            build_again(model, plugins.generator(name), device=self.device)
            for model, name in zip(self.models, self.specs, strict=True)
        ]
        return Sampler(models, self.plan, real=self.real)

    def __call__(self, batch: list[PlannedImage]) -> Drawn:
        """Sample a batch and encode it. Raises: as `Sampler.sample`; ResourceError for a full disk."""
        sampler = self.sampler
        started = time.perf_counter()
        found: list[bytes | None] = []
        for image, pixels in zip(batch, sampler.sample(batch), strict=True):
            data = encode_image(Path(image.file), pixels, sampler.mark(image))
            if self.folder is not None:
                write_file(self.folder / image.file, data)
            found.append(data if self.folder is None else None)
        return Drawn(found, time.perf_counter() - started)

    def inputs(self) -> Iterator[Path]:
        """Yield the files of the weights and of the real images that are varied."""
        for model in self.models:
            if model.folder is not None:
                yield model.folder / WEIGHTS
        if self.real is not None:
            yield from self.real.files or ()
