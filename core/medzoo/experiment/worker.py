"""Do an experiment's tasks: train generators, sample images, and train classifiers, which are tested once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medzoo.classification.predict import Predictions
from medzoo.classification.scores import classification_scores
from medzoo.data.dataset import Dataset
from medzoo.data.decoded_cache import Decoded
from medzoo.data.duplicates import image_groups
from medzoo.data.pixels import to_float
from medzoo.errors import ConfigError, DataError, memory_errors
from medzoo.evaluation.features import DatasetExtractor
from medzoo.experiment.config import Design
from medzoo.experiment.features import FrozenFeatures
from medzoo.experiment.folders import ImageFolder
from medzoo.experiment.folds import Images
from medzoo.experiment.models import Generator, Recipe, make_recipes, parameter_free_image
from medzoo.experiment.results import TRACEBACK, CellResult, predictions_file, write_cell
from medzoo.experiment.selection import criteria_of, load_extractor, pooled, select_images
from medzoo.experiment.tasks import Cell, SamplingTask, TrainingTask
from medzoo.experiment.training_sets import (
    ConcatDataset,
    Part,
    fraction_of,
    training_images,
    weighted_images,
)
from medzoo.generation.label_sets import label_sets
from medzoo.generation.plan import Cell as PlanCell
from medzoo.generation.plan import Plan, distinct, file_safe
from medzoo.generation.run import Job
from medzoo.generation.run import run as run_job
from medzoo.generation.sampler import Sampler
from medzoo.generation.selection import Measured, RealFeatures
from medzoo.models.devices import device_here
from medzoo.models.labels import split_label
from medzoo.models.loading import build_model
from medzoo.plugins.lookup import Plugins, load_plugins
from medzoo.protocols import Classifier, FeatureClassifier
from medzoo.runs.progress import no_progress
from medzoo.specs import ImageSpec
from medzoo.storage.files import sha256_file, write_atomic
from medzoo.storage.paths import latents_root
from medzoo.toolkit.training.batches import loss_weights
from medzoo.training.run_folder import RunFolder
from medzoo.training.train import lower_memory, train

_BATCH = 64
# Rows of a history besides those with validation scores.
_ROWS = 200
_SHOWN = ("step", "loss", "learning_rate", "validation_loss", "balanced_accuracy")


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
    folders: Mapping[str, ImageFolder] = field(default_factory=dict)

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
        return make_recipes(self.design, self.plugins, self.images.data)

    @cached_property
    def real(self) -> Callable[[int, int, str], Decoded]:
        """Decode the real images, once for each size, channels and crop."""
        return cache(lambda size, channels, crop: Decoded(self.images.data, size=size, channels=channels, crop=crop))

    @cached_property
    def features(self) -> Callable[[str], FrozenFeatures]:
        """The features of sets of images, by the name of a classifier on a frozen network."""

        def make(name: str) -> FrozenFeatures:
            recipe, data = self.recipes[name], self.images.data
            base = recipe.base().image
            image = ImageSpec(
                size=base.size, channels=base.channels, classes=data.classes, multi_label=data.multi_label
            )
            return FrozenFeatures(recipe, image, plugins=self.plugins, device=device_here(self.device))

        return cache(make)

    @cached_property
    def external(self) -> Callable[[str, int, int, str], Decoded]:
        """Decode an external test set by its name, once for each size, channels and crop."""
        return cache(
            lambda name, size, channels, crop: Decoded(
                self.images.external[name], size=size, channels=channels, crop=crop
            )
        )

    @cached_property
    def groups(self) -> np.ndarray:
        """The group of each image, of a patient or of duplicates, int64 (N,)."""
        return image_groups(self.images.data)

    @cached_property
    def extractor(self) -> DatasetExtractor:
        """The extractor by whose features images are selected."""
        return load_extractor(self.design.value.use.extractor, self.plugins, device_here(self.device))

    @cached_property
    def measured(self) -> dict[Any, Measured]:
        """What selections have measured on sets of images, by all it depends on (`experiment.selection`)."""
        return {}

    @cached_property
    def compared(self) -> dict[Any, RealFeatures]:
        """The real images that selections compare with, by fold and by how they are seen."""
        return {}

    @cached_property
    def ready(self) -> Callable[[str, int, int], Decoded]:
        """Decode the images of a folder by its name, once for each size and channels."""
        return cache(
            # They are as a model sees them, and not cropped once more.
            lambda name, size, channels: Decoded(self.folders[name].data, size=size, channels=channels, crop="none")
        )

    def crop_of(self, name: str) -> str:
        """Return how the generator `name`, or else a classifier, crops real images."""
        if name in self.generators and self.generators[name].kind != "parameter-free":
            return str(self.generators[name].config(self.plugins).image.crop)
        return parameter_free_image(self.recipes)[2]

    def train(self, task: TrainingTask) -> None:
        """Train a generator in generators/KEY."""
        generator = self.generators[task.generator]
        train(
            generator.spec(self.plugins),
            generator.training_config(self.plugins),
            self.images.data.subset(task.fold.train),
            self.home / "generators" / task.key,
            plugins=self.plugins,
            seed=task.seed,
            device=self.device,
            keep=1,
        )

    def sample(self, task: SamplingTask) -> None:
        """Sample images into sets/KEY. Raises: DataError if the generator was trained on test images of its fold."""
        generator, data = self.generators[task.generator], self.images.data.subset(task.fold.train)
        trained = self.home / "generators" / task.training.key if task.training is not None else None
        crop = parameter_free_image(self.recipes)[2]
        model = generator.load(
            self.plugins, image=self.image_of(generator, data), crop=crop, device=self.device, trained=trained
        )
        leaked = model.trained_on & self.images.seen(task.fold.test)
        if trained is not None and leaked:
            raise DataError(f"'{task.generator}' was trained on {len(leaked)} test images of its fold")
        real = label_sets(data)
        run_job(
            Job(
                folder=self.home / "sets" / task.key,
                sampler=Sampler([model], self._plan(task), real=real),
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

        The indices are int64. Of a folder of images, they are the first in an order drawn by the task's seed.
        """
        if task.ready:
            ready = self.folders[task.generator]
            return ready.data, ready.take(counts, task.fold, seed=task.seed)
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

    def image_of(self, generator: Generator, data: Dataset) -> ImageSpec:
        """Return the images a generator makes for `data`; without parameters, large enough for every classifier."""
        if (published := generator.image(self.plugins)) is not None:
            return published
        if generator.kind == "trained":
            own = generator.config(self.plugins).image
            return ImageSpec(size=own.size, channels=own.channels, classes=data.classes, multi_label=data.multi_label)
        size, channels, _ = parameter_free_image(self.recipes)
        many = data.multi_label and generator.spec(self.plugins).multi_label
        classes = data.classes if many else label_sets(data).classes
        return ImageSpec(size=size, channels=channels, classes=classes, multi_label=many)

    def _plan(self, task: SamplingTask) -> Plan:
        cells = tuple(PlanCell(generator=0, label=label, count=count) for label, count in task.counts.items())
        names = tuple(distinct([file_safe(self.generators[task.generator].model_name)]))
        return Plan(names=names, cells=cells, batch_size=self.design.value.batch_size, seed=task.seed)


