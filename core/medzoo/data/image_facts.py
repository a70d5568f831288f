"""What reading an image once tells: its header, fingerprint and thumbnail, kept in the cache for later runs.

The cache is a SQLite file of one row an image, 1.3 KB. A row is found by the path of its file, and holds for as long as
size, times of change and inode of the file are the same; nothing is kept of a file that changed within the last two
seconds, in which another change may leave its time alone. Images in an array are found by their pixels. Files of
DICOM and NIfTI are read each time. A row states the hash of its content, and the name of the file its format.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sqlite3
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from hashlib import blake2b, sha256
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import PIL
from PIL import Image

from medzoo.data.images import Examined, Header, examine, examine_all, format_of, probe
from medzoo.errors import DataError, ResourceError
from medzoo.runs.interrupts import without_interrupts
from medzoo.storage.files import disk_errors, make_folder, optional_cache
from medzoo.storage.paths import thumbnails_root

logger = logging.getLogger(__name__)

THUMBNAIL = 32
"""The side of thumbnails in pixels."""

_FORMAT = 1
_MADE_WITH = f"{_FORMAT} {PIL.__version__}".encode()
# Sets of fewer images are read about as fast as found.
_LEAST = 200
_AT_ONCE = 512  # images read, and rows written; some builds of SQLite take 999 values in a query
# Starting processes takes as long as reading some thousands of small images; one is busy with their rows alone.
_MANY, _MOST_PROCESSES = 10_000, 4
_IN_TURN, _AHEAD = 64, 4  # images read by a process, and sets of `_AT_ONCE` begun, so that it need not wait for more
_SETTLED = 2_000_000_000  # nanoseconds; file systems state times to as little as two seconds
_PATIENCE = 5.0  # seconds to wait for another process that writes
_TABLE = (
    "CREATE TABLE IF NOT EXISTS images (id INTEGER PRIMARY KEY, place INTEGER NOT NULL UNIQUE, stamp BLOB NOT NULL, "
    "facts TEXT NOT NULL, fingerprint TEXT NOT NULL, thumbnail BLOB NOT NULL, seal BLOB NOT NULL)"
)
_COLUMNS = "place, stamp, facts, fingerprint, thumbnail, seal"
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_REASONS = {"SQLITE_FULL": errno.ENOSPC, "SQLITE_READONLY": errno.EROFS, "SQLITE_CANTOPEN": errno.EACCES}


class Facts(NamedTuple):
    """What reading an image tells: `highest` is the highest value of a file of more than 8 bits, as `highest_values`.

    `blank` is true of an image that is one color all over.
    """

    header: Header
    fingerprint: str
    blank: bool
    highest: int | None


Row: TypeAlias = tuple[Facts, bytes]
"""The facts of an image and its thumbnail."""
_Reader: TypeAlias = Callable[[Sequence[Path], Sequence[str]], Iterator[Row | DataError]]


def fingerprint_of(pixels: np.ndarray) -> str:
    """Return the first 16 hex digits of the SHA-256 of an image's shape and pixels, as `decode` gives them."""
    return _digest(pixels).hex()[:16]


def _digest(pixels: np.ndarray) -> bytes:
    return sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()


