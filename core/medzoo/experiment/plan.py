"""Plan an experiment: check its settings, images and models, list its tasks, and say what a reader must know."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from medzoo._version import __version__
from medzoo.data.dataset import Dataset
from medzoo.errors import ConfigError, DataError
from medzoo.experiment.arms import Arm
from medzoo.experiment.config import Design
from medzoo.experiment.folds import Fold, make_folds
from medzoo.experiment.generators import count_seen_images, find_generators
from medzoo.experiment.recipes import parameter_free_image
from medzoo.experiment.results import EXPERIMENT, read_cell
from medzoo.experiment.tasks import Cell, SamplingTask, Task, TrainingTask, tasks_of
from medzoo.experiment.training_sets import synthetic_counts
from medzoo.experiment.worker import Worker
from medzoo.generation.mixture import Source
from medzoo.generation.plan import exact_shares
from medzoo.models.devices import hardware
from medzoo.models.labels import check_labels
from medzoo.runs.record import git_commit, read_run
from medzoo.seeds import derive_seed


@dataclass(frozen=True)
class ExperimentPlan:
    """An experiment ready to run: everything is checked, nothing is written. `cells` are in the order to show them."""

    worker: Worker
    cells: tuple[Cell, ...]

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
        """The tasks still to do: cells without scores, and what those need."""
        folder = self.worker.folder
        if folder is None:
            return self.tasks
        done = {task.key for task in self.tasks if isinstance(task, Cell) and _is_done(folder, task)}
        done |= {task.key for task in self.tasks if read_run(folder / "generators" / task.key) is not None}
        # Sampling finds its images and is done at once, or samples again what was lost.
        todo = tasks_of([cell for cell in self.cells if cell.key not in done])
        return [task for task in todo if task.key not in done]

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the results must know."""
        worker = self.worker
        return (
            *worker.images.warnings,
            *_design_warnings(worker, sampled=bool(self.samplings)),
            *_leak_warnings(self.samplings),
            *_size_warnings(worker),
        )

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
            "arms": [asdict(arm) for arm in design.arms],
            "classifiers": list(design.value.classifiers),
            "warnings": list(self.warnings),
            "provenance": _provenance(self.worker),
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


def plan_experiment(
    design: Design,
    data: Dataset,
    out: Path | None,
    *,
    source: Source,
    test: Dataset | None = None,
    allow_leak: bool = False,
    leave_out_seen: bool = False,
    allow_upload: bool = False,
) -> ExperimentPlan:
    """Check the experiment `design` on `data` and list its tasks, without writing anything.

    `out` is the folder of the results; without it, the plan can be shown but not run. `test` replaces the data's own
    test part. `leave_out_seen` leaves out test images that a model was trained on.

    Raises:
        ConfigError, UnknownName: a setting or name is wrong.
        DataError: the images cannot be split, or a generator was trained on test images and not `allow_leak`.
        HubError: a published model cannot be downloaded.
    """
    check_labels(data.classes)
    if out is not None:
        _check_folder(out)
    generators = find_generators(design, source.plugins, source.registry, mirror=source.mirror)
    known = frozenset[str]().union(*(generator.trained_on for generator in generators.values()))
    images = make_folds(
        data, design.value, test=test, allow_leak=allow_leak, leave_out=known if leave_out_seen else None
    )
    worker = Worker(design, images, generators, out, source.device, allow_upload)
    _check_models(worker)
    return ExperimentPlan(worker, _TaskBuilder(worker, allow_leak=allow_leak).all_cells())


