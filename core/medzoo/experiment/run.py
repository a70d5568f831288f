"""Run an experiment: do its tasks and gather the results; run again, it resumes."""

from __future__ import annotations

import logging

from medzoo.experiment.cells import RESULT
from medzoo.experiment.plan import Prepared, describe, told
from medzoo.experiment.results import EXPERIMENT, Experiment, load_results
from medzoo.experiment.tasks import Task
from medzoo.experiment.workers import Failure, run_tasks
from medzoo.hub.download import folder_lock
from medzoo.runs.progress import Progress
from medzoo.runs.record import RUN, RunRecord
from medzoo.storage.files import write_json_atomic

logger = logging.getLogger(__name__)

JOB = "experiment"


def run(prepared: Prepared, *, jobs: int, progress: Progress) -> Experiment:
    """What the experiment found; all of it is in the folder, run.json last.

    While another process runs an experiment in the folder, this one waits, and then does what is left.
    Raises: ResourceError for a disk or memory that is full; what is done stays done.
    """
    with folder_lock(prepared.workshop.home.resolve()):
        return _run(prepared, jobs=jobs, progress=progress)


def _run(prepared: Prepared, *, jobs: int, progress: Progress) -> Experiment:
    workshop, grid, folder = prepared.workshop, prepared.grid, prepared.workshop.home
    record = RunRecord(job=JOB, folder=folder)
    (folder / RUN).unlink(missing_ok=True)
    write_json_atomic(folder / EXPERIMENT, describe(prepared.workshop, prepared.grid, prepared.warnings))
    tasks = prepared.missing
    total = len({task.key for task in grid.tasks})
    count = total - len(tasks)
    progress(count, total)

    def done(task: Task, failure: Failure | None) -> None:
        nonlocal count
        count += 1
        if failure is None:
            logger.debug(f"{told(task)}: done")
        else:
            logger.warning(f"{told(task)} FAILED: {failure.message}")
        progress(count, total)

    run_tasks(workshop, tasks, jobs=jobs, done=done)
    result = load_results(folder)
    _finish(record, prepared, result, jobs=jobs)
    return result


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
