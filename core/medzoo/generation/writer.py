"""Write the folder of a run: sampled images in the background, real images beside them, metadata.csv, contact sheet."""

from __future__ import annotations

import csv
import errno
import filecmp
import hashlib
import io
import os
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np

from medzoo.data.content_credentials import ManifestSigner
from medzoo.data.dataset import Dataset
from medzoo.data.images import decode, encode_png, spread, write_image
from medzoo.data.marks import COMPOSITE, EDITED, TRAINED, Mark
from medzoo.data.metadata import FIELDS, LABELS, METADATA
from medzoo.data.pixels import contact_sheet, prepare, to_gray
from medzoo.data.secondary_capture import is_whole_dicom
from medzoo.errors import DataError
from medzoo.generation.plan import FORMATS, PlannedImage, distinct, label_folder
from medzoo.generation.sampler import Sampler
from medzoo.runs.record import read_run
from medzoo.storage.files import disk_errors, join_name, make_folder, temporary_beside, write_file

ORIGINALS = ("link", "copy", "gray", "omit")
_COLUMNS = 8
_TILE_SIDE = 96
# Errors of hard links where a copy is possible: another disk, a disk without links, too many links.
_UNLINKABLE = {errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EACCES}
_PNG = b"\x89PNG\r\n\x1a\n"


class ImageWriter:
    """Encode and write images in a few threads, with at most `max_pending` of them in memory.

    As a context manager, it waits for the last file on exit, after an interrupt too, because sampling costs more than
    writing. A failure to write is raised by the next call, and the pending images are dropped. With a `signer`, marked
    images are signed.
    """

    def __init__(self, *, threads: int = 2, max_pending: int = 64, signer: ManifestSigner | None = None) -> None:
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="writer")
        self._pending: deque[Future[None]] = deque()
        self._max_pending = max_pending
        self._failed = False
        self._signer = signer

    def write(self, path: Path, image: np.ndarray | bytes, mark: Mark | None = None) -> None:
        """Queue uint8 (C, H, W), or the bytes of a file with its mark, to be written to `path`.

        Raises: ResourceError, perhaps for an earlier image.
        """
        self._wait(self._max_pending - 1)
        if self._signer is not None and mark is not None:
            self._pending.append(self._pool.submit(_write_signed, path, image, mark, self._signer))
        elif isinstance(image, bytes):
            self._pending.append(self._pool.submit(write_file, path, image))
        else:
            self._pending.append(self._pool.submit(write_image, path, image, mark))

    def finish(self) -> None:
        """Wait for every file. Raises: ResourceError."""
        self._wait(0)

    def _wait(self, pending: int) -> None:
        while len(self._pending) > pending:
            self._failed = True  # unless the result says otherwise
            self._pending.popleft().result()
            self._failed = False

    def __enter__(self) -> ImageWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=self._failed)


def _write_signed(path: Path, image: np.ndarray | bytes, mark: Mark, signer: ManifestSigner) -> None:
    write_file(path, signer.sign(image if isinstance(image, bytes) else encode_png(image, mark), mark))


def is_written(path: Path) -> bool:
    """Return whether `path` is a file with content."""
    try:
        return path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False


def original_files(data: Dataset, *, how: str = "link") -> list[str]:
    """Return the file of each real image in the run's folder: in its class folder, under its own name made unique.

    `how` as in `place_originals`.
    """
    found: list[str] = []
    for index, name in enumerate(data.names):
        file = data.file(index)
        own = file.name if file is not None and how != "gray" else join_name(Path(name).stem, ".png")
        if file is None or own.startswith("synthetic-"):
            own = join_name(f"real-{Path(own).stem}", Path(own).suffix)
        found.append(own)
    folders = [label_folder(data.classes[label]) for label in data.labels.tolist()]
    for folder in dict.fromkeys(folders):
        chosen = [index for index, own in enumerate(folders) if own == folder]
        for index, name in zip(chosen, distinct([found[index] for index in chosen]), strict=True):
            found[index] = f"{folder}/{name}"
    return found


