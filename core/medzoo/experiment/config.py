"""Settings of an experiment: defaults, a preset, a TOML file, then `--set`; each value records its origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from medzoo import config
from medzoo.config import setting
from medzoo.errors import ConfigError, UnknownName
from medzoo.experiment.arms import Arm, parse_arms, pretrain_arms

METRICS = ("balanced_accuracy", "accuracy", "f1", "precision", "recall", "auc")
"""The fields of `ClassificationScores` that are averaged over folds or seeds."""

_LISTS = ("classifiers", "arms", "target", "pretrain.fractions", "pretrain.geometric", "pretrain.weighted")
_SECTIONS = ("classifier", "generator")  # of settings of single models


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """Arms that pretrain on synthetic images, then fine-tune on a share of the real ones (study B)."""

    generator: str = setting("", 'generator or mixture that makes the images; "" for no such arms')
    fractions: tuple[float, ...] = setting((0.0, 0.1, 1.0), "shares of the real images", min=0.0, max=1.0)
    geometric: tuple[bool, ...] = setting((False, True), "without and with flips, rotations and shifts")
    weighted: tuple[bool, ...] = setting((False, True), "without and with a weighted loss")
    share: float = setting(0.5, "share of the optimizer steps spent on synthetic images", min=0.0, max=1.0)


@dataclass(frozen=True, kw_only=True)
class ExperimentSettings:
    """What is compared, on which parts of the data, and how long classifiers are trained."""

    classifiers: tuple[str, ...] = setting(("cnn",), "kinds of classifier")
    arms: tuple[str, ...] = setting((), "generators, mixtures (a=0.5+b=0.5), real, weighted")
    target: tuple[int, ...] = setting((1000,), "images per class after augmentation (multi-label: in all)", min=0)
    folds: int = setting(5, "folds of the cross-validation; 0 uses the data's own test part", min=0)
    test: str = setting("test", "if folds = 0, the part of the data to test on", choices=("test", "val"))
    repeats: int = setting(1, "cross-validations, each with different folds", min=1)
    seeds: int = setting(1, "trainings of each classifier on the same images", min=1)
    epochs: int = setting(0, "passes over the largest filled training set; 0 uses the classifier's own", min=0)
    steps: int = setting(0, "optimizer steps instead of epochs; 0 uses epochs", min=0)
    preset: str = setting("default", "the classifiers' preset")
    controls: bool = setting(True, "add the arms real, weighted, duplicate and classic")
    baseline: str = setting("real", "arm that the others are compared with")
    metric: str = setting("balanced_accuracy", "score that is compared", choices=METRICS)
    validation: float = setting(0.1, "share of training images on which weights are selected", min=0.0, max=0.5)
    redraw: bool = setting(False, "sample synthetic images again for each seed")
    seed: int = setting(0, "seed of folds, generators, images and classifiers", min=0)
    batch_size: int = setting(16, "synthetic images of one class sampled at once, in whole batches", min=1)
    pretrain: PretrainSettings = PretrainSettings()

    def __post_init__(self) -> None:
        if self.folds == 1:
            raise ConfigError(
                "folds = 1 leaves nothing to train on", "use 2 or more, or 0 for the data's own test part"
            )
        if not self.folds and self.repeats > 1:
            raise ConfigError(
                "repeats needs folds, but folds = 0", "use seeds to repeat the training on one fixed test part"
            )
        if self.folds and self.test != "test":
            raise ConfigError(f"test = {self.test} needs folds = 0", "folds make their own test parts")
        if self.steps and self.epochs:
            raise ConfigError(f"both epochs = {self.epochs} and steps = {self.steps} are given", "set only one of them")
        for name, given in (("classifiers", self.classifiers), ("target", self.target)):
            if not given:
                raise ConfigError(f"{name} is empty", "give at least one")


@dataclass(frozen=True, kw_only=True)
class Design:
    """The whole design of an experiment, as given by the user.

    `own` holds the settings of single models, by section ("classifier", "generator"), name and dotted key; the key
    "preset" names a preset.
    """

    name: str
    settings: config.Resolved[ExperimentSettings]
    own: Mapping[str, Mapping[str, Mapping[str, Any]]]
    arms: tuple[Arm, ...]

    @property
    def value(self) -> ExperimentSettings:
        """The settings."""
        return self.settings.value

    @property
    def target(self) -> int:
        """The largest number of images that a class is filled up to."""
        return max(arm.target for arm in self.arms) or max(self.value.target)

    def flat(self) -> dict[str, Any]:
        """Return every dotted key with its value for JSON, including those of single models."""
        flat = {key: list(value) if isinstance(value, tuple) else value for key, value in self.settings.flat().items()}
        return flat | {
            f"{section}.{name}.{key}": value
            for section, models in self.own.items()
            for name, keys in models.items()
            for key, value in keys.items()
        }

    def preset_of(self, section: str, name: str, *, default: str = "default") -> str:
        """Return the preset chosen for a model."""
        return str(self.own[section].get(name, {}).get("preset", default))

    def overrides_of(self, section: str, name: str) -> dict[str, Any]:
        """Return the settings that the experiment changes in a model, by dotted key."""
        return {key: value for key, value in self.own[section].get(name, {}).items() if key != "preset"}


def preset_names() -> list[str]:
    """List the experiments that come with medzoo."""
    return config.preset_names(_presets())


def read_design(
    given: str, *, overrides: Mapping[str, Any] | None = None, options: Mapping[str, int | None] | None = None
) -> Design:
    """Read the experiment in a preset or TOML file `given`, with `overrides` by key, then command line `options`.

    A file may extend a preset: `extends = "udder-scale"`.
    Raises: ConfigError and UnknownName for a wrong key, name or value, with its origin.
    """
    layers = _read(given)
    layers.append(("--set", dict(overrides or {})))
    layers += [(f"--{key}", {key: value}) for key, value in (options or {}).items() if value is not None]
    defaults = config.flatten(ExperimentSettings())
    values, origins = config.merge([("default", defaults), *layers])
    values = {key: _as_list(key, value) for key, value in values.items()}
    general = {key: value for key, value in values.items() if key.partition(".")[0] not in _SECTIONS}
    built = config.build(ExperimentSettings, general, origins={key: origins[key] for key in general})
    arms = _arms(built)
    names = {"classifier": built.classifiers, "generator": tuple(dict.fromkeys(n for arm in arms for n in arm.mixture))}
    named = {"classifier": ("classifiers",), "generator": ("arms", "pretrain.generator")}
    order = ["default", *(origin for origin, _ in layers)]
    own = {}
    for section, keys in named.items():
        since = max(order.index(origins[key]) for key in keys)
        own[section] = _own(section, names[section], values, origins, strict=set(order[since:]))
    resolved = config.Resolved(value=built, origins=origins)
    return Design(name=Path(given).stem, settings=resolved, own=own, arms=arms)


def _read(given: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the layers of a preset, or of a file and the preset it extends."""
    path = Path(given)
    if path.suffix != ".toml" and not path.is_file():
        return [(f"preset {given}", config.read_preset(_presets(), given))]
    if not path.is_file() or path.suffix != ".toml":
        raise ConfigError(f"{given} is not a TOML file", f"or name a preset: {', '.join(preset_names())}")
    values = config.read_toml(path)
    base = values.pop("extends", None)
    return [*(_read(str(base)) if base is not None else []), (str(path), values)]


