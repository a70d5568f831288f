"""The catalogue: registry.toml, what plugins and users lay over it, and what a GEN argument means."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medzoo.errors import ConfigError, HubError, IntegrityError, UnknownName
from medzoo.places import bundled_root, config_root
from medzoo.plugins import Plugins, load_plugins
from medzoo.specs import GeneratorSpec

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class FileRow:
    """One file of a model: its name, SHA-256 and size."""

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """One published model; `origin` is the registry file that spoke last about it."""

    id: str
    plugin: str
    summary: str
    repo: str
    revision: str
    modality: str
    dataset: str
    classes: tuple[str, ...]
    size: int
    channels: int
    license: str
    parameters: int
    files: tuple[FileRow, ...]
    default: bool
    origin: Path

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)


_MODEL_KEYS: Mapping[str, type] = {
    "id": str,
    "plugin": str,
    "summary": str,
    "repo": str,
    "revision": str,
    "modality": str,
    "dataset": str,
    "classes": list,
    "size": int,
    "channels": int,
    "license": str,
    "parameters": int,
    "files": list,
    "default": bool,
}
_FILE_KEYS: Mapping[str, type] = {"name": str, "sha256": str, "bytes": int}
_OPTIONAL: Mapping[str, Any] = {"repo": "", "revision": "", "default": False}
_TYPE_NAMES = {str: "text", list: "a list", int: "a whole number", bool: "true or false"}


@dataclass(frozen=True, kw_only=True)
class Registry:
    """Published models by id; `problems` tells of plugins' registry files that could not be read."""

    rows: tuple[Row, ...]
    problems: tuple[str, ...] = ()

    def model(self, model_id: str) -> Row:
        """The row of `model_id`. Raises: UnknownName."""
        for row in self.rows:
            if row.id == model_id:
                return row
        raise UnknownName("model", model_id, [row.id for row in self.rows])

    def default_for(self, plugin: str) -> Row:
        """The model a plugin's bare name stands for. Raises: ConfigError if it has none."""
        own = [row for row in self.rows if row.plugin == plugin]
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
    """The bundled rows, then plugins', the user's and MEDZOO_REGISTRY's laid over them by id and key.

    Raises: ConfigError for a file that is not a registry, an unknown key, or two default models for one plugin.
    """
    plugins = load_plugins() if plugins is None else plugins
    tables: dict[str, dict[str, Any]] = {}
    origins: dict[str, Path] = {}
    problems = []
    _lay_over(tables, origins, bundled_root() / "registry.toml")
    for path in plugins.registries:
        try:
            _lay_over(tables, origins, path)
        except ConfigError as error:
            problems.append(str(error))
    for path in _user_files():
        _lay_over(tables, origins, path)
    rows = tuple(_row(table, origins[model_id]) for model_id, table in tables.items())
    _check_defaults(rows)
    return Registry(rows=rows, problems=tuple(problems))


def resolve(given: str, registry: Registry, plugins: Plugins) -> Resolved:
    """What `given` means: a trained model's folder, a model's id, or a plugin's name (its default model).

    Raises: UnknownName, ConfigError if it means two things or no trained model, PluginError, HubError, IntegrityError.
    """
    if given.startswith("hf:"):
        raise HubError(f"this version cannot reach '{given}': it reads no Hub", "`medzoo list` shows what it has")
    ids = {row.id for row in registry.rows}
    named = given in ids or given in plugins.generators
    folder = Path(given)
    if is_model_folder(folder):
        if named:
            raise ConfigError(
                f"'{given}' is both a folder here and a name in the catalogue",
                f"write ./{given} for the folder, or run in another folder for the catalogue's",
            )
        return Resolved(given=given, spec=plugins.generator(_plugin_of(folder)), folder=folder)
    if given in ids:
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
    raise UnknownName("generator or model", given, ids | set(plugins.generators), plugins.broken_hint)


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


