"""Classifiers in memory: built fresh, saved, and loaded back from a run, a registry row or the Hub."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from medzoo import config as settings
from medzoo.errors import ConfigError, PluginError
from medzoo.hub.registry import CLASSIFIER, GENERATOR, WEIGHTS, Registry, check_kind, resolve
from medzoo.hub.sources import fetch_model
from medzoo.models.folder import described, load_weights, overridden, read_description, write_model
from medzoo.protocols import Classifier
from medzoo.seeds import global_draws_from
from medzoo.specs import ClassifierSpec, ImageSpec

if TYPE_CHECKING:
    from medzoo.plugins.lookup import Plugins

logger = logging.getLogger(__name__)


TIMM = "timm"


@dataclass(frozen=True, kw_only=True)
class LoadedClassifier:
    """A classifier ready to predict, and what is known of it.

    `trained_on` holds the fingerprints of the images it was fitted on or chosen by (`Dataset.fingerprints`).
    """

    name: str
    classifier: Classifier
    spec: ClassifierSpec
    image: ImageSpec
    config: settings.Resolved[Any]
    crop: str
    weights_sha256: str | None = None
    trained_on: frozenset[str] = frozenset()


def classifier_called(name: str, plugins: Plugins) -> tuple[ClassifierSpec, tuple[str, ...]]:
    """The classifier to train that `name` means, and the settings it implies: `timm:resnet34` is `timm` with a network.

    Raises: UnknownName; ConfigError for a generator; PluginError.
    """
    plugin, colon, network = name.partition(":")
    if colon and plugin == TIMM:
        if not network:
            raise ConfigError(f"'{name}' names no network", "timm:resnet34, or any other that timm has")
        return plugins.classifier(TIMM), (f'network.name="{network}"',)
    if name in plugins.generators and name not in plugins.classifiers:
        check_kind(name, GENERATOR, expected=CLASSIFIER, train=True)
    return plugins.classifier(name), ()


def build_classifier(
    spec: ClassifierSpec, resolved: settings.Resolved[Any], image: ImageSpec, *, device: str, seed: int = 0
) -> Classifier:
    """A classifier with fresh weights drawn from `seed`, whatever the global random state, which stays as it is."""
    with global_draws_from(seed, torch.device(device)):
        classifier = spec.build(resolved.value, image, device)
    if not isinstance(classifier, Classifier):
        raise PluginError(f"{spec.name} built no Classifier", f"run `medzoo plugin check {spec.name}`")
    return classifier


def save_classifier(
    folder: Path,
    classifier: Classifier,
    *,
    spec: ClassifierSpec,
    config: settings.Resolved[Any],
    data: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Nothing; `folder` then holds the classifier, as `save_model` leaves a generator."""
    kind = {"kind": CLASSIFIER, **(facts or {})}
    write_model(folder, classifier, plugin=spec.name, config=config, data=data, dtype=dtype, facts=kind)


def load_classifier_folder(
    folder: Path, *, plugins: Plugins, device: str, overrides: Sequence[str] = (), name: str = ""
) -> LoadedClassifier:
    """The classifier in `folder` with its weights, on `device`; `overrides` change settings of prediction alone.

    Raises:
        IntegrityError: the files are damaged or do not fit each other.
        ConfigError: it is a generator, or an override changes what was trained.
        PluginError, UnknownName: its plugin is broken or not installed.
    """
    description = read_description(folder)
    check_kind(str(folder), str(description.get("kind", GENERATOR)), expected=CLASSIFIER)
    spec = plugins.classifier(description["plugin"])
    image, saved = described(spec, description, folder)
    resolved = overridden(saved, overrides, changeable="prediction")
    classifier = build_classifier(spec, resolved, image, device=device)
    digest = load_weights(classifier, folder / WEIGHTS, sha256=str(description["weights_sha256"]))
    return LoadedClassifier(
        name=name or str(description.get("id", "")) or folder.resolve().name,
        classifier=classifier,
        spec=spec,
        image=image,
        config=resolved,
        crop=str(resolved.flat().get("image.crop", "none")),
        weights_sha256=digest,
        trained_on=_seen(description["data"]),
    )


def load_classifier(
    given: str,
    *,
    registry: Registry,
    plugins: Plugins,
    device: str,
    source: str | None = None,
    overrides: Sequence[str] = (),
) -> LoadedClassifier:
    """The classifier that `given` means: a registry id, a plugin's default model, a run's folder, or hf:org/name.

    Raises: as `resolve` and `load_classifier_folder`; HubError where it cannot be had from `source`.
    """
    found = resolve(given, registry, plugins, kind=CLASSIFIER)
    if found.folder is not None:
        return load_classifier_folder(found.folder, plugins=plugins, device=device, overrides=overrides)
    assert found.entry is not None  # every classifier has weights
    if found.entry.notice:
        logger.warning(found.entry.notice)
    folder = fetch_model(found.entry, source=source)
    return load_classifier_folder(folder, plugins=plugins, device=device, overrides=overrides, name=found.entry.id)


def _seen(data: Mapping[str, Any]) -> frozenset[str]:
    """The fingerprints of the images it was fitted on, and of those its weights were chosen by."""
    return frozenset(data.get("images", ())).union(data.get("validation", {}).get("images", ()))