def place_originals(data: Dataset, files: Sequence[str], folder: Path, *, how: str) -> str:
    """Put the real images into `folder`, and return how: "link", "copy" or "gray". Existing files are left alone.

    Originals keep their bytes; images without a file (npz, simulated), and all with "gray", are written as 8-bit PNG.
    Raises: ResourceError.
    """
    for index, name in enumerate(files):
        target, source = folder / name, data.file(index)
        if is_written(target):
            continue
        if source is None or how == "gray":
            pixels = to_gray(data.pixels(index)) if how == "gray" else data.pixels(index)
            write_image(target, pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
        elif how == "copy" or not _linked(source.resolve(), target):
            how = "copy"
            _copy(source, target)
    return how


def place_file(source: Path, target: Path) -> None:
    """Put a file that is not in a folder yet into it, as a hard link or else a copy. Raises: ResourceError."""
    if not is_written(target) and not _linked(source.resolve(), target):
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    with temporary_beside(target) as temporary:
        shutil.copyfile(source, temporary)
        temporary.replace(target)


def _linked(source: Path, target: Path) -> bool:
    make_folder(target.parent)
    with disk_errors(target):
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno == errno.EEXIST:  # another shard was faster, or a crash left an empty file to replace
                return is_written(target)
            if error.errno not in _UNLINKABLE:
                raise
            return False
    return True


def recorded_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that metadata.csv lists; {} unless it is the one that run.json names."""
    try:
        record = read_run(folder)
        stated = {row["file"]: row["sha256"] for row in record["outputs"]} if record is not None else {}
        data = (folder / METADATA).read_bytes()
    except (DataError, OSError, KeyError, TypeError):
        return {}
    if stated.get(METADATA) != hashlib.sha256(data).hexdigest():
        return {}
    return {row["file_name"]: row["sha256"] for row in csv.DictReader(io.StringIO(data.decode()))}


def is_damaged_image(path: Path, recorded: str | None) -> bool:
    """Return whether an image that was written here has other content than `recorded`, its SHA-256.

    Where that is None, whether the checksums inside a PNG are wrong, or a DICOM file lacks pixels. False if there is no
    such file.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return False
    is_whole = is_whole_dicom if path.suffix == FORMATS["dicom"] else is_whole_png
    return not is_whole(data) if recorded is None else hashlib.sha256(data).hexdigest() != recorded


def is_whole_png(data: bytes) -> bool:
    """Return whether `data` is a PNG file whose every byte is there and covered by a correct CRC-32."""
    place, kind = len(_PNG), b""
    while kind != b"IEND":
        start = place + 4
        length = int.from_bytes(data[place:start], "big")
        kind, place = data[start : start + 4], start + 4 + length + 4
        if place > len(data) or zlib.crc32(data[start : place - 4]) != int.from_bytes(data[place - 4 : place], "big"):
            return False
    return data.startswith(_PNG) and place == len(data)


def is_damaged_original(path: Path, recorded: str | None, source: Path | None) -> bool:
    """Return whether a real image in a run's folder has other content than `recorded`, its SHA-256.

    Where that is None, than the file `source` it was copied from; or as `is_damaged_image` if it was written here.
    """
    if recorded is not None or source is None:
        return is_damaged_image(path, recorded)
    try:
        return not path.samefile(source) and not filecmp.cmp(path, source, shallow=False)
    except FileNotFoundError:
        return False


def listing_digest(data: Dataset) -> str:
    """Return the SHA-256 of the images' names and labels in order, on which file names and img2img sources depend."""
    lines = (f"{name}\t{data.classes[label]}" for name, label in zip(data.names, data.labels.tolist(), strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def write_metadata(folder: Path, sampler: Sampler, originals: Sequence[str], *, multi_label: bool = False) -> Path:
    """Write metadata.csv, one row per file: originals first, then synthetic images in the plan's order.

    The column of labels is called `metadata.LABELS` where images have several, so that they are read as such.

    Raises: ResourceError.
    """
    path, real = folder / METADATA, sampler.real if originals else None
    with temporary_beside(path) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([LABELS if multi_label and field == "label" else field for field in FIELDS])
            rows: list[tuple[str, ...]] = []
            if real is not None:
                labels = [real.classes[label] for label in real.labels.tolist()]
                facts = zip(originals, labels, real.names, strict=True)
                rows = [(name, label, "real", "", "", "", source, "") for name, label, source in facts]
            for image in sampler.plan.images():
                mark = sampler.mark(image)
                strength = str(mark.strength) if mark.strength < 1.0 else ""
                made = (mark.generator, mark.weights_sha256 or "", str(mark.seed), sampler.source_name(image), strength)
                rows.append((image.file, image.label, "synthetic", *made))
            for row in rows:
                digest = hashlib.sha256((folder / row[0]).read_bytes()).hexdigest()
                writer.writerow((*row, digest))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    return path


def sheet_beside(folder: Path) -> Path:
    """Return the path of a folder's contact sheet: beside it, as Hugging Face expects metadata of images inside."""
    named = folder if folder.name not in ("", "..") else folder.resolve()
    return named.parent / join_name(named.name, ".contact-sheet.png")


def write_sheet(
    path: Path,
    sampler: Sampler,
    labels: Sequence[str],
    *,
    look: Callable[[PlannedImage], np.ndarray],
    tiles: int = _COLUMNS,
    rejected: Mapping[str, Sequence[Path]] | None = None,
) -> bool:
    """Write a contact sheet: for each label a row of real and one of up to `tiles` synthetic images.

    Above variations stand their sources, image by image, in place of other real images.
    `look` returns the pixels of an image as decoded. Where the images were selected, `rejected` are the files of some
    that were not, by label, for a third row. Returns False if there is nothing to show. Raises: ResourceError.
    """
    size = max(model.image.size for model in sampler.models)
    channels = max(model.image.channels for model in sampler.models)
    crop = sampler.models[0].crop
    rows: list[tuple[str, np.ndarray]] = []
    for label in labels:
        shown = sampler.plan.spread(label, tiles)
        made = [look(image) for image in shown]
        stored: list[np.ndarray] = []
        varied = bool(shown) and all(sampler.models[image.generator].strength < 1.0 for image in shown)
        if sampler.real is not None and label in sampler.real.classes:
            own = np.flatnonzero(sampler.real.labels == sampler.real.classes.index(label))
            few = [int(own[place]) for place in spread(len(own), _COLUMNS)]  # evenly over the data
            chosen = [source for image in shown if (source := sampler.source(image)) is not None] if varied else few
            stored = [sampler.real.pixels(index) for index in chosen]
        others = [decode(path) for path in (rejected or {}).get(label, ())[:_COLUMNS]]
        synthetic = "synthetic" if rejected is None else "kept"
        real = "source" if varied else "real"
        for origin, pixels, how in ((real, stored, crop), (synthetic, made, "none"), ("rejected", others, "none")):
            if pixels:
                squares = [prepare(each, size=size, channels=channels, crop=how) for each in pixels]
                rows.append((f"{label}\n{origin}", np.stack(squares)))
    if rows:
        generative = any(model.digital_source_type in (TRAINED, EDITED) for model in sampler.models)
        mark = Mark(source_type=COMPOSITE) if generative and sampler.plan.total else None
        write_image(path, contact_sheet(rows, columns=_COLUMNS, scale=max(1, _TILE_SIDE // size)), mark)
    return bool(rows)