def run_cell(worker: Worker, cell: Cell) -> CellResult:
    """Train and test the cell's classifier, and write the result into the cell's folder.

    An interrupted cell resumes from its checkpoint. Raises: whatever the classifier raises.
    """
    started = time.monotonic()
    folder = worker.home / "cells" / cell.key
    (folder / TRACEBACK).unlink(missing_ok=True)
    base, data = worker.recipes[cell.classifier].base().image, worker.images.data
    real = worker.real(base.size, base.channels, base.crop)
    image = ImageSpec(size=base.size, channels=base.channels, classes=data.classes, multi_label=data.multi_label)

    def chosen(indices: Sequence[int]) -> Part:
        rows = np.array(indices, np.int64)
        return Part(images=real, rows=rows, labels=data.labels[rows])

    rows = fraction_of(data, cell.fold.train, cell.arm.real_fraction, seed=worker.design.value.seed)
    counts: dict[str, Mapping[str, int]] = {"real": data.subset(rows).counts()}
    synthetic: list[Part] = []
    notes: dict[str, Mapping[str, float | str]] = {}
    for name, task in cell.samplings.items():
        kept, criteria = cell.synthetic[name], criteria_of(cell.arm.select)
        drawn, taken = worker.synthetic(task, pooled(kept, cell.arm, worker.design.value.use))
        if criteria:
            taken, notes[f"selection of {name}"] = select_images(
                worker,
                cell.fold,
                drawn,
                taken,
                key=task.key,
                crop=worker.crop_of(name),
                criteria=criteria,
                keep=kept,
                seed=task.seed,
            )
        images = (
            worker.ready(name, base.size, base.channels)
            if task.ready
            else Decoded(drawn, size=base.size, channels=base.channels, crop="none")
        )
        synthetic.append(Part(images=images, rows=taken, labels=drawn.labels[taken], weight=cell.arm.loss_weight))
        counts[name] = drawn.subset(taken).counts()
    tested = data.subset(cell.fold.test)
    hint = f"{lower_memory(worker.recipes[cell.classifier].base(), f'classifier.{cell.classifier}.')}, or fewer --jobs"
    with memory_errors(f"training '{cell.classifier}'", hint):
        classifier, runs = _train(
            worker, cell, folder, image, real=[chosen(rows)], synthetic=synthetic, validation=chosen(cell.fold.val)
        )
        probabilities = {"": _predict(worker, cell, classifier, real, cell.fold.test)}
        for name, other in worker.images.external.items():
            images = worker.external(name, base.size, base.channels, base.crop)
            probabilities[name] = _predict(worker, cell, classifier, images, range(len(other)))
    sets, scores = {"": tested, **worker.images.external}, {}
    for name, found in probabilities.items():
        table = Predictions.of([(sets[name], found)], data.classes, multi_label=data.multi_label).to_csv()
        write_atomic(folder / predictions_file(name), table.encode())
        scores[name] = classification_scores(sets[name].labels, found, data.classes, multi_label=data.multi_label)
    hashes = {name: sha256_file(folder / predictions_file(name)) for name in probabilities}
    # Those before an interruption count too.
    seconds = sum(float(run.rows[-1].get("seconds", 0.0)) for run in runs if run.rows)
    result = CellResult(
        key=cell.key,
        **cell.identity,
        status="done",
        scores=scores.pop(""),
        external=scores,
        history=tuple(_history(runs)),
        images=counts,
        n_train=len(rows) + sum(len(part.rows) for part in synthetic),
        n_real=len(rows),
        n_val=len(cell.fold.val),
        n_test=len(tested),
        steps=cell.steps,
        steps_done=sum(int(run.rows[-1]["step"]) for run in runs if run.rows),
        seconds=round(max(seconds, time.monotonic() - started), 3),
        notes={**notes, **_notes(worker, cell, runs)},
        warnings=tuple(dict.fromkeys(line for run in runs for line in run.warnings())),
        predictions_sha256=hashes.pop(""),
        external_sha256=hashes,
    )
    write_cell(worker.home, result)
    for stage in folder.glob("stage-*"):
        shutil.rmtree(stage / "checkpoints", ignore_errors=True)
    return result


