"""Where the files of a model or an asset come from; the hash decides.

The cache, cards/, an installed Python package, a mirror or the network.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from medzoo.errors import ConfigError, HubError, IntegrityError, ResourceError
from medzoo.hub.download import Location, download, folder_lock, hub_location, mark_used
from medzoo.hub.entries import AssetEntry, Entry, FileEntry
from medzoo.runs.progress import Progress
from medzoo.storage.files import (
    disk_errors,
    is_regular_file,
    remove_partial_files,
    sha256_file,
    temporary_beside,
    warn_of_cache,
)
from medzoo.storage.paths import bundled_root, cache_root, check_inside_cache, expand_home

logger = logging.getLogger(__name__)

AT_HAND = ("cached", "bundled", "package", "mirror")
"""What `locate` says of files that need no network."""

_INTACT_COPY = "get an intact copy: medzoo pull ID --from DIR, or reinstall medzoo"


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Somewhere to look for files: a folder, or the network without one; `name` is as `locate` returns it."""

    name: str
    place: str
    folder: Path | None = None


def cache_folder(entry: Entry) -> Path:
    """Return where the cache keeps the model or asset; other files under the same id get another folder."""
    facts = "\n".join([entry.revision, *sorted(f"{file.name} {file.sha256}" for file in entry.files)])
    kind = "assets" if isinstance(entry, AssetEntry) else "models"
    return cache_root() / kind / entry.id / hashlib.sha256(facts.encode()).hexdigest()[:12]


def mirror_folder(mirror: Path, entry: Entry) -> Path:
    """Return the folder of a mirror that holds the files of `entry`."""
    return mirror / "assets" / entry.id if isinstance(entry, AssetEntry) else mirror / entry.folder


def locate(entry: Entry) -> tuple[str, Path | None]:
    """Find where the files are, by name and size alone and without a request to the Hub.

    Returns one of `AT_HAND` and that folder, or "hub" or "missing" and None.
    """
    sources = _sources(entry, None)
    for source in (_Source(name="cached", place="", folder=cache_folder(entry)), *sources):
        if source.folder is not None and _holds(source.folder, entry):
            return source.name, source.folder
    return ("hub" if any(source.folder is None for source in sources) else "missing"), None


def fetch_model(entry: Entry, *, source: str | None = None, progress: Progress | None = None) -> Path:
    """Return a folder in the cache that holds every file of the model, each checked by its hash.

    Files that are missing or corrupt come from the first of cards/, MEDZOO_MIRROR and the Hub that has them, or from
    `source` alone: "bundled", "hub" or the folder of a mirror. If the cache cannot be written, the folder of cards/ or
    the mirror is returned instead. `progress` is called as a download proceeds.

    Raises: IntegrityError for files that are not the model's, HubError if no source has them, ResourceError.
    """
    folder, sources = cache_folder(entry), _sources(entry, source)
    try:
        check_inside_cache(folder)
        if not is_intact(folder, entry) or not all(is_regular_file(folder / file.name) for file in entry.files):
            with folder_lock(folder):
                for file in entry.files:
                    _complete(folder / file.name, file, entry, sources, progress)
                remove_partial_files(folder, deep=True)  # every file is there, so none is to be resumed
    except ResourceError as error:
        for place in (source.folder for source in sources):
            if place is not None and is_intact(place, entry):
                warn_of_cache(error)
                return place
        raise
    mark_used(folder)
    return folder


def fetch_asset(entry: AssetEntry, *, source: str | None = None, progress: Progress | None = None) -> Path:
    """Return the file of an asset that has one, in the cache and checked; of one with several, their folder.

    Raises: as `fetch_model`.
    """
    folder = fetch_model(entry, source=source, progress=progress)
    return folder / entry.files[0].name if len(entry.files) == 1 else folder


def package_folder(entry: AssetEntry) -> Path | None:
    """Return the folder of the installed Python package that an asset comes with, if any; nothing is imported."""
    name, _, inside = entry.package.partition("/")
    found = PathFinder.find_spec(name) if name else None
    if found is None or not found.submodule_search_locations:
        return None
    return Path(next(iter(found.submodule_search_locations))) / inside


def is_intact(folder: Path, entry: Entry) -> bool:
    """Return whether the folder holds every file of the entry, with the right size and hash."""
    return all(file.matches(folder / file.name) for file in entry.files)


def verify_folder(folder: Path, entry: Entry) -> None:
    """Check every file of the entry in `folder`. Raises: HubError if one is missing, IntegrityError if one is wrong."""
    for file in entry.files:
        path = folder / file.name
        if not path.is_file():
            raise HubError(f"{path} is missing", f"medzoo pull {entry.name}")
        _check(file, path, path)


