"""Registry files read, and laid over each other by kind, id, version and key; each key's origin is remembered."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import rtoml

from medzoo.errors import ConfigError
from medzoo.hub.entries import KEYS, AssetEntry, ModelEntry, asset_row, key_faults, model_row, table_faults, table_name
from medzoo.storage.paths import bundled_root, config_root

Table = tuple[str, int, dict[str, Any]]
"""A table of a registry file: its kind, the how manieth of its kind it is, and its keys."""


class Layers:
    """The tables of registry files laid over each other by kind, id and version; and which file gave each key."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[tuple[str, int], dict[str, Any]]] = {kind: {} for kind in KEYS}
        self.origins: dict[str, dict[tuple[str, int], dict[str, Path]]] = {kind: {} for kind in KEYS}
        self.newest: dict[tuple[str, str], int] = {}

    def lay(self, path: Path, tables: Iterable[Table]) -> None:
        """Nothing; takes what the file at `path` says, all of it or nothing. Raises: ConfigError."""
        told = [(kind, self._key(kind, table), table) for kind, _, table in tables]
        seen = set()
        for kind, key, _ in told:
            if (kind, key) in seen:
                raise ConfigError(f"{path}: {kind} '{key[0]}' is there twice", "join the two, or number their versions")
            seen.add((kind, key))
        for kind, key, table in told:
            self.tables[kind][key] = {**below, **table} if (below := self.tables[kind].get(key)) else table
            self.origins[kind].setdefault(key, {}).update(dict.fromkeys(table, path))
            self.newest[kind, key[0]] = max(self.newest.get((kind, key[0]), 1), key[1])

    def _key(self, kind: str, table: Mapping[str, Any]) -> tuple[str, int]:
        """The id and version a table speaks of: without a version, the newest of the files before, or else the first"""
        return table["id"], table.get("version") or self.newest.get((kind, table["id"]), 1)

    def model(self, key: tuple[str, int]) -> ModelEntry:
        """The model of this id and version. Raises: ConfigError for a table that makes none."""
        newest = self.newest["model", key[0]] == key[1]
        return model_row(self.tables["model"][key], self.origins["model"][key], newest=newest)

    def asset(self, key: tuple[str, int]) -> AssetEntry:
        """The asset of this id. Raises: ConfigError for a table that makes none."""
        return asset_row(self.tables["asset"][key], self.origins["asset"][key])


def bundled_file() -> Path:
    """The registry file that came with medzoo."""
    return bundled_root() / "registry.toml"


def user_files() -> list[Path]:
    """The user's own registry file, if there is one, and those that MEDZOO_REGISTRY names."""
    own = config_root() / "registry.toml"
    listed = [Path(text).expanduser() for text in os.environ.get("MEDZOO_REGISTRY", "").split(os.pathsep) if text]
    return [*([own] if own.is_file() else []), *listed]


def read_tables(path: Path) -> list[Table]:
    """The tables of one registry file, each with its kind and number. Raises: ConfigError if it is none."""
    try:
        content = rtoml.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the registry {path}: {error.strerror}", "see MEDZOO_REGISTRY") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    for message, hint in key_faults(content, dict.fromkeys(KEYS, list)):
        raise ConfigError(f"{path}: {message}", hint)
    return [(kind, number, table) for kind in KEYS for number, table in enumerate(content.get(kind, ()), 1)]


def sound_tables(path: Path) -> list[Table]:
    """The tables of one registry file. Raises: ConfigError for the first that is wrong."""
    tables = read_tables(path)
    for kind, number, table in tables:
        for message, hint in table_faults(kind, table):
            raise ConfigError(f"{path}: {table_name(kind, number, table)}: {message}", hint)
    return tables
