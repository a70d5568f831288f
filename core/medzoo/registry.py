"""The catalogue: registry.toml, what plugins and users lay over it, and what a GEN argument means."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from medzoo.errors import ConfigError, IntegrityError, UnknownName
from medzoo.layers import Layers, bundled_file, sound_tables, user_files
from medzoo.plugins import Plugins, load_plugins
from medzoo.repos import fetch_repo, is_reference
from medzoo.rows import CONFIG, WEIGHTS, AssetRow, Fault, FileRow, Row
from medzoo.specs import GeneratorSpec

__all__ = [
    "CONFIG",
    "WEIGHTS",
    "AssetRow",
    "FileRow",
    "Registry",
    "Resolved",
    "Row",
    "fetchable",
    "is_model_folder",
    "load_registry",
    "resolve",
]


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

    def default_for(self, plugin: str) -> Row:
        """The model a plugin's bare name stands for. Raises: ConfigError if it has none."""
        own = [row for row in self.rows if row.plugin == plugin and row.newest]
        for row in own:
            if row.default:
                return row
        models = f"name one of its models: {', '.join(row.id for row in own)}; or " if own else ""
        raise ConfigError(
            f"'{plugin}' has no default model", f"{models}train your own: medzoo train {plugin} --data DIR --out DIR"
        )


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """What a GEN argument means: the generator, and its weights as a registry row, as a folder, or none at all."""

    given: str
    spec: GeneratorSpec
    row: Row | None = None
    folder: Path | None = None


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


def resolve(given: str, registry: Registry, plugins: Plugins) -> Resolved:
    """What `given` means: a trained model's folder, a model's id, or a plugin's name (its default model).

    Or `hf:org/name[@revision]`, a model on the Hub, which is pulled unless the cache has it.

    Raises: UnknownName, ConfigError if it means two things or no trained model, PluginError, HubError, IntegrityError.
    """
    if is_reference(given):
        folder = fetch_repo(given)
        return Resolved(given=given, spec=plugins.generator(_plugin_of(folder)), folder=folder)
    named = given in registry.models or given in plugins.generators
    folder = Path(given)
    if is_model_folder(folder):
        if named:
            raise ConfigError(
                f"'{given}' is both a folder here and a name in the catalogue",
                f"write ./{given} for the folder, or run in another folder for the catalogue's",
            )
        return Resolved(given=given, spec=plugins.generator(_plugin_of(folder)), folder=folder)
    if given in registry.models or given.partition("@")[0] in registry.models:
        row = registry.model(given)
        return Resolved(given=given, spec=plugins.generator(row.plugin), row=row)
    if given in plugins.generators:
        spec = plugins.generators[given]
        return Resolved(given=given, spec=spec, row=registry.default_for(given) if spec.trainable else None)
    plugins.refuse_unusable(given)
    if folder.exists():
        raise ConfigError(
            f"{given} holds no trained model ({CONFIG} and {WEIGHTS})",
            "if its training was interrupted, run the same `medzoo train` command again",
        )
    if folder.name != given:
        raise ConfigError(f"{given} does not exist", "give a training run's folder, a model or a generator")
    raise UnknownName("generator or model", given, {*registry.ids, *plugins.generators}, plugins.broken_hint)


def fetchable(name: str, registry: Registry, plugins: Plugins) -> Row | AssetRow:
    """What `medzoo pull` takes: an asset, a model, or a generator's default model.

    Raises: UnknownName; ConfigError for a generator without weights, or a folder.
    """
    assets = {row.id: row for row in registry.assets}
    if name in assets:
        return assets[name]
    if name in plugins.generators or name.partition("@")[0] in registry.models:
        if row := resolve(name, registry, plugins).row:
            return row
        raise ConfigError(f"'{name}' has nothing to pull", "it is used as it is")
    plugins.refuse_unusable(name)
    raise UnknownName("model or asset", name, {*registry.ids, *plugins.generators, *assets}, plugins.broken_hint)


def is_model_folder(folder: Path) -> bool:
    """Whether `folder` holds a trained model's two files."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def _plugin_of(folder: Path) -> str:
    try:
        plugin = json.loads((folder / CONFIG).read_text("utf-8"))["plugin"]
    except (ValueError, KeyError, TypeError):
        plugin = None
    if not isinstance(plugin, str):
        raise IntegrityError(f"{folder / CONFIG} does not say which plugin made the model", "train or pull it again")
    return plugin


def clashes(registry: Registry) -> Iterator[tuple[Row | AssetRow, Fault]]:
    """Rows that claim what another row has: an asset a model's id, a model to be its plugin's default."""
    for asset in registry.assets:
        if asset.id in registry.models:
            yield asset, (f"'{asset.id}' is both a model and an asset ({asset.origin})", "rename one of them")
    defaults: dict[str, Row] = {}
    for row in registry.rows:
        if row.newest and row.default and (other := defaults.setdefault(row.plugin, row)) is not row:
            claims = f"{other.id} ({other.origin}) and {row.id} ({row.origin})"
            mend = f"in your own registry, set default = false for {other.id}"
            yield row, (f"'{row.plugin}' has two default models: {claims}", mend)