class _TaskBuilder:
    """Makes the cells of an experiment with the tasks they need, each under a hash of all it depends on."""

    def __init__(self, worker: Worker, *, allow_leak: bool) -> None:
        self._worker, self._allow_leak = worker, allow_leak
        recipes, plugins = worker.recipes, worker.plugins
        self._identities = {name: generator.identity(plugins) for name, generator in worker.generators.items()}
        self._classifiers = {
            name: [recipe.spec.name, plugins.plugin_of("classifier", recipe.spec.name).version]
            for name, recipe in recipes.items()
        }
        self._stages = {
            (name, arm.name): recipe.stages(arm) for name, recipe in recipes.items() for arm in worker.design.arms
        }
        self._image = list(parameter_free_image(recipes))
        self._common = {"medzoo": __version__, "device": worker.device.partition(":")[0]}

    def all_cells(self) -> tuple[Cell, ...]:
        """Return every cell, in the order to show them.

        Raises:
            ConfigError: an arm's target adds no image.
            DataError: a published generator was trained on test images.
        """
        design, folds = self._worker.design, self._worker.images.folds
        by_fold = {fold: self._cells(fold) for fold in folds}
        return tuple(
            by_fold[fold][arm.name, name, number]
            for arm in design.arms
            for name in design.value.classifiers
            for fold in folds
            for number in range(design.value.seeds)
        )

    def _cells(self, fold: Fold) -> dict[tuple[str, str, int], Cell]:
        """Return the fold's cells by arm, classifier and seed number."""
        settings, arms = self._worker.design.value, self._worker.design.arms
        train = self._worker.images.subset(fold.train)
        digests = {part: self._worker.images.digest(getattr(fold, part)) for part in ("train", "val", "test")}
        added = {arm.name: synthetic_counts(train, arm) for arm in arms}
        synthetic = {arm.name: self._by_generator(arm, added[arm.name]) for arm in arms}
        # As many images as the largest filled training set, in every arm.
        epoch_length = max(
            len(train), *((0 if arm.pretrain else len(train)) + sum(added[arm.name].values()) for arm in arms)
        )
        draws = range(settings.seeds if settings.redraw else 1)
        samplings = {
            (name, draw): self._sampling(
                name, [counts.get(name, {}) for counts in synthetic.values()], fold, draw, digests
            )
            for name in self._worker.generators
            for draw in draws
        }
        found = {}
        for arm in arms:
            for classifier in settings.classifiers:
                stages = self._stages[classifier, arm.name]
                for number in range(settings.seeds):
                    draw = number if settings.redraw else 0
                    own = {name: samplings[name, draw] for name in synthetic[arm.name]}
                    seed = self._seed("classifier", fold, number)
                    key = self._key(
                        "cell",
                        images=digests,
                        drawings={name: task.key for name, task in own.items()},
                        synthetic=synthetic[arm.name],
                        real_fraction=arm.real_fraction,
                        classifier=self._classifiers[classifier],
                        stages=[{"images": stage.images, "config": stage.config.flat()} for stage in stages],
                        length=epoch_length,
                        seed=seed,
                    )
                    found[arm.name, classifier, number] = Cell(
                        key=key,
                        fold=fold,
                        arm=arm,
                        classifier=classifier,
                        number=number,
                        seed=seed,
                        synthetic=synthetic[arm.name],
                        samplings=own,
                        epoch_length=epoch_length,
                        steps=sum(stage.steps(epoch_length) for stage in stages),
                    )
        return found

    def _by_generator(self, arm: Arm, counts: Mapping[str, int]) -> dict[str, dict[str, int]]:
        """Split an arm's images of each label over its generators."""
        if arm.mixture and not counts:
            raise ConfigError(
                f"the arm '{arm.name}' adds no image: every class has {arm.target} or more", "raise target"
            )
        shares = [Fraction(str(share)) for share in arm.mixture.values()]
        split = {label: exact_shares(count, shares) for label, count in counts.items()} if shares else {}
        return {
            name: {label: parts[place] for label, parts in split.items() if parts[place]}
            for place, name in enumerate(arm.mixture)
        }

    def _sampling(
        self, name: str, needed: Sequence[Mapping[str, int]], fold: Fold, draw: int, digests: Mapping[str, str]
    ) -> SamplingTask:
        """Return the task that makes at least the `needed` images of each arm, in whole batches."""
        generator, size = self._worker.generators[name], self._worker.design.value.batch_size
        training = None
        if generator.kind == "trained":
            seed = self._seed("generator", fold, 0)
            key = self._key("training", train=digests["train"], seed=seed, **self._identities[name])
            training = TrainingTask(key=key, generator=name, fold=fold, seed=seed)
        seed = self._seed("images", fold, draw)
        key = self._key(
            "drawing",
            train=digests["train"],
            generator=[name, training.key if training is not None else self._identities[name]],
            image=self._image if generator.kind == "parameter-free" else None,
            batch_size=size,
            seed=seed,
        )
        most = {label: max(counts.get(label, 0) for counts in needed) for label in sorted(set().union(*needed))}
        return SamplingTask(
            key=key,
            fold=fold,
            generator=name,
            counts={label: -(-count // size) * size for label, count in most.items()},
            seed=seed,
            training=training,
            seen=count_seen_images(generator, self._worker.images, fold, allow_leak=self._allow_leak)
            if generator.kind == "published"
            else {},
        )

    def _seed(self, what: str, fold: Fold, number: int) -> int:
        # 31 bits: what every library takes for a seed.
        return derive_seed(self._worker.design.value.seed, what, fold.repeat, fold.fold, number) % 2**31

    def _key(self, kind: str, **identity: Any) -> str:
        text = json.dumps({**self._common, "kind": kind, **identity}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


def _check_folder(out: Path) -> None:
    """Raise DataError for a folder that holds anything but an experiment."""
    if out.is_file():
        raise DataError(f"{out} is a file", "choose another --out")
    if out.is_dir() and any(not e.name.startswith(".") for e in out.iterdir()) and not (out / EXPERIMENT).is_file():
        raise DataError(f"{out} holds other files", "choose another --out, or empty it")


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


def _is_done(folder: Path, cell: Cell) -> bool:
    found = read_cell(folder, cell.key)
    return found is not None and found.status == "done"


def _design_warnings(worker: Worker, *, sampled: bool) -> Iterator[str]:
    design, data = worker.design, worker.images.data
    if not design.value.controls:
        yield (
            "controls = false: without duplicate and classic at the same image counts, a gain over real images may "
            "come from balanced classes alone"
        )
    trained = [worker.images.subset(fold.train).counts() for fold in worker.images.folds]
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
    if design.value.seeds > 1 and not design.value.redraw and sampled:
        yield (
            "the seeds of a classifier share one set of synthetic images, so their spread does not include the effect "
            "of sampling them again (redraw = true)"
        )


def _leak_warnings(samplings: list[SamplingTask]) -> Iterator[str]:
    published = [task for task in samplings if task.seen]
    for name in dict.fromkeys(task.generator for task in published):
        own = [task.seen for task in published if task.generator == name]
        if test := max(seen["test"] for seen in own):
            yield f"'{name}' was trained on {test} test images (--allow-leak): its scores are too optimistic"
        if val := max(seen["val"] for seen in own):
            yield f"'{name}' was trained on {val} validation images, on which classifiers' weights are selected"


def _size_warnings(worker: Worker) -> Iterator[str]:
    sizes = {name: recipe.base().image.size for name, recipe in worker.recipes.items()}
    for name, generator in worker.generators.items():
        if generator.kind == "parameter-free":
            continue
        size = generator.config(worker.plugins).image.size
        wider = [f"{other} ({side})" for other, side in sizes.items() if side > size]
        if wider:
            yield f"'{name}' makes images of {size} pixels, enlarged for {', '.join(wider)}; real images are not"


def _provenance(worker: Worker) -> dict[str, Any]:
    data, folds = worker.images.data, worker.images.folds
    return {
        "medzoo": __version__,
        "git_commit": git_commit(),
        "device": worker.device,
        "hardware": hardware(worker.device),
        "data": {
            "path": str(data.path),
            "fingerprint": data.fingerprint(),
            "size": len(data),
            "counts": data.counts(),
            "parts": [{part: len(getattr(fold, part)) for part in ("train", "val", "test")} for fold in folds],
            **worker.images.facts,
        },
        "reference": "an epoch is as many images as the largest filled training set has, in every arm",
        "generators": {
            name: {"kind": generator.kind, **generator.identity(worker.plugins)}
            for name, generator in worker.generators.items()
        },
    }
