"""Files of a filling job, written while the next pictures are drawn; originals put beside them."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np

from medzoo.data.dataset import Dataset
from medzoo.data.images import write_image
from medzoo.generation.plan import distinct
from medzoo.storage.files import disk_errors, make_folder, temporary_beside

ORIGINALS = ("link", "copy", "omit")

# Why a hard link cannot be made although a copy can: another disk, a disk without links, too many links.
_UNLINKABLE = {errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EACCES}
_STALE_SECONDS = 60.0


class PictureWriter:
    """Encodes and writes pictures in a few threads; at most `waiting` of them are held in memory.

    Used as a context: its end waits for the last file, after an interrupt too, for drawing costs more than writing. A
    failure to write is raised by the next call, and what waits then is dropped.
    """

    def __init__(self, *, threads: int = 2, waiting: int = 64) -> None:
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="writer")
        self._pending: deque[Future[None]] = deque()
        self._waiting = waiting
        self._failed = False

    def write(self, path: Path, pixels: np.ndarray) -> None:
        """Write uint8 (C, H, W) to `path`, soon. Raises: ResourceError, perhaps for an earlier picture."""
        self._settle(self._waiting - 1)
        self._pending.append(self._pool.submit(write_image, path, pixels))

    def finish(self) -> None:
        """Wait for every file. Raises: ResourceError."""
        self._settle(0)

    def _settle(self, waiting: int) -> None:
        while len(self._pending) > waiting:
            self._failed = True  # unless the result says otherwise
            self._pending.popleft().result()
            self._failed = False

    def __enter__(self) -> PictureWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=self._failed)


def is_there(path: Path) -> bool:
    """Whether `path` is a file that holds something."""
    try:
        return path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False


def original_files(data: Dataset) -> list[str]:
    """Where the job's folder keeps each real image: in its class folder under its own name, made distinct."""
    found = [""] * len(data)
    for number, label in enumerate(data.classes):
        own = np.flatnonzero(data.labels == number).tolist()
        for index, name in zip(own, distinct([_own_name(data, index) for index in own]), strict=True):
            found[index] = f"{label}/{name}"
    return found


def _own_name(data: Dataset, index: int) -> str:
    file = data.file(index)
    name = file.name if file is not None else f"{Path(data.names[index]).stem}.png"
    return f"real-{name}" if file is None or name.startswith("synthetic-") else name


def place_originals(data: Dataset, files: Sequence[str], folder: Path, *, how: str) -> str:
    """How the real images were put into `folder`: "link" or "copy"; those already there are left alone.

    Originals keep their bytes; images without a file of their own (npz, simulated) are written as PNG.
    Raises: ResourceError.
    """
    for index, name in enumerate(files):
        target, source = folder / name, data.file(index)
        if is_there(target):
            continue
        if source is None:
            pixels = data.pixels(index)
            write_image(target, pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
        elif how == "copy" or not _linked(source.resolve(), target):
            how = "copy"
            with temporary_beside(target) as temporary:
                shutil.copyfile(source, temporary)
                temporary.replace(target)
    return how


def _linked(source: Path, target: Path) -> bool:
    make_folder(target.parent)
    with disk_errors(target):
        try:
            os.link(source, target)
        except OSError as error:
            if (
                error.errno == errno.EEXIST
            ):  # another shard was faster, or a crash has left an empty file to be replaced
                return is_there(target)
            if error.errno not in _UNLINKABLE:
                raise
            return False
    return True


def sweep(folder: Path, *, before: float) -> None:
    """Nothing; half-written files of killed processes go: those from `before` (seconds since 1970), or a minute old."""
    stale = max(before, time.time() - _STALE_SECONDS)
    for path in (*folder.glob(".*.part"), *folder.glob("*/.*.part")):
        try:
            if path.stat().st_mtime < stale:
                path.unlink()
        except FileNotFoundError:  # its process was alive and has moved it into place
            continue
