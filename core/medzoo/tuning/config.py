"""Settings of a tuning: defaults, a TOML file, then `--set`; each value records its origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medzoo import config
from medzoo.config import setting
from medzoo.errors import ConfigError, UnknownName
from medzoo.experiment.config import CLASSES, METRICS, STAGES, Design, make_design
from medzoo.generation.selection import CRITERIA, check_criteria

_SECTIONS = ("classifier", "generator")  # of settings of single models
_LISTS = (
    "strength",
    "guidance",
    "target",
    "loss_weight",
    "batch_share",
    "replace",
    "stage",
    "classes",
    "weighted",
    "select",
)


@dataclass(frozen=True, kw_only=True)
class TuningSettings:
    """What is searched, and how policies are compared.

    Lists are what the search chooses from; one value fixes it. The defaults are what helped, or did no harm, where it
    was measured: a weak loss weight and variations of strength 0.3 (Real Guidance, arXiv:2210.07574), replacement with
    a probability of 0.5 (DA-Fusion, arXiv:2302.07944), the plain use of images beside them. A loss weighted by class is
    a control by itself, so policies may have it too: images of little weight leave classes as unequal as they are.
    Stages are not searched by default, because a regression on frozen features, which scores policies in seconds, has
    none.
    """

    trials: int = setting(200, "policies to score", min=1)
    folds: int = setting(5, "inner folds of the training part, on which policies are scored", min=2)
    repeats: int = setting(1, "inner cross-validations, each with other folds", min=1)
    strength: tuple[float, ...] = setting(
        (0.3, 1.0), "strengths of generators that vary real images; 1 samples from noise", above=0.0, max=1.0
    )
    guidance: tuple[float, ...] = setting(
        (), "values of sampling.guidance_scale, of generators that have it, beside their own", min=0.0
    )
    target: tuple[float, ...] = setting(
        (0.75, 1.0, 1.5), "images of each class, as shares of those of the largest class", above=0.0, max=20.0
    )
    loss_weight: tuple[float, ...] = setting(
        (1.0, 0.6, 0.3, 0.15), "weights of a synthetic image in the loss", min=0.001, max=100.0
    )
    batch_share: tuple[float, ...] = setting((0.0,), "shares of synthetic images in a batch", min=0.0, max=0.99)
    replace: tuple[float, ...] = setting(
        (0.0, 0.5), "probabilities that a synthetic image replaces a real one; 0 adds them", min=0.0, max=1.0
    )
    stage: tuple[str, ...] = setting(("together",), "ways of training, as use.stage of experiments", choices=STAGES)
    classes: tuple[str, ...] = setting(CLASSES, "which classes get images", choices=CLASSES)
    weighted: tuple[bool, ...] = setting((False, True), "without and with a loss weighted by class")
    select: tuple[str, ...] = setting(
        ("none", "agreement", "distance"), f"selections: none, {', '.join(CRITERIA)}, or several as agreement+novelty"
    )
    pool: float = setting(2.0, "select: images to choose from for each one that is kept", min=1.01, max=100.0)
    extractor: str = setting("efficientnet-lite0", "select: features by which images are compared")
    search: str = setting("frozen", "classifier that scores the policies of the search")
    finalists: int = setting(3, "best policies that the classifier itself is trained on", min=1, max=50)
    seeds: int = setting(5, "trainings on the whole training part, tested on the held-out part", min=2)
    epochs: int = setting(0, "passes over the largest training set; 0 uses the classifier's own", min=0)
    steps: int = setting(0, "optimizer steps instead of epochs; 0 uses epochs", min=0)
    preset: str = setting("default", "the classifier's preset")
    metric: str = setting("balanced_accuracy", "score that is tuned", choices=METRICS)
    validation: float = setting(
        0.1, "share of training images on which weights are selected, without a val part", min=0.0, max=0.5
    )
    batch: int = setting(4, "policies that the search proposes at once, whatever the number of jobs", min=1, max=64)
    batch_size: int = setting(16, "images of one class sampled at once", min=1)
    seed: int = setting(0, "seed of folds, images, classifiers and the search", min=0)

    def __post_init__(self) -> None:
        for name in _LISTS:
            if name != "guidance" and not getattr(self, name):
                raise ConfigError(f"{name} is empty", "give at least one value")
        for text in self.select:
            if text != "none":
                check_criteria(text.split("+"))
        if self.steps and self.epochs:
            raise ConfigError(f"both epochs = {self.epochs} and steps = {self.steps} are given", "set only one of them")


@dataclass(frozen=True, kw_only=True)
class TuningDesign:
    """The settings of a tuning; `own` are those of single models, dotted keys from "classifier" or "generator" on."""

    settings: config.Resolved[TuningSettings]
    own: Mapping[str, Any]

    @property
    def value(self) -> TuningSettings:
        """The settings."""
        return self.settings.value

    def flat(self) -> dict[str, Any]:
        """Return every dotted key with its value for JSON, including those of single models."""
        return {**self.settings.plain(), **self.own}

    def of_generator(self, *names: str) -> dict[str, Any]:
        """Return the settings given for a generator under any of its names, by dotted key."""
        heads = [f"generator.{name}." for name in names]
        return {
            key.removeprefix(head): value for key, value in self.own.items() for head in heads if key.startswith(head)
        }

    def check_generators(self, names: Sequence[str]) -> None:
        """Raise UnknownName for settings of a generator that is none of `names`."""
        for key in self.own:
            if key.startswith("generator.") and not any(key.startswith(f"generator.{name}.") for name in names):
                raise UnknownName("generator", key.split(".")[1], names, f"of this tuning, in {key}")

    def experiment(self, name: str, *, classifier: str, folds: int, **given: Any) -> Design:
        """Return the experiment `name` with one classifier; `given` are its further settings by dotted key.

        Raises: as `experiment.config.make_design`.
        """
        value = self.value
        settings = {
            "classifiers": [classifier], "folds": folds, "seed": value.seed, "batch_size": value.batch_size,
            "metric": value.metric, "validation": value.validation, "use.pool": value.pool,
            "use.extractor": value.extractor, **({"repeats": value.repeats} if folds else {}), **given,
        }  # fmt: skip
        models = {key: own for key, own in self.own.items() if key.startswith(f"classifier.{classifier}.")}
        return make_design(name, [("medzoo tune", {**settings, **models})])


def read_settings(
    *,
    file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    classifier: str,
) -> TuningDesign:
    """Resolve the settings of a tuning: the defaults, then `file` (TOML), then `overrides` by key, then `options`.

    Raises:
        ConfigError, UnknownName: a wrong key, name or value, with its origin.
    """
    layers: list[tuple[str, Mapping[str, Any]]] = []
    if file is not None:
        layers.append((str(file), config.read_toml(file)))
    layers.append(("--set", dict(overrides or {})))
    layers += [(f"--{key}", {key: value}) for key, value in (options or {}).items() if value is not None]
    values, origins = config.merge(layers)
    config.as_lists(values, _LISTS)
    own = {key: value for key, value in values.items() if key.partition(".")[0] in _SECTIONS}
    general = {key: value for key, value in values.items() if key not in own}
    built = config.build(TuningSettings, general, origins=origins)
    classifiers = (classifier, built.search)
    for key in own:
        if key.startswith("classifier.") and not any(key.startswith(f"classifier.{name}.") for name in classifiers):
            raise UnknownName("classifier", key.split(".")[1], classifiers, f"of this tuning [from {origins[key]}]")
    known = dict.fromkeys(config.keys(TuningSettings), "default")
    return TuningDesign(settings=config.Resolved(value=built, origins=known | origins), own=own)
