"""What is told of an experiment: its tasks, what a reader must beware of, and its description in experiment.json."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from medzoo._version import __version__
from medzoo.experiment.cells import identity
from medzoo.experiment.tasks import Cell, Drawing, Grid, Task, Training
from medzoo.experiment.worker import Workshop
from medzoo.models.generators import hardware
from medzoo.runs.record import git_commit


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
    chosen = any(flat.get("training.best") or flat.get("training.patience") for flat in flats)
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
