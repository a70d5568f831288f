"""Tasks of an experiment, each under a hash of all it depends on, and how they are run in one process or in several.

Equal hashes are one task, and a task with a result is not run again: a changed option costs only what it affects. A
failure stops only what depends on it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import connection
from typing import Any, ClassVar, NoReturn, Protocol

from medzoo.errors import OUT_OF_MEMORY, ConfigError, MedzooError, ResourceError, is_out_of_memory
from medzoo.experiment.config import Arm
from medzoo.experiment.folds import Fold
from medzoo.plugins.guard import exits_as_errors


@dataclass(frozen=True, kw_only=True)
class Task:
    """Something to do for `fold`, after the tasks whose keys are in `needs`; `key` is a hash of all it depends on."""

    kind: ClassVar[str]
    key: str
    fold: Fold
    needs: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The fold, as progress messages name it."""
        return f"fold {self.fold.repeat}.{self.fold.fold}"


@dataclass(frozen=True, kw_only=True)
class TrainingTask(Task):
    """Train a generator on a fold's training images."""

    kind: ClassVar[str] = "training"
    generator: str
    seed: int

    def __str__(self) -> str:
        return f"trained {self.generator}, {self.place}"


@dataclass(frozen=True, kw_only=True)
class SamplingTask(Task):
    """Sample images with one generator: `counts` of each label, as many as the arm asks for that needs most.

    Images come in whole batches of one label, so that an image does not depend on how many others there are: arms with
    other targets and mixtures use the first of the same images. `training` is None for a generator that is not trained
    in the experiment. `seen` counts the fold's validation and test images that a published one was trained on, and the
    images of external test sets. With `ready`, the images are those of a folder, and there is nothing to do.
    """

    kind: ClassVar[str] = "sampling"
    generator: str
    counts: Mapping[str, int]
    seed: int
    training: TrainingTask | None = None
    seen: Mapping[str, int] = field(default_factory=dict)
    ready: bool = False

    def __str__(self) -> str:
        return f"sampled {sum(self.counts.values())} images with {self.generator}, {self.place}"


@dataclass(frozen=True, kw_only=True)
class Cell(Task):
    """Train a classifier on an arm in a fold, from `seed`, the `number`-th, and test it.

    `synthetic` counts the images of each label that each generator contributes, `samplings` are the tasks that make
    them. An epoch is `epoch_length` images; `steps` are the optimizer steps of all stages.
    """

    kind: ClassVar[str] = "cell"
    arm: Arm
    classifier: str
    number: int
    seed: int
    synthetic: Mapping[str, Mapping[str, int]]
    samplings: Mapping[str, SamplingTask]
    epoch_length: int
    steps: int

    @property
    def identity(self) -> dict[str, Any]:
        """Arm, classifier, fold, repeat and seed number, as results name the cell."""
        return {
            "arm": self.arm.name,
            "classifier": self.classifier,
            "fold": self.fold.fold,
            "repeat": self.fold.repeat,
            "seed": self.number,
        }

    def __str__(self) -> str:
        return f"{self.classifier} on {self.arm.name}, {self.place}, seed {self.number}"


def tasks_of(cells: Sequence[Cell]) -> list[Task]:
    """List the cells and the tasks they need, each once, fold by fold, so that what is shared is used soon."""
    tasks: dict[str, Task] = {}
    for fold in dict.fromkeys(cell.fold for cell in cells):
        own = [cell for cell in cells if cell.fold == fold]
        samplings = [task for cell in own for task in cell.samplings.values() if not task.ready]
        trainings = [task.training for task in samplings if task.training is not None]
        for task in (*trainings, *samplings, *own):
            tasks.setdefault(task.key, task)
    return list(tasks.values())


