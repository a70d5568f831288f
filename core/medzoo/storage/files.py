"""Write files atomically, and hash them."""

import errno
import hashlib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from medzoo.errors import DataError, ResourceError
from medzoo.storage.paths import NO_HOME, cache_root

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is too large for it",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.EEXIST: "a file is in the way",
    errno.ENOTDIR: "a file is in the way",
    errno.ENAMETOOLONG: "its name is too long",
}
# Characters of a file's name in that of its temporary file, which must not be too long where the name itself is not.
_NAME_START = 40
# Where locks tell nothing of a temporary file, its process is taken for dead once it is that old.
_ABANDONED_SECONDS = 24 * 60 * 60.0
_CHECKSUM = "sha256"
_PARTIAL = ".part"
_warned: set[Path] = set()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the errors of a full, read-only or forbidden disk into a ResourceError that names `path`."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0)
        if reason is None:
            raise
        in_cache, full = path.is_relative_to(cache_root()), error.errno in _FULL
        if NO_HOME in path.parents:
            reason = "this user has no home folder"
            hint = f"set {'MEDZOO_CACHE' if in_cache else 'XDG_CONFIG_HOME'} to a writable folder"
        elif in_cache and full:
            hint = "free some space with `medzoo cache remove`, or set MEDZOO_CACHE to a folder of another disk"
        elif in_cache:
            hint = "set MEDZOO_CACHE to a writable folder"
        else:
            hint = "free some space or choose another folder" if full else "choose another folder"
        raise ResourceError(f"cannot write {path}: {reason}", hint) from error


@contextmanager
def optional_cache() -> Iterator[None]:
    """Warn of a ResourceError instead of raising it: what is written here can be computed again."""
    try:
        yield
    except ResourceError as error:
        warn_of_cache(error)


def warn_of_cache(error: ResourceError) -> None:
    """Warn, once a process, that a job continues without the cache because of `error`."""
    if (root := cache_root()) not in _warned:
        _warned.add(root)
        logger.warning(f"{error.message}; continuing without the cache ({error.hint})")


def make_folder(path: Path) -> Path:
    """Create `path`, parents included, if it is missing, and return it. Raises: ResourceError."""
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def relative_name(path: Path, root: Path) -> str:
    """Return `path` as seen from `root`, with "/" between its parts, or whole if it is not below it.

    `Path.relative_to` does the same in ten times as long, which counts where a folder has 100,000 files.
    """
    text, start = str(path), f"{root}{os.sep}"
    if text.startswith(start) and ".." not in text:
        return text[len(start) :].replace(os.sep, "/")
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else text


def is_regular_file(path: Path) -> bool:
    """Return whether `path` is a file, and not a link to one."""
    return path.is_file() and not path.is_symlink()


def check_empty(folder: Path) -> None:
    """Check that `folder` is missing or empty, hidden files aside. Raises: DataError."""
    for step in (folder, *folder.parents):
        if step.is_file():
            raise DataError(f"{step} is a file", "choose another folder")
    if folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise DataError(f"{folder} holds other files", "choose another folder, or empty it")


