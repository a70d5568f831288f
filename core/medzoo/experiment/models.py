"""Models of an experiment: generators to sample from, and classifiers with their training recipes.

Generators are trained in each fold, published ones that never saw a test image, or parameter-free. Classifiers are
trained in one or two stages, with equal optimizer steps in all arms: an epoch has as many images as the largest filled
training set, in every arm, and smaller sets are repeated within it. Learning-rate schedules, validation and early
stopping are thereby equal too. A classifier that converges is trained to its optimum in every arm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from medzoo import config, protocols
from medzoo.config import Resolved
from medzoo.data.dataset import Dataset
from medzoo.errors import ConfigError, DataError
from medzoo.experiment.config import FOLDER, Arm, Design
from medzoo.experiment.folds import Fold, Images
from medzoo.generation.mixture import split_strength, with_strength
from medzoo.hub.registry import Registry, resolve
from medzoo.hub.sources import fetch_model
from medzoo.models.folder import override_saved, read_description, saved_settings, training_images
from medzoo.models.loading import LoadedModel, load_model, name_with_strength, parameter_free_model, spec_to_train
from medzoo.plugins.lookup import Plugins
from medzoo.runs.identity import without_neutral
from medzoo.specs import ClassifierSpec, GeneratorSpec, ImageSpec
from medzoo.toolkit.settings import RecipeSettings

Kind = Literal["trained", "published", "parameter-free"]

_NEEDED = ("image.size", "image.channels", "training.epochs", "training.batch_size")
_INHERIT = "let its plugin's settings inherit medzoo.toolkit.settings.ClassifierSettings"
_WEIGHTED = "objective.class_weighted"
_REFIT: Mapping[str, Any] = {"training.freeze_backbone": True, "training.class_balanced": True}
_GEOMETRIC: Mapping[str, Any] = {
    "training.horizontal_flip": True,
    "augmentation.rotation": 30.0,
    "augmentation.translation": 0.1,
}


@dataclass(frozen=True, kw_only=True)
class Generator:
    """One generator; a published one has a `folder`, a hash and fingerprints of its training images.

    `images` are the settings that the experiment's images give a generator trained on them (`Dataset.image_settings`).
    With a `strength` below 1 it varies the fold's training images; it is trained as without. None: it takes none.

    `model_name` is used in file names and seeds, as `medzoo sample` does, so that it samples the same images.
    """

    name: str
    model_name: str
    kind: Kind
    plugin: str
    overrides: Mapping[str, Any]
    preset: str = "default"
    folder: Path | None = None
    weights_sha256: str = ""
    trained_on: frozenset[str] = frozenset()
    images: Mapping[str, int | str] = field(default_factory=dict)
    strength: float | None = None

    def config(self, plugins: Plugins) -> Resolved[Any]:
        """Return the settings it is used with."""
        return override_saved(self.training_config(plugins), self._sampling)

    @property
    def _sampling(self) -> dict[str, Any]:
        return {} if self.strength is None else {"sampling.strength": self.strength}

    @property
    def varies(self) -> dict[str, float]:
        """Its strength below 1, for hashes and results; empty if it does not vary images by a strength."""
        return {} if self.strength in (None, 1.0) else {"strength": float(self.strength or 0.0)}

    def training_config(self, plugins: Plugins) -> Resolved[Any]:
        """Return the settings it is trained with: no strength matters to them."""
        spec = self.spec(plugins)
        if self.folder is not None:
            saved = saved_settings(spec, read_description(self.folder), self.folder)[1]
            return override_saved(saved, self.overrides, changeable="sampling")
        found = config.resolve(spec.config, presets=spec.presets, preset=self.preset, overrides=self.overrides)
        return found.with_defaults(self.images, origin="the images") if self.kind == "trained" else found

    def spec(self, plugins: Plugins) -> GeneratorSpec:
        """Return the plugin's description."""
        return plugins.generator(self.plugin)

    def image(self, plugins: Plugins) -> ImageSpec | None:
        """Return the images a published generator makes, None for the others."""
        if self.folder is None:
            return None
        return saved_settings(self.spec(plugins), read_description(self.folder), self.folder)[0]

    def identity(self, plugins: Plugins) -> dict[str, Any]:
        """Return what its images depend on, apart from the images it is trained on."""
        return {**self.training_identity(plugins), **self.varies}

    def training_identity(self, plugins: Plugins) -> dict[str, Any]:
        """Return what its weights depend on, apart from the images it is trained on."""
        known = {"plugin": self.plugin, "version": plugins.plugin_of("generator", self.plugin).version}
        settings = self.training_config(plugins).flat()
        if self.kind == "published":
            # A card may change how images are sampled without other weights.
            sampling = {key: value for key, value in settings.items() if key.startswith("sampling.")}
            identity = {**known, "weights_sha256": self.weights_sha256, "overrides": dict(self.overrides)}
            return identity | {"sampling": without_neutral(sampling)}
        settings.pop("sampling.strength", None)
        return {**known, "config": without_neutral(settings)}

    def load(
        self, plugins: Plugins, *, image: ImageSpec, crop: str, device: str, trained: Path | None
    ) -> LoadedModel[protocols.Generator]:
        """Load it, ready to sample.

        A parameter-free generator makes images like `image`; `trained` is the run folder of one trained in the fold.
        """
        if self.kind == "parameter-free":
            model = parameter_free_model(
                self.spec(plugins), image=image, device=device, preset=self.preset, overrides=self.overrides
            )
            return replace(model, name=self.name, crop=crop)
        folder, overrides = (self.folder, self.overrides) if self.kind == "published" else (trained, {})
        if folder is None:
            raise ConfigError(f"'{self.name}' has not been trained yet")
        name, overrides = split_strength(self.name)[0], {**overrides, **self._sampling}
        return load_model(folder, plugins=plugins, device=device, overrides=overrides, name=name)


