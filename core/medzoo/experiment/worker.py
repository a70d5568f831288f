"""What a process needs for an experiment's tasks: train generators, sample images, keep decoded images."""

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
from medzoo.experiment.recipes import Recipe, make_recipes, parameter_free_image
from medzoo.experiment.tasks import SamplingTask, TrainingTask
from medzoo.experiment.training_sets import label_sets
from medzoo.generation.plan import Cell as PlanCell
from medzoo.generation.plan import Plan, distinct, file_safe
from medzoo.generation.run import Job, run
from medzoo.generation.sampler import Sampler
from medzoo.models.labels import split_label
from medzoo.models.loading import LoadedModel
from medzoo.plugins.lookup import Plugins, load_plugins
from medzoo.runs.progress import no_progress
from medzoo.specs import ImageSpec
from medzoo.training.train import train


@dataclass(frozen=True)
class Worker:
    """What every task needs. It can be sent to another process, where plugins and decoded images are loaded again.

    Its `folder`, None for a mere plan, holds generators/KEY, sets/KEY and cells/KEY.
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
        """The folder. Raises: ConfigError if there is none."""
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
        """Decode the real images, once for each size, channels and crop."""
        key = size, channels, crop
        if key not in self._decoded:
            self._decoded[key] = Decoded(self.images.data, size=size, channels=channels, crop=crop)
        return self._decoded[key]

    def train(self, task: TrainingTask) -> None:
        """Train a generator in generators/KEY."""
        generator = self.generators[task.generator]
        train(
            generator.spec(self.plugins),
            generator.config(self.plugins),
            self.images.subset(task.fold.train),
            self.home / "generators" / task.key,
            plugins=self.plugins,
            seed=task.seed,
            device=self.device,
            keep=1,
        )

    def sample(self, task: SamplingTask) -> None:
        """Sample images into sets/KEY. Raises: DataError if the generator was trained on test images of its fold."""
        data = self.images.subset(task.fold.train)
        real, plan = label_sets(data), self._plan(task)
        model = self._model(task, data, real)
        run(
            Job(
                folder=self.home / "sets" / task.key,
                sampler=Sampler([model], plan, real=real),
                labels=real.classes,
                identity={"job": "experiment", "key": task.key},
                plugins=self.plugins,
                device=self.device,
                allow_upload=self.allow_upload,
                facts={"lineage": dict(task.seen)},
            ),
            progress=no_progress,
        )

    def synthetic(self, task: SamplingTask, counts: Mapping[str, int]) -> tuple[Dataset, np.ndarray]:
        """Return the images `sample` made, in the classes of the data, and which are the first `counts` of each label.

        The indices are int64.
        """
        data, folder = self.images.data, self.home / "sets" / task.key
        pictures = list(self._plan(task).images())
        hot = np.zeros((len(pictures), len(data.classes)), np.float32)
        for row, picture in enumerate(pictures):
            hot[row, [data.classes.index(name) for name in split_label(picture.label)]] = 1
        images = Dataset(
            path=folder,
            classes=data.classes,
            labels=hot if data.multi_label else hot.argmax(axis=1).astype(np.int64),
            names=tuple(picture.file for picture in pictures),
            files=tuple(folder / picture.file for picture in pictures),
        )
        return images, np.flatnonzero([picture.index < counts.get(picture.label, 0) for picture in pictures])

    def _plan(self, task: SamplingTask) -> Plan:
        cells = tuple(PlanCell(generator=0, label=label, count=count) for label, count in task.counts.items())
        names = tuple(distinct([file_safe(self.generators[task.generator].model_name)]))
        return Plan(names=names, cells=cells, batch_size=self.design.value.batch_size, seed=task.seed)

    def _model(self, task: SamplingTask, data: Dataset, real: Dataset) -> LoadedModel[protocols.Generator]:
        """Load a generator, none of whose training images is a test image of the fold."""
        generator = self.generators[task.generator]
        size, channels, crop = parameter_free_image(self.recipes)
        many = data.multi_label and generator.spec(self.plugins).multi_label
        model = generator.load(
            self.plugins,
            image=ImageSpec(
                size=size, channels=channels, classes=data.classes if many else real.classes, multi_label=many
            ),
            crop=crop,
            device=self.device,
            trained=self.home / "generators" / task.training.key if task.training is not None else None,
        )
        leaked = model.trained_on & self.images.seen(task.fold.test)
        if task.training is not None and leaked:
            raise DataError(f"'{task.generator}' was trained on {len(leaked)} test images of its fold")
        return model
