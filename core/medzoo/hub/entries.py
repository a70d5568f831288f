"""Entries of a registry, models and assets, as typed values; and the checks of the tables they are read from."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from hashlib import _Hash

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
README = "README.md"
"""The model card."""
SAMPLES = "samples.png"
"""A sheet of images that a generator made, one row per class."""
GENERATOR: Final = "generator"
CLASSIFIER: Final = "classifier"
MODEL_KINDS = (GENERATOR, CLASSIFIER)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
_PACKAGE = re.compile(r"[A-Za-z_]\w*(/\w[\w.-]*)*", re.ASCII)
_REQUIREMENT = re.compile(r"\w[\w.-]*(\[\w[\w,.-]*\])?", re.ASCII)
_CHUNK = 1 << 20

Issue: TypeAlias = tuple[str, str]
"""What is wrong with a table, and a hint how to fix it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """One file: its name, size and SHA-256; or, with `git_sha1`, the hash by which git names a small file."""

    name: str
    sha256: str
    bytes: int
    git_sha1: str = ""

    @property
    def digest(self) -> str:
        """The expected hash, in hexadecimal."""
        return self.git_sha1 or self.sha256

    def new_hash(self) -> _Hash:
        """Begin the hash that gives `digest` once it has been fed the file."""
        if self.git_sha1:
            return hashlib.sha1(b"blob %d\0" % self.bytes, usedforsecurity=False)
        return hashlib.sha256()

    def hash(self, path: Path) -> _Hash:
        """Hash what `path` holds."""
        digest = self.new_hash()
        with path.open("rb") as reader:
            while chunk := reader.read(_CHUNK):
                digest.update(chunk)
        return digest

    def matches(self, path: Path) -> bool:
        """Return whether `path` is this file, by size and hash."""
        return path.is_file() and path.stat().st_size == self.bytes and self.hash(path).hexdigest() == self.digest


