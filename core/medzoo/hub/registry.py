"""The registry of published models and assets, and what the name of a model stands for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, overload

from medzoo.errors import ConfigError, IntegrityError, UnknownName
from medzoo.hub.entries import (
    CLASSIFIER,
    CONFIG,
    GENERATOR,
    MODEL_KINDS,
    WEIGHTS,
    AssetEntry,
    Fault,
    FileEntry,
    ModelEntry,
)
from medzoo.hub.overlays import Layers, bundled_file, sound_tables, user_files
from medzoo.hub.repositories import fetch_repo, is_reference
from medzoo.plugins.lookup import Plugins, load_plugins
from medzoo.specs import ClassifierSpec, GeneratorSpec

__all__ = [
    "CLASSIFIER",
    "CONFIG",
    "GENERATOR",
    "TRAIN_COMMANDS",
    "WEIGHTS",
    "AssetEntry",
    "FileEntry",
    "ModelEntry",
    "Registry",
    "ResolvedModel",
    "check_kind",
    "find_entry",
    "is_model_folder",
    "load_registry",
    "resolve",
]

TRAIN_COMMANDS = {GENERATOR: "medzoo train", CLASSIFIER: "medzoo classify train"}
"""The command that trains a model, by its kind."""

S_co = TypeVar("S_co", bound=GeneratorSpec | ClassifierSpec, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Registry:
    """Published models, every version of each, and assets; `problems` says which plugins' files cannot be read."""

    entries: tuple[ModelEntry, ...]
    assets: tuple[AssetEntry, ...] = ()
    problems: tuple[str, ...] = ()

    @cached_property
    def models(self) -> Mapping[str, ModelEntry]:
        """Map each name of a model to it: `id` to the newest version, `id@v2` to that version."""
        newest = {entry.id: entry for entry in self.entries if entry.newest}
        return newest | {f"{entry.id}@v{entry.version}": entry for entry in self.entries}

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The id of each model, once."""
        return tuple(entry.id for entry in self.entries if entry.newest)

    def model(self, name: str) -> ModelEntry:
        """Return the model called `name`, as in `models`. Raises: UnknownName."""
        if entry := self.models.get(name):
            return entry
        model_id = name.partition("@")[0]
        if model_id != name and model_id in self.models:
            versions = [f"{entry.id}@v{entry.version}" for entry in self.entries if entry.id == model_id]
            raise UnknownName("version", name, versions)
        raise UnknownName("model", name, self.ids)

    def asset(self, asset_id: str) -> AssetEntry:
        """Return the asset called `asset_id`. Raises: UnknownName."""
        for entry in self.assets:
            if entry.id == asset_id:
                return entry
        raise UnknownName("asset", asset_id, [entry.id for entry in self.assets])

    def default_for(self, plugin: str, *, kind: str = GENERATOR) -> ModelEntry:
        """Return the model that the bare name of a plugin stands for. Raises: ConfigError if there is none."""
        own = [entry for entry in self.entries if entry.plugin == plugin and entry.kind == kind and entry.newest]
        for entry in own:
            if entry.default:
                return entry
        models = f"name one of its models: {', '.join(entry.id for entry in own)}; or " if own else ""
        raise ConfigError(
            f"'{plugin}' has no default model",
            f"{models}train your own: {TRAIN_COMMANDS[kind]} {plugin} --data DIR --out DIR",
        )


@dataclass(frozen=True, kw_only=True)
class ResolvedModel(Generic[S_co]):
    """What a model argument names: its spec, and its weights as a registry entry, a folder, or none (both None)."""

    spec: S_co
    entry: ModelEntry | None = None
    folder: Path | None = None


def load_registry(*, plugins: Plugins | None = None) -> Registry:
    """Load the bundled registry, overlaid by those of plugins, the user's own, and those in MEDZOO_REGISTRY.

    Raises: ConfigError for a file that is not a registry, an unknown key, or a name used twice.
    """
    plugins = load_plugins() if plugins is None else plugins
    problems = []
    layers = Layers()
    layers.lay(bundled_file(), sound_tables(bundled_file()))
    for path in plugins.registries:
        try:
            layers.lay(path, sound_tables(path))
        except ConfigError as error:
            problems.append(str(error))
    for path in user_files():
        layers.lay(path, sound_tables(path))
    registry = Registry(
        entries=tuple(map(layers.model, layers.tables["model"])),
        assets=tuple(map(layers.asset, layers.tables["asset"])),
        problems=tuple(problems),
    )
    for _, (message, hint) in clashes(registry):
        raise ConfigError(message, hint)
    return registry


@overload
def resolve(
    name: str, registry: Registry, plugins: Plugins, *, kind: Literal["generator"] = GENERATOR
) -> ResolvedModel[GeneratorSpec]: ...


@overload
def resolve(
    name: str, registry: Registry, plugins: Plugins, *, kind: Literal["classifier"]
) -> ResolvedModel[ClassifierSpec]: ...


def resolve(name: str, registry: Registry, plugins: Plugins, *, kind: str = GENERATOR) -> ResolvedModel[Any]:
    """Find the generator or classifier called `name`.

    A name is the folder of a trained model, the id of a published one, a plugin (its default model), or
    `hf:org/name[@revision]`, a model on the Hub, which is downloaded unless it is in the cache.

    Raises:
        UnknownName: there is no such model or plugin.
        ConfigError: the name is ambiguous, or that of another kind of model or of an untrained one.
        PluginError, HubError, IntegrityError: its plugin is broken, it cannot be downloaded, or it is damaged.
    """
    if is_reference(name):
        return _resolve_folder(name, fetch_repo(name), plugins, kind)
    specs: Mapping[str, Any] = plugins.classifiers if kind == CLASSIFIER else plugins.generators
    folder = Path(name)
    if is_model_folder(folder):
        if name in registry.models or name in specs:
            raise ConfigError(
                f"'{name}' is both a folder here and a name in the registry",
                f"write ./{name} for the folder, or run in another folder for the published one",
            )
        return _resolve_folder(name, folder, plugins, kind)
    if name.partition("@")[0] in registry.models:
        entry = registry.model(name)
        check_kind(name, entry.kind, expected=kind)
        return ResolvedModel(spec=_spec(entry.plugin, plugins, kind), entry=entry)
    if name in specs:
        has_weights = kind == CLASSIFIER or specs[name].trainable
        return ResolvedModel(spec=specs[name], entry=registry.default_for(name, kind=kind) if has_weights else None)
    plugins.refuse_unusable(name)
    if folder.exists():
        raise ConfigError(
            f"{name} holds no trained model ({CONFIG} and {WEIGHTS})",
            f"if its training was interrupted, run the same `{TRAIN_COMMANDS[kind]}` command again",
        )
    if folder.name != name:
        raise ConfigError(f"{name} does not exist", f"give the folder of a training run, a model or a {kind}")
    if name in plugins.generators or name in plugins.classifiers:
        check_kind(name, CLASSIFIER if kind == GENERATOR else GENERATOR, expected=kind)
    known = {*(entry.id for entry in registry.entries if entry.kind == kind), *specs}
    raise UnknownName(f"{kind} or model", name, known, plugins.absent_hint)


def _spec(plugin: str, plugins: Plugins, kind: str) -> GeneratorSpec | ClassifierSpec:
    return plugins.classifier(plugin) if kind == CLASSIFIER else plugins.generator(plugin)


def _resolve_folder(name: str, folder: Path, plugins: Plugins, kind: str) -> ResolvedModel[Any]:
    try:
        description = json.loads((folder / CONFIG).read_text("utf-8"))
        plugin, stated = description["plugin"], description.get("kind", GENERATOR)
    except (ValueError, KeyError, TypeError, AttributeError):
        plugin = stated = None
    if not isinstance(plugin, str) or stated not in MODEL_KINDS:
        raise IntegrityError(f"{folder / CONFIG} does not name the model's plugin", "train or pull it again")
    check_kind(name, stated, expected=kind)
    return ResolvedModel(spec=_spec(plugin, plugins, kind), folder=folder)


def check_kind(name: str, kind: str, *, expected: str, train: bool = False) -> None:
    """Check that a model is of the expected kind. Raises: ConfigError with the command to use (or train) it."""
    if kind != expected:
        verbs = ("classify train", "classify predict") if kind == CLASSIFIER else ("train", "sample")
        raise ConfigError(
            f"'{name}' is a {kind}, not a {expected}",
            f"list the {expected}s with `medzoo list --kind {expected}`, "
            f"or use this {kind} with `medzoo {verbs[0] if train else verbs[1]} {name}`",
        )


def find_entry(name: str, registry: Registry, plugins: Plugins) -> ModelEntry | AssetEntry:
    """Find what `medzoo pull` downloads: an asset, a model, or the default model of a plugin.

    Raises: UnknownName; ConfigError for a generator without weights, or a folder.
    """
    assets = {entry.id: entry for entry in registry.assets}
    if name in assets:
        return assets[name]
    if name.partition("@")[0] in registry.models:
        return registry.model(name)
    if name in plugins.generators:
        if not plugins.generators[name].trainable:
            raise ConfigError(f"'{name}' has no weights to pull", "use it as it is")
        return registry.default_for(name)
    if name in plugins.classifiers:
        return registry.default_for(name, kind=CLASSIFIER)
    plugins.refuse_unusable(name)
    known = {*registry.ids, *plugins.generators, *plugins.classifiers, *assets}
    raise UnknownName("model or asset", name, known, plugins.absent_hint)


def is_model_folder(folder: Path) -> bool:
    """Return whether `folder` holds the two files of a trained model."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def clashes(registry: Registry) -> Iterator[tuple[ModelEntry | AssetEntry, Fault]]:
    """Rows that claim what another entry has: an asset a model's id, a model to be its plugin's default."""
    for asset in registry.assets:
        if asset.id in registry.models:
            yield asset, (f"'{asset.id}' is both a model and an asset ({asset.origin})", "rename one of them")
    defaults: dict[tuple[str, str], ModelEntry] = {}
    for entry in registry.entries:
        if (
            entry.newest
            and entry.default
            and (other := defaults.setdefault((entry.kind, entry.plugin), entry)) is not entry
        ):
            claims = f"{other.id} ({other.origin}) and {entry.id} ({entry.origin})"
            mend = f"in your own registry, set default = false for {other.id}"
            yield entry, (f"'{entry.plugin}' has two default models: {claims}", mend)
