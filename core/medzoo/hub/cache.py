"""List and remove what the cache holds: models, assets, repositories of the Hub, and what was computed from images."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from medzoo.errors import UnknownName
from medzoo.hub.download import folder_lock
from medzoo.hub.repositories import parse_reference, read_pins
from medzoo.storage.files import disk_errors, write_json_atomic
from medzoo.storage.paths import cache_root


@dataclass(frozen=True, kw_only=True)
class CacheEntry:
    """One folder of the cache: `name` is what a user writes for it.

    `kind` is "model", "asset", "hub", or, for what was computed from images, "latents", "pixels",
    "thumbnails", "features" or "scores".
    """

    kind: str
    name: str
    folder: Path
    bytes: int
    used: datetime


def cached_entries() -> list[CacheEntry]:
    """List what the cache holds, by kind and name; sizes include parts of files being downloaded."""
    held = (entry for entry in _entries() if entry.bytes)  # a failed download leaves an empty folder
    return sorted(held, key=lambda entry: (entry.kind != "model", entry.kind, entry.name, entry.used))


def find_cached(names: Iterable[str]) -> list[CacheEntry]:
    """Find the entries with these names; `hf:org/name` stands for every commit of it. Raises: UnknownName."""
    held = cached_entries()
    found: list[CacheEntry] = []
    for name in names:
        named = [entry for entry in held if name in (entry.name, entry.name.partition("@")[0])]
        if not named:
            raise UnknownName("entry of the cache", name, {entry.name for entry in held})
        found.extend(entry for entry in named if entry not in found)
    return found


def remove_cached(entry: CacheEntry) -> None:
    """Remove the entry, and what is pinned to it if it is a commit of a repository. Raises: ResourceError."""
    with folder_lock(entry.folder), disk_errors(entry.folder):
        shutil.rmtree(entry.folder)
        if entry.kind == "hub":
            _unpin(entry)
        with suppress(OSError):  # it holds other folders
            entry.folder.parent.rmdir()


def _entries() -> Iterator[CacheEntry]:
    found = [(kind, kind, cache_root() / kind) for kind in ("latents", "pixels", "thumbnails", "features", "scores")]
    for kind, place in (("model", "models"), ("asset", "assets"), ("hub", "repos")):
        for folder in (cache_root() / place).glob("*/*"):
            name = f"hf:{folder.parent.name}/{folder.name}" if kind == "hub" else folder.parent.name
            found.append((kind, name, folder))
    for kind, name, folder in found:
        if folder.is_dir() and folder.resolve().is_relative_to(cache_root().resolve()):  # not a link out of the cache
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            used = datetime.fromtimestamp(folder.stat().st_mtime).astimezone()
            yield CacheEntry(kind=kind, name=name, folder=folder, bytes=size, used=used)


def _unpin(entry: CacheEntry) -> None:
    reference = parse_reference(entry.name)
    pins = read_pins(reference.pins)
    kept = {revision: commit for revision, commit in pins.items() if not commit.startswith(reference.revision)}
    if kept:
        write_json_atomic(reference.pins, kept)
    else:
        reference.pins.unlink(missing_ok=True)