Work = Callable[[Task], object]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The error of the task `key`, in one line and in full."""

    key: str
    message: str
    traceback: str


OnDone = Callable[[Task, Failure | None], None]


class Runner(Protocol):
    """Do tasks, and call `on_done` after each; what needs a failed task fails with the same failure."""

    def __call__(self, tasks: Sequence[Task], *, on_done: OnDone) -> None:
        """Return when all are done. Raises: ResourceError if a process died."""


def run_tasks(tasks: Sequence[Task], work: Work, *, jobs: int, on_done: OnDone) -> None:
    """Call `work` on every task, and `on_done` after each. Raises: as `task_runner` and what it yields."""
    with task_runner(work, jobs=jobs) as run:
        run(tasks, on_done=on_done)


@contextmanager
def task_runner(work: Work, *, jobs: int) -> Iterator[Runner]:
    """Yield a function that calls `work` on tasks; it keeps what `work` has loaded from one call to the next.

    With several `jobs`, tasks run in processes that share the processor's cores; `work` is sent along. Results
    depend on their number only as much as on that of threads, by the rounding of sums.

    Raises:
        ConfigError: `jobs` is below 1.
        ResourceError: a process died.
    """
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs}", "use 1 or more")
    if jobs == 1:

        def call(task: Task) -> Future[Failure | None]:
            done: Future[Failure | None] = Future()
            done.set_result(_attempt(work, task))
            return done

        yield partial(_run, submit=call, jobs=1)
        return
    pool = ProcessPoolExecutor(
        max_workers=jobs,
        # A forked process would inherit torch's threads and locks in whatever state they are.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_process,
        # Small, because starting a process waits until it has read them, forever if it dies before that.
        initargs=(max(1, _cores() // jobs),),
    )

    def submit(task: Task) -> Future[Failure | None]:
        with _without_interrupts():
            return pool.submit(_attempt_in_process, work, task)

    with pool:
        try:
            yield partial(_run, submit=submit, jobs=jobs)
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


def _run(
    tasks: Sequence[Task], *, submit: Callable[[Task], Future[Failure | None]], jobs: int, on_done: OnDone
) -> None:
    """Submit tasks as soon as their needs are met, no more at once than `jobs`, until all are done."""
    waiting = {task.key: task for task in tasks}
    unfinished, failed = set(waiting), dict[str, Failure]()
    running: dict[Future[Failure | None], Task] = {}

    def settle(task: Task, failure: Failure | None) -> None:
        unfinished.remove(task.key)
        if failure is not None:
            failed[task.key] = failure
        on_done(task, failure)

    while waiting or running:
        for task in list(waiting.values()):
            if len(running) >= jobs:
                break
            failure = next((failed[key] for key in task.needs if key in failed), None)
            if failure is not None:
                settle(waiting.pop(task.key), failure)
            elif unfinished.isdisjoint(task.needs):
                running[submit(waiting.pop(task.key))] = task
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            settle(running.pop(future), future.result())


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Keep Ctrl-C from processes that are started inside: they inherit this, and this process ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_work: list[Work] = []  # of this process of a pool: it keeps what it has loaded and decoded from task to task


def _start_process(threads: int) -> None:
    """Prepare a process of the pool."""
    import torch

    threading.Thread(target=_exit_with_parent, daemon=True).start()
    torch.set_num_threads(min(threads, torch.get_num_threads()))


def _exit_with_parent() -> NoReturn:
    """End this process when its parent ends; it would wait for work forever if the parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # it was started by the pool
    connection.wait([parent.sentinel])
    os._exit(1)


def _attempt_in_process(work: Work, task: Task) -> Failure | None:
    if not _work:
        _work.append(work)
    return _attempt(_work[0], task)


def _attempt(work: Work, task: Task) -> Failure | None:
    """Run the task and return None, or its failure."""
    try:
        with exits_as_errors():
            work(task)
    except Exception as error:  # noqa: BLE001 - plugins may raise anything, and other tasks can still be done
        message = str(error) if isinstance(error, MedzooError) else f"{type(error).__name__}: {error}"
        if is_out_of_memory(error):
            message = f"{OUT_OF_MEMORY} ({message})"
        return Failure(key=task.key, message=" ".join(message.split()), traceback=traceback.format_exc())
    return None
