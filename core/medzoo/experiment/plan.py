"""Plan an experiment: check its settings, images and models, list its tasks, and say what a reader must know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from medzoo._version import __version__
from medzoo.data.dataset import Dataset
from medzoo.errors import ConfigError, DataError
from medzoo.experiment.config import Design
from medzoo.experiment.folds import make_folds
from medzoo.experiment.generators import find_generators
from medzoo.experiment.results import EXPERIMENT, read_cell
from medzoo.experiment.tasks import Cell, SamplingTask, Task, make_cells, tasks_of
from medzoo.experiment.worker import Worker
from medzoo.generation.mixture import Source
from medzoo.models.devices import hardware
from medzoo.models.labels import check_labels
from medzoo.runs.record import git_commit, read_run


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
            "arms": [arm.to_dict() for arm in design.arms],
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
    cells = make_cells(
        design, images, worker.recipes, generators, source.plugins, device=source.device, allow_leak=allow_leak
    )
    return ExperimentPlan(worker, cells)


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