def is_blank(pixels: np.ndarray) -> bool:
    """Return whether an image, uint8 (H, W) or (H, W, 3), is one color all over."""
    data, count = pixels.tobytes(), pixels.shape[0] * pixels.shape[1]
    return bool(data == data[: len(data) // count] * count)


def thumbnail_of(picture: Image.Image) -> bytes:
    """Return the 1024 bytes of the 32x32 gray thumbnail of a picture of mode L or RGB."""
    gray = picture if picture.mode == "L" else picture.convert("L")
    return gray.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC).tobytes()


def read_headers(files: Sequence[Path], frames: Sequence[str] | None) -> Iterator[Header]:
    """Yield the header of each file, in order. Raises: DataError for a file that is not an image."""
    of_files = frames or [""] * len(files)
    for start in range(0, len(files), _AT_ONCE):
        some = files[start : start + _AT_ONCE]
        keys = _keys(some, of_files[start : start + _AT_ONCE], count=len(files))
        known = _find({key.place: key.stamp for key in keys if key is not None})
        for file, frame, key in zip(some, of_files[start : start + _AT_ONCE], keys, strict=True):
            yield known[key.place][0].header if key is not None and key.place in known else probe(file, frame)


def read_files(files: Sequence[Path], frames: Sequence[str] | None, *, window: str) -> Iterator[Row | DataError]:
    """Yield the facts and the thumbnail of each file in order, from the cache or read now, several at once.

    A bad file yields its DataError. `window` shows DICOM and NIfTI files; thumbnails of other files of more than 8 bits
    a channel are scaled from the bits that the image uses. Many files are read by other processes.

    Raises: ResourceError if one of these dies.
    """
    of_files = frames or [""] * len(files)
    # Frames of a file, or slices of a volume, are best read in one process, which keeps what it has read of the file.
    with _open_reader(window, processes=1 if any(of_files) else _processes(len(files))) as read:
        begun = deque[_Chunk]()
        for start in range(0, len(files), _AT_ONCE):
            some, own = files[start : start + _AT_ONCE], of_files[start : start + _AT_ONCE]
            begun.append(_Chunk.begin(some, own, read, count=len(files)))
            if len(begun) > _AHEAD:
                yield from begun.popleft().rows()
        while begun:
            yield from begun.popleft().rows()


class _Chunk(NamedTuple):
    """Some of the files of a set: their keys, the rows that the cache has, and the rows of the others as they come."""

    keys: list[_Key | None]
    known: dict[int, Row]
    read: Iterator[Row | DataError]

    @classmethod
    def begin(cls, files: Sequence[Path], frames: Sequence[str], read: _Reader, *, count: int) -> _Chunk:
        """Begin to read the files that the cache does not have, of a set of `count`."""
        keys = _keys(files, frames, count=count)
        known = _find({key.place: key.stamp for key in keys if key is not None})
        missing = [k for k, key in enumerate(keys) if key is None or key.place not in known]
        return cls(keys, known, read([files[k] for k in missing], [frames[k] for k in missing]))

    def rows(self) -> list[Row | DataError]:
        """Return the row of each file once all are read, and keep the new ones in the cache."""
        found: list[Row | DataError] = []
        new: dict[_Key, Row] = {}
        for key in self.keys:
            if key is not None and key.place in self.known:
                found.append(self.known[key.place])
                continue
            row = next(self.read)
            if key is not None and key.settled and not isinstance(row, DataError):
                new[key] = row
            found.append(row)
        _write(new)
        return found


def _processes(count: int) -> int:
    """Return how many processes read the files of a set of `count`."""
    if count < _MANY:
        return 1
    from joblib import cpu_count  # heeds what a container may use

    return min(_MOST_PROCESSES, int(cpu_count()))


@contextmanager
def _open_reader(window: str, *, processes: int) -> Iterator[_Reader]:
    """Yield what reads files, each with its frame: threads of this process, or other processes if there are several.

    Threads read small images hardly faster than one after the other: most of it is Python's own work.
    """
    in_threads = partial(examine_all, read=_facts_of, window=window)
    if processes < 2:
        yield in_threads
        return
    # Unlike those of the standard library, these processes do not run the user's script once more.
    from joblib.externals.loky import BrokenProcessPool, ProcessPoolExecutor

    with without_interrupts():
        pool = ProcessPoolExecutor(processes, initializer=_start_process, initargs=(os.getpid(),))

    def in_processes(files: Sequence[Path], frames: Sequence[str]) -> Iterator[Row | DataError]:
        if len(files) < _AT_ONCE // 2:  # the cache has most of them
            return in_threads(files, frames)
        names = [os.fspath(file) for file in files]
        parts = [slice(start, start + _IN_TURN) for start in range(0, len(files), _IN_TURN)]
        read = partial(examine, read=_facts_of, window=window)
        with without_interrupts():
            found = pool.map(read, [names[part] for part in parts], [frames[part] for part in parts])
        return chain.from_iterable(found)

    try:
        yield in_processes
    except BrokenProcessPool as error:
        raise ResourceError("a worker process died, possibly out of memory", "close other programs") from error
    finally:
        pool.shutdown(kill_workers=True)


def _start_process(parent: int) -> None:
    """Prepare a process that reads images, and let it end with its parent, which it would outlive if that is killed."""
    warnings.simplefilter("ignore")

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def read_thumbnails(array: np.ndarray) -> Iterator[bytes]:
    """Yield the thumbnail of each image of an array uint8 (N, H, W) or (N, H, W, 3), from the cache or made now."""
    header = Header(array.shape[2], array.shape[1], "L" if array.ndim == 3 else "RGB")
    for start in range(0, len(array), _AT_ONCE):
        some = array[start : start + _AT_ONCE]
        if len(array) < _LEAST:
            yield from map(thumbnail_of, map(Image.fromarray, some))
            continue
        digests = [_digest(pixels) for pixels in some]
        keys = [_key(digest, b"") for digest in digests]
        known = _find({key.place: key.stamp for key in keys})
        rows = {
            key: (Facts(header, digest.hex()[:16], is_blank(pixels), None), thumbnail_of(Image.fromarray(pixels)))
            for key, digest, pixels in zip(keys, digests, some, strict=True)
            if key.place not in known
        }
        _write(rows)
        made = {key.place: row for key, row in rows.items()}
        yield from ((known.get(key.place) or made[key.place])[1] for key in keys)


def _facts_of(image: Examined) -> Row:
    facts = Facts(image.header, fingerprint_of(image.stored), is_blank(image.stored), image.highest)
    return facts, thumbnail_of(image.shown)


class _Key(NamedTuple):
    """Where an image's row is, what it must state, and whether it may be written."""

    place: int
    stamp: bytes
    settled: bool


def _key(name: bytes, state: bytes, *, settled: bool = True) -> _Key:
    place = int.from_bytes(blake2b(name, digest_size=8).digest(), "big", signed=True)
    return _Key(place, blake2b(b"\0".join((_MADE_WITH, state, name)), digest_size=16).digest(), settled)


def _keys(files: Sequence[Path], frames: Sequence[str], *, count: int) -> list[_Key | None]:
    """Return the key of each file of a set of `count`; None for those that are read each time."""
    if count < _LEAST:
        return [None] * len(files)
    folder, now = os.getcwdb(), time.time_ns()
    found: list[_Key | None] = []
    for file, frame in zip(files, frames, strict=True):
        try:
            stat = None if frame or format_of(file) else os.stat(file)
        except OSError:  # reading it says what is wrong
            stat = None
        if stat is None:
            found.append(None)
            continue
        state = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}".encode()
        settled = abs(now - max(stat.st_mtime_ns, stat.st_ctime_ns)) > _SETTLED
        found.append(_key(os.path.join(folder, os.fsencode(file)), state, settled=settled))
    return found


