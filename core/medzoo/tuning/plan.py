"""Plan a tuning: check its data, generators and classifiers, and say what is searched and drawn."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from medzoo._version import __version__
from medzoo.data.dataset import Dataset
from medzoo.data.duplicates import image_groups
from medzoo.data.windows import FILE
from medzoo.errors import ConfigError, DataError
from medzoo.experiment.config import FOLDER, Arm, Design
from medzoo.experiment.folds import join_parts
from medzoo.experiment.models import Recipe
from medzoo.experiment.plan import ExperimentPlan, plan_experiment
from medzoo.experiment.selection import criteria_of
from medzoo.experiment.worker import Worker
from medzoo.generation.mixture import Source
from medzoo.generation.run import Job
from medzoo.generation.selection import needs_features
from medzoo.runs.identity import check_same_run
from medzoo.storage.files import check_outside
from medzoo.tuning.config import TuningDesign, TuningSettings
from medzoo.tuning.pools import Pool, find_pools
from medzoo.tuning.results import FINALISTS, HELD_OUT, POOLS, SEARCH
from medzoo.tuning.space import Space, targets_that_add, uses_of

logger = logging.getLogger(__name__)

JOB = "tune"


@dataclass(frozen=True, kw_only=True, eq=False)
class TuningJob:
    """A tuning ready to run: everything is checked, nothing is written.

    `data` has its held-out parts; `tests` replace its test part, as in experiments. `inner` are the images of the inner
    folds: those of the training part, which come first, and of a val part. `plans` are the experiments of the search,
    of the finalists and of the held-out part, with the controls as their only arms. `counts` are the images to draw,
    by pool and class.
    """

    folder: Path
    design: TuningDesign
    classifier: str
    source: Source
    data: Dataset
    tests: tuple[Dataset, ...]
    inner: Dataset
    pools: tuple[Pool, ...]
    space: Space
    counts: Mapping[str, Mapping[str, int]]
    plans: tuple[ExperimentPlan, ExperimentPlan, ExperimentPlan]
    identity: Mapping[str, Any]
    warnings: tuple[str, ...]
    budget: float | None
    allow_leak: bool

    @property
    def settings(self) -> TuningSettings:
        """The settings."""
        return self.design.value

    @property
    def train(self) -> Dataset:
        """The training part, of which the pools are drawn."""
        return replace(self.data, held_out={})

    @cached_property
    def drawings(self) -> dict[str, Job]:
        """The jobs that draw the pools, by the names of those."""
        return {
            pool.name: pool.job(
                self.folder / POOLS / pool.name,
                self.train,
                self.counts[pool.name],
                source=self.source,
                seed=self.settings.seed,
                batch_size=self.settings.batch_size,
            )
            for pool in self.pools
        }

    def describe(self) -> str:
        """Return a sentence about what is searched."""
        space = self.space
        listed = [
            f"{len(self.pools)} pool{'s' * (len(self.pools) != 1)} ({', '.join(pool.name for pool in self.pools)})",
            f"targets {', '.join(f'{share:g}' for share in space.targets)} of the largest class",
            f"loss weights {', '.join(f'{weight:g}' for weight in space.loss_weights)}",
            f"use {', '.join(space.uses)}",
            f"classes {', '.join(space.classes)}",
            f"selection {', '.join(space.select)}",
        ]
        total = len(list(space.all()))
        return f"searching {min(self.settings.trials, total)} of {total} policies: {'; '.join(listed)}"


def prepare(
    data: Dataset,
    design: TuningDesign,
    out: Path,
    *,
    classifier: str,
    source: Source,
    generators: Sequence[str] = (),
    tests: Sequence[Dataset] = (),
    budget: float | None = None,
    allow_leak: bool = False,
) -> TuningJob:
    """Check everything and return the job; nothing is written yet.

    Raises:
        ConfigError, UnknownName: a setting, generator or classifier that cannot be taken; Optuna is not installed.
        DataError: no held-out part; images that cannot be split; a generator that does not fit or has seen held-out
            images; a folder of another tuning.
        HubError: weights that are not available.
    """
    if find_spec("optuna") is None:
        raise ConfigError("a tuning searches with Optuna, which is not installed", "pip install 'medzoo[tune]'")
    if budget is not None and not 0 < budget < math.inf:
        raise ConfigError(f"--budget {budget:g} is not a time in minutes", "give a number above 0")
    if data.multi_label:
        raise DataError(f"{data.path}: an image may have several labels, and a tuning takes one", "give such data")
    held_out = tests[0] if tests else data.held_out.get("test")
    if held_out is None:
        raise DataError(
            f"{data.path} has no test part, on which the verdict is measured",
            f"medzoo data split {data.path} --out split makes one; or give --test DIR",
        )
    out = out.resolve()
    check_outside(out, data.path, *(test.path for test in tests))
    _check_groups(data, design.value)
    train, val = replace(data, held_out={}), data.held_out.get("val")
    inner = train if val is None else join_parts([train, val])
    digests = {f"held-out images of {held_out.path}": set(held_out.fingerprints())}
    digests |= {f"images of {test.path}": set(test.fingerprints()) for test in tests[1:]}
    pools = find_pools(generators, design, source, train, held_out=digests, allow_leak=allow_leak)
    plans = _plans(data, inner, design, classifier, source=source, tests=tests, allow_leak=allow_leak)
    parts = [
        inner.subset(fold.train)
        for fold in dict.fromkeys(fold for plan in plans[:2] for fold in plan.worker.images.folds)
    ]
    _check_features(plans[0].worker, design.value, digests, allow_leak=allow_leak)
    proving = plans[2].worker.images
    (whole,) = [proving.data.subset(fold.train) for fold in proving.folds]
    space, warnings = _space(design.value, parts, whole, plans, classifier, pools, out)
    most = space.largest_needs()
    needs = [(set(part.fingerprints()), most[0]) for part in parts] + [(set(whole.fingerprints()), most[1])]
    counts = {pool.name: pool.counts(train, needs, seed=design.value.seed) for pool in pools}
    identity = {
        "job": JOB,
        "medzoo": __version__,
        "data": {"fingerprint": inner.fingerprint(), "held_out": held_out.fingerprint()},
        # The fingerprints are of what files store.
        **({"window": data.window or FILE} if data.has_volumes else {}),
        "tests": [test.fingerprint() for test in tests[1:]],
        "classifier": classifier,
        "settings": design.flat(),
        "generators": {pool.name: pool.describe() for pool in pools},
        "device": source.device.partition(":")[0],
    }
    check_same_run(out, identity)
    return TuningJob(
        folder=out,
        design=design,
        classifier=classifier,
        source=source,
        data=data,
        tests=tuple(tests),
        inner=inner,
        pools=pools,
        space=replace(space, limits=most),
        counts=counts,
        plans=plans,
        identity=identity,
        warnings=warnings,
        budget=budget,
        allow_leak=allow_leak,
    )


def _check_groups(data: Dataset, settings: TuningSettings) -> None:
    """Raise DataError for a class with fewer separate groups of images than inner folds."""
    groups = image_groups(data)
    for label, name in enumerate(data.classes):
        own = groups[data.labels == label]
        if len(own) and (count := len(np.unique(own))) < settings.folds:
            apart = "" if count == len(own) else f" in {count} groups (of patients, or duplicates)"
            raise DataError(
                f"{data.path}: class '{name}' has {len(own)} training images{apart}, fewer than the {settings.folds} "
                "inner folds",
                "use fewer with --set folds=2, or add images of other patients",
            )


def _check_features(
    worker: Worker, settings: TuningSettings, held_out: Mapping[str, Set[str]], *, allow_leak: bool
) -> None:
    """Load what the search sees images by, before images are drawn for it.

    Raises:
        DataError: the extractor of selections was trained on held-out images, and not `allow_leak`.
        HubError, UnknownName: weights that are not on this machine; no such extractor.
    """
    if worker.recipes[settings.search].spec.converges:
        worker.features(settings.search).load()
    if not needs_features([each for text in settings.select for each in criteria_of(text)]):
        return
    for name, digests in held_out.items():
        if (count := len(worker.extractor.trained_on & digests)) and not allow_leak:
            raise DataError(
                f"the extractor '{settings.extractor}' was trained on {count} of the {len(digests)} {name}, so a "
                "selection by its features has seen them",
                "set extractor=efficientnet-lite0, or accept it with --allow-leak",
            )


def _plans(
    data: Dataset,
    inner: Dataset,
    design: TuningDesign,
    classifier: str,
    *,
    source: Source,
    tests: Sequence[Dataset],
    allow_leak: bool,
) -> tuple[ExperimentPlan, ExperimentPlan, ExperimentPlan]:
    """Plan the three experiments with the controls alone: what is wrong with data or classifiers shows now."""
    value = design.value
    share = max(1.0, *value.target)

    def controls(part: Dataset) -> dict[str, Any]:
        # More than any class has, so that they add images to all data.
        return {"target": [math.ceil(share * max(part.counts().values())) + 1]}

    searching = search_design(design, **controls(inner))
    training = design.experiment(
        FINALISTS, classifier=classifier, folds=value.folds, **length_of(value), **controls(inner)
    )
    first = plan_experiment(searching, inner, None, source=source)
    second = plan_experiment(training, inner, None, source=source)
    proving = held_out_design(design, classifier, **controls(data))
    third = plan_experiment(proving, data, None, source=source, tests=tests, allow_leak=allow_leak)
    return first, second, third


def length_of(settings: TuningSettings) -> dict[str, Any]:
    return {"epochs": settings.epochs, "steps": settings.steps, "preset": settings.preset}


def search_design(design: TuningDesign, **given: Any) -> Design:
    # A regression on frozen features selects no weights, so it needs no validation images.
    name = design.value.search
    return design.experiment(SEARCH, classifier=name, folds=design.value.folds, validation=0.0, **given)


def held_out_design(design: TuningDesign, classifier: str, **given: Any) -> Design:
    value = design.value
    # Images of pools and controls are drawn again for each seed, so that the spread includes which ones were drawn.
    return design.experiment(
        HELD_OUT, classifier=classifier, folds=0, seeds=value.seeds, redraw=True, **length_of(value), **given
    )


def _space(
    settings: TuningSettings,
    parts: Sequence[Dataset],
    whole: Dataset,
    plans: Sequence[ExperimentPlan],
    classifier: str,
    pools: Sequence[Pool],
    out: Path,
) -> tuple[Space, tuple[str, ...]]:
    """Return the space, and what was left out of it since the classifiers cannot do it."""
    recipes = [plans[0].worker.recipes[settings.search], plans[1].worker.recipes[classifier]]
    left_out: list[str] = []

    def able(name: str, values: Sequence[Any], recipe: Recipe) -> list[Any]:
        found = []
        for value in values:
            try:
                recipe.stages(Arm(name="policy", **{name: value}))
            except ConfigError as error:
                left_out.append(f"{name} = {value} is not searched: {error.message}")
                continue
            found.append(value)
        return found

    for recipe in recipes:
        for name in ("stage", "loss_weight", "weighted"):
            values = able(name, getattr(settings, name), recipe)
            if not values:
                raise ConfigError(left_out[-1], f"give {name} another value")
            changed: dict[str, Any] = {name: tuple(values)}
            settings = replace(settings, **changed)
    return Space(
        settings=settings,
        pools={pool.name: f"{FOLDER}{out / POOLS / pool.name}" for pool in pools},
        parts=tuple(parts),
        whole=whole,
        targets=targets_that_add(settings, parts, whole),
        loss_weights=settings.loss_weight,
        uses=uses_of(settings),
        classes=settings.classes,
        weighted=settings.weighted,
        select=settings.select,
    ), tuple(dict.fromkeys(left_out))
