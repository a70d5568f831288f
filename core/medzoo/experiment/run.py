"""Run an experiment: do its tasks and gather the results; the same run again resumes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from medzoo.distributed.workers import Work
from medzoo.experiment.plan import ExperimentPlan
from medzoo.experiment.results import (
    EXPERIMENT,
    RESULT,
    TRACEBACK,
    CellResult,
    Experiment,
    load_results,
    write_cell,
)
from medzoo.experiment.tasks import Cell, Failure, SamplingTask, Task, TrainingTask, attempt, task_runner
from medzoo.experiment.worker import Worker, run_cell
from medzoo.hub.download import folder_lock
from medzoo.runs.progress import Progress
from medzoo.runs.record import RUN, RunRecord
from medzoo.storage.files import plain, remove_partial_files, write_atomic, write_json_atomic

logger = logging.getLogger(__name__)

JOB = "experiment"


def run(plan: ExperimentPlan, *, jobs: int, progress: Progress) -> Experiment:
    """Run what the folder of the plan does not hold yet, and return the results; run.json is written last.

    Tasks are done in `jobs` processes, or on the plan's cluster. While another process runs an experiment in the
    folder, this one waits, and then does what is left.

    Raises:
        ResourceError: the disk or memory is full; finished work is kept.
    """
    worker = plan.worker
    folder = worker.home
    with folder_lock(folder.resolve()):
        record = RunRecord(job=JOB, folder=folder)
        (folder / RUN).unlink(missing_ok=True)
        write_json_atomic(folder / EXPERIMENT, plan.describe())
        remove_partial_files(folder, deep=True)
        for damage in plan.damaged:
            logger.warning(f"{damage}; running the cell again")
        tasks = plan.missing
        by_key, total = {task.key: task for task in tasks}, len(plan.tasks)
        done = total - len(tasks)
        progress(done, total)

        def on_done(task: Task, failure: Failure | None) -> None:
            nonlocal done
            done += 1
            if failure is None:
                logger.debug(str(task))
            else:
                failed = by_key[failure.key]
                error = failure.message if failed is task else f"its {failed.kind} failed: {failure.message}"
                if isinstance(task, Cell):
                    place = folder / "cells" / task.key
                    write_atomic(place / TRACEBACK, failure.traceback.encode())
                    lost = CellResult(key=task.key, **task.identity, status="failed", error=error, steps=task.steps)
                    write_cell(folder, lost)
                logger.warning(f"{task} FAILED: {error}")
            progress(done, total)

        if tasks:
            with task_runner(TaskWork(worker), jobs=jobs, cluster=plan.cluster, folder=folder) as runner:
                runner(tasks, on_done=on_done)
        result = load_results(folder)
        _finish(record, plan, result, jobs=jobs)
    return result


@dataclass(frozen=True)
class TaskWork(Work[Task, Failure | None]):
    """Do tasks of an experiment, in this process or another."""

    worker: Worker

    def __call__(self, task: Task) -> Failure | None:
        """Do a task; what it raises is a failure, as other tasks can still be done."""
        return attempt(partial(run_task, self.worker), task)

    def inputs(self) -> Iterator[Path]:
        """Yield the files of the real images, of folders of images, and of published generators."""
        worker = self.worker
        sets = (worker.images.data, *worker.images.external.values(), *(each.data for each in worker.folders.values()))
        for data in sets:
            yield from data.files or ()
        for generator in worker.generators.values():
            if generator.folder is not None:
                yield generator.folder

    def needs(self, task: Task) -> list[Path]:
        """Return the folders of the generator that a task samples from, or of the images that a cell is trained on."""
        if isinstance(task, SamplingTask):
            return [] if task.training is None else [self.output(task.training)]
        return (
            [self.output(each) for each in task.samplings.values() if not each.ready] if isinstance(task, Cell) else []
        )

    def output(self, task: Task) -> Path:
        """Return the folder of a task."""
        kind = {TrainingTask.kind: "generators", SamplingTask.kind: "sets", Cell.kind: "cells"}[task.kind]
        return self.worker.home / kind / task.key


def run_task(worker: Worker, task: Task) -> None:
    """Do one task. Raises: whatever the model or the disk raises."""
    if isinstance(task, TrainingTask):
        worker.train(task)
    elif isinstance(task, SamplingTask):
        worker.sample(task)
    elif isinstance(task, Cell):
        run_cell(worker, task)


def _finish(record: RunRecord, plan: ExperimentPlan, result: Experiment, *, jobs: int) -> None:
    worker, plugins = plan.worker, plan.worker.plugins
    used = {plugins.plugin_of("classifier", recipe.spec.name).name for recipe in worker.recipes.values()}
    used |= {plugins.plugin_of("generator", generator.plugin).name for generator in worker.generators.values()}
    record.config, record.origins = result.settings, result.origins
    record.plugins = [row for row in plugins.infos if row.name in used]
    record.weights = {g.name: g.weights_sha256 for g in worker.generators.values() if g.weights_sha256}
    record.data = result.provenance["data"]
    record.seeds = {"seed": worker.design.value.seed}
    record.device = worker.device
    record.add_outputs([record.folder / EXPERIMENT, *(record.folder / "cells" / c.key / RESULT for c in result.cells)])
    scores = {f"{s.arm} / {s.classifier}": s.estimates[result.metric] for s in result.summaries}
    record.scores = {result.metric: plain(scores)}
    record.extra = {"jobs": jobs, "failed": len(result.failed), "warnings": list(result.warnings)}
    record.finish()
