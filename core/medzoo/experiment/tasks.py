"""Tasks of an experiment: generators to train, images to sample, cells; each under a hash of all it depends on.

Equal hashes are one task, and a task with a result is not run again: a changed option costs only what it affects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from medzoo.experiment.arms import Arm
from medzoo.experiment.folds import Fold


@dataclass(frozen=True, kw_only=True)
class Task:
    """Something to do for `fold`, after the tasks whose keys are in `needs`; `key` is a hash of all it depends on."""

    kind: ClassVar[str]
    key: str
    fold: Fold

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the tasks whose results this one uses."""
        return ()

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
    in the experiment. `seen` counts the fold's validation and test images that a published one was trained on.
    """

    kind: ClassVar[str] = "sampling"
    generator: str
    counts: Mapping[str, int]
    seed: int
    training: TrainingTask | None = None
    seen: Mapping[str, int] = field(default_factory=dict)

    @property
    def needs(self) -> tuple[str, ...]:
        """The training of the generator, if there is one."""
        return (self.training.key,) if self.training is not None else ()

    @property
    def total(self) -> int:
        """Images in all."""
        return sum(self.counts.values())

    def __str__(self) -> str:
        return f"sampled {self.total} images with {self.generator}, {self.place}"


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
    def needs(self) -> tuple[str, ...]:
        """The tasks that sample its images."""
        return tuple(task.key for task in self.samplings.values())

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
        samplings = [task for cell in own for task in cell.samplings.values()]
        trainings = [task.training for task in samplings if task.training is not None]
        for task in (*trainings, *samplings, *own):
            tasks.setdefault(task.key, task)
    return list(tasks.values())
