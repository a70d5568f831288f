"""A dataset's images in one size, decoded once: they lie in a file of the cache that later runs map into memory.

Space for the whole file is reserved first: a write to a memory map of a full disk would kill the process. A run that
opens the file compares it with its SHA-256, at about 600 MB/s, and decodes the images again if it is damaged.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import repeat
from pathlib import Path

import numpy as np

from medzoo.data.dataset import Dataset
from medzoo.data.image_facts import fingerprint_of
from medzoo.data.pixels import prepare
from medzoo.errors import DataError, MedzooError, ResourceError
from medzoo.storage.files import (
    disk_errors,
    make_folder,
    mark_in_use,
    optional_cache,
    read_json,
    remove_partial_files,
    temporary_name,
    with_checksum,
    without_checksum,
    write_json_atomic,
)
from medzoo.storage.paths import cache_path

logger = logging.getLogger(__name__)

_PIXELS = "pixels.npy"
_INDEX = "index.json"
_FORMAT = 1  # of the two files; it is part of the key
_CHUNK = 1 << 24


class Decoded:
    """Images uint8 (N, C, size, size), readable as soon as they are decoded; a thread sees to those that are not yet.

    They are kept in memory alone if the cache cannot be written.

    Raises: ResourceError if the disk of the cache is full; DataError, when images are asked for, if one cannot be read.
    """

    def __init__(self, dataset: Dataset, *, size: int, channels: int, crop: str) -> None:
        self.dataset = dataset
        self.size, self.channels, self.crop = size, channels, crop
        self._folder = cache_path("pixels", self._key())
        self._changed = threading.Condition()
        self._ready = 0
        self._error: BaseException | None = None
        self._fingerprints: list[str] = []
        self._digest = ""
        self._pixels: np.ndarray | None = None
        if kept := self._cached():
            self._pixels, self._fingerprints, self._digest = kept
            self._ready = len(self)
            with suppress(OSError):  # the cache may be read-only
                os.utime(self._folder)  # used now, as `medzoo cache` shows
        else:
            in_use = ExitStack()  # until the last image is decoded
            self._pixels, part = self._reserve(in_use)
            thread = threading.Thread(
                target=self._decode, args=(self._pixels, part, in_use), name=f"decode {dataset.path}", daemon=True
            )
            thread.start()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the images at `index`, copied: uint8 (n, C, size, size). Waits for those not decoded yet."""
        chosen = index if isinstance(index, slice) else np.asarray(index, np.int64).reshape(-1)
        last = max(range(len(self))[chosen] if isinstance(chosen, slice) else chosen, default=-1)
        return np.array(self._wait(int(last) + 1)[chosen])

    @property
    def complete(self) -> bool:
        """Whether every image is there without waiting."""
        with self._changed:
            return bool(self._digest)

    @property
    def digest(self) -> str:
        """The SHA-256 of all pixels in order, in 64 hex digits. Waits for the last image."""
        self._wait(len(self))
        with self._changed:
            self._changed.wait_for(lambda: bool(self._digest) or self._error is not None)
        self._raise()
        return self._digest

    def fingerprints(self) -> tuple[str, ...]:
        """Return `Dataset.fingerprints` of the images as stored, without decoding them once more."""
        assert self.digest
        return tuple(self._fingerprints)

    def _key(self) -> str:
        """Identify the files as they are decoded: other bytes in one of them change its time or its size."""
        facts: list[object] = [_FORMAT, self.size, self.channels, self.crop, self.dataset.depth]
        if self.dataset.array is not None:
            facts += [
                self.dataset.array.shape,
                hashlib.sha256(np.ascontiguousarray(self.dataset.array).data).hexdigest(),
            ]
        if self.dataset.frames is not None:
            facts += [self.dataset.window, *self.dataset.frames]
        for file in self.dataset.files or ():
            try:
                stat = file.stat()
            except OSError as error:
                raise DataError(f"{file} cannot be read: {error.strerror}", "check the path") from None
            facts.append([str(file.absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns])
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]

    def _cached(self) -> tuple[np.ndarray, list[str], str] | None:
        """Return the images decoded by an earlier run, their fingerprints and digest, if they are there and intact."""
        if not self._folder.is_dir():
            return None
        try:
            index = without_checksum(read_json(self._folder / _INDEX), required=True)
            pixels: np.ndarray = np.load(self._folder / _PIXELS, mmap_mode="r", allow_pickle=False)
            fingerprints, digest = list(index["fingerprints"]), str(index["digest"])
            fits = pixels.shape == self._shape and pixels.dtype == np.uint8 and len(fingerprints) == len(self)
        except KeyError:  # an earlier version wrote no checksums
            return None
        except (OSError, ValueError, TypeError, AttributeError):
            fits = False
        if not fits or self._digest_of(pixels) != digest:
            logger.warning(f"{self._folder} is damaged; decoding the images of {self.dataset.path} again")
            shutil.rmtree(self._folder, ignore_errors=True)
            return None
        return pixels, fingerprints, digest

    def _digest_of(self, pixels: np.ndarray) -> str:
        """Return the SHA-256 of all pixels."""
        digest, flat = hashlib.sha256(repr(self._shape).encode()), pixels.reshape(-1)
        for start in range(0, len(flat), _CHUNK):  # in pieces, so that no more of the file is in memory at a time
            digest.update(flat[start : start + _CHUNK].data)
        return digest.hexdigest()

    @property
    def _shape(self) -> tuple[int, int, int, int]:
        return len(self), self.channels, self.size, self.size

    def _reserve(self, in_use: ExitStack) -> tuple[np.ndarray, Path | None]:
        """Return room for the pixels, and the new folder that holds it; in memory, and None, without a cache."""
        part = temporary_name(self._folder)
        remove_partial_files(part.parent)
        with optional_cache():
            make_folder(part)
        if not part.is_dir():
            return np.zeros(self._shape, np.uint8), None
        in_use.enter_context(mark_in_use(part, folder=True))
        try:
            with disk_errors(self._folder):
                pixels = np.lib.format.open_memmap(part / _PIXELS, mode="w+", dtype=np.uint8, shape=self._shape)
                if hasattr(os, "posix_fallocate"):
                    with (part / _PIXELS).open("r+b") as file:
                        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            in_use.close()
            raise
        return pixels, part

    def _decode(self, pixels: np.ndarray, part: Path | None, in_use: ExitStack) -> None:
        failure: BaseException | None = None
        try:
            self._fill(pixels, part)
        except BaseException as error:  # noqa: BLE001 - a thread has no one to raise to: whoever waits raises it
            failure = error
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
        in_use.close()
        with self._changed:
            self._error = failure
            self._changed.notify_all()

    def _fill(self, pixels: np.ndarray, part: Path | None) -> None:
        digest = hashlib.sha256(repr(self._shape).encode())
        for place, (fingerprint, square) in enumerate(self._squares()):
            pixels[place] = square
            digest.update(square.tobytes())
            with self._changed:
                self._fingerprints.append(fingerprint)
                self._ready = place + 1
                self._changed.notify_all()
        if part is not None:
            with optional_cache(), disk_errors(self._folder):
                self._keep(pixels, part, digest.hexdigest())
        with self._changed:
            self._digest = digest.hexdigest()
            self._changed.notify_all()

    def _keep(self, pixels: np.ndarray, part: Path, digest: str) -> None:
        """Move the folder `part`, which holds the pixels, to where later runs find it."""
        assert isinstance(pixels, np.memmap)
        pixels.flush()
        if not (part / _PIXELS).is_file():  # somebody has emptied the cache meanwhile
            return
        write_json_atomic(part / _INDEX, with_checksum({"fingerprints": self._fingerprints, "digest": digest}))
        if not self._cached():  # another run may have been faster; what is there and unsound gives way
            shutil.rmtree(self._folder, ignore_errors=True)
            part.replace(self._folder)

    def _squares(self) -> Iterator[tuple[str, np.ndarray]]:
        # Pixels scaled from more than 8 bits, or shown through a window, are not those that have the fingerprint.
        known = repeat("") if self.dataset.decoded_as_stored else self.dataset.fingerprints()
        for stored, fingerprint in zip(self.dataset.all_pixels(), known, strict=False):
            square = prepare(stored, size=self.size, channels=self.channels, crop=self.crop)
            yield fingerprint or fingerprint_of(stored), square

    def _wait(self, count: int) -> np.ndarray:
        """Return the file's pixels once the first `count` are decoded."""
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or self._ready >= count)
            pixels = self._pixels
        self._raise()
        assert pixels is not None or count == 0
        return pixels if pixels is not None else np.empty((0, *self._shape[1:]), np.uint8)

    def _raise(self) -> None:
        if isinstance(self._error, MedzooError):
            raise type(self._error)(self._error.message, self._error.hint) from self._error
        if self._error is not None:
            raise ResourceError(f"cannot decode the images of {self.dataset.path}: {self._error}") from self._error
