"""An experiment, from its settings and images to a folder of results; run again, it goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from medzoo.data.dataset import Dataset
from medzoo.errors import ConfigError, DataError
from medzoo.experiment.cells import RESULT
from medzoo.experiment.config import Design
from medzoo.experiment.folds import make_parts
from medzoo.experiment.generators import find_generators
from medzoo.experiment.results import Experiment
from medzoo.experiment.results_folder import EXPERIMENT, load_results, read_cell
from medzoo.experiment.summary import describe, told, warnings_of
from medzoo.experiment.tasks import Cell, Grid, Task, make_grid
from medzoo.experiment.worker import Workshop
from medzoo.experiment.workers import Failure, run_tasks
from medzoo.generation.mixture import Source
from medzoo.hub.download import Notice, folder_lock, to_stderr
from medzoo.models.labels import check_labels
from medzoo.runs.record import RUN, RunRecord, read_run
from medzoo.storage.files import write_json_atomic

JOB = "experiment"

Watch = Callable[[int, int, str], None]
"""Told how many tasks of how many are done, and of the last one what it was; first before anything is."""


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
        if flat.get("training.best") or flat.get("training.patience"):
            raise ConfigError(
                f"'{name}' chooses its weights by validation images, and validation = 0 leaves none",
                f"or set classifier.{name}.training.best=false and classifier.{name}.training.patience=0",
            )


def run(prepared: Prepared, *, jobs: int, watch: Watch, notice: Notice = to_stderr) -> Experiment:
    """What the experiment found; all of it is in the folder, run.json last.

    While another process runs an experiment in the folder, this one waits, and then does what is left.
    Raises: ResourceError for a disk or memory that is full; what is done stays done.
    """
    with folder_lock(prepared.workshop.home.resolve(), notice):
        return _run(prepared, jobs=jobs, watch=watch)


def _run(prepared: Prepared, *, jobs: int, watch: Watch) -> Experiment:
    workshop, grid, folder = prepared.workshop, prepared.grid, prepared.workshop.home
    record = RunRecord(job=JOB, folder=folder)
    (folder / RUN).unlink(missing_ok=True)
    write_json_atomic(folder / EXPERIMENT, describe(prepared.workshop, prepared.grid, prepared.warnings))
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
