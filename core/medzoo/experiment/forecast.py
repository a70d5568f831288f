"""Forecast an experiment before it runs: cells, optimizer steps, and an estimate of time and disk space.

The time of a step or an image is measured once on this machine on a few, and kept for some hours.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from medzoo._version import __version__
from medzoo.errors import MedzooError
from medzoo.experiment.generators import Generator
from medzoo.experiment.plan import ExperimentPlan
from medzoo.experiment.recipes import Recipe, parameter_free_image, training_settings
from medzoo.experiment.tasks import Cell, SamplingTask, TrainingTask
from medzoo.experiment.training_sets import fraction_of
from medzoo.experiment.worker import Worker
from medzoo.models.devices import hardware
from medzoo.models.labels import label_tensor
from medzoo.models.loading import build_model, count_parameters
from medzoo.protocols import CheckpointStore, TrainingCallback
from medzoo.specs import ImageSpec
from medzoo.storage.files import optional_cache, write_json_atomic
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
class ArmForecast:
    """An arm: the images of its training set in the first fold, its cells, and those of them without scores yet."""

    name: str
    real: int
    synthetic: int
    cells: int
    missing: int


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """An experiment before it is run: all `cells`, and the `missing` ones without scores, which `models` is about.

    `steps_per_cell` are those of every arm, by classifier, the most of any fold.
    """

    cells: int
    missing: int
    arms: tuple[ArmForecast, ...]
    folds: int
    seeds: int
    steps_per_cell: Mapping[str, int]
    models: tuple[ModelForecast, ...]
    warnings: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Optimizer steps of all trainings, as far as they are known."""
        return sum(model.steps for model in self.models)

    @property
    def seconds(self) -> float | None:
        """Seconds of one process; None where a part could not be measured."""
        known = [model.seconds for model in self.models if model.seconds is not None]
        return sum(known) if len(known) == len(self.models) else None

    @property
    def disk(self) -> int:
        """Bytes of synthetic images, decoded ones and generators, at most."""
        return sum(model.disk for model in self.models)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "steps": self.steps, "seconds": self.seconds, "disk": self.disk}


def forecast(plan: ExperimentPlan, *, measure: bool) -> Forecast:
    """Forecast what the plan has still to do; `measure` times a few steps of each model, once on a machine."""
    worker, missing = plan.worker, plan.missing
    cells = [task for task in missing if isinstance(task, Cell)]
    models = [_classifier(worker, name, cells, measure=measure) for name in worker.recipes]
    for name, generator in worker.generators.items():
        trainings = [task for task in missing if isinstance(task, TrainingTask) and task.generator == name]
        samplings = [task for task in missing if isinstance(task, SamplingTask) and task.generator == name]
        models.append(_generator(worker, generator, trainings, samplings, measure=measure))
    keys, seed = {cell.key for cell in cells}, worker.design.value.seed
    arms = []
    for arm in worker.design.arms:
        own = [cell for cell in plan.cells if cell.arm == arm]
        arms.append(
            ArmForecast(
                name=arm.name,
                real=len(fraction_of(worker.images.data, own[0].fold.train, arm.real_fraction, seed=seed)),
                synthetic=sum(sum(counts.values()) for counts in own[0].synthetic.values()),
                cells=len(own),
                missing=sum(cell.key in keys for cell in own),
            )
        )
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
    )


