"""Where the bytes of a model or an asset come from: the cache, cards/, a mirror folder, the Hub; the hash decides."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from medzoo.errors import ConfigError, HubError, IntegrityError, MedzooError
from medzoo.hub.download import (
    Origin,
    Progress,
    Wanted,
    announcing,
    download,
    folder_lock,
    hub_origin,
    in_parallel,
    mark_used,
    url_origin,
)
from medzoo.hub.registry import AssetEntry, FileEntry, ModelEntry
from medzoo.storage.files import disk_errors, sha256_file, temporary_beside
from medzoo.storage.paths import bundled_root, cache_root

logger = logging.getLogger(__name__)


_CHUNK = 1 << 20
_ELSEWHERE = "take a sound copy: medzoo pull ID --from DIR, or install medzoo again"


class _Source(Protocol):
    """Somewhere that may have files of a entry; `place` is how a message names it."""

    @property
    def place(self) -> str: ...

    def has(self, file: FileEntry) -> bool:
        """Whether it is worth asking for the file."""

    def give(self, file: FileEntry, target: Path, stop: threading.Event) -> None:
        """Nothing; `target` holds the file, checked. Raises: IntegrityError, HubError, ResourceError."""


@dataclass(frozen=True, kw_only=True)
class _Folder:
    """A folder that holds the files under their names; `name` is the state `locate` tells of it."""

    name: str
    folder: Path

    @property
    def place(self) -> str:
        return str(self.folder)

    def has(self, file: FileEntry) -> bool:
        return (self.folder / file.name).is_file()

    def give(self, file: FileEntry, target: Path, stop: threading.Event) -> None:
        copy_checked(file, self.folder / file.name, target)


@dataclass(frozen=True, kw_only=True)
class _Network:
    """A repository of the Hub, or an address; only asking tells what is there."""

    place: str
    origin: Callable[[str], Origin]
    progress: Progress

    def has(self, file: FileEntry) -> bool:
        return True

    def give(self, file: FileEntry, target: Path, stop: threading.Event) -> None:
        download(self.origin(file.name), _wanted(file), target, stop=stop, progress=self.progress)


@dataclass(frozen=True, kw_only=True)
class _Errand:
    """The files of a entry on their way into `folder`, each from the first of the sources that has it."""

    entry: ModelEntry | AssetEntry
    folder: Path
    sources: Sequence[_Source]

    def mend(self, file: FileEntry, stop: threading.Event) -> None:
        """Nothing; the folder holds the file. One that was there, damaged, is gone if no other can be had."""
        target = self.folder / file.name
        damaged = target.is_file()
        if damaged:
            logger.warning(f"{target} is damaged; taking it again")
        try:
            self._fetch(file, target, stop)
        except MedzooError:
            if damaged:
                with disk_errors(target):
                    target.unlink(missing_ok=True)
            raise

    def _fetch(self, file: FileEntry, target: Path, stop: threading.Event) -> None:
        """Nothing; `target` holds the file. A source with wrong bytes yields to the next one."""
        wrong: list[IntegrityError] = []
        for source in self.sources:
            if not source.has(file):
                continue
            try:
                source.give(file, target, stop)
            except IntegrityError as error:
                wrong.append(error)
            except HubError:
                for earlier in wrong:
                    logger.warning(earlier.message)
                raise
            else:
                for earlier in wrong:
                    logger.warning(f"{earlier.message}; took it from {source.place}")
                return
        if wrong:
            raise wrong[0]
        looked = ", ".join(source.place for source in self.sources) or "no place"
        path = mirror_folder(Path(), self.entry) / file.name
        raise HubError(
            f"no source has {file.name} of '{self.entry.name}' (looked in {looked})",
            f"give a folder that holds {path}: medzoo pull {self.entry.name} --from DIR, or MEDZOO_MIRROR",
        )


def model_folder(entry: ModelEntry | AssetEntry) -> Path:
    """Where the cache keeps the model or asset; other bytes under the same id get another folder."""
    facts = "\n".join([entry.revision, *sorted(f"{file.name} {file.sha256}" for file in entry.files)])
    kind = "assets" if isinstance(entry, AssetEntry) else "models"
    return cache_root() / kind / entry.id / hashlib.sha256(facts.encode()).hexdigest()[:12]


def locate(entry: ModelEntry | AssetEntry) -> tuple[str, Path | None]:
    """Where it is ("cached", "bundled", "mirror", "hub" or "missing"), and that folder if it is one.

    By names and sizes alone, and without asking the Hub.
    """
    sources = _sources(entry, None, _unwatched)
    for source in (_Folder(name="cached", folder=model_folder(entry)), *sources):
        if isinstance(source, _Folder) and _holds(source.folder, entry):
            return source.name, source.folder
    return ("hub" if any(isinstance(source, _Network) for source in sources) else "missing"), None


def fetch_model(
    entry: ModelEntry | AssetEntry,
    *,
    source: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """A folder in the cache that holds every file of the model, each checked against its hash.

    `source` is "bundled", "hub" or a mirror folder, in place of the ordinary order. `progress` is called as a
    download goes on. Damaged files that were replaced are logged.

    Raises: IntegrityError for bytes that are not the model's, HubError if no source has them, ResourceError.
    """
    folder = model_folder(entry)
    sources = _sources(entry, source, progress or announcing())
    errand = _Errand(entry=entry, folder=folder, sources=sources)
    if _unsound(folder, entry):
        with folder_lock(folder):
            in_parallel(partial(errand.mend, file) for file in _unsound(folder, entry))
    mark_used(folder)
    return folder


def fetch_asset(entry: AssetEntry, *, source: str | None = None, progress: Progress | None = None) -> Path:
    """The file of an asset that has one, in the cache and checked; of one with several, their folder.

    Raises: as `fetch_model`.
    """
    folder = fetch_model(entry, source=source, progress=progress)
    return folder / entry.files[0].name if len(entry.files) == 1 else folder


def verify_folder(folder: Path, entry: ModelEntry | AssetEntry) -> None:
    """Nothing. Raises: HubError for a file that is missing, IntegrityError for one that is not the model's."""
    for file in entry.files:
        path = folder / file.name
        if not path.is_file():
            raise HubError(f"{path} is missing", f"medzoo pull {entry.name}")
        _compare(file, path, sha256_file(path), path.stat().st_size)


