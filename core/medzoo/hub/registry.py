"""The catalogue: registry.toml, what plugins and users lay over it, and what a GEN argument means."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from medzoo.errors import ConfigError, IntegrityError, UnknownName
from medzoo.hub.entries import CLASSIFIER, CONFIG, GENERATOR, MODEL_KINDS, WEIGHTS, AssetRow, Fault, FileRow, Row
from medzoo.hub.overlays import Layers, bundled_file, sound_tables, user_files
from medzoo.hub.repositories import fetch_repo, is_reference
from medzoo.plugins.lookup import Plugins, load_plugins
from medzoo.specs import ClassifierSpec, GeneratorSpec

__all__ = [
    "CLASSIFIER",
    "CONFIG",
    "GENERATOR",
    "TRAIN",
    "WEIGHTS",
    "AssetRow",
    "FileRow",
    "Registry",
    "Resolved",
    "Row",
    "fetchable",
    "is_model_folder",
    "load_registry",
    "refuse_other_kind",
    "resolve",
    "resolve_classifier",
]

TRAIN = {GENERATOR: "medzoo train", CLASSIFIER: "medzoo classify train"}
"""By kind of model, the command that trains one."""

S = TypeVar("S", bound=GeneratorSpec | ClassifierSpec)


@dataclass(frozen=True, kw_only=True)
class Registry:
    """Published models, every version of each, and assets; `problems` tells of plugins' files that cannot be read."""

    rows: tuple[Row, ...]
    assets: tuple[AssetRow, ...] = ()
    problems: tuple[str, ...] = ()

    @cached_property
    def models(self) -> Mapping[str, Row]:
        """Models by what may be written for them: `id` for the newest version, `id@v2` for that one."""
        return {row.id: row for row in self.rows if row.newest} | {f"{r.id}@v{r.version}": r for r in self.rows}

    def model(self, name: str) -> Row:
        """The model `name` means. Raises: UnknownName."""
        if row := self.models.get(name):
            return row
        model_id = name.partition("@")[0]
        if model_id != name and model_id in self.models:
            versions = [f"{row.id}@v{row.version}" for row in self.rows if row.id == model_id]
            raise UnknownName("version", name, versions)
        raise UnknownName("model", name, self.ids)

    def asset(self, asset_id: str) -> AssetRow:
        """The asset called `asset_id`. Raises: UnknownName."""
        for row in self.assets:
            if row.id == asset_id:
                return row
        raise UnknownName("asset", asset_id, [row.id for row in self.assets])

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Each model's id, once."""
        return tuple(row.id for row in self.rows if row.newest)

    def default_for(self, plugin: str, *, kind: str = GENERATOR) -> Row:
        """The model a plugin's bare name stands for. Raises: ConfigError if it has none."""
        own = [row for row in self.rows if row.plugin == plugin and row.kind == kind and row.newest]
        for row in own:
            if row.default:
                return row
        models = f"name one of its models: {', '.join(row.id for row in own)}; or " if own else ""
        raise ConfigError(
            f"'{plugin}' has no default model", f"{models}train your own: {TRAIN[kind]} {plugin} --data DIR --out DIR"
        )


