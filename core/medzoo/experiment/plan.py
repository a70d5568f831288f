"""Plan an experiment: check its settings, images and models, list its tasks, and say what a reader must know."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from medzoo._version import __version__
from medzoo.data.dataset import Dataset
from medzoo.distributed.workers import Cluster
from medzoo.errors import ConfigError, DataError
from medzoo.experiment.config import Arm, Design
from medzoo.experiment.folders import count_held_out, find_test_images, open_folders
from medzoo.experiment.folds import PARTS, Fold, make_folds
from medzoo.experiment.models import count_seen_images, find_generators, parameter_free_image
from medzoo.experiment.results import EXPERIMENT, check_cell
from medzoo.experiment.selection import check_selection, pooled, selection_identity
from medzoo.experiment.tasks import Cell, SamplingTask, Task, TrainingTask, tasks_of
from medzoo.experiment.training_sets import synthetic_counts
from medzoo.experiment.worker import Worker
from medzoo.generation.mixture import Source
from medzoo.models.devices import hardware
from medzoo.models.labels import check_labels
from medzoo.runs.record import check_finished, git_commit
from medzoo.seeds import derive_seed
from medzoo.storage.files import check_empty, check_outside

_SHOWN = ("classes", "stage", "weighted")  # levers that show in a cell's counts and stages


@dataclass(frozen=True)
class ExperimentPlan:
    """An experiment ready to run: everything is checked, nothing is written.

    `cells` are in the order to show them. Tasks are done on a `cluster`, if there is one.
    """

    worker: Worker
    cells: tuple[Cell, ...]
    builder: CellBuilder
    cluster: Cluster | None = None

    def with_arms(self, arms: Sequence[Arm]) -> ExperimentPlan:
        """Return the plan with further arms, of images in folders that it knows already; its own cells stay the same.

        An epoch is as long as it was, so that the new arms take as many steps, whichever are added.
        Raises: as `CellBuilder.cells`.
        """
        design = replace(self.worker.design, arms=(*self.worker.design.arms, *arms))
        return replace(self, worker=replace(self.worker, design=design), cells=(*self.cells, *self.cells_of(arms)))

    def cells_of(self, arms: Sequence[Arm]) -> list[Cell]:
        """Return the cells that `with_arms` adds, arm by arm."""
        cells = [
            cell for fold, length in self._epochs.items() for cell in self.builder.cells(fold, arms, length=length)
        ]
        return sorted(cells, key=lambda cell: arms.index(cell.arm))

    @cached_property
    def _epochs(self) -> dict[Fold, int]:
        return {cell.fold: cell.epoch_length for cell in self.cells}

    @cached_property
    def tasks(self) -> list[Task]:
        """The cells and the tasks they need, each once, after those it needs."""
        return tasks_of(self.cells)

    @property
    def samplings(self) -> list[SamplingTask]:
        """The tasks that sample images."""
        return [task for task in self.tasks if isinstance(task, SamplingTask)]

    @property
    def missing(self) -> list[Task]:
        """The tasks still to do: cells without scores or with damaged files, and what those need."""
        folder = self.worker.folder
        if folder is None:
            return self.tasks
        # Sampling finds its images and is done at once, or samples again what was lost.
        todo = tasks_of([cell for cell in self.cells if not check_cell(folder, cell.key)[0]])
        return [task for task in todo if not (isinstance(task, TrainingTask) and _is_trained(folder, task))]

    @property
    def damaged(self) -> list[str]:
        """Which files of finished cells are missing or damaged, in words."""
        folder = self.worker.folder
        found = [check_cell(folder, cell.key)[1] for cell in self.cells] if folder is not None else []
        return [message for message in found if message]

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the results must know."""
        samplings = {task.key: task for cell in self.cells for task in cell.samplings.values()}
        return (*self.worker.images.warnings, *_warnings(self.worker, list(samplings.values())))

    def describe(self) -> dict[str, Any]:
        """Describe all of the experiment but its results, as experiment.json holds it."""
        design, data = self.worker.design, self.worker.images.data
        return {
            "name": design.name,
            "held_out": not design.value.folds,
            "settings": design.flat(),
            "origins": dict(design.settings.origins),
            "classes": list(data.classes),
            "multi_label": data.multi_label,
            "baseline": design.value.baseline,
            "metric": design.value.metric,
            "test_sets": list(self.worker.images.external),
            "arms": [asdict(arm) for arm in design.arms],
            "classifiers": list(design.value.classifiers),
            "warnings": list(self.warnings),
            "provenance": {
                "medzoo": __version__,
                "git_commit": git_commit(),
                "device": self.worker.device,
                "hardware": hardware(self.worker.device),
                "data": {
                    "path": str(data.path),
                    "fingerprint": data.fingerprint(),
                    "size": len(data),
                    "counts": data.counts(),
                    "parts": [{part: len(getattr(fold, part)) for part in PARTS} for fold in self.worker.images.folds],
                    **self.worker.images.facts,
                },
                "reference": "an epoch is as many images as the largest filled training set has, in every arm",
                "generators": {
                    **{
                        name: {"kind": generator.kind, **generator.identity(self.worker.plugins)}
                        for name, generator in self.worker.generators.items()
                    },
                    **{name: folder.describe() for name, folder in self.worker.folders.items()},
                },
            },
            "cells": [
                {
                    "key": cell.key,
                    **cell.identity,
                    "steps": cell.steps,
                    "epoch": cell.epoch_length,
                    "drawings": {name: task.key for name, task in cell.samplings.items()},
                    "n_train_real": len(cell.fold.train),
                    "n_test": len(cell.fold.test),
                }
                for cell in self.cells
            ],
        }


