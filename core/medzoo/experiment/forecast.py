"""Forecast an experiment before it runs: cells, optimizer steps, and an estimate of time and disk space.

The time of a step or an image is measured once on this machine on a few, and kept for some hours.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from medzoo import config
from medzoo._version import __version__
from medzoo.errors import MedzooError
from medzoo.experiment.models import training_settings
from medzoo.experiment.plan import ExperimentPlan
from medzoo.experiment.tasks import Cell, SamplingTask, TrainingTask
from medzoo.experiment.training_sets import fraction_of
from medzoo.experiment.worker import Worker
from medzoo.models.devices import hardware
from medzoo.models.labels import label_tensor
from medzoo.models.loading import LoadedModel, build_model, count_parameters
from medzoo.protocols import CheckpointStore, TrainingCallback
from medzoo.specs import GeneratorSpec, ImageSpec, ModelSpec
from medzoo.storage.files import optional_cache, read_json, write_json_atomic
from medzoo.storage.paths import cache_path

# The first step includes what happens once.
_STEPS = 4
_IMAGES = 8
# Seconds after which no more images are timed.
_SLOW = 1.0
# Seconds after which it is measured again: whatever else the machine did then is over.
_FRESH = 6 * 3600


@dataclass(frozen=True, kw_only=True)
class ModelForecast:
    """What is to be done with one classifier or generator, and the seconds that takes one process.

    `trainings` are cells of a classifier, or trainings of a generator; `steps` optimizer steps of all; `images` to
    sample; `disk` bytes. `seconds` is None where it could not be measured, for the `reason` given.
    """

    name: str
    kind: str
    trainings: int = 0
    steps: int = 0
    images: int = 0
    seconds: float | None = None
    disk: int = 0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """An experiment before it is run: all `cells`, and the `missing` ones without scores, which `models` is about.

    `arms` have a "name", the numbers of "real" and "synthetic" images of the training set in the first fold, and of
    "cells" and "missing" ones. `steps_per_cell` are those of every arm, by classifier, the most of any fold. `steps`,
    `seconds` of one process (None where a part could not be measured) and `disk` (bytes) are those of all models.
    """

    cells: int
    missing: int
    arms: tuple[Mapping[str, Any], ...]
    folds: int
    seeds: int
    steps_per_cell: Mapping[str, int]
    models: tuple[ModelForecast, ...]
    warnings: tuple[str, ...]
    steps: int
    seconds: float | None
    disk: int


def forecast(plan: ExperimentPlan, *, measure: bool) -> Forecast:
    """Forecast what the plan has still to do; `measure` times a few steps of each model, once on a machine."""
    worker, missing = plan.worker, plan.missing
    cells = [task for task in missing if isinstance(task, Cell)]
    models = [
        _classifier(worker, name, [cell for cell in cells if cell.classifier == name], measure=measure)
        for name in worker.recipes
    ]
    for name in worker.generators:
        trainings = [task for task in missing if isinstance(task, TrainingTask) and task.generator == name]
        samplings = [task for task in missing if isinstance(task, SamplingTask) and task.generator == name]
        models.append(_generator(worker, name, trainings, samplings, measure=measure))
    arms: list[Mapping[str, Any]] = []
    for arm in worker.design.arms:
        own = [cell for cell in plan.cells if cell.arm == arm]
        train, seed = own[0].fold.train, worker.design.value.seed
        arms.append(
            {
                "name": arm.name,
                "real": len(fraction_of(worker.images.data, train, arm.real_fraction, seed=seed)),
                "synthetic": sum(sum(counts.values()) for counts in own[0].synthetic.values()),
                "cells": len(own),
                "missing": sum(cell.arm == arm for cell in cells),
            }
        )
    seconds = [model.seconds for model in models if model.seconds is not None]
    return Forecast(
        cells=len(plan.cells),
        missing=len(cells),
        arms=tuple(arms),
        folds=len(worker.images.folds),
        seeds=worker.design.value.seeds,
        steps_per_cell={
            name: max(cell.steps for cell in plan.cells if cell.classifier == name) for name in worker.recipes
        },
        models=tuple(models),
        warnings=plan.warnings,
        steps=sum(model.steps for model in models),
        seconds=sum(seconds) if len(seconds) == len(models) else None,
        disk=sum(model.disk for model in models),
    )


def _classifier(worker: Worker, name: str, cells: list[Cell], *, measure: bool) -> ModelForecast:
    recipe, data = worker.recipes[name], worker.images.data
    base = recipe.base()
    size, channels, training = base.image.size, base.image.channels, training_settings(base)
    steps, disk = sum(cell.steps for cell in cells), len(data) * channels * size**2
    found = ModelForecast(name=name, kind="classifier", trainings=len(cells), steps=steps, disk=disk)
    external = sum(len(images) for images in worker.images.external.values())
    if not measure:
        return found
    image = ImageSpec(size=size, channels=channels, classes=data.classes, multi_label=data.multi_label)
    try:
        batch = 1 if recipe.spec.converges else training.batch_size
        timing = _time(recipe.spec, base, image, images=2 * _STEPS * batch, device=worker.device)
    except MedzooError as error:
        return replace(found, reason=str(error))
    if recipe.spec.converges:  # its time goes into the features of each image, once
        tasks = {task.key: task for cell in cells for task in cell.samplings.values()}
        pools = [sum(task.counts.values()) for task in tasks.values() if not task.ready]
        folders = {task.generator for task in tasks.values() if task.ready}
        pools += [len(worker.folders[name].data) for name in folders]
        count = len(data) + external + sum(pools)
        return replace(found, seconds=count * timing["image"] if cells else 0.0)
    predicted = external * len(cells)
    for cell in cells:
        epochs = training.validation_epochs * -(-cell.epoch_length // training.batch_size)
        predicted += len(cell.fold.test) + len(cell.fold.val) * max(1, cell.steps // epochs)
    return replace(found, seconds=steps * timing["step"] + predicted * timing["image"])


def _generator(
    worker: Worker, name: str, trainings: list[TrainingTask], samplings: list[SamplingTask], *, measure: bool
) -> ModelForecast:
    generator, images, count = (
        worker.generators[name],
        sum(sum(task.counts.values()) for task in samplings),
        len(trainings),
    )
    found = ModelForecast(name=name, kind=generator.kind, trainings=count, images=images)
    if not measure:
        return found
    longest = max((len(task.fold.train) for task in trainings), default=0)
    try:
        spec, settings = generator.spec(worker.plugins), generator.config(worker.plugins)
        image = worker.image_of(generator, worker.images.data)
        timing = _time(spec, settings, image, images=longest, device=worker.device)
    except MedzooError as error:
        return replace(found, reason=str(error))
    seen = [recipe.base().image for recipe in worker.recipes.values()]
    pixels = image.channels * image.size**2 + sum(own.channels * own.size**2 for own in seen)
    steps = count * int(timing["steps"])
    return replace(
        found,
        steps=steps,
        seconds=steps * timing["step"] + images * timing["image"],
        # A checkpoint holds weights, their averages and two moments of each; then there is the model itself.
        disk=images * pixels + count * 5 * int(timing["weights"]),
    )


class _StepTimer(TrainingCallback):
    """End training after a few steps, and record when each of them ended."""

    max_steps = _STEPS

    def __init__(self) -> None:
        self.times: list[float] = []
        self.total = 0

    def on_step_end(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Record the time."""
        self.times.append(time.perf_counter())
        self.total = total


