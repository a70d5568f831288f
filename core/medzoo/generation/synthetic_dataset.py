"""Synthetic images in memory: drawn at once, or, as a torch Dataset, when they are first asked for."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import NoneType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from medzoo.arguments import names, require, whole_number
from medzoo.data.dataset import Dataset as RealImages
from medzoo.data.images import to_float
from medzoo.errors import ConfigError, ResourceError, UnknownName
from medzoo.generation.mixture import Mixture
from medzoo.generation.plan import Plan
from medzoo.generation.sample import labels_to_draw, plan_alone
from medzoo.generation.sampler import Studio
from medzoo.models.labels import label_tensor
from medzoo.protocols import Generator
from medzoo.runs.progress import Progress


class DrawnImages(NamedTuple):
    """`images`, float32 (N, C, H, W) in [0, 1], and their `labels`: int64 (N,), or float32 multi-hot (N, K)."""

    images: Tensor
    labels: Tensor


class Model:
    """A generator ready to draw, as `medzoo.load` gives it.

    `name` is the model's, `plugin` the generator's that built it, `generator` itself (`medzoo.Generator`). `image` says
    which images it makes (`medzoo.ImageSpec`) and `classes` of what, label k being `classes[k]`. `settings` holds every
    setting by its dotted key; `weights_sha256` is None for a generator without weights. `device` is where it runs.
    """

    def __init__(self, mixture: Mixture, real: RealImages | None, *, device: str) -> None:
        (model,) = mixture.models
        self.name: str = model.name
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
        """`n` images of each class in `labels`, or of every class, one class after the other; and their labels.

        A multi-label model shows all of `labels` together on each of `n` images. The images are, bit for bit, those of
        the PNGs that `medzoo sample` writes with the same seed and batch size: uint8 / 255 as float32 (N, C, H, W), on
        the CPU. Another batch size gives the same images up to rounding.

        Raises:
            UnknownName: a class the model does not know.
            ConfigError: `n` or `batch_size` below 1; a class that is not called by its name; another wrong argument.
            DataError: a class without real images, for a generator that varies them.
            PluginError, ResourceError: a generator that breaks its contract; memory that runs out.
        """
        if (count := whole_number("n", n)) < 1:
            raise ConfigError(f"n={n} cannot be drawn", "it counts from 1")
        counts = dict.fromkeys(labels_to_draw(_names(labels, self), self._mixture.models[0]), count)
        studio = _studio(self, counts, seed=seed, batch_size=batch_size)
        pixels = np.concatenate([studio.draw(batch) for batch in studio.plan.batches()])
        return DrawnImages(torch.from_numpy(to_float(pixels)), _labels(self, self.classes, studio.plan))


class SyntheticImages(Dataset[tuple[Any, Any]]):
    """A map-style Dataset of synthetic images, label by label, drawn when they are first asked for.

    Item i is an image, float32 (C, H, W) in [0, 1], and its label: an int, or float32 multi-hot (K,) of a multi-label
    model; each through `transform` and `target_transform` where they are given. `classes`, `class_to_idx` and `targets`
    are those of torchvision's ImageFolder. `medzoo.as_dataset` says what the arguments are.

    Images are drawn `batch_size` at a time, always the same ones together. So an image has the same bits whatever the
    order, the DataLoader's batches and its workers, and it is the one that `medzoo sample` writes. What was drawn is
    kept as uint8, C * H * W bytes an image, in memory that forked workers share: what one of them draws is there for
    all, in later epochs too, and no other draws it again. A spawned worker gets a copy of what was drawn by then, and
    draws for itself what it lacks. `draw_all` draws everything ahead.

    Raises: UnknownName, ConfigError, DataError; ResourceError if the images would take more than `memory_limit` bytes.
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
    ) -> None:
        require(Model, "a loaded model", 'load it: medzoo.load("dcgan-busi")', model=model)
        require((Callable, NoneType), "a function", transform=transform, target_transform=target_transform)
        self.classes = list(model.classes if classes is None else names("classes", classes))
        self.class_to_idx = {name: index for index, name in enumerate(self.classes)}
        self.transform = transform
        self.target_transform = target_transform
        self._model, self._seed, self._batch_size = model, seed, whole_number("batch_size", batch_size)
        self._counts = _counts(model, per_class, labels=_names(labels, model), classes=self.classes)
        self._shape = (sum(self._counts.values()), model.image.channels, model.image.size, model.image.size)
        if (needed := int(np.prod(self._shape, dtype=np.int64))) > whole_number("memory_limit", memory_limit):
            raise ResourceError(
                f"{self._shape[0]} images take {needed / 1e9:.1f} GB of memory, over memory_limit={memory_limit}",
                "raise memory_limit, or write them into a folder with medzoo.augment and read that with ImageFolder",
            )
        self._prepare()
        self.targets: list[Any] = _labels(model, self.classes, self._studio.plan).tolist()

    def __len__(self) -> int:
        return self._shape[0]

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Item `index`; negative ones count from the end.

        Raises: IndexError; PluginError, ResourceError where it cannot be drawn.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        index %= len(self)
        self._draw(index // self._batch_size)
        image: Any = torch.from_numpy(to_float(self._pixels[index]))
        label: Any = self.targets[index]
        if isinstance(label, list):
            label = torch.tensor(label)
        return (
            image if self.transform is None else self.transform(image),
            label if self.target_transform is None else self.target_transform(label),
        )

    def draw_all(self, *, progress: Progress | None = None) -> None:
        """Nothing; every image is then in memory. `progress` is told how many of how many are.

        Raises: PluginError, ResourceError.
        """
        for number in range(len(self._batches)):
            if progress is not None:
                progress(number * self._batch_size, len(self))
            self._draw(number)
        if progress is not None:
            progress(len(self), len(self))

    def __getstate__(self) -> dict[str, Any]:
        """What a spawned worker is sent: the model, what is to be drawn, and what was drawn by now."""
        state = self.__dict__.copy()
        for name in ("_home", "_lock", "_lock_of", "_studio", "_batches", "_pixels", "_drawn", "_claims"):
            del state[name]
        drawn = np.flatnonzero(self._drawn).tolist()
        return state | {"kept": {number: self._pixels[self._places(number)].copy() for number in drawn}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        kept = state.pop("kept")
        self.__dict__.update(state)
        self._prepare()
        for number, pixels in kept.items():
            self._keep(number, pixels)

    def _prepare(self) -> None:
        """Nothing; sets up what belongs to this process and to those it forks."""
        self._home = self._lock_of = os.getpid()
        self._lock = threading.Lock()
        self._studio = _studio(self._model, self._counts, seed=self._seed, batch_size=self._batch_size)
        self._batches = list(self._studio.plan.batches())
        self._pixels = _shared(self._shape)
        self._drawn = _shared((len(self._batches),))
        self._claims = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the dataset is there
        weakref.finalize(self, self._claims.close)

    def _places(self, number: int) -> slice:
        return slice(number * self._batch_size, min((number + 1) * self._batch_size, len(self)))

    def _draw(self, number: int) -> None:
        """Nothing; the images of a batch are there. Raises: as `draw_all`."""
        if self._drawn[number]:
            return
        if self._model.device != "cpu" and os.getpid() != self._home:
            raise ResourceError(
                f"a forked worker cannot draw on {self._model.device}",
                "call draw_all() before, or give the DataLoader num_workers=0",
            )
        with self._own_lock(), self._claimed(number):
            if not self._drawn[number]:  # by another process in the meantime
                self._keep(number, self._studio.draw(self._batches[number]))

    def _own_lock(self) -> threading.Lock:
        """The lock that this process's threads share: claims are the process's, and tell its threads not apart."""
        if self._lock_of != os.getpid():  # in a forked worker, where nobody would release the other one
            self._lock, self._lock_of = threading.Lock(), os.getpid()
        return self._lock

    @contextmanager
    def _claimed(self, number: int) -> Iterator[None]:
        """Nothing; inside, no other process forked from the same one draws this batch.

        The claim is a lock on one byte of a file, for the system takes such locks from processes that are killed.
        """
        if sys.platform == "win32":  # where nothing is forked
            yield
            return
        import fcntl

        fcntl.lockf(self._claims, fcntl.LOCK_EX, 1, number)
        try:
            yield
        finally:
            fcntl.lockf(self._claims, fcntl.LOCK_UN, 1, number)

    def _keep(self, number: int, pixels: np.ndarray) -> None:
        """Nothing; pixels first, so that another process that sees the mark finds them whole."""
        self._pixels[self._places(number)] = pixels
        self._drawn[number] = 1


def _names(given: str | Sequence[str] | None, model: Model) -> tuple[str, ...]:
    """The names of the classes to draw; nothing where every one is meant.

    Raises: ConfigError for no names. Numbers are refused: who asks for 1 may mean class 1, or one image.
    """
    if given is None:
        return ()
    found = (given,) if isinstance(given, str) else names("labels", given, _hint(model))
    if not found:
        raise ConfigError(f"labels={given!r} names no class", "leave it out for every class")
    return found


def _hint(model: Model) -> str:
    return f"classes go by their names: {', '.join(model.classes)}"


def _counts(
    model: Model, per_class: int | Mapping[str, int], *, labels: Sequence[str], classes: Sequence[str]
) -> dict[str, int]:
    """How many pictures of each label are wanted: of `labels` (of a multi-label model together), or of each class.

    In the order of `labels` or `classes`, whatever that of a mapping is.
    Raises: UnknownName for a class that the model or `classes` lacks; ConfigError for counts that draw nothing.
    """
    if isinstance(per_class, Mapping):
        given = names("per_class", [*per_class], _hint(model))
        named = {name: whole_number(f"per_class[{name!r}]", per_class[name]) for name in given}
    else:
        named = dict.fromkeys(labels or classes, whole_number("per_class", per_class))
    if labels and isinstance(per_class, Mapping):
        raise ConfigError("per_class and labels both name classes", "leave labels out")
    if min(named.values(), default=0) < 0 or not any(named.values()):
        raise ConfigError(f"per_class={per_class!r} cannot be drawn", "it counts from 1; in a mapping, from 0")
    wanted = {name: count for name, count in named.items() if count}
    for name in wanted:
        labels_to_draw((name,), model._mixture.models[0])
        if name not in classes:
            raise UnknownName("class", name, classes, "(classes=)")
    if labels:
        return dict.fromkeys(labels_to_draw(labels, model._mixture.models[0]), wanted[labels[0]])
    return {name: wanted[name] for name in classes if name in wanted}


def _studio(model: Model, counts: Mapping[str, int], *, seed: int, batch_size: int) -> Studio:
    """Where so many pictures of each label are drawn. Raises: ConfigError, DataError."""
    if (together := whole_number("batch_size", batch_size)) < 1:
        raise ConfigError(f"batch_size={batch_size} draws nothing", "it counts from 1")
    seed = whole_number("seed", seed)
    plan = plan_alone(model._mixture, model._real, counts, batch_size=together, seed=seed)
    return Studio(model._mixture.models, plan, real=model._real)


def _labels(model: Model, classes: Sequence[str], plan: Plan) -> Tensor:
    """The label of every picture in the order of `classes`: int64 (N,), or float32 multi-hot (N, K)."""
    image = replace(model.image, classes=tuple(classes))
    return label_tensor(image, [picture.label for picture in plan.pictures()])


def _shared(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros, uint8, that processes forked from this one share. They take memory only once they are written to."""
    size = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(mmap.mmap(-1, size), np.uint8).reshape(shape)
