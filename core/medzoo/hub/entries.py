"""The entries of registry.toml, models and assets, as typed values; and what is wrong with a table that makes none."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from medzoo.errors import ConfigError

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
GENERATOR: Final = "generator"
CLASSIFIER: Final = "classifier"
MODEL_KINDS = (GENERATOR, CLASSIFIER)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REPO = re.compile(rf"{NAME.pattern}/{NAME.pattern}")
_COMMIT = re.compile(r"[0-9a-f]{40}")

Fault = tuple[str, str]
"""What is wrong with a table, and the hint that mends it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """One file: its name, SHA-256 and size."""

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class AssetEntry:
    """A pretrained part that others published: the one file at `url`, or files of the Hub's `repo` at `revision`.

    `origins` says which registry file gave each key; `origin` is the one that spoke last.
    """

    id: str
    summary: str
    license: str
    url: str
    repo: str
    revision: str
    files: tuple[FileEntry, ...]
    origin: Path
    origins: Mapping[str, Path] = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """What the user writes for it."""
        return self.id

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One version of a published model, a generator or a classifier by its `kind`.

    `deprecated` is the reason not to use it any more, "" for none, and `successor` the model to use instead. `newest`
    says whether the bare id means this version. `origins` says which registry file gave each key; `origin` is the one
    that spoke last.
    """

    id: str
    version: int
    kind: str
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
    files: tuple[FileEntry, ...]
    default: bool
    deprecated: str
    successor: str
    newest: bool
    origin: Path
    origins: Mapping[str, Path] = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """What the user writes for it: the id, and for an older version which one (`ldm-udder@v1`)."""
        return self.id if self.newest else f"{self.id}@v{self.version}"

    @property
    def folder(self) -> str:
        """The folder that holds its files in cards/ and in a mirror; it stays when a newer version is published."""
        return self.id if self.version == 1 else f"{self.id}@v{self.version}"

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def notice(self) -> str:
        """What whoever uses a deprecated model is told; "" for any other."""
        if not self.deprecated:
            return ""
        return f"{self.name} is deprecated: {self.deprecated}; use {self.successor}: medzoo show {self.successor}"


_MODEL_KEYS: Mapping[str, type] = {
    "id": str,
    "version": int,
    "kind": str,
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
    "deprecated": str,
    "successor": str,
}
_ASSET_KEYS: Mapping[str, type] = {
    "id": str,
    "summary": str,
    "license": str,
    "url": str,
    "repo": str,
    "revision": str,
    "files": list,
}
KEYS: Mapping[str, Mapping[str, type]] = {"model": _MODEL_KEYS, "asset": _ASSET_KEYS}
"""The kinds of entry, and the keys and types a table of each kind may have."""

_FILE_KEYS: Mapping[str, type] = {"name": str, "sha256": str, "bytes": int}
_OPTIONAL: Mapping[str, Mapping[str, Any]] = {
    "model": {
        "version": 1,
        "kind": GENERATOR,
        "repo": "",
        "revision": "",
        "default": False,
        "deprecated": "",
        "successor": "",
    },
    "asset": {"url": "", "repo": "", "revision": ""},
}
_REQUIRED = {kind: keys.keys() - _OPTIONAL[kind].keys() for kind, keys in KEYS.items()}
_TYPE_NAMES = {str: "text", list: "a list", int: "a whole number", bool: "true or false"}


def table_faults(kind: str, table: Any) -> Iterator[Fault]:
    """What is wrong with a table as it stands in one file; an overlay's may lack keys that a file before it gives."""
    if type(table) is not dict or type(table.get("id")) is not str or not NAME.fullmatch(table["id"]):
        yield "needs an id of letters, digits, '.', '_' and '-'", ""
        return
    if wrong := list(key_faults(table, KEYS[kind])):
        yield from wrong
        return
    if table.get("version", 1) < 1:
        yield f"version must be 1 or more, not {table['version']}", ""
    if table.get("kind", GENERATOR) not in MODEL_KINDS:
        yield f"kind must be {' or '.join(MODEL_KINDS)}, not '{table['kind']}'", ""
    if not all(isinstance(name, str) for name in table.get("classes", ())):
        yield "classes must be a list of names", ""
    for file in table.get("files", ()):
        if not _is_file(file):
            yield from _file_faults(file)


