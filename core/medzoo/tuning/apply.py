"""Apply a policy: to an augmentation, to the training of a classifier, or as an arm of an experiment."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medzoo import config
from medzoo.data.dataset import Dataset
from medzoo.data.decoded_cache import Decoded
from medzoo.data.metadata import read_metadata
from medzoo.errors import ConfigError, DataError, MedzooError
from medzoo.experiment.config import LEVERS, AddedArms, ExperimentSettings
from medzoo.experiment.plan import ExperimentPlan
from medzoo.experiment.training_sets import Part, synthetic_counts, training_images, weighted_images
from medzoo.generation.augment import Amounts
from medzoo.generation.mixture import Mixture
from medzoo.plugins.lookup import Plugins
from medzoo.protocols import LabeledImages
from medzoo.runs.record import read_run
from medzoo.specs import ClassifierSpec, ImageSpec
from medzoo.training.train import ImageUse
from medzoo.tuning.policy import Policy

logger = logging.getLogger(__name__)

ORIGIN = "--policy"

_WEIGHTED = "objective.class_weighted"
_IN_IMAGES = ("select", "classes")  # levers that show in which images a folder holds
_SEEDS = 5
_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What a policy and the user's own arguments ask of an augmentation, as `generation.augment.prepare` takes it."""

    generators: tuple[str, ...]
    settings: Mapping[str, Any]
    target: Callable[[Mixture, Dataset], Amounts]
    criteria: tuple[str, ...]
    pool: float | None
    extractor: str | None


def augmentation(
    policy: Policy,
    plugins: Plugins,
    *,
    generators: Sequence[str],
    settings: Mapping[str, Any],
    to: int | None,
    criteria: Sequence[str],
    pool: float | None,
    extractor: str | None,
) -> Augmentation:
    """Return what a policy asks for, with the user's arguments, where given, in place of its own (logged).

    A generator of the user comes without the policy's settings.
    Raises: ConfigError if the policy says not to add images, and the user names no generator.
    """
    if not policy.augment and not generators:
        raise ConfigError(
            f"the policy says not to add images: {policy.verdict or 'no gain was found'}",
            "to add some all the same, name a generator: --gen GEN --policy ...",
        )
    own = not generators
    instead = {
        "--gen": (" --gen ".join(generators), policy.generator),
        "--to": (to, f"{policy.target_share:g} times the largest class"),
        "--select": (" --select ".join(criteria), policy.select),
        "--pool": (pool, f"{policy.pool:g}"),
        "--extractor": (extractor, policy.extractor),
        **{f"--set {key}": (settings.get(key), value) for key, value in policy.settings.items() if own},
    }
    named = [
        f"{option} {given} instead of {its}" for option, (given, its) in instead.items() if given not in (None, "")
    ]
    if named:
        logger.info(f"used in place of the policy's own: {', '.join(named)}")
    chosen = tuple(criteria) or policy.criteria
    return Augmentation(
        generators=tuple(generators) or (policy.generator,),
        settings={**(policy.settings if own else {}), **settings},
        target=_amounts(policy, plugins, to=to, own=own),
        criteria=chosen,
        pool=pool if pool is not None or not chosen else policy.pool,
        extractor=extractor if extractor is not None or not chosen else policy.extractor,
    )


def _amounts(policy: Policy, plugins: Plugins, *, to: int | None, own: bool) -> Callable[[Mixture, Dataset], Amounts]:
    """Return how many images to add to which data; `own` checks that the generator is the policy's."""

    def find(mixture: Mixture, real: Dataset) -> Amounts:
        policy.check_data(real)
        if own:
            (model,) = mixture.models
            version = plugins.plugin_of("generator", model.spec.name).version
            policy.check_generator(plugin=model.spec.name, version=version, weights_sha256=model.weights_sha256)
        arm = policy.to_arm(real.counts())
        arm = arm if to is None else replace(arm, target=to)
        try:
            by_generator = synthetic_counts(real, arm)
        except ConfigError:
            raise ConfigError(
                f"the policy adds no image: every class has {arm.target} or more", "--to N adds images up to N"
            ) from None
        counts = {label: sum(own.get(label, 0) for own in by_generator.values()) for label in real.classes}
        words = f"up to {arm.target} images of each class"
        if arm.pretrain or arm.replace:
            words = f"{arm.target} synthetic images of each class, beside the real ones"
        elif arm.classes == "all":
            words = f"as many images as fill each class up to {arm.target}, evenly over the classes"
        why = "" if to is not None else f" ({policy.target_share:g} times the largest, {max(real.counts().values())})"
        logger.info(f"by the policy: {words}{why}")
        return Amounts(target=arm.target, counts=counts)

    return find


