"""Training recipes: an arm's classifier is trained in one or two stages, with equal optimizer steps in all arms.

An epoch has as many images as the largest filled training set, in every arm: smaller sets are repeated within it.
Learning-rate schedules, validation and early stopping are thereby equal too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from medzoo import config
from medzoo.errors import ConfigError
from medzoo.experiment.arms import Arm
from medzoo.experiment.config import Design
from medzoo.plugins.lookup import Plugins
from medzoo.specs import ModelSpec
from medzoo.toolkit.settings import RecipeSettings

_NEEDED = ("image.size", "image.channels", "training.epochs", "training.batch_size")
_INHERIT = "let its plugin's settings inherit medzoo.toolkit.settings.ClassifierSettings"
_GEOMETRIC: Mapping[str, Any] = {
    "training.horizontal_flip": True,
    "augmentation.rotation": 30.0,
    "augmentation.translation": 0.1,
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One call of `fit`: its settings, and which of the arm's images it is given."""

    config: config.Resolved[Any]
    images: Literal["all", "real", "synthetic"]

    def steps(self, length: int) -> int:
        """Return the optimizer steps if an epoch has `length` images."""
        training = training_settings(self.config)
        return training.max_steps or training.epochs * math.ceil(length / training.batch_size)


def training_settings(settings: config.Resolved[Any]) -> RecipeSettings:
    """Return a classifier's group `training`; what it lacks is off: no step limit, no selection of weights."""
    own, off = settings.value.training, RecipeSettings(load_best_model_at_end=False)
    given = {field.name: getattr(own, field.name) for field in fields(off) if hasattr(own, field.name)}
    return replace(off, **given)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A classifier of an experiment and how it is trained."""

    name: str
    spec: ModelSpec[Any]
    design: Design
    implied: Mapping[str, Any]

    def base(self) -> config.Resolved[Any]:
        """Return the settings that no arm changes."""
        return self._resolved({})

    @property
    def selects_weights(self) -> bool:
        """Whether weights are selected, or training is stopped early, by scores on validation images."""
        training = training_settings(self.base())
        return training.load_best_model_at_end or training.early_stopping_patience > 0

    def stages(self, arm: Arm) -> tuple[Stage, ...]:
        """Return the stages of training on an arm. Raises: ConfigError if the classifier lacks a setting."""
        changes: dict[str, Any] = dict(_GEOMETRIC) if arm.geometric else {}
        known = config.keys(self.spec.config)
        if "objective.class_weighted" in known:
            changes["objective.class_weighted"] = arm.weighted
        elif arm.weighted:
            raise ConfigError(
                f"'{self.name}' has no setting objective.class_weighted, which the arm '{arm.name}' needs",
                f"{_INHERIT}, or leave out weighted arms: controls=false, pretrain.weighted=[false]",
            )
        if not arm.pretrain:
            return (Stage(config=self._resolved(changes), images="all"),)
        first, second = self._halves(training_settings(self.base()), whole=arm.real_fraction == 0)
        plain = {**changes, **({"objective.class_weighted": False} if "objective.class_weighted" in known else {})}
        stages = [Stage(config=self._resolved({**plain, **first}), images="synthetic")]
        if second:
            stages.append(Stage(config=self._resolved({**changes, **second}), images="real"))
        return tuple(stages)

    def _halves(self, training: RecipeSettings, *, whole: bool) -> tuple[dict[str, int], dict[str, int]]:
        """Return "training.max_steps" or "training.epochs" of pretraining and of the second stage."""
        key = "training.max_steps" if training.max_steps else "training.epochs"
        total = training.max_steps or training.epochs
        if whole:
            return {key: total}, {}
        if total < 2:
            raise ConfigError(f"{key} = {total} cannot be split into two stages", "use at least 2")
        first = min(max(round(self.design.value.pretrain.share * total), 1), total - 1)
        return {key: first}, {key: total - first}

    def _resolved(self, changes: Mapping[str, Any]) -> config.Resolved[Any]:
        settings, own = self.design.value, self.design.own["classifier"].get(self.name, {})
        length = {"training.epochs": settings.epochs, "training.max_steps": settings.steps}
        if set(length) & set(own):  # set for this classifier only
            length = {}
        given = {**{key: value for key, value in length.items() if value}, **changes}
        return config.resolve(
            self.spec.config,
            presets=self.spec.presets,
            preset=self.design.preset_of("classifier", self.name, default=settings.preset),
            overrides={**self.implied, **self.design.overrides_of("classifier", self.name), **given},
        )


def make_recipes(design: Design, plugins: Plugins, *, multi_label: bool) -> dict[str, Recipe]:
    """Make the recipes of all classifiers, and check their settings for each arm. Raises: UnknownName, ConfigError."""
    from medzoo.models.loading import spec_to_train

    recipes = {}
    for name in design.value.classifiers:
        spec, implied = spec_to_train(name, plugins, kind="classifier")
        lacking = [key for key in _NEEDED if key not in config.keys(spec.config)]
        if lacking:
            raise ConfigError(
                f"'{name}' cannot take equal steps in all arms: it lacks the settings {', '.join(lacking)}",
                f"{_INHERIT}, which has them, or leave it out of the experiment's classifiers",
            )
        if multi_label and not spec.multi_label:
            raise ConfigError(
                f"'{name}' takes one label per image, but the data has several", "choose another classifier"
            )
        if "objective.class_weighted" in design.own["classifier"].get(name, {}):
            raise ConfigError(
                f"classifier.{name}.objective.class_weighted is set by the arms", 'use the arm "weighted"'
            )
        recipes[name] = Recipe(name=name, spec=spec, design=design, implied=implied)
        for arm in design.arms:
            recipes[name].stages(arm)
    crops = {name: recipe.base().image.crop for name, recipe in recipes.items()}
    if len(set(crops.values())) > 1:
        listed = ", ".join(f"{name} {crop}" for name, crop in crops.items())
        raise ConfigError(
            f"the classifiers crop images differently: {listed}", "set the same classifier.NAME.image.crop for all"
        )
    return recipes


def parameter_free_image(recipes: Mapping[str, Recipe]) -> tuple[int, int, str]:
    """Return size, channels and crop for a parameter-free generator: large enough for every classifier."""
    seen = [recipe.base().image for recipe in recipes.values()]
    return max(image.size for image in seen), max(image.channels for image in seen), seen[0].crop
