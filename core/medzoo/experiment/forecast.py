"""How long a step of training, or an image, takes on this machine: measured once on a few, and kept."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medzoo._version import __version__
from medzoo.errors import MedzooError
from medzoo.experiment.arms import Arm
from medzoo.experiment.generators import Generator
from medzoo.experiment.plan import Prepared
from medzoo.experiment.recipes import Recipe
from medzoo.experiment.tasks import Cell, Drawing, Training, weightless_image
from medzoo.experiment.training_sets import fraction_of
from medzoo.experiment.worker import Workshop
from medzoo.models.devices import hardware
from medzoo.models.labels import label_tensor
from medzoo.models.loading import build_model, count_parameters
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
    """Images of noise as `LabeledImages`; every class comes equally often."""

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
        classifier = build_model(recipe.spec, config, image, device=device)
        watch = _Stopwatch()
        batch = int(config.flat()["training.batch_size"])
        classifier.fit(_Noise(image, 2 * _STEPS * batch), validation=_Noise(image, batch), seed=0, report=watch)

        def predict(count: int) -> float:
            started = time.perf_counter()
            classifier.predict(torch.rand(count, image.channels, image.size, image.size))
            return (time.perf_counter() - started) / count

        return Pace(step=watch.seconds, image=_paced(predict), weights=4 * count_parameters(classifier))

    return _kept({"classifier": recipe.spec.name, "config": config.flat(), "image": image.to_dict()}, device, measure)


def generator_pace(
    generator: Generator, image: ImageSpec, *, images: int, trained: bool, plugins: Plugins, device: str
) -> Pace:
    """A generator's pace in drawing, and where `trained`, in training on so many `images`.

    Raises: whatever the generator raises.
    """
    spec, config = generator.spec(plugins), generator.config(plugins)

    def measure() -> Pace:
        model = build_model(spec, config, image, device=device)
        watch = _Stopwatch()
        if trained:
            model.fit(_Noise(image, images), seed=0, report=watch)
        return Pace(
            step=watch.seconds,
            steps=watch.total,
            image=_seconds_an_image(model, image, init_images=spec.needs_init_images),
            weights=4 * count_parameters(model),
        )

    facts = {"generator": spec.name, "config": config.flat(), "image": image.to_dict()}
    return _kept({**facts, "images": images if trained else 0}, device, measure)


def _seconds_an_image(model: GeneratorProtocol, image: ImageSpec, *, init_images: bool) -> float:
    def draw(count: int) -> float:
        labels = label_tensor(image, [image.classes[0]] * count)
        given = torch.rand(count, image.channels, image.size, image.size) if init_images else None
        started = time.perf_counter()
        model.sample(range(count), labels, init_images=given)
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


@dataclass(frozen=True, kw_only=True)
class Share:
    """One classifier's or generator's part: what is to be done, and the seconds of one process that takes.

    `cells` to train, or trainings of a generator; `steps` optimiser steps; `images` to draw. `seconds` is None where
    it could not be measured, for the `reason` given.
    """

    name: str
    kind: str
    cells: int = 0
    steps: int = 0
    images: int = 0
    seconds: float | None = None
    disk: int = 0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class ArmPlan:
    """An arm: the images of its training set in the first fold, its cells, and those of them without scores yet."""

    name: str
    real: int
    synthetic: int
    cells: int
    missing: int


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """An experiment before it is run. `cells` are all; `missing` are those without scores yet, of which `shares` tell.

    `steps_a_cell` are those of every arm, by classifier, the most of any fold.
    """

    cells: int
    missing: int
    arms: tuple[ArmPlan, ...]
    folds: int
    seeds: int
    steps_a_cell: Mapping[str, int]
    shares: tuple[Share, ...]
    warnings: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Optimiser steps of all that is to be trained, as far as they are known."""
        return sum(share.steps for share in self.shares)

    @property
    def seconds(self) -> float | None:
        """Of one process; None where a part of it could not be measured."""
        known = [share.seconds for share in self.shares if share.seconds is not None]
        return sum(known) if len(known) == len(self.shares) else None

    @property
    def disk(self) -> int:
        """Bytes that synthetic images, decoded ones and generators take, at most."""
        return sum(share.disk for share in self.shares)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "steps": self.steps, "seconds": self.seconds, "disk": self.disk}