@dataclass(frozen=True, kw_only=True)
class AssetEntry:
    """Pretrained weights that others published: files of a Python package, of the Hub, or the one file at `url`.

    `package` is a folder inside an importable package ("package/folder"), which pip installs with `requirement`. On the
    Hub they are those of `repo` at `revision`. `origins` maps each key to the registry file that set it, `origin` is
    the last of these files.
    """

    id: str
    summary: str
    license: str
    url: str = ""
    repo: str = ""
    revision: str = ""
    package: str = ""
    requirement: str = ""
    files: tuple[FileEntry, ...]
    origin: Path
    origins: Mapping[str, Path] = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """What the user writes for it."""
        return self.id

    @property
    def fetch_command(self) -> str:
        """The command that brings its files to this machine."""
        return f"pip install '{self.requirement}'" if self.package else f"medzoo pull {self.id}"

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One version of a published model, a generator or a classifier by its `kind`.

    `deprecated` is why the model should not be used any more ("" if it may be), and `successor` the one to use instead.
    `newest` says whether the bare id means this version. `origins` maps each key to the registry file that set it;
    `origin` is the last of these files.
    """

    id: str
    version: int = 1
    kind: str = GENERATOR
    plugin: str
    summary: str
    repo: str = ""
    revision: str = ""
    modality: str
    dataset: str
    classes: tuple[str, ...]
    size: int
    channels: int
    license: str
    parameters: int
    files: tuple[FileEntry, ...]
    default: bool = False
    deprecated: str = ""
    successor: str = ""
    newest: bool
    origin: Path
    origins: Mapping[str, Path] = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """What the user writes for it: the id, and for an older version which one (`ldm-udder@v1`)."""
        return self.id if self.newest else f"{self.id}@v{self.version}"

    @property
    def fetch_command(self) -> str:
        """The command that brings its files to this machine."""
        return f"medzoo pull {self.name}"

    @property
    def folder(self) -> str:
        """The folder of its files in cards/ and in a mirror; it stays the same when a newer version is published."""
        return self.id if self.version == 1 else f"{self.id}@v{self.version}"

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def notice(self) -> str:
        """The warning to users of a deprecated model; "" for any other."""
        if not self.deprecated:
            return ""
        return f"{self.name} is deprecated: {self.deprecated}; use {self.successor}: medzoo show {self.successor}"


Entry: TypeAlias = ModelEntry | AssetEntry

_TYPES = {"str": str, "int": int, "bool": bool, "tuple[str, ...]": list, "tuple[FileEntry, ...]": list}
_TYPE_NAMES = {str: "text", list: "a list", int: "a whole number", bool: "true or false"}
_COMPUTED = ("newest", "origin", "origins")
_FIELDS = {
    section: [field for field in fields(entry) if field.name not in _COMPUTED]
    for section, entry in (("model", ModelEntry), ("asset", AssetEntry))
}
KEYS: Mapping[str, Mapping[str, type]] = {
    section: {field.name: _TYPES[str(field.type)] for field in each} for section, each in _FIELDS.items()
}
"""The sections of a registry file ("model", "asset"), and the keys that a table of each takes, with their types."""

_FILE_KEYS: Mapping[str, type] = {"name": str, "sha256": str, "bytes": int}


def make_entry(section: str, values: Mapping[str, Any], origins: Mapping[str, Path], *, newest: bool) -> Entry:
    """Make the entry that the merged tables `values` describe, which have been checked."""
    # Every table names its id, so the file that gave the id last is the last that changed the entry.
    given = {**values, "origin": origins["id"], "origins": origins}
    given["files"] = tuple(FileEntry(**file) for file in values["files"])
    if section == "asset":
        return AssetEntry(**given)
    return ModelEntry(**{**given, "classes": tuple(values["classes"])}, newest=newest)


def table_name(section: str, number: int, table: Any) -> str:
    """Name the `number`-th table of its section for messages: by its id where it has one."""
    named = isinstance(table, dict) and isinstance(table.get("id"), str)
    return f"{section} '{table['id']}'" if named else f"{section} {number}"


def table_issues(section: str, table: Any) -> Iterator[Issue]:
    """Find what is wrong with one table; in an overlay, it may lack keys that an earlier file gives."""
    if type(table) is not dict or type(table.get("id")) is not str or not NAME.fullmatch(table["id"]):
        yield "needs an id of at most 128 letters, digits, '.', '_' and '-'", ""
        return
    if issues := list(key_issues(table, KEYS[section])):
        yield from issues
        return
    if table.get("version", 1) < 1:
        yield f"version must be 1 or more, not {table['version']}", ""
    if table.get("kind", GENERATOR) not in MODEL_KINDS:
        yield f"kind must be {' or '.join(MODEL_KINDS)}, not '{table['kind']}'", ""
    if not all(isinstance(name, str) for name in table.get("classes", ())):
        yield "classes must be a list of names", ""
    for file in table.get("files", ()):
        yield from _file_issues(file)


def key_issues(table: Mapping[str, Any], keys: Mapping[str, type]) -> Iterator[Issue]:
    """Find the unknown keys of a table, and the values of another type than their key takes."""
    for key, value in table.items():
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1)
            yield f"unknown key '{key}'", f"did you mean {near[0]}?" if near else f"known: {', '.join(keys)}"
        elif type(value) is not keys[key]:
            yield f"{key} must be {_TYPE_NAMES[keys[key]]}, not {value!r}", ""


def is_repo(name: str) -> bool:
    """Return whether `name` can be that of a repository on the Hub, org/name."""
    parts = name.split("/")
    return (
        len(name) <= 96
        and len(parts) == 2
        and all(NAME.fullmatch(part) and part[-1] not in "-." for part in parts)
        and not re.search(r"--|\.\.|\.git$", name)
    )


def _is_https_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        # Without credentials, and without what ends a line or a header.
        return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
    except ValueError:
        return False


def _file_issues(file: Any) -> Iterator[Issue]:
    if type(file) is not dict:
        yield "files must be a list of tables", "{ name = ..., sha256 = ..., bytes = ... }"
        return
    issues = list(key_issues(file, _FILE_KEYS))
    for message, hint in issues:
        yield f"file {file.get('name', '')}: {message}", hint
    if missing := [key for key in _FILE_KEYS if key not in file]:
        yield f"file {file.get('name', '')} lacks {', '.join(missing)}", ""
    elif not issues and not (NAME.fullmatch(file["name"]) and SHA256.fullmatch(file["sha256"]) and file["bytes"] > 0):
        yield f"file {file['name']} needs a plain name, a sha256 of 64 hexadecimal digits and a size in bytes", ""


def entry_issues(section: str, values: Mapping[str, Any]) -> Iterator[Issue]:
    """Find what is wrong with a table after every overlay has been merged into it."""
    required = [field.name for field in _FIELDS[section] if field.default is MISSING]
    if missing := [key for key in required if key not in values]:
        yield f"lacks {', '.join(missing)}", ""
        return
    names = [file["name"] for file in values["files"]]
    if len(set(names)) != len(names):
        yield "lists a file name twice", ""
    if section == "asset":
        yield from _asset_issues(values)
        return
    repo, revision = values.get("repo", ""), values.get("revision", "")
    if repo and not is_repo(repo):
        yield f"repo must be org/name, not '{repo}'", ""
    if revision and not (repo and COMMIT.fullmatch(revision)):
        yield "revision must be a commit of its repo, 40 hexadecimal digits", "a branch or a tag can move"
    if lacking := {CONFIG, WEIGHTS}.difference(names):
        yield f"its files lack {' and '.join(sorted(lacking))}", ""
    if bool(values.get("deprecated")) != bool(values.get("successor")):
        yield "a deprecated model needs both a reason and a successor", 'deprecated = "why", successor = "id"'


def _asset_issues(values: Mapping[str, Any]) -> Iterator[Issue]:
    url, repo, package = (values.get(key, "") for key in ("url", "repo", "package"))
    if bool(url) + bool(repo) > 1 or not (url or repo or package):
        yield "needs either a url or a repo on the Hub, or a Python package", ""
    elif url and not (_is_https_url(url) and re.fullmatch(r"[!-~]+", url) and len(values["files"]) == 1):
        yield "a url begins with https://, holds no user name, and stands for exactly one file", ""
    elif repo and not (is_repo(repo) and COMMIT.fullmatch(values.get("revision", "")) and values["files"]):
        yield "a repo is org/name, with a commit of 40 hexadecimal digits as its revision and at least one file", ""
    if bool(package) != bool(values.get("requirement")):
        yield "a package needs a requirement, which pip installs it with", 'requirement = "medzoo[imagenet]"'
    elif package and not (_PACKAGE.fullmatch(package) and _REQUIREMENT.fullmatch(values["requirement"])):
        yield "a package is an importable name and folders in it, its requirement a name with extras for pip", ""
    elif package and not values["files"]:
        yield "a package needs at least one file", ""