def _file() -> Path:
    return thumbnails_root() / f"images-{_FORMAT}.sqlite"


def _find(stamps: Mapping[int, bytes]) -> dict[int, Row]:
    """Return the rows at these places that have these stamps, as far as there are any."""
    path, found = _file(), dict[int, Row]()
    if not stamps or not path.is_file():
        return found
    query = f"SELECT {_COLUMNS} FROM images WHERE place IN ({', '.join(['?'] * len(stamps))})"
    headers: dict[str, tuple[Header, bool, int | None]] = {}  # most images have the same
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_PATIENCE)) as base:
            for place, stamp, text, fingerprint, thumbnail, seal in base.execute(query, [*stamps]):
                if stamp != stamps[place]:
                    continue
                if seal != _seal(stamp, text, fingerprint, thumbnail):
                    raise sqlite3.DatabaseError("a row's content differs from the hash in it")
                if text not in headers:
                    header, blank, highest = json.loads(text)
                    headers[text] = Header(*header), blank, highest
                header, blank, highest = headers[text]
                found[place] = Facts(header, fingerprint, blank, highest), thumbnail
    except (sqlite3.DatabaseError, TypeError, ValueError) as error:
        if _is_damage(error):
            _remove(path, error)
            return {}
        logger.debug(f"{path} cannot be read: {error}")
    with suppress(OSError):  # the cache may be read-only
        os.utime(path.parent)  # used now, as `medzoo cache` shows
    return found


def _write(rows: Mapping[_Key, Row]) -> None:
    """Write rows, as far as the disk allows."""
    if not rows:
        return
    path, values, texts = _file(), [], dict[tuple[object, ...], str]()
    for key, ((header, fingerprint, blank, highest), thumbnail) in rows.items():
        if (stated := (header, blank, highest)) not in texts:  # most images have the same
            texts[stated] = json.dumps(stated)
        text = texts[stated]
        seal = _seal(key.stamp, text, fingerprint, thumbnail)
        values.append((key.place, key.stamp, text, fingerprint, thumbnail, seal))
    with optional_cache(), disk_errors(path):
        make_folder(path.parent)
        try:
            with closing(sqlite3.connect(path, timeout=_PATIENCE)) as base, base:
                base.execute(_TABLE)
                base.executemany(f"INSERT OR REPLACE INTO images ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", values)
        except sqlite3.DatabaseError as error:
            if _is_damage(error):
                _remove(path, error)
            elif number := _REASONS.get(_name(error)):
                raise OSError(number, str(error)) from error
            else:  # most often, another process writes
                logger.debug(f"{path} cannot be written: {error}")


def _seal(stamp: bytes, text: str, fingerprint: str, thumbnail: bytes) -> bytes:
    return blake2b(b"\0".join((stamp, text.encode(), fingerprint.encode(), thumbnail)), digest_size=8).digest()


def _name(error: Exception) -> str:
    """Return SQLite's name of an error, such as SQLITE_FULL, without what it adds for special cases."""
    return "_".join(str(getattr(error, "sqlite_errorname", "")).split("_")[:2])


def _is_damage(error: Exception) -> bool:
    return not isinstance(error, sqlite3.OperationalError) or _name(error) in _DAMAGED


def _remove(path: Path, error: Exception) -> None:
    """Remove a damaged file, of which all can be read again."""
    logger.warning(f"{path} is damaged: {error}; reading the images again")
    with suppress(OSError):
        path.unlink()
