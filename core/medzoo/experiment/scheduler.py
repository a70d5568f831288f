"""Run tasks in the order of their needs, in this process or in several; a failure stops only what depends on it."""

from __future__ import annotations

import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any, NoReturn, Protocol, TypeVar

from medzoo.errors import ConfigError, MedzooError, ResourceError


class Task(Protocol):
    """Something to do after the tasks whose keys are in `needs`; it is sent to other processes."""

    @property
    def key(self) -> str:
        """Unique among the tasks."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of tasks; one that is not to be run counts as done."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The error of the task `key`, in one line and in full."""

    key: str
    message: str
    traceback: str


T = TypeVar("T", bound=Task)


def run_tasks(
    tasks: Sequence[T], work: Callable[[T], object], *, jobs: int, on_done: Callable[[T, Failure | None], None]
) -> None:
    """Call `work` on every task, and `on_done` after each; what needs a failed task fails with the same failure.

    With several `jobs`, tasks run in processes that share the processor's cores; `work` is sent there once. Results
    depend on their number only as much as on that of threads, by the rounding of sums.

    Raises:
        ConfigError: `jobs` is below 1.
        ResourceError: a process died.
    """
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs}", "use 1 or more")
    queue = _Queue(tasks, on_done)
    if jobs == 1:
        while queue.waiting:
            for task in queue.ready():
                queue.settle(task, _attempt(work, task))
                break  # what is ready now may have changed
        return
    pool = ProcessPoolExecutor(
        max_workers=jobs,
        # A forked process would inherit torch's threads and locks in whatever state they are.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_process,
        initargs=(work, max(1, _cores() // jobs)),
    )
    with pool:
        _run_in_pool(pool, queue, jobs=jobs)


class _Queue:
    """Tasks that wait for others or for a process."""

    def __init__(self, tasks: Sequence[Any], on_done: Callable[[Any, Failure | None], None]) -> None:
        self.waiting = {task.key: task for task in tasks}
        self._open = set(self.waiting)
        self._failed: dict[str, Failure] = {}
        self._on_done = on_done

    def ready(self) -> Iterator[Any]:
        """Take out the tasks whose needs are met; settle those that need a failed one."""
        for task in list(self.waiting.values()):
            failure = next((self._failed[key] for key in task.needs if key in self._failed), None)
            if failure is not None:
                del self.waiting[task.key]
                self.settle(task, failure)
            elif self._open.isdisjoint(task.needs):
                del self.waiting[task.key]
                yield task

    def settle(self, task: Any, failure: Failure | None) -> None:
        """Record that a task was done, or failed."""
        self._open.remove(task.key)
        if failure is not None:
            self._failed[task.key] = failure
        self._on_done(task, failure)


def _run_in_pool(pool: ProcessPoolExecutor, queue: _Queue, *, jobs: int) -> None:
    """Give the pool no more tasks than it can run at once, until all are done."""
    futures: dict[Future[Failure | None], Task] = {}
    try:
        while queue.waiting or futures:
            for task in queue.ready():
                futures[pool.submit(_attempt_in_process, task)] = task
                if len(futures) >= jobs:
                    break
            for future in wait(futures, return_when=FIRST_COMPLETED).done:
                queue.settle(futures.pop(future), future.result())
    except BrokenProcessPool as error:
        raise ResourceError(
            "a worker process died, possibly out of memory",
            "run the same command with fewer --jobs; finished work is kept",
        ) from error
    except BaseException:
        # Waiting for the others would take as long as their tasks do; checkpoints let them resume another time.
        for process in multiprocessing.active_children():
            process.terminate()
        raise


def _cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_work: list[Callable[[Any], object]] = []  # of this process of a pool


def _start_process(work: Callable[[Any], object], threads: int) -> None:
    """Prepare a process of the pool."""
    import torch

    threading.Thread(target=_exit_with_parent, daemon=True).start()
    torch.set_num_threads(min(threads, torch.get_num_threads()))
    _work[:] = [work]


def _exit_with_parent() -> NoReturn:
    """End this process when its parent ends; it would wait for work forever if the parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # it was started by the pool
    connection.wait([parent.sentinel])
    os._exit(1)


def _attempt_in_process(task: Task) -> Failure | None:
    return _attempt(_work[0], task)


def _attempt(work: Callable[[Any], object], task: Task) -> Failure | None:
    """Run the task and return None, or its failure."""
    try:
        work(task)
    except Exception as error:  # noqa: BLE001 - plugins may raise anything, and other tasks can still be done
        message = str(error) if isinstance(error, MedzooError) else f"{type(error).__name__}: {error}"
        return Failure(key=task.key, message=" ".join(message.split()), traceback=traceback.format_exc())
    return None
