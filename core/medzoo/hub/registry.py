"""The catalogue: registry.toml, what plugins and users lay over it, and what a GEN argument means."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

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
    "resolve_classifier",
]

TRAIN_COMMANDS = {GENERATOR: "medzoo train", CLASSIFIER: "medzoo classify train"}
"""By kind of model, the command that trains one."""

S = TypeVar("S", bound=GeneratorSpec | ClassifierSpec)


@dataclass(frozen=True, kw_only=True)
class Registry:
    """Published models, every version of each, and assets; `problems` tells of plugins' files that cannot be read."""

    entries: tuple[ModelEntry, ...]
    assets: tuple[AssetEntry, ...] = ()
    problems: tuple[str, ...] = ()

    @cached_property
    def models(self) -> Mapping[str, ModelEntry]:
        """Models by what may be written for them: `id` for the newest version, `id@v2` for that one."""
        return {entry.id: entry for entry in self.entries if entry.newest} | {
            f"{r.id}@v{r.version}": r for r in self.entries
        }

    def model(self, name: str) -> ModelEntry:
        """The model `name` means. Raises: UnknownName."""
        if entry := self.models.get(name):
            return entry
        model_id = name.partition("@")[0]
        if model_id != name and model_id in self.models:
            versions = [f"{entry.id}@v{entry.version}" for entry in self.entries if entry.id == model_id]
            raise UnknownName("version", name, versions)
        raise UnknownName("model", name, self.ids)

    def asset(self, asset_id: str) -> AssetEntry:
        """The asset called `asset_id`. Raises: UnknownName."""
        for entry in self.assets:
            if entry.id == asset_id:
                return entry
        raise UnknownName("asset", asset_id, [entry.id for entry in self.assets])

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Each model's id, once."""
        return tuple(entry.id for entry in self.entries if entry.newest)

    def default_for(self, plugin: str, *, kind: str = GENERATOR) -> ModelEntry:
        """The model a plugin's bare name stands for. Raises: ConfigError if it has none."""
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
class ResolvedModel(Generic[S]):
    """What a model argument names: its spec, and its weights as a registry entry, a folder, or none (both None)."""

    given: str
    spec: S
    entry: ModelEntry | None = None
    folder: Path | None = None


@dataclass(frozen=True, kw_only=True)
class _Kind(Generic[S]):
    """A kind of model: its name, what offers it, and which need weights."""

    name: str
    specs: Callable[[Plugins], Mapping[str, S]]
    spec: Callable[[Plugins, str], S]
    has_weights: Callable[[S], bool]


_GENERATORS = _Kind(
    name=GENERATOR,
    specs=lambda plugins: plugins.generators,
    spec=Plugins.generator,
    has_weights=lambda spec: spec.trainable,
)
_CLASSIFIERS = _Kind(
    name=CLASSIFIER,
    specs=lambda plugins: plugins.classifiers,
    spec=Plugins.classifier,
    has_weights=lambda _: True,
)