def _classifier(worker: Worker, name: str, cells: list[Cell], *, measure: bool) -> ModelForecast:
    recipe, data = worker.recipes[name], worker.images.data
    own = [cell for cell in cells if cell.classifier == name]
    seen, training = recipe.base().image, training_settings(recipe.base())
    image = ImageSpec(size=seen.size, channels=seen.channels, classes=data.classes, multi_label=data.multi_label)
    steps = sum(cell.steps for cell in own)
    disk = len(data) * seen.channels * seen.size**2
    found = ModelForecast(name=name, kind="classifier", trainings=len(own), steps=steps, disk=disk)
    if not measure:
        return found
    try:
        timing = _time_classifier(recipe, image, device=worker.device)
    except MedzooError as error:
        return replace(found, reason=str(error))
    predicted = 0
    for cell in own:
        epoch = -(-cell.epoch_length // training.batch_size)
        predicted += len(cell.fold.test) + len(cell.fold.val) * max(
            1, cell.steps // (training.validation_epochs * epoch)
        )
    return replace(found, seconds=steps * timing.step + predicted * timing.image)


def _generator(
    worker: Worker,
    generator: Generator,
    trainings: list[TrainingTask],
    samplings: list[SamplingTask],
    *,
    measure: bool,
) -> ModelForecast:
    images, count = sum(task.total for task in samplings), len(trainings)
    found = ModelForecast(name=generator.name, kind=generator.kind, trainings=count, images=images)
    if not measure:
        return found
    longest = max((len(task.fold.train) for task in trainings), default=0)
    try:
        image = _image(worker, generator)
        timing = _time_generator(worker, generator, image, images=longest)
    except MedzooError as error:
        return replace(found, reason=str(error))
    inputs = [recipe.base().image for recipe in worker.recipes.values()]
    decoded = sum(own.channels * own.size**2 for own in inputs)
    # A checkpoint holds weights, their averages and two moments of each; then there is the model itself.
    kept = count * 5 * timing.weights
    return replace(
        found,
        steps=count * timing.steps,
        seconds=count * timing.steps * timing.step + images * timing.image,
        disk=images * (image.channels * image.size**2 + decoded) + kept,
    )


def _image(worker: Worker, generator: Generator) -> ImageSpec:
    """Return the images a generator makes."""
    data, published = worker.images.data, generator.image(worker.plugins)
    if published is not None:
        return published
    if generator.kind == "parameter-free":
        size, channels, _ = parameter_free_image(worker.recipes)
        many = data.multi_label and generator.spec(worker.plugins).multi_label
        return ImageSpec(size=size, channels=channels, classes=data.classes, multi_label=many)
    own = generator.config(worker.plugins).image
    return ImageSpec(size=own.size, channels=own.channels, classes=data.classes, multi_label=data.multi_label)


@dataclass(frozen=True, kw_only=True)
class _Timing:
    """Seconds per optimizer step and per image, optimizer steps of a training, bytes of the weights; 0 where none."""

    step: float = 0.0
    image: float = 0.0
    steps: int = 0
    weights: int = 0


class _StepTimer(TrainingCallback):
    """End training after a few steps, and record when each of them ended."""

    max_steps = _STEPS

    def __init__(self) -> None:
        self.times: list[float] = []
        self.total = 0

    @property
    def seconds(self) -> float:
        """Seconds per step, the first left out."""
        return (self.times[-1] - self.times[0]) / (len(self.times) - 1) if len(self.times) > 1 else 0.0

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


def _time_classifier(recipe: Recipe, image: ImageSpec, *, device: str) -> _Timing:
    config = recipe.base()

    def measure() -> _Timing:
        classifier = build_model(recipe.spec, config, image, device=device)
        timer = _StepTimer()
        batch = training_settings(config).batch_size
        images = _RandomImages(image, 2 * _STEPS * batch)
        classifier.fit(
            images, validation=_RandomImages(image, batch), seed=0, callback=timer, checkpoints=CheckpointStore()
        )

        def predict(count: int) -> None:
            classifier.predict(torch.rand(count, image.channels, image.size, image.size))

        return _Timing(step=timer.seconds, image=_seconds_per_image(predict), weights=4 * count_parameters(classifier))

    return _cached({"classifier": recipe.spec.name, "config": config.flat(), "image": image.to_dict()}, device, measure)


def _time_generator(worker: Worker, generator: Generator, image: ImageSpec, *, images: int) -> _Timing:
    """Time sampling, and training on so many `images` unless that is 0."""
    spec, config = generator.spec(worker.plugins), generator.config(worker.plugins)

    def measure() -> _Timing:
        model = build_model(spec, config, image, device=worker.device)
        timer = _StepTimer()
        if images:
            model.fit(_RandomImages(image, images), seed=0, callback=timer, checkpoints=CheckpointStore())

        def sample(count: int) -> None:
            labels = label_tensor(image, [image.classes[0]] * count)
            given = torch.rand(count, image.channels, image.size, image.size) if spec.needs_init_images else None
            model.sample(range(count), labels, init_images=given)

        return _Timing(
            step=timer.seconds,
            steps=timer.total,
            image=_seconds_per_image(sample),
            weights=4 * count_parameters(model),
        )

    facts = {"generator": spec.name, "config": config.flat(), "image": image.to_dict(), "images": images}
    return _cached(facts, worker.device, measure)


def _seconds_per_image(act: Callable[[int], None]) -> float:
    """Time `act` on one image, then on more unless it is slow; the first time includes what happens once."""

    def timed(count: int) -> float:
        started = time.perf_counter()
        act(count)
        return (time.perf_counter() - started) / count

    first = timed(1)
    if first > 10 * _SLOW:
        return first
    second = timed(1)
    return second if second > _SLOW else timed(_IMAGES)


def _cached(facts: Mapping[str, Any], device: str, measure: Callable[[], _Timing]) -> _Timing:
    """Return the timing measured on this machine in the last hours, or measure it."""
    whole = {**facts, "medzoo": __version__, "hardware": hardware(device)}
    key = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:20]
    path = cache_path("timings", f"{key}.json")
    with contextlib.suppress(OSError, ValueError, TypeError):
        if time.time() - path.stat().st_mtime < _FRESH:
            return _Timing(**json.loads(path.read_text("utf-8")))
    timing = measure()
    with optional_cache():
        write_json_atomic(path, asdict(timing))
    return timing
