"""Tasks done in order of what they need, in this process or several; a failure stops only what needs it."""

from __future__ import annotations

import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection
from typing import NoReturn

from medzoo.errors import ConfigError, MedzooError, ResourceError
from medzoo.experiment.cells import RESULT, identity, run_cell
from medzoo.experiment.results import TRACEBACK, CellResult
from medzoo.experiment.tasks import Cell, Drawing, Task, Training
from medzoo.experiment.worker import Workshop
from medzoo.storage.files import write_atomic, write_json_atomic

_OF = {Training: "training", Drawing: "drawing", Cell: "cell"}


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a task could not be done: in one line, and in full."""

    message: str
    trace: str


Done = Callable[[Task, Failure | None], None]


def run_tasks(workshop: Workshop, tasks: Sequence[Task], *, jobs: int, done: Done) -> None:
    """Nothing; every task was done, or failed and `done` was told why; a cell's folder keeps what it failed of.

    With several `jobs`, tasks run in processes that share the processor's cores. Results depend on their number no
    more than on that of threads, by the rounding of sums.
    Raises: ConfigError for `jobs` below 1; ResourceError if a process dies or nothing can be written.
    """
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs}", "it counts from 1")
    queue = _Queue(workshop, tasks, done)
    drawings = {task.key: task for task in tasks if isinstance(task, Drawing)}
    if jobs > 1:
        with _pool(workshop, jobs, drawings) as pool:
            _drain(pool, queue, jobs=jobs)
        return
    while queue.waiting:
        task = next(queue.ready(), None)
        if task is not None:
            queue.settle(task, _attempt(workshop, task, drawings))


class _Queue:
    """Tasks that wait for others or for someone to do them."""

    def __init__(self, workshop: Workshop, tasks: Sequence[Task], done: Done) -> None:
        self.waiting = {task.key: task for task in tasks}
        self._open = set(self.waiting)
        self._failed: dict[str, Failure] = {}
        self._workshop, self._done = workshop, done

    def ready(self) -> Iterator[Task]:
        """Tasks whose needs are met, taken out of those waiting; those that cannot be any more fail."""
        for task in list(self.waiting.values()):
            lost = next((self._failed[key] for key in task.needs if key in self._failed), None)
            if lost is not None:
                del self.waiting[task.key]
                self.settle(task, lost)
            elif self._open.isdisjoint(task.needs):
                del self.waiting[task.key]
                yield task

    def settle(self, task: Task, failure: Failure | None) -> None:
        """Take note that a task was done, or failed."""
        self._open.remove(task.key)
        if failure is not None:
            self._failed[task.key] = failure
            if isinstance(task, Cell):
                _record(self._workshop, task, failure)
        self._done(task, failure)


def _drain(pool: ProcessPoolExecutor, queue: _Queue, *, jobs: int) -> None:
    """Nothing; all tasks were done by the pool, which is given no more than it can do at once."""
    futures: dict[Future[Failure | None], Task] = {}
    try:
        while queue.waiting or futures:
            for task in queue.ready():
                futures[pool.submit(_attempt_there, task)] = task
                if len(futures) >= jobs:
                    break
            for future in wait(futures, return_when=FIRST_COMPLETED).done:
                queue.settle(futures.pop(future), future.result())
    except BrokenProcessPool as error:
        raise ResourceError(
            "a process of the experiment died, perhaps for want of memory",
            "run the same command again with fewer --jobs; what is done stays done",
        ) from error
    except BaseException:
        # Waiting for the others would take as long as their cells do; checkpoints let them go on another time.
        for process in multiprocessing.active_children():
            process.terminate()
        raise


def _pool(workshop: Workshop, jobs: int, drawings: Mapping[str, Drawing]) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        max_workers=jobs,
        # A forked process would inherit torch's threads and locks in whatever state they are.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(workshop, dict(drawings), max(1, cores() // jobs)),
    )


def cores() -> int:
    """The processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_here: dict[str, tuple[Workshop, Mapping[str, Drawing]]] = {}


def _begin(workshop: Workshop, drawings: Mapping[str, Drawing], threads: int) -> None:
    """Prepare a process of the pool."""
    import torch

    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(min(threads, torch.get_num_threads()))
    _here["experiment"] = workshop, drawings


def _end_with_parent() -> NoReturn:
    """Nothing, ever; a process of the pool would wait for work for ever if the one that gives it was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # it was started by the pool
    connection.wait([parent.sentinel])
    os._exit(1)


def _attempt_there(task: Task) -> Failure | None:
    workshop, drawings = _here["experiment"]
    return _attempt(workshop, task, drawings)


def _attempt(workshop: Workshop, task: Task, drawings: Mapping[str, Drawing]) -> Failure | None:
    """None after the task is done, or why it is not."""
    try:
        if isinstance(task, Training):
            workshop.train(task)
        elif isinstance(task, Drawing):
            workshop.draw(task)
        elif isinstance(task, Cell):
            run_cell(workshop, task, drawings)
    except Exception as error:  # noqa: BLE001 - plugins may raise anything, and other cells can still be done
        message = str(error) if isinstance(error, MedzooError) else f"{type(error).__name__}: {error}"
        what = "" if isinstance(task, Cell) else f"its {_OF[type(task)]} failed: "
        return Failure(message=what + " ".join(message.split()), trace=traceback.format_exc())
    return None


def _record(workshop: Workshop, cell: Cell, failure: Failure) -> None:
    """Nothing; the cell's folder holds its failure."""
    folder = workshop.home / "cells" / cell.key
    write_atomic(folder / TRACEBACK, failure.trace.encode())
    result = CellResult(key=cell.key, **identity(cell), status="failed", error=failure.message, steps=cell.steps)
    write_json_atomic(folder / RESULT, result.to_dict())
