"""Where the bytes of a model or an asset come from: the cache, cards/, a mirror folder, the Hub; the hash decides."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from medzoo.errors import ConfigError, HubError, IntegrityError, MedzooError
from medzoo.hub.download import (
    Notice,
    Origin,
    Progress,
    Wanted,
    alone,
    announcing,
    download,
    hub_origin,
    in_parallel,
    mark_used,
    to_stderr,
    url_origin,
)
from medzoo.hub.registry import AssetRow, FileRow, Row
from medzoo.storage.files import disk_errors, sha256_file, temporary_beside
from medzoo.storage.paths import bundled_root, cache_root

_CHUNK = 1 << 20
_ELSEWHERE = "take a sound copy: medzoo pull ID --from DIR, or install medzoo again"


class _Source(Protocol):
    """Somewhere that may have files of a row; `place` is how a message names it."""

    @property
    def place(self) -> str: ...

    def has(self, file: FileRow) -> bool:
        """Whether it is worth asking for the file."""

    def give(self, file: FileRow, target: Path, stop: threading.Event) -> None:
        """Nothing; `target` holds the file, checked. Raises: IntegrityError, HubError, ResourceError."""


@dataclass(frozen=True, kw_only=True)
class _Folder:
    """A folder that holds the files under their names; `name` is the state `locate` tells of it."""

    name: str
    folder: Path

    @property
    def place(self) -> str:
        return str(self.folder)

    def has(self, file: FileRow) -> bool:
        return (self.folder / file.name).is_file()

    def give(self, file: FileRow, target: Path, stop: threading.Event) -> None:
        copy_checked(file, self.folder / file.name, target)


@dataclass(frozen=True, kw_only=True)
class _Network:
    """A repository of the Hub, or an address; only asking tells what is there."""

    place: str
    origin: Callable[[str], Origin]
    progress: Progress

    def has(self, file: FileRow) -> bool:
        return True

    def give(self, file: FileRow, target: Path, stop: threading.Event) -> None:
        download(self.origin(file.name), _wanted(file), target, stop=stop, progress=self.progress)


@dataclass(frozen=True, kw_only=True)
class _Errand:
    """The files of a row on their way into `folder`, each from the first of the sources that has it."""

    row: Row | AssetRow
    folder: Path
    sources: Sequence[_Source]
    notice: Notice

    def mend(self, file: FileRow, stop: threading.Event) -> None:
        """Nothing; the folder holds the file. One that was there, damaged, is gone if no other can be had."""
        target = self.folder / file.name
        damaged = target.is_file()
        if damaged:
            self.notice(f"{target} is damaged; taking it again")
        try:
            self._fetch(file, target, stop)
        except MedzooError:
            if damaged:
                with disk_errors(target):
                    target.unlink(missing_ok=True)
            raise

    def _fetch(self, file: FileRow, target: Path, stop: threading.Event) -> None:
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
                    self.notice(earlier.message)
                raise
            else:
                for earlier in wrong:
                    self.notice(f"{earlier.message}; took it from {source.place}")
                return
        if wrong:
            raise wrong[0]
        looked = ", ".join(source.place for source in self.sources) or "no place"
        path = mirror_folder(Path(), self.row) / file.name
        raise HubError(
            f"no source has {file.name} of '{self.row.name}' (looked in {looked})",
            f"give a folder that holds {path}: medzoo pull {self.row.name} --from DIR, or MEDZOO_MIRROR",
        )


def model_folder(row: Row | AssetRow) -> Path:
    """Where the cache keeps the model or asset; other bytes under the same id get another folder."""
    facts = "\n".join([row.revision, *sorted(f"{file.name} {file.sha256}" for file in row.files)])
    kind = "assets" if isinstance(row, AssetRow) else "models"
    return cache_root() / kind / row.id / hashlib.sha256(facts.encode()).hexdigest()[:12]


def locate(row: Row | AssetRow) -> tuple[str, Path | None]:
    """Where it is ("cached", "bundled", "mirror", "hub" or "missing"), and that folder if it is one.

    By names and sizes alone, and without asking the Hub.
    """
    sources = _sources(row, None, _unwatched)
    for source in (_Folder(name="cached", folder=model_folder(row)), *sources):
        if isinstance(source, _Folder) and _holds(source.folder, row):
            return source.name, source.folder
    return ("hub" if any(isinstance(source, _Network) for source in sources) else "missing"), None


def fetch_model(
    row: Row | AssetRow, *, source: str | None = None, notice: Notice | None = None, progress: Progress | None = None
) -> Path:
    """A folder in the cache that holds every file of the model, each checked against its hash.

    `source` is "bundled", "hub" or a mirror folder, in place of the ordinary order. `notice` is told what had to be
    mended (by default, so is stderr), `progress` how a download goes on.

    Raises: IntegrityError for bytes that are not the model's, HubError if no source has them, ResourceError.
    """
    folder, say = model_folder(row), notice or to_stderr
    sources = _sources(row, source, progress or announcing(say))
    errand = _Errand(row=row, folder=folder, sources=sources, notice=say)
    if _unsound(folder, row):
        with alone(folder, say):
            in_parallel(partial(errand.mend, file) for file in _unsound(folder, row))
    mark_used(folder)
    return folder


def fetch_asset(
    row: AssetRow, *, source: str | None = None, notice: Notice | None = None, progress: Progress | None = None
) -> Path:
    """The file of an asset that has one, in the cache and checked; of one with several, their folder.

    Raises: as `fetch_model`.
    """
    folder = fetch_model(row, source=source, notice=notice, progress=progress)
    return folder / row.files[0].name if len(row.files) == 1 else folder


def verify_folder(folder: Path, row: Row | AssetRow) -> None:
    """Nothing. Raises: HubError for a file that is missing, IntegrityError for one that is not the model's."""
    for file in row.files:
        path = folder / file.name
        if not path.is_file():
            raise HubError(f"{path} is missing", f"medzoo pull {row.name}")
        _compare(file, path, sha256_file(path), path.stat().st_size)


