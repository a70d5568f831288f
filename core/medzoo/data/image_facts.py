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
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from hashlib import blake2b, sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from PIL import Image

from medzoo.data.images import Examined, Header, examine_all, format_of, probe
from medzoo.errors import DataError
from medzoo.storage.files import disk_errors, make_folder, optional_cache
from medzoo.storage.paths import thumbnails_root

logger = logging.getLogger(__name__)

THUMBNAIL = 32
"""The side of thumbnails in pixels."""

_FORMAT = 1
# Sets of fewer images are read about as fast as found.
_LEAST = 200
_AT_ONCE = 512  # images read, and rows written; some builds of SQLite take 999 values in a query
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


def fingerprint_of(pixels: np.ndarray) -> str:
    """Return the first 16 hex digits of the SHA-256 of an image's shape and pixels, as `decode` gives them."""
    return _digest(pixels).hex()[:16]


def _digest(pixels: np.ndarray) -> bytes:
    return sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()


def is_blank(pixels: np.ndarray) -> bool:
    """Return whether an image, uint8 (H, W) or (H, W, 3), is one color all over."""
    return bool((pixels == pixels[:1, :1]).all())


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


def read_files(
    files: Sequence[Path], frames: Sequence[str] | None, *, window: str
) -> Iterator[tuple[Facts, bytes] | DataError]:
    """Yield the facts and the thumbnail of each file in order, from the cache or read now, several at once.

    A bad file yields its DataError. `window` shows DICOM and NIfTI files; thumbnails of other files of more than 8 bits
    a channel are scaled from the bits that the image uses.
    """
    of_files = frames or [""] * len(files)
    for start in range(0, len(files), _AT_ONCE):
        some, own = files[start : start + _AT_ONCE], of_files[start : start + _AT_ONCE]
        keys = _keys(some, own, count=len(files))
        known = _find({key.place: key.stamp for key in keys if key is not None})
        missing = [k for k, key in enumerate(keys) if key is None or key.place not in known]
        read = examine_all([some[k] for k in missing], _facts_of, frames=[own[k] for k in missing], window=window)
        found = dict(zip(missing, read, strict=True))
        new: dict[_Key, tuple[Facts, bytes]] = {}
        for k, row in found.items():
            if (key := keys[k]) is not None and key.settled and not isinstance(row, DataError):
                new[key] = row
        _write(new)
        for k, key in enumerate(keys):
            yield known[key.place] if key is not None and key.place in known else found[k]


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


def _facts_of(image: Examined) -> tuple[Facts, bytes]:
    facts = Facts(image.header, fingerprint_of(image.stored), is_blank(image.stored), image.highest)
    return facts, thumbnail_of(image.shown)


class _Key(NamedTuple):
    """Where an image's row is, what it must state, and whether it may be written."""

    place: int
    stamp: bytes
    settled: bool


def _key(name: bytes, state: bytes, *, settled: bool = True) -> _Key:
    place = int.from_bytes(blake2b(name, digest_size=8).digest(), "big", signed=True)
    made_with = f"{_FORMAT} {PIL.__version__}".encode()
    return _Key(place, blake2b(b"\0".join((made_with, state, name)), digest_size=16).digest(), settled)


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


def _find(stamps: Mapping[int, bytes]) -> dict[int, tuple[Facts, bytes]]:
    """Return the rows at these places that have these stamps, as far as there are any."""
    path, found = _file(), dict[int, tuple[Facts, bytes]]()
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


def _write(rows: Mapping[_Key, tuple[Facts, bytes]]) -> None:
    """Write rows, as far as the disk allows."""
    if not rows:
        return
    path, values = _file(), []
    for key, ((header, fingerprint, blank, highest), thumbnail) in rows.items():
        text = json.dumps([header, blank, highest])
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
