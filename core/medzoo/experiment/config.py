"""Settings of an experiment: defaults, a preset, a TOML file, then `--set`; each value records its origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from medzoo import config
from medzoo.config import setting
from medzoo.errors import ConfigError, UnknownName
from medzoo.generation.mixture import parse_mixture, split_strength

REAL, WEIGHTED, DUPLICATE, CLASSIC = "real", "weighted", "duplicate", "classic"
CONTROLS = (REAL, WEIGHTED, DUPLICATE, CLASSIC)
"""What generated images have to beat at equal image counts and equal optimizer steps."""

METRICS = ("balanced_accuracy", "accuracy", "f1", "precision", "recall", "auc")
"""The fields of `ClassificationScores` that are averaged over folds or seeds."""

_PRESETS = files(__package__) / "presets"
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
class Arm:
    """One way to compose the training set; `name` is unique in its experiment and is what reports print.

    `mixture` gives each generator's share of the synthetic images, summing to 1; empty if there are none.
    `target`: images of each class after augmentation, or in all if an image may have several labels; 0 without a
    mixture. `weighted`: the loss weights classes by inverse frequency. The classifier is trained on `real_fraction` of
    the real training images, if `pretrain` after a first stage on the mixture's images alone. `geometric`: flips,
    rotations and shifts are added to the classifier's own augmentation.
    """

    name: str
    mixture: Mapping[str, float] = field(default_factory=dict)
    target: int = 0
    weighted: bool = False
    pretrain: bool = False
    real_fraction: float = 1.0
    geometric: bool = False

    @property
    def control(self) -> bool:
        """Whether it is one of those that generated images have to beat."""
        return not set(self.mixture) - {DUPLICATE, CLASSIC}


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
    return config.preset_names(_PRESETS)


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
    for key in _LISTS:
        if not isinstance(values[key], list | tuple):
            values[key] = values[key].split(",") if isinstance(values[key], str) else [values[key]]
    general = {key: value for key, value in values.items() if key.partition(".")[0] not in _SECTIONS}
    built = config.build(ExperimentSettings, general, origins={key: origins[key] for key in general})
    arms = _arms(built)
    models = dict.fromkeys(name for arm in arms for text in arm.mixture for name in (text, split_strength(text)[0]))
    named = {"classifier": (built.classifiers, ["classifiers"]), "generator": (models, ["arms", "pretrain.generator"])}
    order = ["default", *(origin for origin, _ in layers)]
    own = {}
    for section, (names, keys) in named.items():
        since = max(order.index(origins[key]) for key in keys)
        own[section] = _own(section, list(names), values, origins, strict=set(order[since:]))
    resolved = config.Resolved(value=built, origins=origins)
    return Design(name=Path(given).stem, settings=resolved, own=own, arms=arms)


def _read(given: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the layers of a preset, or of a file and the preset it extends."""
    path = Path(given)
    if path.suffix != ".toml" and not path.is_file():
        return [(f"preset {given}", config.read_preset(_PRESETS, given))]
    if not path.is_file() or path.suffix != ".toml":
        raise ConfigError(f"{given} is not a TOML file", f"or name a preset: {', '.join(preset_names())}")
    values = config.read_toml(path)
    base = values.pop("extends", None)
    return [*(_read(str(base)) if base is not None else []), (str(path), values)]


def _arms(settings: ExperimentSettings) -> tuple[Arm, ...]:
    rows = pretrain_arms(settings.pretrain, target=max(settings.target))
    arms = parse_arms(settings.arms, targets=settings.target, controls=settings.controls)
    arms = tuple({arm.name: arm for arm in (*arms, *rows)}.values())
    if not arms:
        raise ConfigError("there are no arms", 'give some, as in arms = ["ddpm-var"], or set controls = true')
    if settings.baseline not in (names := [arm.name for arm in arms]):
        # "real" is a control, so they were switched off.
        more = ', or add "real" to arms' if settings.baseline == REAL else ""
        hint = f"(the others are compared with it: set baseline to one of the arms{more})"
        raise UnknownName("baseline", settings.baseline, names, hint)
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


def parse_arms(texts: Sequence[str], *, targets: Sequence[int], controls: bool) -> tuple[Arm, ...]:
    """Parse the arms in `texts`, after the controls if wanted; one per target for those with synthetic images.

    A text is "real", "weighted", the name of a generator, or a mixture such as "ldm-busi=0.5+ddpm-var-busi=0.5". A
    target of 0 stands for the real images alone.
    Raises: ConfigError for a mixture whose shares do not sum to 1.
    """
    wanted = [*(CONTROLS if controls else ()), *texts]
    if 0 in targets and REAL not in wanted:
        wanted.insert(0, REAL)
    arms: list[Arm] = []
    for text in dict.fromkeys(wanted):
        if text in (REAL, WEIGHTED):
            arms.append(Arm(name=text, weighted=text == WEIGHTED))
        else:
            arms += _filled(text, [target for target in targets if target])
    return tuple(arms)


def pretrain_arms(grid: PretrainSettings, *, target: int) -> tuple[Arm, ...]:
    """Combine pretraining or not, fraction of real images, geometric augmentation, and weighted loss.

    No arms if the generator is "". Without real images there is only pretraining, without weighting, since the
    synthetic images are balanced. Raises: ConfigError as `parse_arms`.
    """
    if not grid.generator:
        return ()
    mixture = _filled(grid.generator, [target])[0].mixture
    return tuple(
        Arm(
            name=_row_name(pretrain, fraction, geometric, weighted),
            mixture=mixture if pretrain else {},
            target=target if pretrain else 0,
            weighted=weighted,
            pretrain=pretrain,
            real_fraction=fraction,
            geometric=geometric,
        )
        for pretrain in (False, True)
        for fraction in grid.fractions
        for geometric in grid.geometric
        for weighted in grid.weighted
        if fraction > 0 or (pretrain and not weighted)
    )


def _filled(text: str, targets: Sequence[int]) -> list[Arm]:
    mixture = {name: float(share) for name, share in parse_mixture(text.split("+") if "=" in text else [text])}
    several = len(targets) > 1
    return [Arm(name=f"{text}@{target}" if several else text, mixture=mixture, target=target) for target in targets]


def _row_name(pretrain: bool, fraction: float, geometric: bool, weighted: bool) -> str:
    if not pretrain and fraction == 1.0 and not geometric:
        return WEIGHTED if weighted else REAL
    start = f"real {fraction:.0%}" if fraction > 0 else "synthetic only"
    added = {"pretrained": pretrain and fraction > 0, "geometric": geometric, "weighted": weighted}
    return ", ".join([start, *(name for name, given in added.items() if given)])