def _sources(entry: ModelEntry | AssetEntry, given: str | None, progress: Progress) -> list[_Source]:
    """Where to look, in order. Raises: ConfigError, HubError for a source that cannot have the entry."""
    bundled = (
        []
        if isinstance(entry, AssetEntry)
        else [_Folder(name="bundled", folder=bundled_root() / "cards" / entry.folder)]
    )
    network = list(_network(entry, progress))
    if given == "bundled":
        return [*bundled]
    if given == "hub":
        if not network:
            raise HubError(f"'{entry.name}' has no place on the Hub", f"medzoo pull {entry.name}, or --from DIR")
        return [*network]
    if given is not None:
        if not Path(given).is_dir():
            raise ConfigError(f"'{given}' is neither 'bundled', 'hub' nor a folder", "a mirror holds <model id>/<file>")
        return [_Folder(name="mirror", folder=mirror_folder(Path(given), entry))]
    named = os.environ.get("MEDZOO_MIRROR")
    mirror = [_Folder(name="mirror", folder=mirror_folder(Path(named).expanduser(), entry))] if named else []
    return [*bundled, *mirror, *network]


def _network(entry: ModelEntry | AssetEntry, progress: Progress) -> Iterator[_Network]:
    """The entry's place on the network, if it names one; a repository without a commit could hold any bytes."""
    if entry.repo and entry.revision:
        yield _Network(place=entry.repo, origin=partial(hub_origin, entry.repo, entry.revision), progress=progress)
    elif isinstance(entry, AssetEntry) and (url := entry.url):
        yield _Network(place=url, origin=lambda _: url_origin(url), progress=progress)


def mirror_folder(mirror: Path, entry: ModelEntry | AssetEntry) -> Path:
    """The folder of a mirror that holds the files of `entry`."""
    return mirror / "assets" / entry.id if isinstance(entry, AssetEntry) else mirror / entry.folder


def _unwatched(name: str, done: int, total: int) -> None:
    """Nothing; where nothing is downloaded."""


def _holds(folder: Path, entry: ModelEntry | AssetEntry) -> bool:
    try:
        return all((folder / file.name).stat().st_size == file.bytes for file in entry.files)
    except OSError:
        return False


def _wanted(file: FileEntry) -> Wanted:
    return Wanted(name=file.name, bytes=file.bytes, digest=file.sha256)


def is_sound(folder: Path, entry: ModelEntry | AssetEntry) -> bool:
    """Whether the folder holds every file of the entry, with the right bytes."""
    return not _unsound(folder, entry)


def _unsound(folder: Path, entry: ModelEntry | AssetEntry) -> list[FileEntry]:
    """The files of the entry that the folder lacks, or holds damaged."""
    return [file for file in entry.files if not _wanted(file).is_at(folder / file.name)]


def copy_checked(file: FileEntry, origin: Path, target: Path) -> None:
    """Nothing; `target` holds the file, hashed on its way. Raises: IntegrityError, HubError, ResourceError."""
    try:
        reader = origin.open("rb")
    except OSError as error:
        raise HubError(f"cannot read {origin}: {error.strerror}") from None
    digest = hashlib.sha256()
    size = 0
    with reader, temporary_beside(target) as temporary:
        with temporary.open("wb") as writer:
            while chunk := reader.read(_CHUNK):
                digest.update(chunk)
                size += writer.write(chunk)
            writer.flush()
            os.fsync(writer.fileno())
        _compare(file, origin, digest.hexdigest(), size)
        temporary.replace(target)


def _compare(file: FileEntry, path: Path, sha256: str, size: int) -> None:
    """Nothing. Raises: IntegrityError that says what was expected and what is there."""
    if size != file.bytes:
        raise IntegrityError(f"{path} holds {size} bytes, the registry names {file.bytes}", _ELSEWHERE)
    if sha256 != file.sha256:
        raise IntegrityError(
            f"{path} is not what the registry names: sha256 {sha256}, expected {file.sha256}", _ELSEWHERE
        )