def _sources(row: Row | AssetRow, given: str | None, progress: Progress) -> list[_Source]:
    """Where to look, in order. Raises: ConfigError, HubError for a source that cannot have the row."""
    bundled = (
        [] if isinstance(row, AssetRow) else [_Folder(name="bundled", folder=bundled_root() / "cards" / row.folder)]
    )
    network = list(_network(row, progress))
    if given == "bundled":
        return [*bundled]
    if given == "hub":
        if not network:
            raise HubError(f"'{row.name}' has no place on the Hub", f"medzoo pull {row.name}, or --from DIR")
        return [*network]
    if given is not None:
        if not Path(given).is_dir():
            raise ConfigError(f"'{given}' is neither 'bundled', 'hub' nor a folder", "a mirror holds <model id>/<file>")
        return [_Folder(name="mirror", folder=mirror_folder(Path(given), row))]
    named = os.environ.get("MEDZOO_MIRROR")
    mirror = [_Folder(name="mirror", folder=mirror_folder(Path(named).expanduser(), row))] if named else []
    return [*bundled, *mirror, *network]


def _network(row: Row | AssetRow, progress: Progress) -> Iterator[_Network]:
    """The row's place on the network, if it names one; a repository without a commit could hold any bytes."""
    if row.repo and row.revision:
        yield _Network(place=row.repo, origin=partial(hub_origin, row.repo, row.revision), progress=progress)
    elif isinstance(row, AssetRow) and (url := row.url):
        yield _Network(place=url, origin=lambda _: url_origin(url), progress=progress)


def mirror_folder(mirror: Path, row: Row | AssetRow) -> Path:
    """The folder of a mirror that holds the files of `row`."""
    return mirror / "assets" / row.id if isinstance(row, AssetRow) else mirror / row.folder


def _unwatched(name: str, done: int, total: int) -> None:
    """Nothing; where nothing is downloaded."""


def _holds(folder: Path, row: Row | AssetRow) -> bool:
    try:
        return all((folder / file.name).stat().st_size == file.bytes for file in row.files)
    except OSError:
        return False


def _wanted(file: FileRow) -> Wanted:
    return Wanted(name=file.name, bytes=file.bytes, digest=file.sha256)


def is_sound(folder: Path, row: Row | AssetRow) -> bool:
    """Whether the folder holds every file of the row, with the right bytes."""
    return not _unsound(folder, row)


def _unsound(folder: Path, row: Row | AssetRow) -> list[FileRow]:
    """The files of the row that the folder lacks, or holds damaged."""
    return [file for file in row.files if not _wanted(file).is_at(folder / file.name)]


def copy_checked(file: FileRow, origin: Path, target: Path) -> None:
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


def _compare(file: FileRow, path: Path, sha256: str, size: int) -> None:
    """Nothing. Raises: IntegrityError that says what was expected and what is there."""
    if size != file.bytes:
        raise IntegrityError(f"{path} holds {size} bytes, the registry names {file.bytes}", _ELSEWHERE)
    if sha256 != file.sha256:
        raise IntegrityError(
            f"{path} is not what the registry names: sha256 {sha256}, expected {file.sha256}", _ELSEWHERE
        )
