"""A dataset's images in one size, decoded once: they lie in a file of the cache that later runs map into memory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from medzoo.data.dataset import Dataset, fingerprint_of
from medzoo.data.images import prepare
from medzoo.errors import DataError, MedzooError, ResourceError
from medzoo.storage.files import disk_errors, make_folder, write_json_atomic
from medzoo.storage.paths import pixels_root

_PIXELS = "pixels.npy"
_INDEX = "index.json"
_FORMAT = 1  # of the two files; it is part of the key


class Decoded:
    """Images uint8 (N, C, size, size), readable as soon as they are decoded; a thread sees to those that are not yet.

    Raises, when images are asked for: DataError if one cannot be read, ResourceError if the cache cannot hold them.
    """

    def __init__(self, dataset: Dataset, *, size: int, channels: int, crop: str) -> None:
        self.dataset = dataset
        self.size, self.channels, self.crop = size, channels, crop
        self._folder = pixels_root() / self._key()
        self._changed = threading.Condition()
        self._ready = 0
        self._error: BaseException | None = None
        self._fingerprints: list[str] = []
        self._digest = ""
        self._pixels: np.ndarray | None = None
        if kept := self._cached():
            self._pixels, self._fingerprints, self._digest = kept
            self._ready = len(self)
            os.utime(self._folder)  # used now, as `medzoo cache` shows
        else:
            threading.Thread(target=self._decode, name=f"decode {dataset.path}", daemon=True).start()

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
        facts: list[object] = [_FORMAT, self.size, self.channels, self.crop]
        if self.dataset.array is not None:
            facts += [self.dataset.array.shape, hashlib.sha256(self.dataset.array.tobytes()).hexdigest()]
        for file in self.dataset.files or ():
            try:
                stat = file.stat()
            except OSError as error:
                raise DataError(f"{file} cannot be read: {error.strerror}", "check the path") from None
            facts.append([str(file.absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns])
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]

    def _cached(self) -> tuple[np.ndarray, list[str], str] | None:
        """Return the images decoded by an earlier run, their fingerprints and digest, if there are any."""
        try:
            index = json.loads((self._folder / _INDEX).read_text("utf-8"))
            pixels: np.ndarray = np.load(self._folder / _PIXELS, mmap_mode="r", allow_pickle=False)
            fingerprints, digest = list(index["fingerprints"]), str(index["digest"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if pixels.shape != self._shape or pixels.dtype != np.uint8 or len(fingerprints) != len(self):
            return None
        return pixels, fingerprints, digest

    @property
    def _shape(self) -> tuple[int, int, int, int]:
        return len(self), self.channels, self.size, self.size

    def _decode(self) -> None:
        part = self._folder.with_name(f".{self._folder.name}.{os.urandom(6).hex()}.part")
        failure: BaseException | None = None
        try:
            with disk_errors(self._folder):
                make_folder(part)
                self._fill(part)
        except BaseException as error:  # noqa: BLE001 - a thread has no one to raise to: whoever waits raises it
            failure = error
        shutil.rmtree(part, ignore_errors=True)
        with self._changed:
            self._error = failure
            self._changed.notify_all()

    def _fill(self, part: Path) -> None:
        pixels = np.lib.format.open_memmap(part / _PIXELS, mode="w+", dtype=np.uint8, shape=self._shape)
        with self._changed:
            self._pixels = pixels
        digest = hashlib.sha256(repr(self._shape).encode())
        for place, (fingerprint, square) in enumerate(self._squares()):
            pixels[place] = square
            digest.update(square.tobytes())
            with self._changed:
                self._fingerprints.append(fingerprint)
                self._ready = place + 1
                self._changed.notify_all()
        pixels.flush()
        write_json_atomic(part / _INDEX, {"fingerprints": self._fingerprints, "digest": digest.hexdigest()})
        if not self._cached():  # another run may have been faster; what is there and unsound gives way
            shutil.rmtree(self._folder, ignore_errors=True)
            part.replace(self._folder)
        with self._changed:
            self._digest = digest.hexdigest()
            self._changed.notify_all()

    def _squares(self) -> Iterator[tuple[str, np.ndarray]]:
        for stored in self.dataset.all_pixels():
            square = prepare(stored, size=self.size, channels=self.channels, crop=self.crop)
            yield fingerprint_of(stored), square

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
