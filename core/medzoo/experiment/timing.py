"""How long a step of training, or an image, takes on this machine: measured once on a few, and kept."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medzoo._version import __version__
from medzoo.experiment.generators import Generator
from medzoo.experiment.recipes import Recipe
from medzoo.models.classifiers import build_classifier
from medzoo.models.folder import number_of_weights
from medzoo.models.generators import build_generator, hardware
from medzoo.models.labels import label_tensor
from medzoo.plugins.lookup import Plugins
from medzoo.protocols import Generator as GeneratorProtocol
from medzoo.specs import ImageSpec
from medzoo.storage.files import write_json_atomic
from medzoo.storage.paths import cache_root

# The first step pays for what happens once.
_STEPS = 4
_PATIENCE = 1.0
_IMAGES = 8
# Seconds after which it is measured anew: what else the machine did then is over.
_FRESH = 6 * 3600


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds an optimiser step and an image, optimiser steps of a training, bytes of the weights; 0 where none."""

    step: float = 0.0
    image: float = 0.0
    steps: int = 0
    weights: int = 0


class _Stopwatch:
    """A `Report` that ends training after a few steps, whose times it keeps."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.total = 0

    @property
    def seconds(self) -> float:
        """A step's, the first left out."""
        return (self.times[-1] - self.times[0]) / (len(self.times) - 1) if len(self.times) > 1 else 0.0

    def restore(self) -> Mapping[str, Tensor] | None:
        """Nothing to go on from."""
        return None

    def checkpoint(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Keep nothing."""

    def progress(self, step: int, total: int, values: Mapping[str, float]) -> None:
        """Take the time."""
        self.times.append(time.perf_counter())
        self.total = total

    def preview(self, step: int, sample: Callable[[Sequence[int], Tensor], Tensor]) -> None:
        """Look at nothing."""

    def note(self, name: str, value: Mapping[str, float | str]) -> None:
        """Remember nothing."""

    def warn(self, message: str) -> None:
        """Say nothing: a few steps show nothing."""

    def keep(self, key: str, make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """The tensors, kept nowhere."""
        return make()

    def stop_after(self) -> int | None:
        """A few steps."""
        return _STEPS


class _Noise:
    """Images of noise as `LabelledImages`; every class comes equally often."""

    def __init__(self, image: ImageSpec, count: int) -> None:
        self.classes = image.classes
        numbers = np.arange(count) % len(image.classes)
        hot = np.eye(len(image.classes), dtype=np.float32)[numbers]
        self.labels: np.ndarray = hot if image.multi_label else numbers.astype(np.int64)
        self._shape = (image.channels, image.size, image.size)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.random.default_rng(index).integers(0, 256, self._shape, np.uint8)


def classifier_pace(recipe: Recipe, image: ImageSpec, *, device: str) -> Pace:
    """A classifier's pace on images of `image`. Raises: whatever the classifier raises."""
    config = recipe.base()

    def measure() -> Pace:
        classifier = build_classifier(recipe.spec, config, image, device=device)
        watch = _Stopwatch()
        batch = int(config.flat()["training.batch_size"])
        classifier.fit(_Noise(image, 2 * _STEPS * batch), validation=_Noise(image, batch), seed=0, report=watch)

        def predict(count: int) -> float:
            started = time.perf_counter()
            classifier.predict(torch.rand(count, image.channels, image.size, image.size))
            return (time.perf_counter() - started) / count

        return Pace(step=watch.seconds, image=_paced(predict), weights=4 * number_of_weights(classifier))

    return _kept({"classifier": recipe.spec.name, "config": config.flat(), "image": image.to_dict()}, device, measure)


def generator_pace(
    generator: Generator, image: ImageSpec, *, images: int, trained: bool, plugins: Plugins, device: str
) -> Pace:
    """A generator's pace in drawing, and where `trained`, in training on so many `images`.

    Raises: whatever the generator raises.
    """
    spec, config = generator.spec(plugins), generator.config(plugins)

    def measure() -> Pace:
        model = build_generator(spec, config, image, device=device)
        watch = _Stopwatch()
        if trained:
            model.fit(_Noise(image, images), seed=0, report=watch)
        return Pace(
            step=watch.seconds,
            steps=watch.total,
            image=_seconds_an_image(model, image, sources=spec.needs_sources),
            weights=4 * number_of_weights(model),
        )

    facts = {"generator": spec.name, "config": config.flat(), "image": image.to_dict()}
    return _kept({**facts, "images": images if trained else 0}, device, measure)


def _seconds_an_image(model: GeneratorProtocol, image: ImageSpec, *, sources: bool) -> float:
    def draw(count: int) -> float:
        labels = label_tensor(image, [image.classes[0]] * count)
        given = torch.rand(count, image.channels, image.size, image.size) if sources else None
        started = time.perf_counter()
        model.sample(range(count), labels, sources=given)
        return (time.perf_counter() - started) / count

    return _paced(draw)


def _paced(act: Callable[[int], float]) -> float:
    """Seconds an image by `act`, which tells them of so many; the first pays for what happens once."""
    first = act(1)
    if first > 10 * _PATIENCE:
        return first
    second = act(1)
    return second if second > _PATIENCE else act(_IMAGES)


def _kept(facts: Mapping[str, Any], device: str, measure: Callable[[], Pace]) -> Pace:
    """What was measured on this machine a few hours ago, or is now."""
    whole = {**facts, "medzoo": __version__, "hardware": hardware(device)}
    key = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:20]
    path = cache_root() / "timings" / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        if time.time() - path.stat().st_mtime < _FRESH:
            return Pace(**json.loads(path.read_text("utf-8")))
    pace = measure()
    write_json_atomic(path, asdict(pace))
    return pace