class _StageFolder(RunFolder):
    """The folder of one stage of training."""

    def on_preview(self, step: int, sample: Callable[[Sequence[int], Tensor], Tensor]) -> None:
        """Do nothing: a classifier makes no images."""

    @property
    def rows(self) -> list[dict[str, float]]:
        """The recorded steps."""
        return self._losses.rows


def _train(
    worker: Worker,
    cell: Cell,
    folder: Path,
    image: ImageSpec,
    *,
    real: Sequence[Part],
    synthetic: Sequence[Part],
    validation: Part,
) -> tuple[Classifier, list[_StageFolder]]:
    """Return the classifier after its last stage, and the folders of all stages."""
    recipe, runs = worker.recipes[cell.classifier], []
    before: Classifier | None = None
    for number, stage in enumerate(recipe.stages(cell.arm), start=1):
        classifier = build_model(recipe.spec, stage.config, image, device=worker.device, seed=cell.seed)
        if before is not None:
            classifier.load_state_dict(before.state_dict())
        run = _StageFolder(folder / f"stage-{number}", image=image, seed=cell.seed, keep=1, cache=latents_root())
        runs.append(run)
        parts = {"real": real, "synthetic": synthetic}
        images = (
            # Training to an optimum needs each image once.
            weighted_images(cell.arm, image.classes, **parts)
            if recipe.spec.converges
            else training_images(
                cell.arm, stage.images, image.classes, **parts, length=cell.epoch_length, seed=cell.seed
            )
        )
        unseen = ConcatDataset(image.classes, [validation])
        if isinstance(classifier, FeatureClassifier):
            _fit_features(classifier, worker.features(cell.classifier), images, unseen, seed=cell.seed)
        else:
            classifier.fit(images, validation=unseen, seed=cell.seed, callback=run, checkpoints=run)
        before = classifier
    assert before is not None  # every recipe has a stage
    return before, runs


