"""Plan an experiment: check its settings, images and models, list its tasks, and say what a reader must know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from medzoo._version import __version__
from medzoo.data.dataset import Dataset
from medzoo.errors import ConfigError, DataError
from medzoo.experiment.cells import identity
from medzoo.experiment.config import Design
from medzoo.experiment.folds import make_parts
from medzoo.experiment.generators import find_generators
from medzoo.experiment.results import EXPERIMENT, read_cell
from medzoo.experiment.tasks import Cell, Drawing, Grid, Task, Training, make_grid
from medzoo.experiment.worker import Workshop
from medzoo.generation.mixture import Source
from medzoo.models.devices import hardware
from medzoo.models.labels import check_labels
from medzoo.runs.record import git_commit, read_run


@dataclass(frozen=True)
class Prepared:
    """An experiment ready to run, with everything checked and nothing written."""

    workshop: Workshop
    grid: Grid

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the results must know."""
        return warnings_of(self.workshop, self.grid)

    @property
    def missing(self) -> list[Task]:
        """What is not done yet: cells without scores, and what those need."""
        folder = self.workshop.folder
        if folder is None:
            return self.grid.tasks
        cells = [cell for cell in self.grid.cells if not _is_done(folder, cell)]
        # Drawn anew where a picture was lost, else done at once.
        drawings = {key for cell in cells for key in cell.needs}
        needed = {key for drawing in drawings for key in self.grid.drawings[drawing].needs}
        trainings = {key for key in needed if not _finished(folder / "generators" / key)}
        keys = {*(cell.key for cell in cells), *drawings, *trainings}
        return [task for task in self.grid.tasks if task.key in keys]


def prepare(
    design: Design,
    data: Dataset,
    out: Path | None,
    *,
    source: Source,
    test: Dataset | None = None,
    allow_leak: bool = False,
    leave_out_seen: bool = False,
    allow_upload: bool = False,
) -> Prepared:
    """The experiment that `design` means on `data`, its folder to be `out`; nothing is written yet.

    Without `out` it can be told but not run. `test` takes the place of the data's own test part. `leave_out_seen`
    leaves out test images that were trained on.
    Raises: ConfigError, UnknownName for settings and names that cannot be taken; DataError for images that cannot be
    split, and for a generator that was trained on test images, unless `allow_leak`; HubError.
    """
    check_labels(data.classes)
    if out is not None:
        _refuse_other(out)
    generators = find_generators(design, source.plugins, source.registry, mirror=source.mirror)
    known = frozenset[str]().union(*(generator.trained_on for generator in generators.values()))
    images = make_parts(
        data, design.value, test=test, allow_leak=allow_leak, leave_out=known if leave_out_seen else None
    )
    workshop = Workshop(design, images, generators, out, source.device, allow_upload)
    _refuse_unfit(workshop)
    grid = make_grid(
        design, images, workshop.recipes, generators, source.plugins, device=source.device, allow_leak=allow_leak
    )
    return Prepared(workshop, grid)


def _refuse_unfit(workshop: Workshop) -> None:
    """Nothing. Raises: ConfigError, DataError for what would fail in every cell."""
    data = workshop.images.data
    for generator in workshop.generators.values():
        spec, image = generator.spec(workshop.plugins), generator.image(workshop.plugins)
        if data.multi_label and spec.trainable and not spec.multi_label:
            raise ConfigError(f"'{generator.name}' takes one label an image, the data has several", "choose another")
        known = data.classes if image is None else image.classes
        unknown = [name for name in data.classes if name not in known]
        if unknown:
            raise DataError(
                f"'{generator.name}' does not know the class {unknown[0]}; it knows {', '.join(known)}",
                f"rename the classes (--classes for an npz), or train it in each fold: {generator.plugin}",
            )
    if all(fold.val for fold in workshop.images.folds):
        return
    for name, recipe in workshop.recipes.items():
        flat = recipe.base().flat()
        if flat.get("training.load_best_model_at_end") or flat.get("training.early_stopping_patience"):
            raise ConfigError(
                f"'{name}' chooses its weights by validation images, and validation = 0 leaves none",
                f"or set classifier.{name}.training.load_best_model_at_end=false and "
                f"classifier.{name}.training.early_stopping_patience=0",
            )


def _is_done(folder: Path, cell: Cell) -> bool:
    found = read_cell(folder, cell.key)
    return found is not None and found.status == "done"


def _finished(folder: Path) -> bool:
    return read_run(folder) is not None


def _refuse_other(out: Path) -> None:
    """Nothing. Raises: DataError for a folder that holds anything but an experiment."""
    if out.is_file():
        raise DataError(f"{out} is a file", "choose another --out")
    if out.is_dir() and any(not e.name.startswith(".") for e in out.iterdir()) and not (out / EXPERIMENT).is_file():
        raise DataError(f"{out} holds other files", "choose another --out, or empty it")