class _RandomImages:
    """Random images as `protocols.LabeledImages`; every class is equally frequent."""

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


def _time(
    spec: ModelSpec[Any], settings: config.Resolved[Any], image: ImageSpec, *, images: int, device: str
) -> dict[str, float]:
    """Return seconds per "step" and "image", a training's "steps", and bytes of "weights", as measured in recent hours.

    An image is sampled or predicted; a training is on so many `images`, and left out where that is 0.
    """
    facts = {
        "model": [type(spec).__name__, spec.name],
        "config": settings.flat(),
        "image": image.to_dict(),
        "images": images,
        "medzoo": __version__,
        "hardware": hardware(device),
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]
    path = cache_path("timings", f"{key}.json")
    with contextlib.suppress(OSError, ValueError):
        if time.time() - path.stat().st_mtime < _FRESH:
            kept: dict[str, float] = read_json(path)
            return kept
    model, timer = build_model(spec, settings, image, device=device), _StepTimer()
    loaded = LoadedModel(name=spec.name, model=model, spec=spec, image=image, config=settings, crop="none")

    def act(count: int) -> None:
        pixels = torch.rand(count, image.channels, image.size, image.size)
        if isinstance(spec, GeneratorSpec):
            labels = label_tensor(image, [image.classes[0]] * count)
            model.sample(range(count), labels, init_images=pixels if loaded.needs_init_images else None)
        else:
            model.predict(pixels)

    if images:
        data = _RandomImages(image, images)
        few = {} if isinstance(spec, GeneratorSpec) else {"validation": _RandomImages(image, images // (2 * _STEPS))}
        model.fit(data, **few, seed=0, callback=timer, checkpoints=CheckpointStore())
    times = timer.times
    timing = {
        "step": (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0,
        "image": _seconds_per_image(act),
        "steps": timer.total,
        "weights": 4 * count_parameters(model),
    }
    with optional_cache():
        write_json_atomic(path, timing)
    return timing


def _seconds_per_image(act: Callable[[int], None]) -> float:
    """Time `act` on one image, then on more unless it is slow; the first time includes what happens once."""
    for count, limit in ((1, 10 * _SLOW), (1, _SLOW), (_IMAGES, 0.0)):
        started = time.perf_counter()
        act(count)
        seconds = (time.perf_counter() - started) / count
        if seconds > limit:
            break
    return seconds