def check_outside(out: Path, *data: Path | None) -> None:
    """Check that `out`, which will be written, is none of the paths `data`, and not inside one that is a folder.

    Otherwise the next look at the data would find what was written. Links are followed. Raises: DataError.
    """
    # Through a link inside the data, files far away are part of it too.
    places = [place for path in (out.absolute(), out.resolve()) for place in (path, *path.parents) if place.exists()]
    for given in data:
        if given is None or not given.exists():
            continue
        if any(place.samefile(given) for place in places):
            where = f"inside the data folder {given}" if given.is_dir() else "the data itself"
            raise DataError(f"{out} is {where}", "choose another --out")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a hidden folder to fill; it replaces `path` at the end, or is removed after an error.

    A job that cannot resume is thus complete or not begun, and its command works again after an interrupt.
    Raises: as `check_empty`; ResourceError.
    """
    check_empty(path)
    final = path.resolve()  # "." has no name to put another beside
    # A folder that is there already may be another disk's, which nothing beside it can replace.
    there = final.is_dir()
    folder = temporary_name(final / "new" if there else final)
    remove_partial_files(folder.parent, of=final)
    with disk_errors(path):
        try:
            folder.mkdir(parents=True)
            with mark_in_use(folder, folder=True):
                yield folder
            if there:
                for entry in sorted(folder.iterdir()):
                    entry.replace(final / entry.name)
            else:
                folder.replace(final)
        except ResourceError as error:
            raise ResourceError(error.message.replace(str(folder), str(path)), error.hint) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def join_name(stem: str, ending: str) -> str:
    """Join the name of a file, its stem cut so that the name is not longer than disks allow, 255 bytes."""
    return stem.encode("utf-8", "surrogateescape")[: 255 - len(ending.encode())].decode("utf-8", "ignore") + ending


def temporary_name(path: Path) -> Path:
    """Return a new hidden name beside `path`, for what replaces it when it is complete."""
    return path.with_name(f"{_partial_prefix(path)}{os.urandom(6).hex()}{_PARTIAL}")


def _partial_prefix(path: Path) -> str:
    return f".{path.name[:_NAME_START]}."


@contextmanager
def mark_in_use(path: Path, *, folder: bool = False) -> Iterator[None]:
    """Keep `remove_partial_files` from removing the temporary file or `folder` `path`, which is created if missing."""
    descriptor = _lock_temporary(path, folder=folder)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock_temporary(path: Path, *, folder: bool) -> int | None:
    """Lock what is at `path` and return its descriptor; None where there are no locks, as on some network disks."""
    while fcntl is not None:
        try:
            if folder:
                path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:  # whoever writes there reports it
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:  # removed by another process before it was locked
            pass
        except OSError:
            os.close(descriptor)
            return None
        os.close(descriptor)
    return None


def remove_partial_files(folder: Path, *, of: Path | None = None, deep: bool = False) -> None:
    """Delete the half-written files and folders that killed processes left in `folder`, if `deep` in those below too.

    With `of`, only those that were to become this path.
    """
    prefix = _partial_prefix(of) if of is not None else "."
    for path in list(folder.rglob(f".*{_PARTIAL}") if deep else folder.glob(f".*{_PARTIAL}")):
        if path.name.startswith(prefix):
            with suppress(OSError):  # another process was faster, or the disk is read-only
                _remove_unless_in_use(path)


def _remove_unless_in_use(path: Path) -> None:
    """Remove the temporary file or folder `path`, unless a process is writing it, as far as is known."""
    if path.is_symlink():
        path.unlink()
        return
    descriptor = None
    try:
        if fcntl is not None:
            descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(descriptor), path.stat()):
                raise BlockingIOError  # another process removed it and its writer began anew, before it was locked
    except (BlockingIOError, FileNotFoundError):
        if descriptor is not None:
            os.close(descriptor)
        return
    except OSError:
        unknown = True
    else:
        unknown = descriptor is None
    try:
        if unknown and time.time() - path.stat().st_mtime < _ABANDONED_SECONDS:
            return
        logger.debug(f"removing {path}, which a process that was killed has left")
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Yield an empty file beside `path`, to be moved over it with `replace`; it is removed at the end unless moved."""
    make_folder(path.parent)
    temporary = temporary_name(path)
    with disk_errors(path):
        try:
            temporary.touch(exist_ok=False)
            with mark_in_use(temporary):
                yield temporary
        finally:
            temporary.unlink(missing_ok=True)


def write_file(path: Path, data: bytes) -> None:
    """Write `data` to `path`: on failure the file keeps what it held before. Folders that are missing are made.

    The disk is not waited for, so that thousands of files take no longer than they must.

    Raises: ResourceError when the disk is full, read-only or not ours to write on.
    """
    with disk_errors(path):
        descriptor, temporary = _open_temporary(path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                if fcntl is not None:  # where there are locks, it is in use until it is moved
                    file.flush()
                    os.replace(temporary, path)
            if fcntl is None:
                os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def _open_temporary(path: Path) -> tuple[int, str]:
    """Create a temporary file beside `path`, locked as by `mark_in_use`; return its descriptor and its name."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    made = False
    while True:
        temporary = str(temporary_name(path))
        try:
            descriptor = os.open(temporary, flags, 0o666)
        except FileNotFoundError:
            if made:
                raise
            make_folder(path.parent)
            made = True
            continue
        if fcntl is None:
            return descriptor, temporary
        with suppress(OSError):  # no locks, as on some network disks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, temporary
        os.close(descriptor)  # removed by another process before it was locked


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically, and remove what killed processes left of it. Raises: ResourceError."""
    remove_partial_files(path.parent, of=path)
    with temporary_beside(path) as temporary:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def write_json_atomic(path: Path, values: Any) -> None:
    """Write `values` to `path` as indented JSON, atomically. Raises: ResourceError."""
    write_atomic(path, (json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def with_checksum(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON values with a checksum of the others added, which `without_checksum` compares."""
    return {**values, _CHECKSUM: _digest(values)}


def without_checksum(values: Mapping[str, Any], *, required: bool = False) -> dict[str, Any]:
    """Return what `with_checksum` was given, unchanged if it has no checksum.

    Raises: ValueError if the checksum is another's; KeyError if it is `required` and missing.
    """
    others = {key: value for key, value in values.items() if key != _CHECKSUM}
    if (required or _CHECKSUM in values) and values[_CHECKSUM] != _digest(others):
        raise ValueError("its content differs from the checksum in it")
    return others


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode()).hexdigest()


def plain(value: Any) -> Any:
    """Convert a value to dicts, lists, strings and numbers; NaN and infinity become None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if value is None or isinstance(value, str | int):
        return value
    from numbers import Real  # not needed to start

    if isinstance(value, Real):  # including numpy's numbers
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Iterable):
        return [plain(part) for part in value]
    return str(value)


def parse_json(text: str | bytes) -> Any:
    """Parse JSON. Raises: ValueError, also if it is nested too deeply to be parsed."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises: OSError; ValueError, as `parse_json`."""
    return parse_json(path.read_bytes())


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
