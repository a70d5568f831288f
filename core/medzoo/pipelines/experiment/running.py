"""An experiment, from its settings and images to a folder of results; run again, it goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import medzoo
from medzoo.data import Dataset
from medzoo.errors import ConfigError, DataError
from medzoo.files import write_json_atomic
from medzoo.pipelines.experiment.cells import RESULT, identity
from medzoo.pipelines.experiment.generators import find_generators
from medzoo.pipelines.experiment.grid import Cell, Drawing, Grid, Task, Training, make_grid
from medzoo.pipelines.experiment.loading import EXPERIMENT, load_results, read_cell
from medzoo.pipelines.experiment.parts import make_parts
from medzoo.pipelines.experiment.results import Experiment
from medzoo.pipelines.experiment.schedule import Failure, run_tasks
from medzoo.pipelines.experiment.settings import Design
from medzoo.pipelines.experiment.workshop import Workshop
from medzoo.pipelines.inputs import Source
from medzoo.pipelines.models import hardware
from medzoo.pipelines.plan import check_labels
from medzoo.provenance import RUN, RunRecord, git_commit, read_run

JOB = "experiment"

Watch = Callable[[int, int, str], None]
"""Told how many tasks of how many are done, and of the last one what it was; first before anything is."""


@dataclass(frozen=True)
class Prepared:
    """An experiment ready to run, with everything checked and nothing written."""

    workshop: Workshop
    grid: Grid
    source: Source
    warnings: tuple[str, ...]

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
    notice: Callable[[str], None],
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
    generators = find_generators(design, source.plugins, source.registry, mirror=source.mirror, notice=notice)
    known = frozenset[str]().union(*(generator.trained_on for generator in generators.values()))
    images = make_parts(
        data, design.value, test=test, allow_leak=allow_leak, leave_out=known if leave_out_seen else None
    )
    workshop = Workshop(design, images, generators, out, source.device, allow_upload)
    for generator in generators.values():
        spec = generator.spec(source.plugins)
        if data.multi_label and spec.trainable and not spec.multi_label:
            raise ConfigError(f"'{generator.name}' takes one label an image, the data has several", "choose another")
    grid = make_grid(
        design, images, workshop.recipes, generators, source.plugins, device=source.device, allow_leak=allow_leak
    )
    return Prepared(workshop, grid, source, tuple(_warnings(workshop, grid)))


def run(prepared: Prepared, *, jobs: int, watch: Watch) -> Experiment:
    """What the experiment found; all of it is in the folder, run.json last.

    Raises: ResourceError for a disk or memory that is full; what is done stays done.
    """
    workshop, grid, folder = prepared.workshop, prepared.grid, prepared.workshop.home
    record = RunRecord(job=JOB, folder=folder)
    (folder / RUN).unlink(missing_ok=True)
    write_json_atomic(folder / EXPERIMENT, _description(prepared))
    tasks = prepared.missing
    total = len({task.key for task in grid.tasks})
    count = total - len(tasks)
    watch(count, total, "")

    def done(task: Task, failure: Failure | None) -> None:
        nonlocal count
        count += 1
        watch(count, total, told(task) + (f" FAILED: {failure.message}" if failure is not None else ""))

    run_tasks(workshop, tasks, jobs=jobs, done=done)
    result = load_results(folder)
    _finish(record, prepared, result, jobs=jobs)
    return result


def told(task: Task) -> str:
    """What a task is, in a few words."""
    if isinstance(task, Training):
        return f"trained {task.generator}{_where(task)}"
    if isinstance(task, Drawing):
        return f"drew {task.total} images of {'+'.join(task.mixture)}{_where(task)}"
    assert isinstance(task, Cell)  # there is no other kind
    return f"{task.classifier} on {task.arm.name}{_where(task)}, seed {task.number}"


def _where(task: Training | Drawing | Cell) -> str:
    fold = task.fold
    return f", fold {fold.repeat}.{fold.fold}"


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


def _warnings(workshop: Workshop, grid: Grid) -> list[str]:
    """What a reader of the results must know."""
    design, images = workshop.design, workshop.images
    settings = design.value
    found = list(images.warnings)
    if not settings.controls:
        found.append(
            "controls = false: without duplicate and classic at equal count, a gain over real images may be that of "
            "more balanced classes alone"
        )
    counts = images.data.counts()
    above = [f"{name} has {count}" for name, count in counts.items() if count > design.target]
    if above and not images.data.multi_label:
        found.append(f"above the target of {design.target}, so not filled and nothing left out: {', '.join(above)}")
    for name in {name for drawing in grid.drawings.values() for name in drawing.lineage}:
        seen = sum(drawing.lineage.get(name, {}).get("test", 0) for drawing in grid.drawings.values())
        if seen:
            found.append(f"'{name}' was trained on test images (--allow-leak): its scores flatter it")
        if any(drawing.lineage.get(name, {}).get("val", 0) for drawing in grid.drawings.values()):
            found.append(f"'{name}' was trained on validation images, by which classifiers' weights are chosen")
    if any(arm.pretrain and 0 < arm.real_fraction < 1 for arm in design.arms):
        found.append(
            "the generator saw all training images, also where a classifier is fine-tuned on a part of them: such rows "
            "do not show what a generator trained on that part would give"
        )
    if settings.seeds > 1 and not settings.redraw and design.arms and grid.drawings:
        found.append(
            "the seeds of a classifier share one set of synthetic images, so their spread leaves out that of drawing "
            "them anew (redraw = true)"
        )
    sizes = {name: int(recipe.base().flat()["image.size"]) for name, recipe in workshop.recipes.items()}
    for name, generator in workshop.generators.items():
        if generator.kind == "weightless":
            continue
        size = int(generator.config(workshop.plugins).flat()["image.size"])
        wider = [f"{other} ({side})" for other, side in sizes.items() if side > size]
        if wider:
            found.append(f"'{name}' makes images of {size} pixels, enlarged for {', '.join(wider)}; real ones are not")
    return found


def _description(prepared: Prepared) -> dict[str, Any]:
    """What experiment.json says: all of the experiment but what its cells found."""
    workshop = prepared.workshop
    design, data = workshop.design, workshop.images.data
    folds = workshop.images.folds
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
        "warnings": list(prepared.warnings),
        "provenance": {
            "medzoo": medzoo.__version__,
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
        },
        "cells": [
            {
                "key": cell.key,
                **identity(cell),
                "steps": cell.steps,
                "epoch": cell.length,
                "drawing": cell.drawing,
                "n_train_real": len(cell.fold.train),
                "n_test": len(cell.fold.test),
            }
            for cell in prepared.grid.cells
        ],
    }


def _finish(record: RunRecord, prepared: Prepared, result: Experiment, *, jobs: int) -> None:
    workshop = prepared.workshop
    record.config = result.settings
    record.origins = result.origins
    plugins = workshop.plugins
    used = {plugins.row_of("classifier", recipe.spec.name).name for recipe in workshop.recipes.values()}
    used |= {plugins.row_of("generator", generator.plugin).name for generator in workshop.generators.values()}
    record.plugins = [row for row in plugins.rows if row.name in used]
    record.weights = {g.name: g.weights_sha256 for g in workshop.generators.values() if g.weights_sha256}
    record.data = result.provenance["data"]
    record.seeds = {"seed": workshop.design.value.seed}
    record.device = workshop.device
    record.add_outputs([record.folder / EXPERIMENT, *(record.folder / "cells" / c.key / RESULT for c in result.cells)])
    summaries = {f"{s.arm} / {s.classifier}": s.to_dict()["estimates"][result.metric] for s in result.summaries}
    record.scores = {result.metric: summaries}
    record.extra = {"jobs": jobs, "failed": len(result.failed), "warnings": list(result.warnings)}
    record.finish()
