"""Tasks of an experiment, each under a hash of all it depends on, and the order in which they are run.

Equal hashes are one task, and a task with a result is not run again: a changed option costs only what it affects. A
failure stops only what depends on it.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

from medzoo.distributed.workers import Cluster, Work, Workers, open_workers
from medzoo.errors import OUT_OF_MEMORY, MedzooError, is_out_of_memory
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


@contextmanager
def task_runner(
    work: Work[Task, Failure | None], *, jobs: int, cluster: Cluster | None = None, folder: Path | None = None
) -> Iterator[Runner]:
    """Yield a function that calls `work` on tasks. Raises: as `open_workers`, whose arguments these are."""
    with open_workers(work, jobs=jobs, cluster=cluster, folder=folder) as workers:
        yield partial(_run, workers=workers)


def _run(tasks: Sequence[Task], *, workers: Workers[Task, Failure | None], on_done: OnDone) -> None:
    """Do tasks as soon as their needs are met."""
    waiting = {task.key: task for task in tasks}
    unfinished, failed = set(waiting), dict[str, Failure]()

    def settle(task: Task, failure: Failure | None) -> None:
        unfinished.remove(task.key)
        if failure is not None:
            failed[task.key] = failure
        on_done(task, failure)

    def take() -> Task | None:
        for task in list(waiting.values()):
            failure = next((failed[key] for key in task.needs if key in failed), None)
            if failure is not None:
                settle(waiting.pop(task.key), failure)
            elif unfinished.isdisjoint(task.needs):
                return waiting.pop(task.key)
        return None

    workers.run(take, settle)


def attempt(work: Callable[[Task], object], task: Task) -> Failure | None:
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