def forecast(prepared: Prepared, *, measure: bool) -> Forecast:
    """What is to be done; with `measure`, the pace of each model is taken on a few steps, once on a machine."""
    workshop, grid = prepared.workshop, prepared.grid
    missing = prepared.missing
    cells = [task for task in missing if isinstance(task, Cell)]
    shares = [_classifier(workshop, name, cells, measure=measure) for name in workshop.recipes]
    shares += [
        _generator(
            workshop,
            generator,
            [task for task in missing if isinstance(task, Training) and task.generator == generator.name],
            [task for task in missing if isinstance(task, Drawing) and task.generator == generator.name],
            measure=measure,
        )
        for generator in workshop.generators.values()
    ]
    design = workshop.design
    return Forecast(
        cells=len(grid.cells),
        missing=len(cells),
        arms=tuple(_arm(prepared, arm, cells) for arm in design.arms),
        folds=len(workshop.images.folds),
        seeds=design.value.seeds,
        steps_a_cell={
            name: max(cell.steps for cell in grid.cells if cell.classifier == name) for name in workshop.recipes
        },
        shares=tuple(shares),
        warnings=prepared.warnings,
    )


def _arm(prepared: Prepared, arm: Arm, missing: list[Cell]) -> ArmPlan:
    own = [cell for cell in prepared.grid.cells if cell.arm == arm]
    images, seed = prepared.workshop.images, prepared.workshop.design.value.seed
    keys = {cell.key for cell in missing}
    return ArmPlan(
        name=arm.name,
        real=len(fraction_of(images.data, own[0].fold.train, arm.real_fraction, seed=seed)),
        synthetic=sum(sum(counts.values()) for counts in own[0].synthetic.values()),
        cells=len(own),
        missing=sum(cell.key in keys for cell in own),
    )


def _classifier(workshop: Workshop, name: str, cells: list[Cell], *, measure: bool) -> Share:
    recipe, data = workshop.recipes[name], workshop.images.data
    own = [cell for cell in cells if cell.classifier == name]
    flat = recipe.base().flat()
    size, channels = int(flat["image.size"]), int(flat["image.channels"])
    image = ImageSpec(size=size, channels=channels, classes=data.classes, multi_label=data.multi_label)
    steps = sum(cell.steps for cell in own)
    share = Share(name=name, kind="classifier", cells=len(own), steps=steps, disk=len(data) * channels * size**2)

    def paced() -> Share:
        pace = classifier_pace(recipe, image, device=workshop.device)
        looks = sum(len(cell.fold.test) + len(cell.fold.val) * _epochs(cell, flat) for cell in own)
        return replace(share, seconds=steps * pace.step + looks * pace.image)

    return _measured(share, paced) if measure else share


def _epochs(cell: Cell, flat: Mapping[str, Any]) -> int:
    """How often it is measured on validation images."""
    every = int(flat.get("training.validation_epochs", 1)) * -(-cell.length // int(flat["training.batch_size"]))
    return max(1, cell.steps // every)


def _generator(
    workshop: Workshop, generator: Generator, trainings: list[Training], drawings: list[Drawing], *, measure: bool
) -> Share:
    share = Share(
        name=generator.name, kind=generator.kind, cells=len(trainings), images=sum(task.total for task in drawings)
    )

    def paced() -> Share:
        image = _image(workshop, generator)
        pace = generator_pace(
            generator,
            image,
            images=max((len(task.fold.train) for task in trainings), default=0),
            trained=bool(trainings),
            plugins=workshop.plugins,
            device=workshop.device,
        )
        return _with_pace(share, pace, image, workshop)

    return _measured(share, paced) if measure else share


def _with_pace(share: Share, pace: Pace, image: ImageSpec, workshop: Workshop) -> Share:
    flats = [recipe.base().flat() for recipe in workshop.recipes.values()]
    decoded = sum(int(flat["image.channels"]) * int(flat["image.size"]) ** 2 for flat in flats)
    # A checkpoint holds weights, their averages and two moments of each; then there is the model itself.
    kept = share.cells * 5 * pace.weights
    return replace(
        share,
        steps=share.cells * pace.steps,
        seconds=share.cells * pace.steps * pace.step + share.images * pace.image,
        disk=share.images * (image.channels * image.size**2 + decoded) + kept,
    )


def _image(workshop: Workshop, generator: Generator) -> ImageSpec:
    """The images a generator makes."""
    data, published = workshop.images.data, generator.image(workshop.plugins)
    if published is not None:
        return published
    if generator.kind == "weightless":
        size, channels, _ = weightless_image(workshop.recipes)
        many = data.multi_label and generator.spec(workshop.plugins).multi_label
        return ImageSpec(size=size, channels=channels, classes=data.classes, multi_label=many)
    flat = generator.config(workshop.plugins).flat()
    return ImageSpec(
        size=flat["image.size"],
        channels=flat["image.channels"],
        classes=data.classes,
        multi_label=data.multi_label,
    )


def _measured(share: Share, paced: Callable[[], Share]) -> Share:
    """The share with its seconds, or with the reason why there are none."""
    try:
        return paced()
    except MedzooError as error:
        return replace(share, reason=str(error))