def _fit_features(
    classifier: FeatureClassifier, features: FrozenFeatures, images: ConcatDataset, unseen: ConcatDataset, *, seed: int
) -> None:
    """Train on the features of `images`, with their loss weights if they have any."""
    classifier.fit_features(
        features.of_dataset(images),
        torch.from_numpy(images.labels),
        weights=loss_weights(images),
        validation=(features.of_dataset(unseen), torch.from_numpy(unseen.labels)),
        seed=seed,
    )


def _predict(worker: Worker, cell: Cell, classifier: Classifier, images: Decoded, indices: Sequence[int]) -> np.ndarray:
    """Return the probabilities of the images at `indices`: float32 (N, K)."""
    if isinstance(classifier, FeatureClassifier):
        features = worker.features(cell.classifier).of(images)
        return classifier.predict_features(features[list(indices)]).float().cpu().numpy()
    found = []
    for start in range(0, len(indices), _BATCH):
        pixels = torch.from_numpy(to_float(images[indices[start : start + _BATCH]]))
        found.append(classifier.predict(pixels).float().cpu().numpy())
    return np.concatenate(found)


def _history(runs: Sequence[_StageFolder]) -> Iterator[Mapping[str, float]]:
    """Yield measured steps and some of the others; the count of steps continues over stages."""
    before = 0
    for phase, run in enumerate(runs, start=1):
        every = max(1, len(run.rows) // _ROWS)
        for place, row in enumerate(run.rows):
            if place % every == 0 or "validation_loss" in row:
                # As loss.csv has them, from which rows before an interruption are read.
                values = {key: float(f"{value:.6g}") for key, value in row.items() if key in _SHOWN}
                staged = {"phase": float(phase)} if len(runs) > 1 else {}
                yield {**values, **staged, "step": before + int(row["step"])}
        before += int(run.rows[-1]["step"]) if run.rows else 0


def _notes(worker: Worker, cell: Cell, runs: Sequence[_StageFolder]) -> dict[str, Mapping[str, float | str]]:
    """Return what the classifier logged, and which images the generators were trained on."""
    found: dict[str, Mapping[str, float | str]] = {}
    for run in runs:
        found |= run.notes
    if sha256 := worker.features(cell.classifier).weights_sha256:
        found["features"] = {"weights_sha256": sha256}
    for name, task in cell.samplings.items():
        if name in worker.folders:
            found[f"lineage of {name}"] = {"made by": worker.folders[name].lineage}
        elif task.training is not None:
            found[f"lineage of {name}"] = {"trained on": "this fold's training images", "run": task.training.key}
        elif task.seen:
            found[f"lineage of {name}"] = {f"trained on {part} images": count for part, count in task.seen.items()}
    return found