def other_levers(policy: Policy) -> str:
    """Return the levers that a folder of images cannot hold, in words; "" if none is pulled."""
    return ", ".join(LEVERS[name].format(value) for name, value in policy.levers.items() if name not in _IN_IMAGES)


def classifier_settings(policy: Policy, spec: ClassifierSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a classifier with those of a policy, by dotted key; those `given` come first (logged).

    Raises: ConfigError if the classifier lacks one.
    """
    if not policy.augment:
        return dict(given)
    if _WEIGHTED not in config.keys(spec.config):
        if policy.weighted:
            raise ConfigError(
                f"'{spec.name}' has no setting {_WEIGHTED}, which the policy needs",
                "train another classifier, or without --policy",
            )
        return dict(given)
    if given.get(_WEIGHTED, policy.weighted) != policy.weighted:
        own = f"{_WEIGHTED}={config.shown(policy.weighted)}"
        logger.info(f"--set {_WEIGHTED} is used in place of the policy's own: {own}")
    return {_WEIGHTED: policy.weighted, **given}


def log_other_levers(policy: Policy, folder: Path) -> None:
    """Say what of a policy the images in `folder` cannot hold, if there is anything."""
    if levers := other_levers(policy):
        logger.info(
            f"how to train on these images is not part of them ({levers}); run.json keeps it, and this uses it: "
            f"medzoo classify train NAME --data {folder} --policy policy.toml"
        )


def warn_of_policy(data: Path) -> None:
    """Warn if the images in `data` were made by a policy that says more than which images to add."""
    levers = ""
    with suppress(MedzooError, TypeError):  # somebody else's run.json, or a policy of another version
        made_by = (read_run(data) or {}).get("policy") if data.is_dir() else None
        levers = other_levers(Policy(**made_by)) if isinstance(made_by, dict) else ""
    if levers:
        logger.warning(
            f"{data} was made by a policy that says how to train on it ({levers}), which --policy policy.toml would do"
        )


def image_use(policy: Policy, data: Dataset, spec: ClassifierSpec, *, seed: int) -> ImageUse | None:
    """Return how a classifier is trained on real and synthetic images as the policy says; None: as on any images.

    `data` are the training images, of which its metadata.csv or their names say which are synthetic.

    Raises:
        ConfigError: a lever that this training cannot have; the policy says not to add images.
        DataError: no image is synthetic; other classes, channels or bits than the policy is for.
    """
    policy.check_data(data)
    if not policy.augment:
        if data.synthetic:
            raise ConfigError(
                f"the policy says not to add images, and {len(data.synthetic)} of {data.path} are synthetic: "
                f"{policy.verdict or 'no gain was found'}",
                "train on the real images, or without --policy",
            )
        return None
    if not data.synthetic:
        raise DataError(
            f"{data.path} holds no synthetic images, so the policy has nothing to say of it",
            f"add them: medzoo augment --policy policy.toml --data {data.path} --out DIR",
        )
    others = sorted({row["generator"] for row in _rows_of(data) if row["weights_sha256"] != policy.weights_sha256})
    if others:
        logger.warning(
            f"{data.path} holds images of {', '.join(others)}, and the policy was tuned with other weights, of "
            f"'{policy.generator}': its gain may not hold"
        )
    levers = policy.levers
    if policy.stage != "together":
        raise ConfigError(
            f"the policy trains in two stages (stage = {policy.stage}), which one training does not",
            "medzoo experiment run --policy policy.toml --data DIR --out DIR does",
        )
    weighted = policy.loss_weight != 1 or (spec.converges and (policy.batch_share > 0 or policy.replace > 0))
    if weighted and not spec.sample_weights:
        raise ConfigError(
            f"'{spec.name}' takes no loss weights, which the policy needs",
            "train another classifier, or without --policy",
        )
    if not other_levers(policy):
        return None
    arm = policy.to_arm(data.counts())

    def images(training: Dataset, image: ImageSpec, crop: str) -> LabeledImages:
        made = np.array([name in training.synthetic for name in training.names])
        parts = []
        for rows, cropped, weight in ((~made, crop, 1.0), (made, "none", arm.loss_weight)):
            own = training.subset(np.flatnonzero(rows))
            # Synthetic images are as a model sees them, and not cropped once more.
            decoded = Decoded(own, size=image.size, channels=image.channels, crop=cropped)
            parts.append([Part(images=decoded, rows=np.arange(len(own)), labels=own.labels, weight=weight)])
        real, synthetic = parts
        if spec.converges:
            return weighted_images(arm, image.classes, real=real, synthetic=synthetic)
        length = len(real[0].rows) if arm.replace else len(training)
        return training_images(arm, "all", image.classes, real=real, synthetic=synthetic, length=length, seed=seed)

    logger.info(f"synthetic images are used as the policy says: {other_levers(policy)}")
    return ImageUse(images=images, facts={name: levers[name] for name in levers if name not in _IN_IMAGES})


def _rows_of(data: Dataset) -> list[dict[str, str]]:
    """Return the rows of medzoo's metadata.csv about synthetic images of `data`."""
    rows = read_metadata(data.path)
    return [rows[name] for name in data.synthetic if {"generator", "weights_sha256"} <= rows.get(name, {}).keys()]


def added_arms(policies: Sequence[Policy], data: Dataset, *, alone: bool) -> AddedArms:
    """Return the arms of policies for an experiment on `data`; `alone`: with what else an experiment needs.

    Raises:
        ConfigError: policies that one experiment cannot hold together; one without a generator.
        DataError: other classes, channels or bits than a policy is for.
    """
    settings: dict[str, Any] = {}
    for policy in policies:
        policy.check_data(data)
        if not policy.generator:
            raise ConfigError(
                "the policy names no generator, so there is nothing to measure", f"its verdict: {policy.verdict}"
            )
        if not policy.augment:
            logger.info(f"the policy says not to add images; measured is what came closest: {policy.generator}")
        for key, value in policy.experiment_settings().items():
            if settings.setdefault(key, value) != value:
                raise ConfigError(
                    f"two policies ask for different {key}: {settings[key]} and {value}", "run an experiment of each"
                )
    if alone:
        settings = {**_defaults(policies, data), **settings}

    def tables(chosen: ExperimentSettings) -> list[dict[str, Any]]:
        counts = _training_counts(data, chosen)
        return list({str(table): table for table in (policy.arm(counts) for policy in policies)}.values())

    return AddedArms(tables=tables, settings=settings, origin=ORIGIN)


def _defaults(policies: Sequence[Policy], data: Dataset) -> dict[str, Any]:
    """Return an experiment's settings: the policies' classifiers and metric, and the data's test part if it has one."""
    facts = [policy.tuned for policy in policies]
    classifiers = list(dict.fromkeys(str(own["classifier"]) for own in facts if own.get("classifier")))
    chosen: dict[str, Any] = {"classifiers": classifiers or ["cnn"]}
    if metrics := {str(own["metric"]) for own in facts if own.get("metric")}:
        chosen["metric"] = min(metrics)
    held_out = "test" in data.held_out
    return {**chosen, **({"folds": 0, "seeds": _SEEDS, "redraw": True} if held_out else {"folds": _FOLDS})}


def _training_counts(data: Dataset, settings: ExperimentSettings) -> dict[str, int]:
    """Estimate the training images of each class in a fold."""
    share = 1 - 1 / settings.folds if settings.folds else 1.0
    if settings.folds or "val" not in data.held_out:
        share *= 1 - settings.validation
    return {label: round(share * count) for label, count in data.counts().items()}


def check_generators(policies: Sequence[Policy], plan: ExperimentPlan) -> None:
    """Check that an experiment has the generators of its policies. Raises: ConfigError, as `Policy.check_generator`."""
    plugins = plan.worker.plugins
    for policy in policies:
        found = plan.worker.generators[policy.generator]
        version = plugins.plugin_of("generator", found.plugin).version
        policy.check_generator(plugin=found.plugin, version=version, weights_sha256=found.weights_sha256)