def find_generators(
    design: Design, plugins: Plugins, registry: Registry, *, data: Dataset, mirror: str | None
) -> dict[str, Generator]:
    """Find the generators that arms name: a plugin's bare name is trained in each fold, anything else is published.

    A name may end in a strength, as in ddpm-var@0.3: such a generator has the settings of the one without, and its own.

    Raises:
        UnknownName, ConfigError: a name or setting is wrong.
        HubError: a published model cannot be downloaded.
    """
    found = {}
    for name in dict.fromkeys(name for arm in design.arms for name in arm.mixture if not name.startswith(FOLDER)):
        base = split_strength(name)[0]
        own = {**design.own["generator"].get(base, {}), **design.own["generator"].get(name, {})}
        if base in plugins.generators and base not in registry.models:
            kind: Kind = "trained" if plugins.generator(base).trainable else "parameter-free"
            facts: dict[str, Any] = {"model_name": base, "kind": kind, "plugin": base}
            facts["preset"] = str(own.pop("preset", "default"))
        else:
            if "preset" in own:
                raise ConfigError(
                    f"'{base}' is already trained and takes no preset",
                    "set single settings: sampling.num_inference_steps=50",
                )
            facts = _published(base, plugins, registry, mirror=mirror)
        spec = plugins.generator(facts["plugin"])
        overrides = with_strength(name, spec, own, plugins)
        one = Generator(name=name, overrides=overrides, images=data.image_settings(), **facts)
        settings = one.config(plugins)  # checks them
        if spec.varies_images:
            strength = float(settings.value.sampling.strength)
            overrides.pop("sampling.strength", None)
            own_name = name_with_strength(one.model_name, strength)
            one = replace(one, overrides=overrides, strength=strength, model_name=own_name)
        found[name] = one
    return found


def _published(name: str, plugins: Plugins, registry: Registry, *, mirror: str | None) -> dict[str, Any]:
    resolved = resolve(name, registry, plugins)
    folder = resolved.folder if resolved.entry is None else fetch_model(resolved.entry, source=mirror)
    assert folder is not None  # what has weights has a folder or a row
    description = read_description(folder)
    model_name = resolved.entry.id if resolved.entry is not None else str(description.get("id", ""))
    return {
        "model_name": model_name or folder.resolve().name,
        "kind": "published",
        "plugin": resolved.spec.name,
        "folder": folder.resolve(),
        "weights_sha256": str(description["weights_sha256"]),
        "trained_on": training_images(description) or frozenset(),
    }


def count_seen_images(generator: Generator, images: Images, fold: Fold, *, allow_leak: bool) -> dict[str, int]:
    """Count the test and validation images, of the fold and external, that a published generator was trained on.

    Raises:
        DataError: there is a test image among them, and not `allow_leak`.
    """
    found = {part: len(generator.trained_on & images.seen(getattr(fold, part))) for part in ("test", "val")}
    if found["test"] and not allow_leak:
        where = f" of fold {fold.fold + 1}" if len(images.folds) > 1 else ""
        raise DataError(
            f"'{generator.name}' was trained on {found['test']} of the {len(fold.test)} test images{where}, so scores "
            "on them would be invalid",
            f"use {generator.plugin} instead, which is trained in each fold; or set folds=0 and give images it "
            "never saw with --test DIR, or --leave-out-seen",
        )
    for name, data in images.external.items():
        found[name] = len(generator.trained_on & frozenset(data.fingerprints()))
        if found[name] and not allow_leak:
            raise DataError(
                f"'{generator.name}' was trained on {found[name]} of the {len(data)} images of {data.path}, so scores "
                "on them would be invalid",
                f"use {generator.plugin} instead, which is trained in each fold; or give images it never saw",
            )
    return found


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One call of `fit`: its settings, and which of the arm's images it is given."""

    config: config.Resolved[Any]
    images: Literal["all", "real", "synthetic"]

    def steps(self, length: int) -> int:
        """Return the optimizer steps if an epoch has `length` images; 0 for training to an optimum."""
        if not hasattr(self.config.value, "training"):
            return 0
        training = training_settings(self.config)
        return training.max_steps or training.epochs * math.ceil(length / training.batch_size)


