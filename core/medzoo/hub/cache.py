"""What the cache holds: models, assets, repositories of the Hub, what was computed; how large, and away with it."""

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
from medzoo.storage.paths import cache_root, features_root, latents_root, pixels_root


@dataclass(frozen=True, kw_only=True)
class CacheEntry:
    """One folder of the cache: `name` is what a user writes for it, `kind` "model", "asset" or "hub", or of what was
    computed from images and can be again, "latents", "pixels" or "features"."""

    kind: str
    name: str
    folder: Path
    bytes: int
    used: datetime


def cached_entries() -> list[CacheEntry]:
    """What the cache holds, by kind and name; parts of files on their way are counted in."""
    held = (entry for entry in _all_entries() if entry.bytes)  # a fetch that failed leaves an empty folder
    return sorted(held, key=lambda entry: (entry.kind != "model", entry.kind, entry.name, entry.used))


def find_cached(names: Iterable[str]) -> list[CacheEntry]:
    """The entries of these names; `hf:org/name` means every commit of it. Raises: UnknownName."""
    held = cached_entries()
    found: list[CacheEntry] = []
    for name in names:
        named = [entry for entry in held if name in (entry.name, entry.name.partition("@")[0])]
        if not named:
            raise UnknownName("entry of the cache", name, {entry.name for entry in held})
        found.extend(entry for entry in named if entry not in found)
    return found


def remove_cached(entry: CacheEntry) -> None:
    """Nothing; the entry is gone, and for a commit of a repository what was pinned to it. Raises: ResourceError."""
    with folder_lock(entry.folder), disk_errors(entry.folder):
        shutil.rmtree(entry.folder)
        if entry.kind == "hub":
            _unpin(entry)
        with suppress(OSError):  # others are in it
            entry.folder.parent.rmdir()


def _all_entries() -> Iterator[CacheEntry]:
    for kind, place in (("model", "models"), ("asset", "assets")):
        for folder in _folders(cache_root() / place, depth=2):
            yield _entry(kind, folder.parent.name, folder)
    for folder in _folders(cache_root() / "repos", depth=2):
        yield _entry("hub", f"hf:{folder.parent.name}/{folder.name}", folder)
    for kind, root in (("latents", latents_root()), ("pixels", pixels_root()), ("features", features_root())):
        if root.is_dir():
            yield _entry(kind, kind, root)


def _folders(root: Path, *, depth: int) -> Iterator[Path]:
    return (path for path in root.glob("/".join("*" * depth)) if path.is_dir())


def _entry(kind: str, name: str, folder: Path) -> CacheEntry:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    used = datetime.fromtimestamp(folder.stat().st_mtime).astimezone()
    return CacheEntry(kind=kind, name=name, folder=folder, bytes=size, used=used)


def _unpin(entry: CacheEntry) -> None:
    reference = parse_reference(entry.name)
    pins = read_pins(reference.pins)
    kept = {revision: commit for revision, commit in pins.items() if not commit.startswith(reference.revision)}
    if kept:
        write_json_atomic(reference.pins, kept)
    else:
        reference.pins.unlink(missing_ok=True)
