"""Generators of an experiment: trained in each fold, published ones that never saw a test image, or parameter-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from medzoo import config, protocols
from medzoo.errors import ConfigError, DataError
from medzoo.experiment.config import Design
from medzoo.experiment.folds import Fold, Images
from medzoo.hub.registry import Registry, resolve
from medzoo.hub.sources import fetch_model
from medzoo.models.folder import override_saved, read_description, saved_settings
from medzoo.models.loading import LoadedModel, load_model, parameter_free_model
from medzoo.plugins.lookup import Plugins
from medzoo.specs import GeneratorSpec, ImageSpec

Kind = Literal["trained", "published", "parameter-free"]


@dataclass(frozen=True, kw_only=True)
class Generator:
    """One generator; a published one has a `folder`, a hash and fingerprints of its training images.

    `model_name` is used in file names and seeds, as `medzoo sample` does, so that it samples the same images.
    """

    name: str
    model_name: str
    kind: Kind
    plugin: str
    preset: str
    overrides: Mapping[str, Any]
    folder: Path | None = None
    weights_sha256: str = ""
    trained_on: frozenset[str] = frozenset()

    def config(self, plugins: Plugins) -> config.Resolved[Any]:
        """Return the settings it is trained and used with."""
        spec = self.spec(plugins)
        if self.folder is not None:
            saved = saved_settings(spec, read_description(self.folder), self.folder)[1]
            return override_saved(saved, self.overrides, changeable="sampling")
        return config.resolve(spec.config, presets=spec.presets, preset=self.preset, overrides=self.overrides)

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
        known = {"plugin": self.plugin, "version": plugins.plugin_of("generator", self.plugin).version}
        if self.kind == "published":
            return {**known, "weights_sha256": self.weights_sha256, "overrides": dict(self.overrides)}
        return {**known, "config": self.config(plugins).flat()}

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
        folder, overrides = (self.folder, self.overrides) if self.kind == "published" else (trained, None)
        if folder is None:
            raise ConfigError(f"'{self.name}' has not been trained yet")
        return load_model(folder, plugins=plugins, device=device, overrides=overrides, name=self.name)


def find_generators(
    design: Design, plugins: Plugins, registry: Registry, *, mirror: str | None
) -> dict[str, Generator]:
    """Find the generators that arms name: a plugin's bare name is trained in each fold, anything else is published.

    Raises:
        UnknownName, ConfigError: a name or setting is wrong.
        HubError: a published model cannot be downloaded.
    """
    names = dict.fromkeys(name for arm in design.arms for name in arm.mixture)
    found = {}
    for name in names:
        if name in plugins.generators and name not in registry.models:
            spec = plugins.generator(name)
            generator = Generator(
                name=name,
                model_name=name,
                kind="trained" if spec.trainable else "parameter-free",
                plugin=name,
                preset=design.preset_of("generator", name),
                overrides=design.overrides_of("generator", name),
            )
            generator.config(plugins)
        else:
            generator = _published(name, design, plugins, registry, mirror=mirror)
        found[name] = generator
    return found


def _published(
    name: str,
    design: Design,
    plugins: Plugins,
    registry: Registry,
    *,
    mirror: str | None,
) -> Generator:
    resolved = resolve(name, registry, plugins)
    folder = resolved.folder
    if resolved.entry is not None:
        folder = fetch_model(resolved.entry, source=mirror)
    assert folder is not None  # what has weights has a folder or a row
    if "preset" in design.own["generator"].get(name, {}):
        raise ConfigError(
            f"'{name}' is already trained and takes no preset", "set single settings: sampling.num_inference_steps=50"
        )
    description = read_description(folder)
    model_name = resolved.entry.id if resolved.entry is not None else str(description.get("id", ""))
    generator = Generator(
        name=name,
        model_name=model_name or folder.resolve().name,
        kind="published",
        plugin=resolved.spec.name,
        preset="default",
        overrides=design.overrides_of("generator", name),
        folder=folder.resolve(),
        weights_sha256=str(description["weights_sha256"]),
        trained_on=frozenset(map(str, description["data"].get("images", ()))),
    )
    generator.config(plugins)
    return generator


def count_seen_images(generator: Generator, images: Images, fold: Fold, *, allow_leak: bool) -> dict[str, int]:
    """Count the fold's test and validation images that a published generator was trained on.

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
    return found
