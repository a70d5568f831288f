"""The registry of published models and assets, and what the name of a model stands for."""

from __future__ import annotations

import os
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar, overload

from medzoo.config import merge
from medzoo.errors import ConfigError, IntegrityError, UnknownName
from medzoo.hub.entries import (
    CLASSIFIER,
    CONFIG,
    GENERATOR,
    KEYS,
    MODEL_KINDS,
    WEIGHTS,
    AssetEntry,
    Entry,
    FileEntry,
    Issue,
    ModelEntry,
    entry_issues,
    key_issues,
    make_entry,
    table_issues,
    table_name,
)
from medzoo.hub.repositories import fetch_repo, is_reference
from medzoo.plugins.lookup import Plugins, load_plugins
from medzoo.specs import ClassifierSpec, GeneratorSpec
from medzoo.storage.files import read_json
from medzoo.storage.paths import bundled_root, config_root, expand_home

__all__ = [
    "CLASSIFIER",
    "CONFIG",
    "GENERATOR",
    "TRAIN_COMMANDS",
    "WEIGHTS",
    "AssetEntry",
    "Entry",
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

Table: TypeAlias = tuple[str, int, dict[str, Any]]
"""A table of a registry file: its section, its number in that section, and its keys."""

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
        assets = {entry.id: entry for entry in self.assets}
        if asset_id not in assets:
            raise UnknownName("asset", asset_id, assets)
        return assets[asset_id]

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


class Overlays:
    """Registry files overlaid on each other: tables by section, id and version, each with the file it is from."""

    def __init__(self) -> None:
        self.layers: dict[tuple[str, str, int], list[tuple[Path, Mapping[str, Any]]]] = {}
        self.newest: dict[tuple[str, str], int] = {}

    def add(self, path: Path, tables: Iterable[Table]) -> None:
        """Overlay the tables of the file at `path`, all of them or none. Raises: ConfigError."""
        # A table without a version changes the newest of the files before, or else is version 1.
        keyed = [
            ((section, table["id"], table.get("version") or self.newest.get((section, table["id"]), 1)), table)
            for section, _, table in tables
        ]
        twice = [key for key, count in Counter(key for key, _ in keyed).items() if count > 1]
        for section, entry_id, _ in twice:
            raise ConfigError(
                f"{path}: {section} '{entry_id}' is listed twice", "join the two, or number their versions"
            )
        for key, table in keyed:
            self.layers.setdefault(key, []).append((path, table))
            self.newest[key[:2]] = max(self.newest.get(key[:2], 1), key[2])

    def entries(self) -> Iterator[tuple[str, str, Path, Entry | None, list[Issue]]]:
        """Merge the tables of each entry: section, id, the last file that changed it, and the entry or its issues."""
        for (section, entry_id, version), layers in self.layers.items():
            values, origins = merge(layers)
            issues = list(entry_issues(section, values))
            newest = self.newest[section, entry_id] == version
            entry = None if issues else make_entry(section, values, origins, newest=newest)
            yield section, entry_id, origins["id"], entry, issues


def load_registry(*, plugins: Plugins | None = None) -> Registry:
    """Load the bundled registry, overlaid by those of plugins, the user's own, and those in MEDZOO_REGISTRY.

    Raises: ConfigError for a file that is not a registry, an unknown key, or a name used twice.
    """
    plugins = load_plugins() if plugins is None else plugins
    problems = []
    overlays = Overlays()
    overlays.add(bundled_file(), read_valid_tables(bundled_file()))
    for path in plugins.registries:
        try:
            overlays.add(path, read_valid_tables(path))
        except ConfigError as error:
            problems.append(str(error))
    for path in user_files():
        overlays.add(path, read_valid_tables(path))
    entries: list[Entry] = []
    for section, entry_id, origin, entry, issues in overlays.entries():
        for message, hint in issues:
            found = ConfigError(f"{origin}: {section} '{entry_id}' {message}", hint)
            if origin not in plugins.registries:
                raise found
            problems.append(str(found))
        if entry is not None:
            entries.append(entry)
    registry = make_registry(entries, problems)
    for _, (message, hint) in conflicts(registry):
        raise ConfigError(message, hint)
    return registry


def make_registry(entries: Iterable[Entry], problems: Iterable[str] = ()) -> Registry:
    """Sort entries into models and assets."""
    found = list(entries)
    return Registry(
        entries=tuple(entry for entry in found if isinstance(entry, ModelEntry)),
        assets=tuple(entry for entry in found if isinstance(entry, AssetEntry)),
        problems=tuple(problems),
    )


def bundled_file() -> Path:
    """Return the registry file that comes with medzoo."""
    return bundled_root() / "registry.toml"


def user_files() -> list[Path]:
    """Return the user's own registry file, if there is one, and those in MEDZOO_REGISTRY."""
    own = config_root() / "registry.toml"
    listed = [expand_home(text) for text in os.environ.get("MEDZOO_REGISTRY", "").split(os.pathsep) if text]
    return [*([own] if own.is_file() else []), *listed]


def read_tables(path: Path) -> list[Table]:
    """Read the tables of one registry file. Raises: ConfigError if it is not one."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the registry {path}: {error.strerror}", "check MEDZOO_REGISTRY") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    for message, hint in key_issues(content, dict.fromkeys(KEYS, list)):
        raise ConfigError(f"{path}: {message}", hint)
    return [(section, number, table) for section in KEYS for number, table in enumerate(content.get(section, ()), 1)]


def read_valid_tables(path: Path) -> list[Table]:
    """Read the tables of one registry file. Raises: ConfigError for the first that is invalid."""
    tables = read_tables(path)
    for section, number, table in tables:
        for message, hint in table_issues(section, table):
            raise ConfigError(f"{path}: {table_name(section, number, table)}: {message}", hint)
    return tables


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
    plugins.check_usable(name)
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
    raise UnknownName(f"{kind} or model", name, known, plugins.unavailable_hint)


def _spec(plugin: str, plugins: Plugins, kind: str) -> GeneratorSpec | ClassifierSpec:
    return plugins.classifier(plugin) if kind == CLASSIFIER else plugins.generator(plugin)


def _resolve_folder(name: str, folder: Path, plugins: Plugins, kind: str) -> ResolvedModel[Any]:
    try:
        description = read_json(folder / CONFIG)
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


def find_entry(name: str, registry: Registry, plugins: Plugins) -> Entry:
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
    plugins.check_usable(name)
    known = {*registry.ids, *plugins.generators, *plugins.classifiers, *assets}
    raise UnknownName("model or asset", name, known, plugins.unavailable_hint)


def is_model_folder(folder: Path) -> bool:
    """Return whether `folder` holds the two files of a trained model."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def conflicts(registry: Registry) -> Iterator[tuple[Entry, Issue]]:
    """Find entries that claim what another one has: an asset a model's id, a model to be its plugin's default."""
    for asset in registry.assets:
        if asset.id in registry.models:
            yield asset, (f"'{asset.id}' is both a model and an asset ({asset.origin})", "rename one of them")
    defaults: dict[tuple[str, str], ModelEntry] = {}
    for entry in registry.entries:
        first = defaults.setdefault((entry.kind, entry.plugin), entry) if entry.newest and entry.default else entry
        if first is not entry:
            both = f"{first.id} ({first.origin}) and {entry.id} ({entry.origin})"
            hint = f"in your own registry, set default = false for {first.id}"
            yield entry, (f"'{entry.plugin}' has two default models: {both}", hint)