def load_registry(*, plugins: Plugins | None = None) -> Registry:
    """The bundled entries, then plugins', the user's and MEDZOO_REGISTRY's laid over them by id, version and key.

    Raises: ConfigError for a file that is not a registry, an unknown key, or a name that two entries claim.
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


def resolve(given: str, registry: Registry, plugins: Plugins) -> ResolvedModel[GeneratorSpec]:
    """What `given` means: a trained generator's folder, a model's id, or a plugin's name (its default model).

    Or `hf:org/name[@revision]`, a model on the Hub, which is pulled unless the cache has it.

    Raises: UnknownName, ConfigError if it means two things, no trained model or a classifier, PluginError, HubError,
    IntegrityError.
    """
    return _resolved(given, registry, plugins, _GENERATORS)


def resolve_classifier(given: str, registry: Registry, plugins: Plugins) -> ResolvedModel[ClassifierSpec]:
    """What `given` means where a classifier is asked for. Raises: as `resolve`, for a generator."""
    return _resolved(given, registry, plugins, _CLASSIFIERS)


def _resolved(given: str, registry: Registry, plugins: Plugins, kind: _Kind[S]) -> ResolvedModel[S]:
    if is_reference(given):
        return _in_folder(given, fetch_repo(given), plugins, kind)
    specs = kind.specs(plugins)
    folder = Path(given)
    if is_model_folder(folder):
        if given in registry.models or given in specs:
            raise ConfigError(
                f"'{given}' is both a folder here and a name in the catalogue",
                f"write ./{given} for the folder, or run in another folder for the catalogue's",
            )
        return _in_folder(given, folder, plugins, kind)
    if given in registry.models or given.partition("@")[0] in registry.models:
        entry = registry.model(given)
        check_kind(given, entry.kind, expected=kind.name)
        return ResolvedModel(given=given, spec=kind.spec(plugins, entry.plugin), entry=entry)
    if given in specs:
        default = registry.default_for(given, kind=kind.name) if kind.has_weights(specs[given]) else None
        return ResolvedModel(given=given, spec=specs[given], entry=default)
    plugins.refuse_unusable(given)
    if folder.exists():
        raise ConfigError(
            f"{given} holds no trained model ({CONFIG} and {WEIGHTS})",
            f"if its training was interrupted, run the same `{TRAIN_COMMANDS[kind.name]}` command again",
        )
    if folder.name != given:
        raise ConfigError(f"{given} does not exist", f"give a training run's folder, a model or a {kind.name}")
    for other, names in ((GENERATOR, [*plugins.generators]), (CLASSIFIER, [*plugins.classifiers])):
        if given in names:
            check_kind(given, other, expected=kind.name)
    known = {*(entry.id for entry in registry.entries if entry.kind == kind.name), *specs}
    raise UnknownName(f"{kind.name} or model", given, known, plugins.absent_hint)


def _in_folder(given: str, folder: Path, plugins: Plugins, kind: _Kind[S]) -> ResolvedModel[S]:
    plugin, stated = _plugin_and_kind(folder)
    check_kind(given, stated, expected=kind.name)
    return ResolvedModel(given=given, spec=kind.spec(plugins, plugin), folder=folder)


def check_kind(name: str, kind: str, *, expected: str, train: bool = False) -> None:
    """Nothing. Raises: ConfigError for a model of another kind than `expected`, saying how it is used, or trained."""
    if kind != expected:
        verbs = ("classify train", "classify predict") if kind == CLASSIFIER else ("train", "sample")
        use = f"medzoo {verbs[0] if train else verbs[1]} {name}"
        raise ConfigError(
            f"'{name}' is a {kind}, and a {expected} is needed",
            f"`medzoo list --kind {expected}` shows those there are; this one is for `{use}`",
        )


def find_entry(name: str, registry: Registry, plugins: Plugins) -> ModelEntry | AssetEntry:
    """What `medzoo pull` takes: an asset, a model, or a generator's or classifier's default model.

    Raises: UnknownName; ConfigError for a generator without weights, or a folder.
    """
    assets = {entry.id: entry for entry in registry.assets}
    if name in assets:
        return assets[name]
    if name.partition("@")[0] in registry.models:
        return registry.model(name)
    if name in plugins.generators:
        if not plugins.generators[name].trainable:
            raise ConfigError(f"'{name}' has nothing to pull", "it is used as it is")
        return registry.default_for(name)
    if name in plugins.classifiers:
        return registry.default_for(name, kind=CLASSIFIER)
    plugins.refuse_unusable(name)
    known = {*registry.ids, *plugins.generators, *plugins.classifiers, *assets}
    raise UnknownName("model or asset", name, known, plugins.absent_hint)


def is_model_folder(folder: Path) -> bool:
    """Whether `folder` holds a trained model's two files."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def _plugin_and_kind(folder: Path) -> tuple[str, str]:
    """The plugin that made a folder's model, and what kind of model it is. Raises: IntegrityError."""
    try:
        stated = json.loads((folder / CONFIG).read_text("utf-8"))
        plugin, kind = stated["plugin"], stated.get("kind", GENERATOR)
    except (ValueError, KeyError, TypeError, AttributeError):
        plugin = kind = None
    if not isinstance(plugin, str) or kind not in MODEL_KINDS:
        raise IntegrityError(f"{folder / CONFIG} does not say which plugin made the model", "train or pull it again")
    return plugin, kind


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
