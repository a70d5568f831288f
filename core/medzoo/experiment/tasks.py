"""Tasks of an experiment: generators to train, images to sample, cells; each under a hash of all it depends on.

Equal hashes are one task, and a task with a result is not run again: a changed option costs only what it affects.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar

from medzoo._version import __version__
from medzoo.errors import ConfigError
from medzoo.experiment.arms import Arm
from medzoo.experiment.config import Design
from medzoo.experiment.folds import Fold, Images
from medzoo.experiment.generators import Generator, count_seen_images
from medzoo.experiment.recipes import Recipe
from medzoo.experiment.training_sets import synthetic_counts
from medzoo.generation.shares import exact_shares
from medzoo.plugins.lookup import Plugins
from medzoo.seeds import derive_seed


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


def make_cells(
    design: Design,
    images: Images,
    recipes: Mapping[str, Recipe],
    generators: Mapping[str, Generator],
    plugins: Plugins,
    *,
    device: str,
    allow_leak: bool,
) -> tuple[Cell, ...]:
    """Make every cell of the experiment, with the tasks it needs, in the order to show them.

    Raises:
        ConfigError: an arm's target adds no image.
        DataError: a published generator was trained on test images.
    """
    builder = _TaskBuilder(design, images, recipes, generators, plugins, device=device, allow_leak=allow_leak)
    by_fold = {fold: builder.cells(fold) for fold in images.folds}
    return tuple(
        by_fold[fold][arm.name, name, number]
        for arm in design.arms
        for name in design.value.classifiers
        for fold in images.folds
        for number in range(design.value.seeds)
    )


class _TaskBuilder:
    def __init__(
        self,
        design: Design,
        images: Images,
        recipes: Mapping[str, Recipe],
        generators: Mapping[str, Generator],
        plugins: Plugins,
        *,
        device: str,
        allow_leak: bool,
    ) -> None:
        self._design, self._images, self._allow_leak = design, images, allow_leak
        self._generators = generators
        self._identities = {name: generator.identity(plugins) for name, generator in generators.items()}
        self._classifiers = {
            name: [recipe.spec.name, plugins.plugin_of("classifier", recipe.spec.name).version]
            for name, recipe in recipes.items()
        }
        self._stages = {(name, arm.name): recipe.stages(arm) for name, recipe in recipes.items() for arm in design.arms}
        self._image = list(parameter_free_image(recipes))
        self._common = {"medzoo": __version__, "device": device.partition(":")[0]}

    def cells(self, fold: Fold) -> dict[tuple[str, str, int], Cell]:
        """The fold's cells by arm, classifier and seed number."""
        settings, arms = self._design.value, self._design.arms
        train = self._images.subset(fold.train)
        digests = {part: self._images.digest(getattr(fold, part)) for part in ("train", "val", "test")}
        added = {arm.name: synthetic_counts(train, arm) for arm in arms}
        synthetic = {arm.name: self._by_generator(arm, added[arm.name]) for arm in arms}
        # As many images as the largest filled training set, in every arm.
        epoch_length = max(
            len(train), *((0 if arm.pretrain else len(train)) + sum(added[arm.name].values()) for arm in arms)
        )
        draws = range(settings.seeds if settings.redraw else 1)
        samplings = {
            (name, draw): self._sampling(
                name, [counts.get(name, {}) for counts in synthetic.values()], fold, draw, digests
            )
            for name in self._generators
            for draw in draws
        }
        found = {}
        for arm in arms:
            for classifier in settings.classifiers:
                stages = self._stages[classifier, arm.name]
                for number in range(settings.seeds):
                    draw = number if settings.redraw else 0
                    own = {name: samplings[name, draw] for name in synthetic[arm.name]}
                    seed = self._seed("classifier", fold, number)
                    key = self._key(
                        "cell",
                        images=digests,
                        drawings={name: task.key for name, task in own.items()},
                        synthetic=synthetic[arm.name],
                        real_fraction=arm.real_fraction,
                        classifier=self._classifiers[classifier],
                        stages=[{"images": stage.images, "config": stage.config.flat()} for stage in stages],
                        length=epoch_length,
                        seed=seed,
                    )
                    found[arm.name, classifier, number] = Cell(
                        key=key,
                        fold=fold,
                        arm=arm,
                        classifier=classifier,
                        number=number,
                        seed=seed,
                        synthetic=synthetic[arm.name],
                        samplings=own,
                        epoch_length=epoch_length,
                        steps=sum(stage.steps(epoch_length) for stage in stages),
                    )
        return found

    def _by_generator(self, arm: Arm, counts: Mapping[str, int]) -> dict[str, dict[str, int]]:
        """Split an arm's images of each label over its generators."""
        if arm.mixture and not counts:
            raise ConfigError(
                f"the arm '{arm.name}' adds no image: every class has {arm.target} or more", "raise target"
            )
        shares = [Fraction(str(share)) for share in arm.mixture.values()]
        split = {label: exact_shares(count, shares) for label, count in counts.items()} if shares else {}
        return {
            name: {label: parts[place] for label, parts in split.items() if parts[place]}
            for place, name in enumerate(arm.mixture)
        }

    def _sampling(
        self, name: str, needed: Sequence[Mapping[str, int]], fold: Fold, draw: int, digests: Mapping[str, str]
    ) -> SamplingTask:
        """The task that makes at least the `needed` images of each arm, in whole batches."""
        generator, size = self._generators[name], self._design.value.batch_size
        training = None
        if generator.kind == "trained":
            seed = self._seed("generator", fold, 0)
            key = self._key("training", train=digests["train"], seed=seed, **self._identities[name])
            training = TrainingTask(key=key, generator=name, fold=fold, seed=seed)
        seed = self._seed("images", fold, draw)
        key = self._key(
            "drawing",
            train=digests["train"],
            generator=[name, training.key if training is not None else self._identities[name]],
            image=self._image if generator.kind == "parameter-free" else None,
            batch_size=size,
            seed=seed,
        )
        most = {label: max(counts.get(label, 0) for counts in needed) for label in sorted(set().union(*needed))}
        return SamplingTask(
            key=key,
            fold=fold,
            generator=name,
            counts={label: -(-count // size) * size for label, count in most.items()},
            seed=seed,
            training=training,
            seen=count_seen_images(generator, self._images, fold, allow_leak=self._allow_leak)
            if generator.kind == "published"
            else {},
        )

    def _seed(self, what: str, fold: Fold, number: int) -> int:
        # 31 bits: what every library takes for a seed.
        return derive_seed(self._design.value.seed, what, fold.repeat, fold.fold, number) % 2**31

    def _key(self, kind: str, **identity: Any) -> str:
        text = json.dumps({**self._common, "kind": kind, **identity}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


def parameter_free_image(recipes: Mapping[str, Recipe]) -> tuple[int, int, str]:
    """Size, channels and crop of the images of a parameter-free generator: large enough for every classifier."""
    seen = [recipe.base().image for recipe in recipes.values()]
    return max(image.size for image in seen), max(image.channels for image in seen), seen[0].crop