def _is_trained(folder: Path, task: TrainingTask) -> bool:
    record, damaged = check_finished(folder / "generators" / task.key)
    return record is not None and not damaged


def plan_experiment(
    design: Design,
    data: Dataset,
    out: Path | None,
    *,
    source: Source,
    tests: Sequence[Dataset] = (),
    allow_leak: bool = False,
    leave_out_seen: bool = False,
    allow_upload: bool = False,
) -> ExperimentPlan:
    """Check the experiment `design` on `data` and list its tasks, without writing anything.

    `out` is the folder of the results; without it, the plan can be shown but not run. Without folds, the first of
    `tests` replaces the data's own test part; the others, and with folds all, are external test sets. `leave_out_seen`
    leaves out test images that a model was trained on.

    Raises:
        ConfigError, UnknownName: a setting or name is wrong.
        DataError: the images cannot be split, or a generator was trained on test images, or a folder holds some, and
            not `allow_leak`; a folder has too few images.
        HubError: a published model cannot be downloaded.
    """
    check_labels(data.classes)
    if out is not None:
        _check_folder(out)
    generators = find_generators(design, source.plugins, source.registry, data=data, mirror=source.mirror)
    known = frozenset[str]().union(*(generator.trained_on for generator in generators.values()))
    images = make_folds(
        data, design.value, tests=tests, allow_leak=allow_leak, leave_out=known if leave_out_seen else None
    )
    folders = open_folders(design, images.data, source)
    if out is not None:
        check_outside(out, *(folder.data.path for folder in folders.values()))
    worker = Worker(design, images, generators, out, source.device, allow_upload, folders)
    _check_models(worker)
    check_selection(worker, allow_leak=allow_leak)
    builder = CellBuilder(worker, allow_leak=allow_leak)
    cells = [cell for fold in images.folds for cell in builder.cells(fold, design.arms)]
    arms, classifiers = list(design.arms), design.value.classifiers
    order = sorted(cells, key=lambda cell: (arms.index(cell.arm), classifiers.index(cell.classifier)))
    return ExperimentPlan(worker, tuple(order), builder, source.cluster)