def table_name(kind: str, number: int, table: Any) -> str:
    """What to call the `number`-th table of its kind in messages: its id where it has one."""
    named = isinstance(table, dict) and isinstance(table.get("id"), str)
    return f"{kind} '{table['id']}'" if named else f"{kind} {number}"


def key_faults(table: Mapping[str, Any], keys: Mapping[str, type]) -> Iterator[Fault]:
    """The unknown keys of a table, and the values of another type than their key has."""
    for key, value in table.items():
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1)
            yield f"unknown key '{key}'", f"did you mean {near[0]}?" if near else f"known: {', '.join(keys)}"
        elif type(value) is not keys[key]:
            yield f"{key} must be {_TYPE_NAMES[keys[key]]}, not {value!r}", ""


def _is_file(file: Any) -> bool:
    """Whether a table tells of a file, as nearly every one does: one look, where saying what is wrong takes several."""
    return (
        type(file) is dict
        and len(file) == len(_FILE_KEYS)
        and type(name := file.get("name")) is str
        and type(sha256 := file.get("sha256")) is str
        and type(size := file.get("bytes")) is int
        and size > 0
        and NAME.fullmatch(name) is not None
        and _SHA256.fullmatch(sha256) is not None
    )


def _file_faults(file: Any) -> Iterator[Fault]:
    if type(file) is not dict:
        yield "files must be a list of tables", "{ name = ..., sha256 = ..., bytes = ... }"
        return
    wrong = list(key_faults(file, _FILE_KEYS))
    for message, hint in wrong:
        yield f"file {file.get('name', '')}: {message}", hint
    if missing := [key for key in _FILE_KEYS if key not in file]:
        yield f"file {file.get('name', '')} lacks {', '.join(missing)}", ""
    elif not wrong:
        yield f"file {file['name']} needs a plain name, 64 hexadecimal digits and a size", ""


def merged_faults(kind: str, table: Mapping[str, Any]) -> Iterator[Fault]:
    """What keeps a table, with every overlay laid over it, from being a entry."""
    if missing := _REQUIRED[kind] - table.keys():
        yield f"lacks {', '.join(key for key in KEYS[kind] if key in missing)}", ""
        return
    names = [file["name"] for file in table["files"]]
    if len(set(names)) != len(names):
        yield "its files have one name twice", ""
    yield from _asset_faults(table) if kind == "asset" else _model_faults(table, names)


def _model_faults(table: Mapping[str, Any], names: Iterable[str]) -> Iterator[Fault]:
    if lacking := {CONFIG, WEIGHTS}.difference(names):
        yield f"its files lack {' and '.join(sorted(lacking))}", ""
    if bool(table.get("deprecated")) != bool(table.get("successor")):
        yield "a deprecated model needs both the reason and a successor", 'deprecated = "why", successor = "id"'


def _asset_faults(table: Mapping[str, Any]) -> Iterator[Fault]:
    url, repo = table.get("url", ""), table.get("repo", "")
    if bool(url) == bool(repo):
        yield "needs either a url or a repo of the Hub", ""
    elif url and not (url.startswith("https://") and len(table["files"]) == 1):
        yield "a url begins with https:// and gives exactly one file", ""
    elif repo and not (_REPO.fullmatch(repo) and _COMMIT.fullmatch(table.get("revision", "")) and table["files"]):
        yield "a repo is org/name, with a commit of 40 hexadecimal digits as its revision and at least one file", ""


def model_row(table: Mapping[str, Any], origins: Mapping[str, Path], *, newest: bool) -> ModelEntry:
    """The entry a merged table makes. Raises: ConfigError."""
    values = _values("model", table, origins)
    return ModelEntry(**values, newest=newest)


def asset_row(table: Mapping[str, Any], origins: Mapping[str, Path]) -> AssetEntry:
    """The entry a merged table makes. Raises: ConfigError."""
    return AssetEntry(**_values("asset", table, origins))


def _values(kind: str, table: Mapping[str, Any], origins: Mapping[str, Path]) -> dict[str, Any]:
    for message, hint in merged_faults(kind, table):
        raise ConfigError(f"{origins['id']}: {kind} '{table['id']}' {message}", hint)
    # Every table names its id, so the file that gave the id last is the one that spoke last.
    values = {**_OPTIONAL[kind], **table, "origin": origins["id"], "origins": origins}
    values["files"] = tuple([FileEntry(**file) for file in table["files"]])
    if kind == "model":
        values["classes"] = tuple(table["classes"])
    return values
