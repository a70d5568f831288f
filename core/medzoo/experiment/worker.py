"""Where an experiment's tasks are done, in one process: generators trained, images drawn, decoded images kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medzoo import protocols
from medzoo.data.dataset import Dataset
from medzoo.data.decoded_cache import Decoded
from medzoo.errors import ConfigError, DataError
from medzoo.experiment.config import Design
from medzoo.experiment.folds import Images
from medzoo.experiment.generators import Generator
from medzoo.experiment.recipes import Recipe, make_recipes
from medzoo.experiment.tasks import Drawing, Training, weightless_image
from medzoo.experiment.training_sets import powerset
from medzoo.generation import run as filling
from medzoo.generation.job import Job
from medzoo.generation.plan import Cell as PlanCell
from medzoo.generation.plan import Plan, distinct, file_safe
from medzoo.generation.sampler import Studio, refuse_without_sources
from medzoo.models.labels import split_label
from medzoo.models.loading import LoadedModel
from medzoo.plugins.lookup import Plugins, load_plugins
from medzoo.runs.progress import no_progress
from medzoo.specs import ImageSpec
from medzoo.training.train import train


class Quiet:
    """A display that shows nothing; the experiment shows its own progress."""

    def start(self, step: int, total: int) -> None:
        """Training begins."""

    def update(self, step: int, total: int, values: Mapping[str, float]) -> None:
        """A step is done."""

    def warn(self, message: str) -> None:
        """Something looks wrong; run.json keeps it."""


@dataclass(frozen=True)
class Workshop:
    """What every task needs. It can be sent to another process, where plugins and decoded images are looked up anew.

    Its folder, which a mere plan has not, holds generators/KEY, sets/KEY and cells/KEY.
    """

    design: Design
    images: Images
    generators: Mapping[str, Generator]
    folder: Path | None
    device: str
    allow_upload: bool = False

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def home(self) -> Path:
        """The folder. Raises: ConfigError where there is none."""
        if self.folder is None:
            raise ConfigError("this experiment has no folder", "give one with --out")
        return self.folder

    @cached_property
    def plugins(self) -> Plugins:
        """The installed plugins."""
        return load_plugins()

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """The classifiers by name."""
        return make_recipes(self.design, self.plugins, multi_label=self.images.data.multi_label)

    @cached_property
    def _decoded(self) -> dict[tuple[int, int, str], Decoded]:
        return {}

    def real(self, size: int, channels: int, crop: str) -> Decoded:
        """The real images, decoded once for a size, channels and crop."""
        key = size, channels, crop
        if key not in self._decoded:
            self._decoded[key] = Decoded(self.images.data, size=size, channels=channels, crop=crop)
        return self._decoded[key]

    def train(self, task: Training) -> None:
        """Nothing; generators/KEY holds the trained model."""
        generator = self.generators[task.generator]
        train(
            generator.spec(self.plugins),
            generator.config(self.plugins),
            self.images.subset(task.fold.train),
            self.home / "generators" / task.key,
            plugins=self.plugins,
            display=Quiet(),
            seed=task.seed,
            device=self.device,
            keep=1,
        )

    def draw(self, task: Drawing) -> None:
        """Nothing; sets/KEY holds the images. Raises: as `filling.run`; DataError for a generator that knows tests."""
        data = self.images.subset(task.fold.train)
        real, plan = powerset(data), self.plan(task)
        model = self._model(task, data, real)
        refuse_without_sources([model], plan, real)
        filling.run(
            Job(
                kind="experiment",
                folder=self.home / "sets" / task.key,
                plan=plan,
                studio=Studio([model], plan, real=real),
                labels=real.classes,
                identity={"job": "experiment", "key": task.key},
                plugins=self.plugins,
                device=self.device,
                allow_upload=self.allow_upload,
                facts={"lineage": dict(task.lineage)},
            ),
            progress=no_progress,
        )

    def drawn(self, task: Drawing) -> Dataset:
        """The images that `draw` left, in the classes of the data."""
        classes = self.images.data.classes
        pictures = list(self.plan(task).pictures())
        hot = np.zeros((len(pictures), len(classes)), np.float32)
        for row, picture in enumerate(pictures):
            hot[row, [classes.index(name) for name in split_label(picture.label)]] = 1
        folder = self.home / "sets" / task.key
        return Dataset(
            path=folder,
            classes=classes,
            labels=hot if self.images.data.multi_label else hot.argmax(axis=1).astype(np.int64),
            names=tuple(picture.file for picture in pictures),
            files=tuple(folder / picture.file for picture in pictures),
        )

    def taken(self, task: Drawing, counts: Mapping[str, int]) -> np.ndarray:
        """Which of the images that `draw` left are the first `counts` of each label, int64."""
        pictures = self.plan(task).pictures()
        return np.flatnonzero([picture.index < counts.get(picture.label, 0) for picture in pictures])

    def plan(self, task: Drawing) -> Plan:
        """What is drawn, in batches."""
        cells = tuple(PlanCell(generator=0, label=label, count=count) for label, count in task.counts.items())
        names = tuple(distinct([file_safe(task.generator)]))
        return Plan(names=names, cells=cells, batch_size=self.design.value.batch_size, seed=task.seed)

    def _model(self, task: Drawing, data: Dataset, real: Dataset) -> LoadedModel[protocols.Generator]:
        """A generator ready to sample, none of whose training images is a test image of the fold."""
        generator = self.generators[task.generator]
        size, channels, crop = weightless_image(self.recipes)
        many = data.multi_label and generator.spec(self.plugins).multi_label
        model = generator.load(
            self.plugins,
            image=ImageSpec(
                size=size, channels=channels, classes=data.classes if many else real.classes, multi_label=many
            ),
            crop=crop,
            device=self.device,
            trained=self.home / "generators" / task.trained if task.trained else None,
        )
        leaked = model.trained_on & self.images.seen(task.fold.test)
        if task.trained and leaked:
            raise DataError(f"'{task.generator}' was trained on {len(leaked)} test images of its fold")
        return model