def told(task: Task) -> str:
    """What a task is, in a few words."""
    where = f", fold {task.fold.repeat}.{task.fold.fold}"
    if isinstance(task, Training):
        return f"trained {task.generator}{where}"
    if isinstance(task, Drawing):
        return f"drew {task.total} images of {task.generator}{where}"
    assert isinstance(task, Cell)  # there is no other kind
    return f"{task.classifier} on {task.arm.name}{where}, seed {task.number}"


def warnings_of(workshop: Workshop, grid: Grid) -> tuple[str, ...]:
    """What a reader of the results must know."""
    return (
        *workshop.images.warnings,
        *_of_design(workshop, grid),
        *_of_lineage(grid),
        *_of_sizes(workshop),
    )


def _of_design(workshop: Workshop, grid: Grid) -> Iterator[str]:
    design, data = workshop.design, workshop.images.data
    if not design.value.controls:
        yield (
            "controls = false: without duplicate and classic at equal count, a gain over real images may be that of "
            "more balanced classes alone"
        )
    trained = [workshop.images.subset(fold.train).counts() for fold in workshop.images.folds]
    most = {name: max(counts[name] for counts in trained) for name in data.classes}
    above = [f"{name} has {count}" for name, count in most.items() if count > design.target]
    if above and not data.multi_label:
        yield f"above the target of {design.target}, so not filled and nothing left out: {', '.join(above)}"
    if any(arm.pretrain and 0 < arm.real_fraction < 1 for arm in design.arms):
        yield (
            "the generator saw all training images, also where a classifier is fine-tuned on a part of them: such rows "
            "do not show what a generator trained on that part would give"
        )
    flats = [recipe.base().flat() for recipe in workshop.recipes.values()]
    chosen = any(
        flat.get("training.load_best_model_at_end") or flat.get("training.early_stopping_patience") for flat in flats
    )
    if chosen and any(arm.real_fraction == 0 for arm in design.arms):
        yield 'validation images are real in the rows "synthetic only" too: weights are chosen by them'
    if design.value.seeds > 1 and not design.value.redraw and grid.drawings:
        yield (
            "the seeds of a classifier share one set of synthetic images, so their spread leaves out that of drawing "
            "them anew (redraw = true)"
        )


def _of_lineage(grid: Grid) -> Iterator[str]:
    published = [drawing for drawing in grid.drawings.values() if drawing.lineage]
    for name in dict.fromkeys(drawing.generator for drawing in published):
        own = [drawing.lineage for drawing in published if drawing.generator == name]
        if test := max(found["test"] for found in own):
            yield f"'{name}' was trained on {test} test images (--allow-leak): its scores flatter it"
        if val := max(found["val"] for found in own):
            yield f"'{name}' was trained on {val} validation images, by which classifiers' weights are chosen"


def _of_sizes(workshop: Workshop) -> Iterator[str]:
    sizes = {name: int(recipe.base().flat()["image.size"]) for name, recipe in workshop.recipes.items()}
    for name, generator in workshop.generators.items():
        if generator.kind == "weightless":
            continue
        size = int(generator.config(workshop.plugins).flat()["image.size"])
        wider = [f"{other} ({side})" for other, side in sizes.items() if side > size]
        if wider:
            yield f"'{name}' makes images of {size} pixels, enlarged for {', '.join(wider)}; real ones are not"


def describe(workshop: Workshop, grid: Grid, warnings: Sequence[str]) -> dict[str, Any]:
    """What experiment.json says: all of the experiment but what its cells found."""
    design, data = workshop.design, workshop.images.data
    return {
        "name": design.name,
        "scheme": "folds" if design.value.folds else "held-out",
        "settings": design.flat(),
        "origins": dict(design.settings.origins),
        "classes": list(data.classes),
        "multi_label": data.multi_label,
        "baseline": design.value.baseline,
        "metric": design.value.metric,
        "arms": [arm.to_dict() for arm in design.arms],
        "classifiers": list(design.value.classifiers),
        "warnings": list(warnings),
        "provenance": _provenance(workshop),
        "cells": [
            {
                "key": cell.key,
                **identity(cell),
                "steps": cell.steps,
                "epoch": cell.length,
                "drawings": dict(cell.drawings),
                "n_train_real": len(cell.fold.train),
                "n_test": len(cell.fold.test),
            }
            for cell in grid.cells
        ],
    }


def _provenance(workshop: Workshop) -> dict[str, Any]:
    data, folds = workshop.images.data, workshop.images.folds
    return {
        "medzoo": __version__,
        "git_commit": git_commit(),
        "device": workshop.device,
        "hardware": hardware(workshop.device),
        "data": {
            "path": str(data.path),
            "fingerprint": data.fingerprint(),
            "size": len(data),
            "counts": data.counts(),
            "parts": [{part: len(getattr(fold, part)) for part in ("train", "val", "test")} for fold in folds],
            **workshop.images.facts,
        },
        "reference": "an epoch is as many images as the largest filled training set has, in every arm",
        "generators": {
            name: {"kind": generator.kind, **generator.identity(workshop.plugins)}
            for name, generator in workshop.generators.items()
        },
    }