def _presets() -> Any:
    return files(__package__) / "presets"


def _as_list(key: str, value: Any) -> Any:
    """Turn one value into a list where one is expected; split a text at commas."""
    if key not in _LISTS or isinstance(value, list | tuple):
        return value
    return value.split(",") if isinstance(value, str) else [value]


def _arms(settings: ExperimentSettings) -> tuple[Arm, ...]:
    grid = settings.pretrain
    rows = pretrain_arms(
        grid.generator,
        target=max(settings.target),
        fractions=grid.fractions,
        geometric=grid.geometric,
        weighted=grid.weighted,
    )
    arms = parse_arms(settings.arms, targets=settings.target, controls=settings.controls)
    arms = tuple({arm.name: arm for arm in (*arms, *rows)}.values())
    if not arms:
        raise ConfigError("there are no arms", 'give some, as in arms = ["ddpm-var"], or set controls = true')
    if settings.baseline not in (names := [arm.name for arm in arms]):
        hint = "(the others are compared with it: set baseline to one of the arms"
        if settings.baseline == "real":  # a control, so they were switched off
            hint += ', or add "real" to arms'
        raise UnknownName("baseline", settings.baseline, names, f"{hint})")
    return arms


def _own(
    section: str, names: Sequence[str], values: Mapping[str, Any], origins: Mapping[str, str], *, strict: Set[str]
) -> dict[str, dict[str, Any]]:
    """Return the settings of single models.

    Those of `strict` origins must name models of this experiment; earlier layers may name removed ones.
    """
    found: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        head, _, rest = key.partition(".")
        if head != section:
            continue
        # The longest name first: that of a model may hold dots, and begin with another's.
        name = next((name for name in sorted(names, key=len, reverse=True) if rest.startswith(f"{name}.")), None)
        if name is not None:
            found.setdefault(name, {})[rest.removeprefix(f"{name}.")] = value
        elif origins[key] in strict:
            raise UnknownName(section, rest.partition(".")[0], names, f"of this experiment [from {origins[key]}]")
    return found
