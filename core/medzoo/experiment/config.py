"""Settings of an experiment: defaults, a preset, a TOML file, then `--set`; each value records its origin."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from medzoo import config
from medzoo.config import setting
from medzoo.errors import ConfigError, UnknownName
from medzoo.generation.mixture import parse_mixture, split_strength
from medzoo.generation.selection import CRITERIA, check_criteria

REAL, WEIGHTED, DUPLICATE, CLASSIC = "real", "weighted", "duplicate", "classic"
CONTROLS = (REAL, WEIGHTED, DUPLICATE, CLASSIC)
"""What generated images have to beat at equal image counts and equal optimizer steps."""

FOLDER = "folder:"
"""How the name begins of a generator whose images are ready-made: "folder:PATH"."""

METRICS = ("balanced_accuracy", "accuracy", "f1", "precision", "recall", "auc", "worst_class")
"""The fields of `ClassificationScores` that are averaged over folds or seeds."""


def metric_words(metric: str) -> str:
    """Return the name of a metric within a sentence."""
    return "worst-class recall" if metric == "worst_class" else metric.replace("_", " ")


_PRESETS = files(__package__) / "presets"
STAGES = ("together", "pretrain", "refit")
CLASSES = ("minority", "all")

_LISTS = (
    "classifiers", "arms", "target", "pretrain.fractions", "pretrain.geometric", "pretrain.weighted",
    "use.loss_weight", "use.batch_share", "use.replace", "use.stage", "use.classes",
    "use.weighted", "use.select",
)  # fmt: skip
_SECTIONS = ("classifier", "generator")  # of settings of single models


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """Arms that pretrain on synthetic images, then fine-tune on a share of the real ones (study B)."""

    generator: str = setting("", 'generator or mixture that makes the images; "" for no such arms')
    fractions: tuple[float, ...] = setting((0.0, 0.1, 1.0), "shares of the real images", min=0.0, max=1.0)
    geometric: tuple[bool, ...] = setting((False, True), "without and with flips, rotations and shifts")
    weighted: tuple[bool, ...] = setting((False, True), "without and with a weighted loss")
    share: float = setting(
        0.5, "share of the optimizer steps spent on synthetic images, also by use.stage = pretrain", min=0.0, max=1.0
    )


@dataclass(frozen=True, kw_only=True)
class UseSettings:
    """How the synthetic images of an arm are used; lists are crossed with each other and with the arms.

    Every arm with synthetic images is meant, the controls duplicate and classic included: a gain of the lever is then
    seen on them too, and not taken for a gain of the generator.
    """

    loss_weight: tuple[float, ...] = setting((1.0,), "weight of a synthetic image in the loss", min=0.001, max=100.0)
    batch_share: tuple[float, ...] = setting(
        (0.0,), "expected share of synthetic images in a batch; 0: as many as there are", min=0.0, max=0.99
    )
    replace: tuple[float, ...] = setting(
        (0.0,), "probability that a synthetic image of its class replaces a real one; 0 adds them", min=0.0, max=1.0
    )
    stage: tuple[str, ...] = setting(
        ("together",),
        "together; pretrain: synthetic images first, then real; refit: all, then the last layer on balanced real ones",
        choices=STAGES,
    )
    classes: tuple[str, ...] = setting(
        ("minority",), "minority: fill classes to the target; all: as many images, evenly over the classes",
        choices=CLASSES,
    )  # fmt: skip
    weighted: tuple[bool, ...] = setting((False,), "weight classes in the loss by inverse frequency")
    select: tuple[str, ...] = setting(
        ("none",),
        f"select images from a pool by {', '.join(CRITERIA)}, or several as agreement+novelty; none: as drawn",
    )
    pool: float = setting(2.0, "select: images to draw for each one that is kept", min=1.01, max=100.0)
    extractor: str = setting("efficientnet-lite0", "select: features by which images are compared")
    refit_share: float = setting(0.2, "refit: share of the steps on the last layer alone", min=0.0, max=1.0)


LEVERS: Mapping[str, str] = {
    "loss_weight": "weight {:g}", "batch_share": "batch share {:g}", "replace": "replace {:g}", "stage": "{}",
    "classes": "{} classes", "weighted": "class-weighted", "select": "select {}",
}  # fmt: skip
"""The levers of an arm, by their keys in the group `use`, and how its name tells those that are pulled."""


@dataclass(frozen=True, kw_only=True)
class ExperimentSettings:
    """What is compared, on which parts of the data, and how long classifiers are trained."""

    classifiers: tuple[str, ...] = setting(("cnn",), "kinds of classifier")
    arms: tuple[str, ...] = setting((), "generators, mixtures (a=0.5+b=0.5), real, weighted; or tables")
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
    use: UseSettings = UseSettings()

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
        levers = [(f"use.{name}", getattr(self.use, name)) for name in LEVERS]
        for name, given in (("classifiers", self.classifiers), ("target", self.target), *levers):
            if not given:
                raise ConfigError(f"{name} is empty", "give at least one")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to compose the training set; `name` is unique in its experiment and is what reports print.

    `mixture` gives each generator's share of the synthetic images, summing to 1; empty if there are none.
    `target`: images of each class after augmentation, or in all if an image may have several labels; 0 without a
    mixture. `weighted`: the loss weights classes by inverse frequency. The classifier is trained on `real_fraction` of
    the real training images. `geometric`: flips, rotations and shifts are added to the classifier's own augmentation.

    The levers are those of `UseSettings`. With `stage` "pretrain", there is a first stage on the mixture's images
    alone, with "refit" a last one of the last layer alone.
    """

    name: str
    mixture: Mapping[str, float] = field(default_factory=dict)
    target: int = 0
    weighted: bool = False
    real_fraction: float = 1.0
    geometric: bool = False
    loss_weight: float = 1.0
    batch_share: float = 0.0
    replace: float = 0.0
    stage: str = "together"
    classes: str = "minority"
    select: str = "none"

    @property
    def control(self) -> bool:
        """Whether it is one of those that generated images have to beat."""
        return not set(self.mixture) - {DUPLICATE, CLASSIC}

    @property
    def pretrain(self) -> bool:
        """Whether the classifier is first trained on synthetic images alone."""
        return self.stage == "pretrain"

    @property
    def levers(self) -> dict[str, float | str]:
        """The levers that are pulled: those whose value is not the default."""
        return {name: getattr(self, name) for name in LEVERS if getattr(self, name) != getattr(Arm, name)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Arm:
        """Restore an arm from experiment.json."""
        values = dict(values)
        if values.pop("pretrain", False):  # as earlier versions wrote it
            values["stage"] = "pretrain"
        return cls(**values)


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
        return self.settings.plain() | {
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


@dataclass(frozen=True, kw_only=True)
class AddedArms:
    """Arms from elsewhere, added to those of an experiment: `tables` makes them for its settings.

    `settings` are those that go with them, by dotted key, and `origin` says where both are from.
    """

    tables: Callable[[ExperimentSettings], Sequence[Mapping[str, Any]]]
    settings: Mapping[str, Any]
    origin: str


def read_design(
    given: str | None,
    *,
    overrides: Mapping[str, Any] | None = None,
    options: Mapping[str, int | None] | None = None,
    added: AddedArms | None = None,
) -> Design:
    """Read the experiment in a preset or TOML file `given`, with `overrides` by key, then command line `options`.

    A file may extend a preset: `extends = "udder-scale"`. The arms and settings `added` come before `overrides`; with
    them, `given` may be None.
    Raises: ConfigError and UnknownName for a wrong key, name or value, with its origin.
    """
    layers = [] if given is None else _read(given)
    if added is not None:
        layers.append((added.origin, dict(added.settings)))
    layers.append(("--set", dict(overrides or {})))
    layers += [(f"--{key}", {key: value}) for key, value in (options or {}).items() if value is not None]
    return make_design("policy" if given is None else Path(given).stem, layers, added=added, alone=given is None)


def make_design(
    name: str,
    layers: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    added: AddedArms | None = None,
    alone: bool = False,
) -> Design:
    """Return the experiment whose settings are those of `layers`, each an origin and dotted keys, over the defaults.

    The arms `added` follow its own, or are `alone`.
    Raises: as `read_design`.
    """
    defaults = config.flatten(ExperimentSettings())
    values, origins = config.merge([("default", defaults), *layers])
    config.as_lists(values, _LISTS)
    # A table is kept as JSON, so that the settings are texts and numbers only.
    values["arms"] = [json.dumps(arm) if isinstance(arm, Mapping) else arm for arm in values["arms"]]
    general = {key: value for key, value in values.items() if key.partition(".")[0] not in _SECTIONS}
    built = config.build(ExperimentSettings, general, origins={key: origins[key] for key in general})
    if added is not None:
        tables = added.tables(built)
        built = replace(built, arms=(*built.arms, *map(json.dumps, tables)))
        if origins["target"] == "default":  # the plain controls have as many images
            built = replace(built, target=tuple(dict.fromkeys(table["target"] for table in tables)))
            origins["target"] = added.origin
    arms = _arms(built)
    models = dict.fromkeys(name for arm in arms for text in arm.mixture for name in (text, split_strength(text)[0]))
    named = {"classifier": (built.classifiers, ["classifiers"]), "generator": (models, ["arms", "pretrain.generator"])}
    order = ["default", *(origin for origin, _ in layers)]
    own = {}
    for section, (names, keys) in named.items():
        since = max(order.index(origins[key]) for key in keys)
        own[section] = _own(section, list(names), values, origins, strict=set(order[since:]))
    if added is not None:
        origins["arms"] = added.origin if alone else f"{origins['arms']} and {added.origin}"
    resolved = config.Resolved(value=built, origins=origins)
    return Design(name=name, settings=resolved, own=own, arms=arms)


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
    arms = parse_arms(settings.arms, targets=settings.target, controls=settings.controls, use=settings.use)
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


def parse_arms(
    texts: Sequence[str], *, targets: Sequence[int], controls: bool, use: UseSettings = UseSettings()
) -> tuple[Arm, ...]:
    """Parse the arms in `texts`, after the controls if wanted; one per target and use for those with synthetic images.

    A text is "real", "weighted", the name of a generator, a mixture such as "ldm-busi=0.5+ddpm-var-busi=0.5", or a
    table as JSON: {"images": "ldm-busi", "loss_weight": 0.3}, whose levers, name and target are its own; the controls
    duplicate and classic are then added with the same. A target of 0 stands for the real images alone.
    Raises: ConfigError for a mixture whose shares do not sum to 1, and for levers that exclude each other.
    """
    wanted = [*(CONTROLS if controls else ()), *texts]
    if 0 in targets and REAL not in wanted:
        wanted.insert(0, REAL)
    filled = [target for target in targets if target]
    plain = [text for text in wanted if not text.startswith("{")]
    arms: list[Arm] = []
    for text in dict.fromkeys(plain):
        if text in (REAL, WEIGHTED):
            arms.append(Arm(name=text, weighted=text == WEIGHTED))
        else:
            arms += _crossed(text, filled, {name: getattr(use, name) for name in LEVERS})
    for text in wanted:
        if text.startswith("{"):
            arms += _from_table(json.loads(text), filled, controls=controls)
    unique: dict[str, Arm] = {}
    for arm in arms:
        # A table with a target of its own brings controls that another may have with another target.
        first = unique.get(arm.name, arm)
        other = first.mixture == arm.mixture and first.target != arm.target
        own = replace(arm, name=f"{arm.name}, target {arm.target}") if other else arm
        if unique.setdefault(own.name, own) != own:
            raise ConfigError(f"two different arms are called '{own.name}'", "give one of the tables another name")
    return tuple(unique.values())


def _from_table(table: Mapping[str, Any], targets: Sequence[int], *, controls: bool) -> Iterator[Arm]:
    """Make the arms of a table, and the controls with its levers before them."""
    known = ("images", "name", "target", *LEVERS)
    for key in table:
        if key not in known:
            raise UnknownName("key", key, known, "of an arm's table")
    images = table.get("images")
    if not isinstance(images, str) or images in (REAL, WEIGHTED):
        raise ConfigError(
            f"an arm's table names no synthetic images: {json.dumps(dict(table))}",
            'for instance {images = "ddpm-var-busi", loss_weight = 0.3}; write "real" without a table',
        )
    settings = {each.key: each for each in config.settings_of(UseSettings)}
    listed = {name: given if isinstance(given, list) else [given] for name, given in table.items()}
    levers = {
        name: settings[name].validate(listed[name], origin=f"the arm {images}")
        if name in table
        else (getattr(Arm, name),)
        for name in LEVERS
    }
    wanted = listed.get("target", targets)
    if not all(isinstance(target, int) and target > 0 for target in wanted):
        raise ConfigError(f"target = {table['target']!r} of the arm {images}", "give a number of images per class")
    made = _crossed(images, wanted, levers)
    if "name" in table:
        if len(made) > 1:
            raise ConfigError(f"{len(made)} arms are called '{table['name']}'", "leave out name, or the lists")
        made = [replace(made[0], name=str(table["name"]))]
    for control in (DUPLICATE, CLASSIC) if controls else ():
        if images != control:
            yield from _crossed(control, wanted, levers)
    yield from made


def _crossed(text: str, targets: Sequence[int], levers: Mapping[str, Sequence[Any]]) -> list[Arm]:
    """Make the arms of `text` for each target and combination of levers, named by those that are pulled.

    Raises: ConfigError for levers that exclude each other.
    """
    arms = []
    for arm in _filled(text, targets):
        for values in itertools.product(*levers.values()):
            used = replace(arm, **dict(zip(levers, values, strict=True)))
            pulled = [LEVERS[name].format(value) for name, value in used.levers.items()]
            used = replace(used, name=", ".join([arm.name, *pulled]))
            _check_levers(used)
            arms.append(used)
    return arms


def _check_levers(arm: Arm) -> None:
    """Raise ConfigError for levers of which one leaves the other without effect, UnknownName for a criterion."""
    if arm.select != "none":
        check_criteria(arm.select.split("+"))
    stage = "stage = pretrain, whose first stage has synthetic images alone"
    every = "which takes target images of each class"
    pairs = [
        (arm.batch_share > 0 and arm.replace > 0, "batch_share", "replace, which sets the share too"),
        (arm.stage == "pretrain" and arm.loss_weight != 1, "loss_weight", stage),
        (arm.stage == "pretrain" and arm.batch_share > 0, "batch_share", stage),
        (arm.stage == "pretrain" and arm.replace > 0, "replace", stage),
        (arm.stage == "pretrain" and arm.classes == "all", "classes = all", f"stage = pretrain, {every}"),
        (arm.replace > 0 and arm.classes == "all", "classes = all", f"replace, {every}"),
    ]
    for excluded, first, second in pairs:
        if excluded:
            raise ConfigError(
                f"the arm '{arm.name}': {first} cannot be combined with {second}",
                'give single arms as tables: {images = "...", loss_weight = 0.3}, instead of lists under use',
            )


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
            name=row_name(pretrain, fraction, geometric, weighted),
            mixture=mixture if pretrain else {},
            target=target if pretrain else 0,
            weighted=weighted,
            stage="pretrain" if pretrain else "together",
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
    if text.startswith(FOLDER) and Path(text.removeprefix(FOLDER)).exists():  # a path may hold '=' and '+'
        mixture = {text: 1.0}
    else:
        parts = text.split("+") if "=" in text else [text]
        mixture = {name: float(share) for name, share in parse_mixture(parts)}
    several = len(targets) > 1
    return [Arm(name=f"{text}@{target}" if several else text, mixture=mixture, target=target) for target in targets]


def row_name(pretrain: bool, fraction: float, geometric: bool, weighted: bool) -> str:
    """Name an arm of `pretrain_arms`."""
    if not pretrain and fraction == 1.0 and not geometric:
        return WEIGHTED if weighted else REAL
    start = f"real {fraction:.0%}" if fraction > 0 else "synthetic only"
    added = {"pretrained": pretrain and fraction > 0, "geometric": geometric, "weighted": weighted}
    return ", ".join([start, *(name for name, given in added.items() if given)])
