"""What an experiment has to do: generators to train, image sets to draw, cells; each under a hash of all it depends on.

Equal hashes are one task, and one that is done already is not done again: a changed option costs what it touches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from medzoo._version import __version__
from medzoo.errors import ConfigError
from medzoo.experiment.arms import Arm
from medzoo.experiment.config import Design
from medzoo.experiment.folds import Fold, Images
from medzoo.experiment.generators import Generator, lineage
from medzoo.experiment.recipes import Recipe
from medzoo.experiment.training_sets import wanted
from medzoo.generation.shares import exact_shares
from medzoo.plugins.lookup import Plugins
from medzoo.seeds import derive_seed


@dataclass(frozen=True, kw_only=True)
class Task:
    """Something to do under `key` for `fold`, after the tasks of the keys in `needs`."""

    key: str
    fold: Fold
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Training(Task):
    """A generator to train on a fold's training images."""

    generator: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Drawing(Task):
    """One generator's images to draw: `counts` of each label, as many as the arm asks for that needs most.

    They are whole batches of one label, so that an image does not depend on how many others there are: arms of other
    targets and mixtures take the first of the same images. `trained` is the key of the generator's training, "" where
    it has none. `lineage` says how many validation and test images of the fold a published one was trained on.
    """

    generator: str
    counts: Mapping[str, int]
    seed: int
    trained: str = ""
    lineage: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Images in all."""
        return sum(self.counts.values())


@dataclass(frozen=True, kw_only=True)
class Cell(Task):
    """A classifier to train on an arm in a fold, from `seed`, the `number`-th.

    `synthetic` counts the images of each label that each generator gives, `drawings` says under which keys they are.
    An epoch is `length` images, `steps` the optimiser steps of all stages.
    """

    arm: Arm
    classifier: str
    number: int
    seed: int
    synthetic: Mapping[str, Mapping[str, int]]
    drawings: Mapping[str, str]
    length: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every task of an experiment by key, each after those it needs; cells are in the order to show them."""

    trainings: Mapping[str, Training]
    drawings: Mapping[str, Drawing]
    cells: tuple[Cell, ...]

    @property
    def tasks(self) -> list[Task]:
        """All tasks, fold by fold, so that what is shared is used soon."""
        folds = list(dict.fromkeys(cell.fold for cell in self.cells))
        found: dict[str, Task] = {}
        for fold in folds:
            for task in (*self.trainings.values(), *self.drawings.values(), *self.cells):
                if task.fold == fold:
                    found.setdefault(task.key, task)
        return list(found.values())


def make_grid(
    design: Design,
    images: Images,
    recipes: Mapping[str, Recipe],
    generators: Mapping[str, Generator],
    plugins: Plugins,
    *,
    device: str,
    allow_leak: bool,
) -> Grid:
    """Every task of the experiment.

    Raises: ConfigError for a target that fills nothing; DataError for a generator that knows test images.
    """
    maker = _Maker(design, images, recipes, generators, plugins, device=device, allow_leak=allow_leak)
    cells = [
        maker.cell(arm, name, fold, number)
        for arm in design.arms
        for name in design.value.classifiers
        for fold in images.folds
        for number in range(design.value.seeds)
    ]
    return Grid(trainings=maker.trainings, drawings=maker.drawings, cells=tuple(cells))