@dataclass(frozen=True, kw_only=True)
class Resolved(Generic[S]):
    """What an argument means: the spec of its kind, and its weights as a registry row, as a folder, or none at all."""

    given: str
    spec: S
    row: Row | None = None
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
    """The bundled rows, then plugins', the user's and MEDZOO_REGISTRY's laid over them by id, version and key.

    Raises: ConfigError for a file that is not a registry, an unknown key, or a name that two rows claim.
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
        rows=tuple(map(layers.model, layers.tables["model"])),
        assets=tuple(map(layers.asset, layers.tables["asset"])),
        problems=tuple(problems),
    )
    for _, (message, hint) in clashes(registry):
        raise ConfigError(message, hint)
    return registry


def resolve(given: str, registry: Registry, plugins: Plugins) -> Resolved[GeneratorSpec]:
    """What `given` means: a trained generator's folder, a model's id, or a plugin's name (its default model).

    Or `hf:org/name[@revision]`, a model on the Hub, which is pulled unless the cache has it.

    Raises: UnknownName, ConfigError if it means two things, no trained model or a classifier, PluginError, HubError,
    IntegrityError.
    """
    return _resolved(given, registry, plugins, _GENERATORS)


def resolve_classifier(given: str, registry: Registry, plugins: Plugins) -> Resolved[ClassifierSpec]:
    """What `given` means where a classifier is asked for. Raises: as `resolve`, for a generator."""
    return _resolved(given, registry, plugins, _CLASSIFIERS)


def _resolved(given: str, registry: Registry, plugins: Plugins, kind: _Kind[S]) -> Resolved[S]:
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
        row = registry.model(given)
        refuse_other_kind(given, row.kind, wanted=kind.name)
        return Resolved(given=given, spec=kind.spec(plugins, row.plugin), row=row)
    if given in specs:
        default = registry.default_for(given, kind=kind.name) if kind.has_weights(specs[given]) else None
        return Resolved(given=given, spec=specs[given], row=default)
    plugins.refuse_unusable(given)
    if folder.exists():
        raise ConfigError(
            f"{given} holds no trained model ({CONFIG} and {WEIGHTS})",
            f"if its training was interrupted, run the same `{TRAIN[kind.name]}` command again",
        )
    if folder.name != given:
        raise ConfigError(f"{given} does not exist", f"give a training run's folder, a model or a {kind.name}")
    for other, names in ((GENERATOR, [*plugins.generators]), (CLASSIFIER, [*plugins.classifiers])):
        if given in names:
            refuse_other_kind(given, other, wanted=kind.name)
    known = {*(row.id for row in registry.rows if row.kind == kind.name), *specs}
    raise UnknownName(f"{kind.name} or model", given, known, plugins.absent_hint)


def _in_folder(given: str, folder: Path, plugins: Plugins, kind: _Kind[S]) -> Resolved[S]:
    plugin, stated = _plugin_and_kind(folder)
    refuse_other_kind(given, stated, wanted=kind.name)
    return Resolved(given=given, spec=kind.spec(plugins, plugin), folder=folder)


def refuse_other_kind(name: str, kind: str, *, wanted: str, train: bool = False) -> None:
    """Nothing. Raises: ConfigError for a model of another kind than is wanted, saying how it is used, or trained."""
    if kind != wanted:
        verbs = ("classify train", "classify predict") if kind == CLASSIFIER else ("train", "sample")
        use = f"medzoo {verbs[0] if train else verbs[1]} {name}"
        raise ConfigError(
            f"'{name}' is a {kind}, and a {wanted} is needed",
            f"`medzoo list --kind {wanted}` shows those there are; this one is for `{use}`",
        )


def fetchable(name: str, registry: Registry, plugins: Plugins) -> Row | AssetRow:
    """What `medzoo pull` takes: an asset, a model, or a generator's or classifier's default model.

    Raises: UnknownName; ConfigError for a generator without weights, or a folder.
    """
    assets = {row.id: row for row in registry.assets}
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


def clashes(registry: Registry) -> Iterator[tuple[Row | AssetRow, Fault]]:
    """Rows that claim what another row has: an asset a model's id, a model to be its plugin's default."""
    for asset in registry.assets:
        if asset.id in registry.models:
            yield asset, (f"'{asset.id}' is both a model and an asset ({asset.origin})", "rename one of them")
    defaults: dict[tuple[str, str], Row] = {}
    for row in registry.rows:
        if row.newest and row.default and (other := defaults.setdefault((row.kind, row.plugin), row)) is not row:
            claims = f"{other.id} ({other.origin}) and {row.id} ({row.origin})"
            mend = f"in your own registry, set default = false for {other.id}"
            yield row, (f"'{row.plugin}' has two default models: {claims}", mend)