def _user_files() -> list[Path]:
    own = config_root() / "registry.toml"
    listed = [Path(text).expanduser() for text in os.environ.get("MEDZOO_REGISTRY", "").split(os.pathsep) if text]
    return [*([own] if own.is_file() else []), *listed]


def _lay_over(tables: dict[str, dict[str, Any]], origins: dict[str, Path], path: Path) -> None:
    """Nothing; `tables` and `origins` take what the file at `path` says, all of it or nothing."""
    for table in _read(path):
        tables.setdefault(table["id"], {}).update(table)
        origins[table["id"]] = path


def _read(path: Path) -> list[dict[str, Any]]:
    """The tables of one registry file, their keys and types checked. Raises: ConfigError."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the registry {path}: {error.strerror}", "see MEDZOO_REGISTRY") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    _check_keys(content, {"model": list}, f"{path}")
    seen: set[str] = set()
    models: list[dict[str, Any]] = content.get("model", [])
    for number, table in enumerate(models, 1):
        where = f"{path}: model {number}"
        if not isinstance(table, dict) or not isinstance(table.get("id"), str) or not _NAME.fullmatch(table["id"]):
            raise ConfigError(f"{where} needs an id of letters, digits, '.', '_' and '-'")
        if table["id"] in seen:
            raise ConfigError(f"{path}: model '{table['id']}' is there twice", "join the two")
        seen.add(table["id"])
        _check_model(table, f"{path}: model '{table['id']}'")
    return models


def _check_model(table: dict[str, Any], where: str) -> None:
    """Nothing. Raises: ConfigError for a key, type or value a model's table cannot have."""
    _check_keys(table, _MODEL_KEYS, where)
    if not all(isinstance(name, str) for name in table.get("classes", [])):
        raise ConfigError(f"{where}: classes must be a list of names")
    for file in table.get("files", []):
        if not isinstance(file, dict):
            raise ConfigError(f"{where}: files must be a list of tables", "{ name = ..., sha256 = ..., bytes = ... }")
        _check_keys(file, _FILE_KEYS, f"{where}: file {file.get('name', '')}")
        if missing := [key for key in _FILE_KEYS if key not in file]:
            raise ConfigError(f"{where}: file {file.get('name', '')} lacks {', '.join(missing)}")
        if not _NAME.fullmatch(file["name"]) or not _SHA256.fullmatch(file["sha256"]) or file["bytes"] < 1:
            raise ConfigError(f"{where}: file {file['name']} needs a plain name, 64 hexadecimal digits and a size")


def _check_keys(table: Mapping[str, Any], keys: Mapping[str, type], where: str) -> None:
    for key, value in table.items():
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(keys)}"
            raise ConfigError(f"{where}: unknown key '{key}'", hint)
        if type(value) is not keys[key]:
            raise ConfigError(f"{where}: {key} must be {_TYPE_NAMES[keys[key]]}, not {value!r}")


def _row(table: Mapping[str, Any], origin: Path) -> Row:
    """The row a merged table makes. Raises: ConfigError for what it lacks."""
    where = f"{origin}: model '{table['id']}'"
    values = {**_OPTIONAL, **table}
    if missing := [key for key in _MODEL_KEYS if key not in values]:
        raise ConfigError(f"{where} lacks {', '.join(missing)}")
    files = tuple(FileRow(**file) for file in values["files"])
    if lacking := {CONFIG, WEIGHTS} - {file.name for file in files}:
        raise ConfigError(f"{where}: its files lack {' and '.join(sorted(lacking))}")
    return Row(**{**values, "classes": tuple(values["classes"]), "files": files, "origin": origin})


def _check_defaults(rows: Iterable[Row]) -> None:
    defaults: dict[str, Row] = {}
    for row in rows:
        if row.default and (other := defaults.setdefault(row.plugin, row)) is not row:
            raise ConfigError(
                f"'{row.plugin}' has two default models: {other.id} ({other.origin}) and {row.id} ({row.origin})",
                f"in your own registry, set default = false for {other.id}",
            )
