"""Synthetic images in memory: as tensors, or as a torch Dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import NoneType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from medzoo.data.dataset import Dataset as RealImages
from medzoo.data.pixels import to_float
from medzoo.errors import ConfigError, ResourceError, UnknownName
from medzoo.generation.mixture import Mixture
from medzoo.generation.plan import Plan
from medzoo.generation.sample import labels_to_sample
from medzoo.generation.sampler import Sampler
from medzoo.models.labels import label_tensor, split_label
from medzoo.protocols import Generator
from medzoo.runs.arguments import names, require, whole_number
from medzoo.runs.progress import Progress, no_progress

_BY_NAME = "classes go by their names: "


class DrawnImages(NamedTuple):
    """`images`, float32 (N, C, H, W) in [0, 1], and their `labels`: int64 (N,), or float32 multi-hot (N, K)."""

    images: Tensor
    labels: Tensor


class Model:
    """A generator ready to sample, as returned by `medzoo.load`.

    `name` is the model's, `plugin` that of its generator plugin, `generator` the module itself (`medzoo.Generator`).
    `image` describes its images (`medzoo.ImageSpec`); label k means `classes[k]`. `settings` holds every setting by its
    dotted key; `weights_sha256` is None for a generator without weights. `device` is where it runs.
    """

    def __init__(self, mixture: Mixture, real: RealImages | None, *, device: str) -> None:
        (model,) = mixture.models
        self.name: str = model.sampling_name
        self.plugin: str = model.spec.name
        self.generator: Generator = model.model
        self.image = model.image
        self.classes = model.image.classes
        self.settings: Mapping[str, Any] = model.config.flat()
        self.weights_sha256 = model.weights_sha256
        self.device = device
        self._mixture, self._real = mixture, real

    def __repr__(self) -> str:
        return f"Model(name={self.name!r}, plugin={self.plugin!r}, image={self.image!r}, device={self.device!r})"

    def sample(
        self, labels: str | Sequence[str] | None = None, *, n: int = 16, seed: int = 0, batch_size: int = 32
    ) -> DrawnImages:
        """Sample `n` images of each class in `labels`, or of every class, class by class.

        A multi-label model shows all of `labels` together on each of `n` images. The images are, bit for bit, those of
        the PNGs that `medzoo sample` writes with the same seed and batch size: uint8 / 255 as float32 (N, C, H, W), on
        the CPU. Another batch size gives the same images up to rounding.

        Raises:
            UnknownName: a class the model does not know.
            ConfigError: `n` or `batch_size` below 1; a class that is not given by name; another invalid argument.
            DataError: a class without real images, for a generator that varies them.
            PluginError, ResourceError: a generator that breaks its contract; out of memory.
        """
        if (count := whole_number("n", n)) < 1:
            raise ConfigError(f"n={n} is too small", "it must be at least 1")
        counts = dict.fromkeys(labels_to_sample(_names(labels, self), self._mixture.models[0]), count)
        sampler = self._sampler(counts, seed=seed, batch_size=batch_size)
        images = torch.from_numpy(to_float(sampler.sample_all()))
        return DrawnImages(images, _labels(self, self.classes, sampler.plan))

    def _sampler(self, counts: Mapping[str, int], *, seed: int, batch_size: int) -> Sampler:
        """Return a sampler of `counts` images of each label. Raises: ConfigError, DataError."""
        if (together := whole_number("batch_size", batch_size)) < 1:
            raise ConfigError(f"batch_size={batch_size} is too small", "it must be at least 1")
        seed = whole_number("seed", seed)
        return self._mixture.sampler(counts, real=self._real, batch_size=together, seed=seed)


class SyntheticImages(Dataset[tuple[Any, Any]]):
    """A map-style Dataset of synthetic images, label by label, sampled when it is created.

    Item i is an image, float32 (C, H, W) in [0, 1], and its label: an int, or float32 multi-hot (K,) of a multi-label
    model, passed through `transform` and `target_transform` if given. `classes`, `class_to_idx` and `targets` are those
    of torchvision's ImageFolder. `medzoo.as_dataset` documents the arguments.

    Images are sampled `batch_size` at a time, whatever a DataLoader asks for, so image i has the bits of the file that
    `medzoo sample` writes. They are kept as one uint8 array (N, C, H, W), C * H * W bytes per image. DataLoader workers
    sample nothing: forked workers share the array's memory, and each spawned worker receives a copy of it.

    Raises:
        UnknownName, ConfigError, DataError: invalid arguments.
        ResourceError: the images take more than `memory_limit` bytes; out of memory.
        PluginError: the generator breaks its contract.
    """

    def __init__(
        self,
        model: Model,
        *,
        per_class: int | Mapping[str, int],
        labels: str | Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        seed: int = 0,
        batch_size: int = 32,
        memory_limit: int = 2 * 1024**3,
        progress: Progress | None = None,
    ) -> None:
        require(Model, "a loaded model", 'load it: medzoo.load("dcgan-busi")', model=model)
        require((Callable, NoneType), "a function", transform=transform, target_transform=target_transform)
        require((Callable, NoneType), "a function", progress=progress)
        self.classes = list(model.classes if classes is None else names("classes", classes))
        self.class_to_idx = {name: index for index, name in enumerate(self.classes)}
        self.transform = transform
        self.target_transform = target_transform
        counts = _counts(model, per_class, labels=_names(labels, model), classes=self.classes)
        shape = (sum(counts.values()), model.image.channels, model.image.size, model.image.size)
        if (needed := int(np.prod(shape, dtype=np.int64))) > whole_number("memory_limit", memory_limit):
            raise ResourceError(
                f"{shape[0]} images take {needed / 1e9:.1f} GB of memory, more than memory_limit={memory_limit}",
                "raise memory_limit, or write them into a folder with medzoo.augment and read that with ImageFolder",
            )
        sampler = model._sampler(counts, seed=seed, batch_size=batch_size)
        self.targets: list[Any] = _labels(model, self.classes, sampler.plan).tolist()
        self._pixels = sampler.sample_all(progress=progress or no_progress)

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return item `index`; negative indices count from the end. Raises: IndexError."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        image: Any = torch.from_numpy(to_float(self._pixels[index]))
        label: Any = self.targets[index]
        if isinstance(label, list):
            label = torch.tensor(label)
        return (
            image if self.transform is None else self.transform(image),
            label if self.target_transform is None else self.target_transform(label),
        )


def _names(given: str | Sequence[str] | None, model: Model) -> tuple[str, ...]:
    """Return the names of the classes to sample, or () for every class.

    Raises: ConfigError for an empty list, and for numbers: 1 could mean class 1, or one image.
    """
    if given is None:
        return ()
    found = (given,) if isinstance(given, str) else names("labels", given, _BY_NAME + ", ".join(model.classes))
    if not found:
        raise ConfigError(f"labels={given!r} names no class", "leave it out for every class")
    return found


def _counts(
    model: Model, per_class: int | Mapping[str, int], *, labels: Sequence[str], classes: Sequence[str]
) -> dict[str, int]:
    """Return the number of images by label: of `labels` (joined for a multi-label model), or of each class.

    A mapping of a multi-label model may name sets of labels, joined by `join_labels`. The order is that of `labels` or
    `classes`, whatever the order of a mapping.
    Raises: UnknownName for a class that the model or `classes` lacks; ConfigError for counts that sample nothing.
    """
    if isinstance(per_class, Mapping):
        given = names("per_class", [*per_class], _BY_NAME + ", ".join(model.classes))
        named = {name: whole_number(f"per_class[{name!r}]", per_class[name]) for name in given}
    else:
        named = dict.fromkeys(labels or classes, whole_number("per_class", per_class))
    if labels and isinstance(per_class, Mapping):
        raise ConfigError("per_class and labels both name classes", "leave labels out")
    if min(named.values(), default=0) < 0 or not any(named.values()):
        raise ConfigError(f"per_class={per_class!r} samples nothing", "give at least 1; in a mapping, at least 0")
    wanted = {name: count for name, count in named.items() if count}
    own = model._mixture.models[0]
    parts = {name: split_label(name) if model.image.multi_label else [name] for name in wanted}
    for each in parts.values():
        labels_to_sample(each, own)
        for name in each:
            if name not in classes:
                raise UnknownName("class", name, classes, "(classes=)")
    if labels:
        return dict.fromkeys(labels_to_sample(labels, own), wanted[labels[0]])
    ordered = sorted(wanted, key=lambda label: sorted(classes.index(name) for name in parts[label]))
    return {labels_to_sample(parts[label], own)[0]: wanted[label] for label in ordered}


def _labels(model: Model, classes: Sequence[str], plan: Plan) -> Tensor:
    """Return the label of every image in the order of `classes`: int64 (N,), or float32 multi-hot (N, K)."""
    image = replace(model.image, classes=tuple(classes))
    return label_tensor(image, [planned.label for planned in plan.images()])