def training_settings(settings: config.Resolved[Any]) -> RecipeSettings:
    """Return a classifier's group `training`; what it lacks is off: no step limit, no selection of weights."""
    own, off = getattr(settings.value, "training", None), RecipeSettings(load_best_model_at_end=False)
    given = {each.name: getattr(own, each.name) for each in fields(off) if hasattr(own, each.name)}
    return replace(off, **given)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A classifier of an experiment and how it is trained."""

    name: str
    spec: ClassifierSpec
    design: Design
    implied: Mapping[str, Any]
    images: Mapping[str, int | str]

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
        known = config.keys(self.spec.config)
        if arm.geometric and (lacking := [key for key in _GEOMETRIC if key not in known]):
            raise ConfigError(
                f"'{self.name}' has no setting {lacking[0]}, which the arm '{arm.name}' needs",
                "leave out this classifier, or that arm",
            )
        changes: dict[str, Any] = dict(_GEOMETRIC) if arm.geometric else {}
        plain = dict(changes)
        if _WEIGHTED in config.keys(self.spec.config):
            changes[_WEIGHTED], plain[_WEIGHTED] = arm.weighted, False
        elif arm.weighted:
            raise ConfigError(
                f"'{self.name}' has no setting {_WEIGHTED}, which the arm '{arm.name}' needs",
                f"{_INHERIT}, or leave out weighted arms: controls=false, pretrain.weighted=[false]",
            )
        if arm.loss_weight != 1 and not self.spec.sample_weights:
            raise ConfigError(
                f"'{self.name}' takes no loss weights, which the arm '{arm.name}' needs",
                "leave out loss_weight, or this classifier; a plugin that takes them says so: "
                "ClassifierSpec(sample_weights=True)",
            )
        if arm.stage == "together":
            return (Stage(config=self._resolved(changes), images="all"),)
        if self.spec.converges:
            raise ConfigError(
                f"'{self.name}' is trained to an optimum, wherever it starts, so the stages of the arm '{arm.name}' "
                "make no difference to it",
                "leave out this classifier, or the stage",
            )
        training = training_settings(self.base())
        key = "training.max_steps" if training.max_steps else "training.epochs"
        total = training.max_steps or training.epochs
        if arm.real_fraction == 0:
            return (Stage(config=self._resolved({**plain, key: total}), images="synthetic"),)
        if total < 2:
            raise ConfigError(f"{key} = {total} cannot be split into two stages", "use at least 2")
        if arm.stage == "refit":
            if lacking := [name for name in _REFIT if name not in config.keys(self.spec.config)]:
                raise ConfigError(
                    f"'{self.name}' has no setting {lacking[0]}, which the arm '{arm.name}' needs", _INHERIT
                )
            last = min(max(round(self.design.value.use.refit_share * total), 1), total - 1)
            return (
                Stage(config=self._resolved({**changes, key: total - last}), images="all"),
                Stage(config=self._resolved({**plain, **_REFIT, key: last}), images="real"),
            )
        first = min(max(round(self.design.value.pretrain.share * total), 1), total - 1)
        return (
            Stage(config=self._resolved({**plain, key: first}), images="synthetic"),
            Stage(config=self._resolved({**changes, key: total - first}), images="real"),
        )

    def _resolved(self, changes: Mapping[str, Any]) -> config.Resolved[Any]:
        settings, own = self.design.value, self.design.own["classifier"].get(self.name, {})
        length = {"training.epochs": settings.epochs, "training.max_steps": settings.steps}
        if set(length) & set(own) or self.spec.converges:  # set for this classifier only, or of no use to it
            length = {}
        given = {**{key: value for key, value in length.items() if value}, **changes}
        found = config.resolve(
            self.spec.config,
            presets=self.spec.presets,
            preset=self.design.preset_of("classifier", self.name, default=settings.preset),
            overrides={**self.implied, **self.design.overrides_of("classifier", self.name), **given},
        )
        return found.with_defaults(self.images, origin="the images")


def make_recipes(design: Design, plugins: Plugins, data: Dataset) -> dict[str, Recipe]:
    """Make the recipes of all classifiers, and check their settings for each arm. Raises: UnknownName, ConfigError."""
    recipes = {}
    for name in design.value.classifiers:
        spec, implied = spec_to_train(name, plugins, kind="classifier")
        assert isinstance(spec, ClassifierSpec)
        needed = _NEEDED[:2] if spec.converges else _NEEDED
        lacking = [key for key in needed if key not in config.keys(spec.config)]
        if lacking:
            raise ConfigError(
                f"'{name}' cannot take equal steps in all arms: it lacks the settings {', '.join(lacking)}",
                f"{_INHERIT}, which has them, or leave it out of the experiment's classifiers",
            )
        if data.multi_label and not spec.multi_label:
            raise ConfigError(
                f"'{name}' takes one label per image, but the data has several", "choose another classifier"
            )
        if _WEIGHTED in design.own["classifier"].get(name, {}):
            raise ConfigError(f"classifier.{name}.{_WEIGHTED} is set by the arms", 'use the arm "weighted"')
        recipes[name] = Recipe(name=name, spec=spec, design=design, implied=implied, images=data.image_settings())
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