class CellBuilder:
    """Makes the cells of an experiment with the tasks they need, each under a hash of all it depends on."""

    def __init__(self, worker: Worker, *, allow_leak: bool) -> None:
        self._worker, self._allow_leak = worker, allow_leak
        self._identities = {name: found.identity(worker.plugins) for name, found in worker.generators.items()}
        self._inside = {name: find_test_images(folder, worker.images) for name, folder in worker.folders.items()}
        self._image = list(parameter_free_image(worker.recipes))
        external = {name: data.fingerprint() for name, data in worker.images.external.items()}
        self._external = {"external": external} if external else {}
        self._common = {"medzoo": __version__, "device": worker.device.partition(":")[0]}
        self._folds: dict[Fold, tuple[Dataset, dict[str, str]]] = {}

    def cells(self, fold: Fold, arms: Sequence[Arm], *, length: int = 0) -> Iterator[Cell]:
        """Make the fold's cells, those of each arm and classifier together.

        An epoch has `length` images; 0 stands for as many as the largest filled training set of these arms has.

        Raises:
            ConfigError: an arm's target adds no image.
            DataError: a published generator was trained on test images.
        """
        settings, images = self._worker.design.value, self._worker.images
        if fold not in self._folds:
            digests = {part: images.digest(getattr(fold, part)) for part in PARTS}
            self._folds[fold] = images.data.subset(fold.train), digests
        train, digests = self._folds[fold]
        synthetic = {arm.name: synthetic_counts(train, arm) for arm in arms}
        drawn = {
            arm.name: {name: pooled(counts, arm, settings.use) for name, counts in synthetic[arm.name].items()}
            for arm in arms
        }
        # As many images as the largest filled training set, in every arm.
        filled = (
            sum(sum(counts.values()) for counts in synthetic[arm.name].values()) * (not arm.replace)
            + len(train) * (not arm.pretrain)
            for arm in arms
        )
        epoch_length = length or max(len(train), *filled)
        samplings = {
            (name, draw): self._sampling(name, [own.get(name, {}) for own in drawn.values()], fold, draw, digests)
            for name in dict.fromkeys(name for own in drawn.values() for name in own)
            for draw in range(settings.seeds if settings.redraw else 1)
        }
        for arm in arms:
            for classifier, recipe in self._worker.recipes.items():
                spec, stages = recipe.spec, recipe.stages(arm)
                levers = {name: value for name, value in arm.levers.items() if name not in _SHOWN}
                levers |= selection_identity(self._worker, arm)
                version = self._worker.plugins.plugin_of("classifier", spec.name).version
                for number in range(settings.seeds):
                    own = {name: samplings[name, number if settings.redraw else 0] for name in synthetic[arm.name]}
                    seed = self._seed("classifier", fold, number)
                    key = self._key(
                        "cell",
                        images=digests,
                        drawings={name: task.key for name, task in own.items()},
                        synthetic=synthetic[arm.name],
                        real_fraction=arm.real_fraction,
                        **levers,
                        classifier=[spec.name, version],
                        stages=[{"images": stage.images, "config": stage.config.flat()} for stage in stages],
                        length=epoch_length,
                        seed=seed,
                        **self._external,
                    )
                    yield Cell(
                        key=key,
                        fold=fold,
                        needs=tuple(task.key for task in own.values() if not task.ready),
                        arm=arm,
                        classifier=classifier,
                        number=number,
                        seed=seed,
                        synthetic=synthetic[arm.name],
                        samplings=own,
                        epoch_length=epoch_length,
                        steps=sum(stage.steps(epoch_length) for stage in stages),
                    )

    def _sampling(
        self, name: str, needed: Sequence[Mapping[str, int]], fold: Fold, draw: int, digests: Mapping[str, str]
    ) -> SamplingTask:
        """Return the task that makes at least the `needed` images of each arm, in whole batches.

        For a folder of images, it stands for those that are there.
        """
        most = {label: max(counts.get(label, 0) for counts in needed) for label in sorted(set().union(*needed))}
        if (folder := self._worker.folders.get(name)) is not None:
            folder.check_counts(most, fold)
            inside, images = self._inside[name], self._worker.images
            seen = count_held_out(folder, inside, images, fold, allow_leak=self._allow_leak)
            seed = self._seed("images", fold, draw)
            left_out = {"left_out": digest} if (digest := folder.left_out(fold)) else {}
            key = self._key("folder", fingerprint=folder.fingerprint, seed=seed, **left_out)
            return SamplingTask(key=key, fold=fold, generator=name, counts=most, seed=seed, seen=seen, ready=True)
        generator, images, size = (
            self._worker.generators[name],
            self._worker.images,
            self._worker.design.value.batch_size,
        )
        training, seen = None, {}
        if generator.kind == "trained":
            seed = self._seed("generator", fold, 0)
            own = generator.training_identity(self._worker.plugins)
            key = self._key("training", train=digests["train"], seed=seed, **own)
            training = TrainingTask(key=key, generator=name, fold=fold, seed=seed)
        elif generator.kind == "published":
            seen = count_seen_images(generator, images, fold, allow_leak=self._allow_leak)
        seed = self._seed("images", fold, draw)
        key = self._key(
            "drawing",
            train=digests["train"],
            generator=[name, training.key if training is not None else self._identities[name]],
            **generator.varies,
            image=self._image if generator.kind == "parameter-free" else None,
            batch_size=size,
            seed=seed,
        )
        return SamplingTask(
            key=key,
            fold=fold,
            needs=() if training is None else (training.key,),
            generator=name,
            counts={label: -(-count // size) * size for label, count in most.items()},
            seed=seed,
            training=training,
            seen=seen,
        )

    def _seed(self, what: str, fold: Fold, number: int) -> int:
        # 31 bits: what every library takes for a seed.
        return derive_seed(self._worker.design.value.seed, what, fold.repeat, fold.fold, number) % 2**31

    def _key(self, kind: str, **identity: Any) -> str:
        text = json.dumps({**self._common, "kind": kind, **identity}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


def _check_folder(out: Path) -> None:
    """Raise DataError for a folder that holds anything but an experiment."""
    if not (out / EXPERIMENT).is_file():
        check_empty(out)


def _check_models(worker: Worker) -> None:
    """Raise ConfigError or DataError for what would fail in every cell."""
    data = worker.images.data
    for generator in worker.generators.values():
        spec, image = generator.spec(worker.plugins), generator.image(worker.plugins)
        if data.multi_label and spec.trainable and not spec.multi_label:
            raise ConfigError(
                f"'{generator.name}' takes one label per image, but the data has several", "choose another generator"
            )
        known = data.classes if image is None else image.classes
        unknown = [name for name in data.classes if name not in known]
        if unknown:
            raise DataError(
                f"'{generator.name}' does not know the class {unknown[0]}; it knows {', '.join(known)}",
                f"rename the classes (--classes for an npz), or train it in each fold: {generator.plugin}",
            )
    if all(fold.val for fold in worker.images.folds):
        return
    for name, recipe in worker.recipes.items():
        if recipe.selects_weights:
            raise ConfigError(
                f"'{name}' selects its weights on validation images, and validation = 0 leaves none",
                f"or set classifier.{name}.training.load_best_model_at_end=false and "
                f"classifier.{name}.training.early_stopping_patience=0",
            )


def _warnings(worker: Worker, samplings: Sequence[SamplingTask]) -> Iterator[str]:
    """Return what a reader must know about the design, the training images of generators and image sizes."""
    design, data, settings = worker.design, worker.images.data, worker.design.value
    if not settings.controls:
        yield (
            "controls = false: without duplicate and classic at the same image counts, a gain over real images may "
            "come from balanced classes alone"
        )
    trained = [worker.images.data.subset(fold.train).counts() for fold in worker.images.folds]
    most = {name: max(counts[name] for counts in trained) for name in data.classes}
    above = [f"{name} has {count}" for name, count in most.items() if count > design.target]
    if above and not data.multi_label:
        yield f"above the target of {design.target}, so nothing is added or left out: {', '.join(above)}"
    if any(arm.pretrain and 0 < arm.real_fraction < 1 for arm in design.arms):
        yield (
            "the generator was trained on all training images, also where a classifier is fine-tuned on a fraction of "
            "them: such rows do not show what a generator trained on that fraction would give"
        )
    selects = any(recipe.selects_weights for recipe in worker.recipes.values())
    if selects and any(arm.real_fraction == 0 for arm in design.arms):
        yield 'the rows "synthetic only" select weights on real validation images too'
    if settings.seeds > 1 and not settings.redraw and samplings:
        yield (
            "the seeds of a classifier share one set of synthetic images, so their spread does not include the effect "
            "of sampling them again (redraw = true)"
        )
    yield from _lineage_warnings(worker, samplings)
    sizes = {name: recipe.base().image.size for name, recipe in worker.recipes.items()}
    for name, generator in worker.generators.items():
        size = 0 if generator.kind == "parameter-free" else generator.config(worker.plugins).image.size
        wider = [f"{other} ({side})" for other, side in sizes.items() if size and side > size]
        if wider:
            yield f"'{name}' makes images of {size} pixels, enlarged for {', '.join(wider)}; real images are not"


def _lineage_warnings(worker: Worker, samplings: Sequence[SamplingTask]) -> Iterator[str]:
    """Return warnings about held-out images that synthetic images were made from, or may have been."""
    parts = {"test": "test images", **{name: f"images of {name}" for name in worker.images.external}}
    for name in (*worker.generators, *worker.folders):
        used = "was trained on" if name in worker.generators else "holds, or was made from,"
        seen = [task.seen for task in samplings if task.generator == name and task.seen]
        for part, label in parts.items():
            if test := max((own[part] for own in seen), default=0):
                yield f"'{name}' {used} {test} {label} (--allow-leak): its scores on them are too optimistic"
        if val := max((own["val"] for own in seen), default=0):
            yield f"'{name}' {used} {val} validation images, on which classifiers' weights are selected"
    for name, folder in worker.folders.items():
        if not folder.origins:
            yield (
                f"the lineage of '{name}' is unknown: its images hold no test image, but a model that made them may "
                "have been trained on some, and scores would then be too optimistic"
            )