def copy_checked(file: FileEntry, source: Path, target: Path) -> None:
    """Copy `source` to `target` if it is `file`. Raises: IntegrityError, HubError, ResourceError."""
    try:
        reader = source.open("rb")
    except OSError as error:
        raise HubError(f"cannot read {source}: {error.strerror}") from None
    with reader, temporary_beside(target) as temporary:
        with temporary.open("wb") as writer:
            shutil.copyfileobj(reader, writer)
            writer.flush()
            os.fsync(writer.fileno())
        _check(file, temporary, source)
        temporary.replace(target)


def _check(file: FileEntry, path: Path, source: Path) -> None:
    """Check that `path`, a copy of `source`, is `file`. Raises: IntegrityError."""
    if (size := path.stat().st_size) != file.bytes:
        raise IntegrityError(f"{source} has {size} bytes, the registry says {file.bytes}", _INTACT_COPY)
    if (sha256 := sha256_file(path)) != file.sha256:
        raise IntegrityError(f"{source} is corrupt: its sha256 is {sha256}, expected {file.sha256}", _INTACT_COPY)


def _sources(entry: Entry, given: str | None) -> list[_Source]:
    """List where to look, in order. Raises: ConfigError, HubError for a source that cannot have the entry."""
    bundled, network = [], []
    if isinstance(entry, AssetEntry):
        folder = package_folder(entry)
        bundled = [_Source(name="package", place=str(folder), folder=folder)] if folder is not None else []
    else:
        cards = bundled_root() / "cards" / entry.folder
        bundled = [_Source(name="bundled", place=str(cards), folder=cards)]
    if entry.repo and entry.revision:  # without a commit, a repository could hold other files tomorrow
        network = [_Source(name="hub", place=entry.repo)]
    elif isinstance(entry, AssetEntry) and entry.url:
        network = [_Source(name="hub", place=entry.url)]
    if given == "bundled":
        return bundled
    if given == "hub":
        if not network:
            raise HubError(f"'{entry.name}' is not on the Hub", f"medzoo pull {entry.name}, or --from DIR")
        return network
    if given is not None and not Path(given).is_dir():
        raise ConfigError(f"'{given}' is neither 'bundled', 'hub' nor a folder", "a mirror holds <model id>/<file>")
    mirror = given or os.environ.get("MEDZOO_MIRROR")
    if not mirror:
        return [*bundled, *network]
    folder = mirror_folder(expand_home(mirror), entry)
    mirrored = _Source(name="mirror", place=str(folder), folder=folder)
    return [mirrored] if given else [*bundled, mirrored, *network]


def _holds(folder: Path, entry: Entry) -> bool:
    try:
        return all((folder / file.name).stat().st_size == file.bytes for file in entry.files)
    except OSError:
        return False


def _complete(
    target: Path, file: FileEntry, entry: Entry, sources: Sequence[_Source], progress: Progress | None
) -> None:
    """Write the file to `target` unless it is there and intact; a link that is there is replaced, not followed."""
    if is_regular_file(target):
        if file.matches(target):
            return
        logger.warning("%s is corrupt; fetching it again", target)
    with disk_errors(target):
        target.unlink(missing_ok=True)
    _fetch(target, file, entry, sources, progress)


def _fetch(target: Path, file: FileEntry, entry: Entry, sources: Sequence[_Source], progress: Progress | None) -> None:
    """Write the file to `target` from the first source that has it intact."""
    corrupt: list[IntegrityError] = []
    for source in sources:
        try:
            if source.folder is None:
                download(_location(file, entry), file, target, progress=progress)
            elif (source.folder / file.name).is_file():
                copy_checked(file, source.folder / file.name, target)
            else:
                continue
        except IntegrityError as error:
            corrupt.append(error)
        except HubError:
            for earlier in corrupt:
                logger.warning(earlier.message)
            raise
        else:
            for earlier in corrupt:
                logger.warning("%s; using %s instead", earlier.message, source.place)
            return
    if corrupt:
        raise corrupt[0]
    searched = ", ".join(source.place for source in sources) or "no place"
    if isinstance(entry, AssetEntry) and entry.package and package_folder(entry) is None:
        package = entry.package.partition("/")[0]
        raise HubError(
            f"'{entry.name}' comes with the Python package {package}, which is not installed", entry.fetch_command
        )
    path = mirror_folder(Path(), entry) / file.name
    raise HubError(
        f"no source has {file.name} of '{entry.name}' (searched {searched})",
        f"give a folder that holds {path}: medzoo pull {entry.name} --from DIR, or MEDZOO_MIRROR",
    )


def _location(file: FileEntry, entry: Entry) -> Location:
    """Locate the file on the Hub or, with a request that carries no token, at the address of an asset."""
    if isinstance(entry, AssetEntry) and entry.url:
        return Location(url=entry.url, headers={}, name=entry.url)
    return hub_location(entry.repo, entry.revision, file.name)