class _Maker:
    """Makes tasks, each once."""

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
        self.design, self.images, self.recipes = design, images, recipes
        self.generators, self.allow_leak = generators, allow_leak
        self.common = {"medzoo": __version__, "device": device.partition(":")[0]}
        self.trainings: dict[str, Training] = {}
        self.drawings: dict[str, Drawing] = {}
        self.batch_size = design.value.batch_size
        self._data = {fold: images.subset(fold.train) for fold in images.folds}
        self._digests = {
            fold: {part: images.digest(getattr(fold, part)) for part in ("train", "val", "test")}
            for fold in images.folds
        }
        self._lengths = {fold: self._length(fold) for fold in images.folds}
        self._identities = {name: generator.identity(plugins) for name, generator in generators.items()}
        self._image = list(weightless_image(recipes))
        self._classifiers = {
            name: [recipe.spec.name, plugins.row_of("classifier", recipe.spec.name).version]
            for name, recipe in recipes.items()
        }
        self._stages = {(name, arm.name): recipe.stages(arm) for name, recipe in recipes.items() for arm in design.arms}

    def cell(self, arm: Arm, classifier: str, fold: Fold, number: int) -> Cell:
        """The cell, its drawings and trainings made."""
        seed = self._seed("classifier", fold, number)
        synthetic = self._shared_out(arm, fold)
        drawings = {name: self._drawing(name, counts, fold, number).key for name, counts in synthetic.items()}
        stages = self._stages[classifier, arm.name]
        length = self._lengths[fold]
        key = self._key(
            "cell",
            {
                "images": self._digests[fold],
                "drawings": drawings,
                "synthetic": synthetic,
                "real_fraction": arm.real_fraction,
                "classifier": self._classifiers[classifier],
                "stages": [{"images": stage.images, "config": stage.config.flat()} for stage in stages],
                "length": length,
                "seed": seed,
            },
        )
        return Cell(
            key=key,
            needs=tuple(drawings.values()),
            arm=arm,
            classifier=classifier,
            fold=fold,
            number=number,
            seed=seed,
            synthetic=synthetic,
            drawings=drawings,
            length=length,
            steps=sum(stage.steps(length) for stage in stages),
        )

    def _shared_out(self, arm: Arm, fold: Fold) -> dict[str, dict[str, int]]:
        """How many images of each label each generator of an arm gives. Raises: ConfigError where there are none."""
        if not arm.mixture:
            return {}
        counts = wanted(self._data[fold], arm)
        if not counts:
            raise ConfigError(
                f"the arm '{arm.name}' adds no image: every class has {arm.target} or more", "raise target"
            )
        shares = [Fraction(str(share)) for share in arm.mixture.values()]
        split = {label: exact_shares(count, shares) for label, count in counts.items()}
        return {
            name: {label: parts[place] for label, parts in split.items() if parts[place]}
            for place, name in enumerate(arm.mixture)
        }

    def _drawing(self, name: str, counts: Mapping[str, int], fold: Fold, number: int) -> Drawing:
        """The generator's drawing, which makes that many images at least."""
        generator = self.generators[name]
        training = self._training(name, fold).key if generator.kind == "trained" else ""
        seed = self._seed("images", fold, number if self.design.value.redraw else 0)
        key = self._key(
            "drawing",
            {
                "train": self._digests[fold]["train"],
                "generator": [name, training or self._identities[name]],
                "image": self._image if generator.kind == "weightless" else None,
                "batch_size": self.batch_size,
                "seed": seed,
            },
        )
        before = self.drawings[key].counts if key in self.drawings else {}
        known = generator.kind == "published"
        self.drawings[key] = Drawing(
            key=key,
            needs=(training,) if training else (),
            generator=name,
            counts={
                label: max(before.get(label, 0), -(-counts.get(label, 0) // self.batch_size) * self.batch_size)
                for label in sorted({*before, *counts})
            },
            fold=fold,
            seed=seed,
            trained=training,
            lineage=lineage(generator, self.images, fold, allow_leak=self.allow_leak) if known else {},
        )
        return self.drawings[key]

    def _training(self, name: str, fold: Fold) -> Training:
        seed = self._seed("generator", fold, 0)
        identity = {"train": self._digests[fold]["train"], "seed": seed, **self._identities[name]}
        key = self._key("training", identity)
        return self.trainings.setdefault(key, Training(key=key, generator=name, fold=fold, seed=seed))

    def _length(self, fold: Fold) -> int:
        """Images in the fold's largest filled training set: real and added ones."""
        data = self._data[fold]
        filled = [
            len(data) + sum(wanted(data, arm).values()) for arm in self.design.arms if arm.mixture and not arm.pretrain
        ]
        made = [sum(wanted(data, arm).values()) for arm in self.design.arms if arm.mixture and arm.pretrain]
        return max([len(data), *filled, *made])

    def _seed(self, what: str, fold: Fold, number: int) -> int:
        # 31 bits: what every library takes for a seed.
        return derive_seed(self.design.value.seed, what, fold.repeat, fold.fold, number) % 2**31

    def _key(self, kind: str, identity: Mapping[str, Any]) -> str:
        text = json.dumps({**self.common, "kind": kind, **identity}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


def weightless_image(recipes: Mapping[str, Recipe]) -> tuple[int, int, str]:
    """Size, channels and crop of what generators without weights make: enough for every classifier."""
    flats = [recipe.base().flat() for recipe in recipes.values()]
    size, channels = (max(int(flat[f"image.{name}"]) for flat in flats) for name in ("size", "channels"))
    return size, channels, str(flats[0].get("image.crop", "none"))
