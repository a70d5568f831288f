"""Labeled image sets: opened from folders, CSV or npz, fingerprinted, and prepared for a model."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from medzoo.data.folders import read_flat_folder
from medzoo.data.image_facts import Facts, fingerprint_of, is_blank, read_files, read_headers, read_thumbnails
from medzoo.data.images import Header, decode, decode_all, depth_of, highest_values, is_image, no_picture, spread
from medzoo.data.pixels import is_color, prepare
from medzoo.data.readers import Listing, read, take_frames
from medzoo.data.reading import Reading
from medzoo.data.summary import DataSummary, Findings
from medzoo.data.synthetic import synthetic_by_name
from medzoo.data.windows import FILE, describe_window, parse_window
from medzoo.errors import ConfigError, DataError, UnknownName
from medzoo.specs import ImageSpec

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Prepared images are kept in memory up to this size in bytes; beyond it they are decoded at each access.
CACHE_LIMIT = 2 * 1024**3
# Images looked at, evenly over the set, to tell whether it is in color.
_SAMPLE = 24


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Images with labels. Image i is `files[i]` or `array[i]`; its label is `labels[i]`.

    `labels` is int64 (N,), or float32 multi-hot (N, K). `names` are file names relative to the dataset, or
    "train/00012" in an npz. `held_out` holds the parts the path sets aside ("val", "test"); `bad` the files left out
    as unreadable, with the reason. `synthetic` are the names of images that a model made, and `findings` say how the
    path was read. Files of more than 8 bits a channel are read as of `depth` bits; `highest` is the highest value that
    any of them stores, held-out ones included, or None where there are none.

    Image i is the frame `frames[i]` of a DICOM or NIfTI file, "" for other files; `reading` says how these were taken,
    and which window shows them. `patient_keys` tell patients of several sets apart while the process
    runs, where `patients` are called P0001 and so on for want of names that may be written.
    """

    path: Path
    classes: tuple[str, ...]
    labels: np.ndarray
    names: tuple[str, ...]
    files: tuple[Path, ...] | None = None
    frames: tuple[str, ...] | None = None
    array: np.ndarray | None = None
    patients: tuple[str, ...] | None = None
    patient_keys: tuple[str, ...] | None = field(default=None, repr=False)
    held_out: Mapping[str, Dataset] = field(default_factory=dict)
    bad: tuple[tuple[str, str], ...] = ()
    synthetic: frozenset[str] = frozenset()
    findings: Findings = Findings()
    depth: int = 16
    highest: int | None = None
    reading: Reading = Reading()

    def __post_init__(self) -> None:
        if (self.files is None) == (self.array is None):
            raise DataError(f"{self.path}: images are given either as files or as an array")
        images: Sequence[Path] | np.ndarray | None = self.files if self.files is not None else self.array
        lengths = {len(self.labels), len(self.names), len(images if images is not None else ())}
        if len(lengths | ({len(self.patients)} if self.patients is not None else set())) != 1:
            raise DataError(f"{self.path}: images, labels, names and patients differ in number")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several classes, or none."""
        return self.labels.ndim == 2

    def file(self, index: int) -> Path | None:
        """Return the picture file that image `index` is, or None where it lies in an array or in a DICOM or NIfTI file.

        These are never linked or copied, as they hold data of patients.
        """
        volume = self.frames is not None and self.frames[index]
        return self.files[index] if self.files is not None and not volume else None

    @property
    def window(self) -> str:
        """The gray window of DICOM and NIfTI files, as `windows.parse_window` takes it; "" for the files' own."""
        return self.reading.window

    @property
    def has_volumes(self) -> bool:
        """Whether any image, held-out ones included, comes from a DICOM or NIfTI file."""
        return any(any(part.frames or ()) for part in (self, *self.held_out.values()))

    def pixels(self, index: int) -> np.ndarray:
        """Return image `index` as stored: uint8 (H, W) or (H, W, 3). Raises: DataError if its file cannot be read."""
        if self.files is None:
            pixels: np.ndarray = self._array[index]
            return pixels
        frame = self.frames[index] if self.frames is not None else ""
        return decode(self.files[index], frame=frame, depth=self.depth, window=self.window)

    def all_pixels(self) -> Iterator[np.ndarray]:
        """Yield every image as stored, in order, several decoded at once. Raises: DataError on an unreadable file."""
        yield from _readable(self._decoded(range(len(self))))

    def _decoded(self, indices: Sequence[int]) -> Iterator[np.ndarray | DataError]:
        """Yield these images in order, several decoded at once."""
        if self.files is None:
            yield from (self._array[index] for index in indices)
            return
        files = [self.files[index] for index in indices]
        frames = [self.frames[index] for index in indices] if self.frames is not None else None
        yield from decode_all(files, frames=frames, depth=self.depth, window=self.window)

    @property
    def _array(self) -> np.ndarray:
        assert self.array is not None  # __post_init__ has seen to it
        return self.array

    def counts(self) -> dict[str, int]:
        """Count images by class name, classes without any included."""
        found = self.hot().sum(axis=0) if self.multi_label else np.bincount(self.labels, minlength=len(self.classes))
        return dict(zip(self.classes, found.tolist(), strict=True))

    def hot(self) -> np.ndarray:
        """Return whether image i has class k: bool (N, K)."""
        if self.multi_label:
            return self.labels > 0
        return np.asarray(self.labels[:, None] == np.arange(len(self.classes)))

    def subset(self, indices: Sequence[int] | np.ndarray) -> Dataset:
        """Return the images at `indices`, in that order, with the same classes and nothing held out."""
        chosen = [int(index) for index in indices]
        synthetic = (
            self.synthetic.intersection(self.names[index] for index in chosen) if self.synthetic else frozenset()
        )
        found = replace(
            self,
            labels=self.labels[chosen],
            names=tuple(self.names[index] for index in chosen),
            files=tuple(self.files[index] for index in chosen) if self.files is not None else None,
            frames=tuple(self.frames[index] for index in chosen) if self.frames is not None else None,
            array=self.array[chosen] if self.array is not None else None,
            patients=tuple(self.patients[index] for index in chosen) if self.patients is not None else None,
            patient_keys=tuple(self.patient_keys[index] for index in chosen) if self.patient_keys else None,
            held_out={},
            bad=(),
            synthetic=synthetic,
        )
        for known in ("headers", "_facts"):  # so that no file is read again
            if known in self.__dict__:
                found.__dict__[known] = tuple(self.__dict__[known][index] for index in chosen)
        return found

    @cached_property
    def headers(self) -> tuple[Header, ...]:
        """What each image's header says. Raises: DataError for a file that is not an image."""
        if "_facts" in self.__dict__:
            return tuple(facts.header for facts in self._facts)
        if self.files is not None:
            return tuple(read_headers(self.files, self.frames))
        height, width = self._array.shape[1:3]
        return (Header(width, height, "L" if self._array.ndim == 3 else "RGB"),) * len(self)

    @cached_property
    def _share_in_color(self) -> float:
        """The share of the images stored as RGB that show color; a few are looked at, unreadable ones left out."""
        stored = [index for index, header in enumerate(self.headers) if not header.gray]
        sample = [stored[place] for place in spread(len(stored), _SAMPLE)]
        found = [is_color(pixels) for pixels in self._some_pixels(sample)]
        return sum(found) / len(found) if found else 0.0

    @property
    def channels(self) -> int:
        """3 if most of the images show color, else 1."""
        stored = sum(not header.gray for header in self.headers)
        return 3 if self._share_in_color * stored > len(self) / 2 else 1

    def _some_pixels(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield these images as stored, without those that cannot be read."""
        yield from (pixels for pixels in self._decoded(indices) if not isinstance(pixels, DataError))

    @property
    def decoded_as_stored(self) -> bool:
        """Whether images are decoded to the very values that are stored, of which fingerprints are."""
        return self.highest is None and not any(self.frames or ())

    def image_settings(self) -> dict[str, int | str]:
        """Return settings of a model of these images: image.channels; where they matter, image.depth and .window."""
        found: dict[str, int | str] = {"image.channels": self.channels}
        if self.highest is not None:
            found["image.depth"] = self.depth
        if self.has_volumes:
            found["image.window"] = self.window or FILE
        return found

    def with_depth(self, depth: int) -> Dataset:
        """Return the dataset, held-out parts included, with files of more than 8 bits read as of `depth` bits.

        Unchanged where there are no such files, or `depth` is 0. Raises: DataError if one stores a higher value.
        """
        if self.highest is None or depth in (0, self.depth):
            return self
        if self.highest >= 2**depth:
            raise DataError(
                f"{self.path} has values up to {self.highest}, more than the {depth} bits of the model's images",
                f"train with --set image.depth={depth_of(self.highest)}, or save these images with {depth} bits",
            )
        held_out = {part: images.with_depth(depth) for part, images in self.held_out.items()}
        return _kept_headers(self, replace(self, depth=depth, held_out=held_out))

    def with_window(self, window: str, *, whose: str) -> Dataset:
        """Return the dataset, held-out parts included, with DICOM and NIfTI files shown through `window`.

        Unchanged where there are no such files, or `window` is "".
        Raises: ConfigError, which says `whose` window it is, if another window is given already.
        """
        if not window or not self.has_volumes or window == self.window:
            return self
        if self.window and parse_window(self.window) != parse_window(window):
            raise ConfigError(
                f"{whose} shows images with the window {describe_window(window)}, "
                f"but {describe_window(self.window)} is given",
                "leave --window out",
            )
        if window != FILE:
            logger.info(f"{self.path}: {whose} shows DICOM and NIfTI images with the window {describe_window(window)}")
        reading = replace(self.reading, window=window)
        held_out = {
            part: _kept_headers(images, replace(images, reading=reading)) for part, images in self.held_out.items()
        }
        return _kept_headers(self, replace(self, reading=reading, held_out=held_out))

    def parts(self) -> dict[str, Dataset]:
        """Return "train" and the held-out parts by name, or "all" where nothing is held out."""
        return {"train" if self.held_out else "all": self, **self.held_out}

    def summary(self) -> DataSummary:
        """Say what the path was taken for, held-out parts included. Raises: DataError for a file that is no image."""
        parts = self.parts()
        headers = [header for part in parts.values() for header in part.headers]
        patients = {patient for part in parts.values() for patient in part.patients or ()}
        colored = "color" if self._share_in_color > 0 else "gray stored as RGB"
        return DataSummary(
            path=str(self.path),
            findings=self.findings,
            parts={name: part.counts() for name, part in parts.items()},
            sizes={name: len(part) for name, part in parts.items()},
            multi_label=self.multi_label,
            patients=len(patients) if self.patients is not None else None,
            channels=dict(Counter("gray" if header.gray else colored for header in headers).most_common()),
            bits=dict(Counter(header.bits for header in headers).most_common()),
            depth=self.depth if self.highest is not None else None,
            highest=self.highest,
            synthetic=sum(len(part.synthetic) for part in parts.values()),
            unreadable=sum(len(part.bad) for part in parts.values()),
            windows=dict(Counter(filter(None, map(self._window_of, headers))).most_common()),
            burned_in=sum(header.burned_in for header in headers),
            reading=asdict(self.reading) if self.has_volumes else {},
            classes_are_patients=self._classes_are_patients(),
            not_square=sum(header.width != header.height for header in headers),
        )

    def _classes_are_patients(self) -> bool:
        """Return whether each of three or more classes holds the images of one patient, and no two of the same."""
        if self.patient_keys is None or self.multi_label or len(self.classes) < 3 or "" in self.patient_keys:
            return False
        pairs = set(zip(self.labels.tolist(), self.patient_keys, strict=True))
        if len(set(self.files or ())) <= len(self.classes):
            return False  # too few files to tell
        return len(pairs) == len({key for _, key in pairs}) == len(self.classes)

    def _window_of(self, header: Header) -> str:
        """Return which gray window shows an image; "" where none does."""
        if not (header.format and header.gray):
            return ""
        return header.window if self.window in ("", FILE) else describe_window(self.window)

    @cached_property
    def _facts(self) -> tuple[Facts, ...]:
        """What reading each image once tells; the bit depth and the window leave it alone."""
        if self.files is not None:
            return tuple(facts for facts, _ in _readable(read_files(self.files, self.frames, window=self.window)))
        return tuple(
            Facts(header, fingerprint_of(pixels), is_blank(pixels), None)
            for header, pixels in zip(self.headers, self._array, strict=True)
        )

    def thumbnails(self) -> Iterator[bytes]:
        """Yield the 1024 bytes of each image's gray thumbnail, 32x32, in order. Raises: DataError."""
        if self.files is None:
            yield from read_thumbnails(self._array)
            return
        yield from (row for _, row in _readable(read_files(self.files, self.frames, window=self.window)))

    def blank(self) -> tuple[str, ...]:
        """Return the names of images without content: one color all over, as also wholly transparent ones are."""
        return tuple(name for name, (_, _, blank, _) in zip(self.names, self._facts, strict=True) if blank)

    def fingerprints(self) -> tuple[str, ...]:
        """Return the fingerprint of each image, as from `fingerprint_of`, whatever file holds it."""
        return tuple(facts.fingerprint for facts in self._facts)

    def fingerprint(self) -> str:
        """Return the SHA-256 of all images and their class names, 64 hex digits, whatever the order of images."""
        lines = sorted(
            f"{digest} {'|'.join(sorted(self.classes[k] for k in np.flatnonzero(row)))}"
            for digest, row in zip(self.fingerprints(), self.hot(), strict=True)
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def verify(self, *, skip_bad: bool = False) -> Dataset:
        """Return this dataset with every image, held-out ones included, decoded once and found readable.

        With `skip_bad`, the readable part of it, the others listed in `bad`.
        Raises: DataError naming the first unreadable file and how many there are, or if no image is left.
        """
        held_out = {part: images.verify(skip_bad=skip_bad) for part, images in self.held_out.items()}
        if self.files is None:
            return replace(self, held_out=held_out)
        read = read_files(self.files, self.frames, window=self.window)
        known = [found if isinstance(found, DataError) else found[0] for found in read]
        errors = {k: found for k, found in enumerate(known) if isinstance(found, DataError)}
        facts = tuple(found for found in known if not isinstance(found, DataError))
        if not errors:
            return _with_facts(replace(self, held_out=held_out), facts)
        first = next(iter(errors.values()))
        if not skip_bad:
            others = f" (and {len(errors) - 1} other files)" if len(errors) > 1 else ""
            raise DataError(first.message + others, first.hint)
        if len(errors) == len(self):
            raise DataError(f"{self.path}: none of its {len(self)} images can be read; first: {first.message}")
        bad = tuple((self.names[k], error.message) for k, error in errors.items())
        good = self.subset([k for k in range(len(self)) if k not in errors])
        return _with_facts(replace(good, held_out=held_out, bad=self.bad + bad), facts)

    def view(self, image: ImageSpec, *, crop: str) -> PreparedImages:
        """Return the images as a model of `image` sees them, uint8 (C, size, size), with labels in its class order.

        `crop` as in `pixels.prepare`. Images are decoded when first asked for.
        Raises: UnknownName on a class the model does not know; DataError if only the data is multi-label.
        """
        return PreparedImages(dataset=self, image=image, crop=crop)


class PreparedImages:
    """A dataset in the size, channels and class order of one ImageSpec (`protocols.LabeledImages`)."""

    def __init__(self, *, dataset: Dataset, image: ImageSpec, crop: str) -> None:
        self.classes = image.classes
        self.labels = _relabeled(dataset, image)
        self._dataset = dataset
        self._image = image
        self._crop = crop
        shape = (len(dataset), image.channels, image.size, image.size)
        # np.empty takes memory only as pages are written, so an unread view costs nothing.
        self._cache = np.empty(shape, np.uint8) if np.prod(shape, dtype=float) <= CACHE_LIMIT else None
        self._cached = np.zeros(len(dataset), np.bool_)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return image `index`: uint8 (C, size, size)."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        if self._cache is not None and self._cached[index]:
            return np.array(self._cache[index])
        pixels = self._dataset.pixels(index)
        square = prepare(pixels, size=self._image.size, channels=self._image.channels, crop=self._crop)
        if self._cache is not None:
            # Pixels first: another thread that sees the mark finds the image whole.
            self._cache[index] = square
            self._cached[index] = True
        return square


def _relabeled(dataset: Dataset, image: ImageSpec) -> np.ndarray:
    """Return the dataset's labels in the order of `image.classes`: int64 (N,) or float32 multi-hot (N, K)."""
    if dataset.multi_label and not image.multi_label:
        raise DataError(
            f"{dataset.path} has several labels per image, but the model takes one", "give a dataset of single labels"
        )
    for name, count in dataset.counts().items():
        if count and name not in image.classes:
            raise UnknownName("class", name, image.classes, "(the classes of this model)")
    hot = dataset.hot()
    columns = [dataset.classes.index(name) if name in dataset.classes else None for name in image.classes]
    absent = np.zeros(len(dataset), np.float32)
    mapped = np.stack([absent if k is None else hot[:, k].astype(np.float32) for k in columns], axis=1)
    return mapped if image.multi_label else mapped.argmax(axis=1).astype(np.int64)


def _readable(read: Iterable[T | DataError]) -> Iterator[T]:
    """Yield what was read of images. Raises: DataError where one stands in its place."""
    for found in read:
        if isinstance(found, DataError):
            raise found
        yield found


def _with_facts(dataset: Dataset, facts: tuple[Facts, ...]) -> Dataset:
    """Return the dataset with what is known of each of its images."""
    dataset.__dict__["_facts"] = facts
    return dataset


def describe_blank(names: Sequence[str]) -> str:
    """Return a sentence about images without content, as `Dataset.blank` names them."""
    many = f"{len(names)} images have" if len(names) > 1 else "an image has"
    return f"{many} no content (one color all over, or all transparent), such as {names[0]}"


def open_dataset(
    path: Path,
    *,
    skip_bad: bool = False,
    classes: Sequence[str] | None = None,
    masks: str = "ignore",
    depth: int = 0,
    reading: Reading = Reading(),
    log: bool = True,
) -> Dataset:
    """Open the labeled images at `path`: class folders, train/val/test folders of them, a CSV, or a MedMNIST npz.

    `classes` names an npz's numbers, or fixes the order of a folder's or CSV's class names. Where the path sets parts
    aside, the result is the training part and `held_out` has the others. Headers are read; `verify` reads the rest, as
    does `skip_bad`, which goes on without unreadable files and lists them in `bad`. Segmentation masks are left out,
    or with `masks` an error ("refuse") or images ("as-images"). Files of more than 8 bits a channel are read as of
    `depth` bits, 0 for as many as the set uses. `reading` says what is taken of DICOM and NIfTI files, and how. With
    `log`, one line says what the path was taken for.
    Raises: DataError naming the file or folder and how to fix it.
    """
    reading.check()
    contents = read(Path(path), classes=classes, masks=masks, reading=reading)
    parts = {
        part: _from_listing(
            Path(path), listing, classes=contents.classes, multi_label=contents.multi_label, findings=contents.findings
        )
        for part, listing in contents.parts.items()
    }
    training = parts.pop("train")
    held_out = {part: replace(images, reading=reading) for part, images in parts.items()}
    dataset = replace(training, held_out=held_out, reading=reading)
    return _finished(dataset, skip_bad=skip_bad, depth=depth, log=log)


def open_unlabeled(
    path: Path,
    *,
    classes: Sequence[str] = (),
    as_class: str = "",
    nested: bool = False,
    skip_bad: bool = False,
    masks: str = "ignore",
    depth: int = 0,
    reading: Reading = Reading(),
    log: bool = True,
) -> Dataset | None:
    """Open a folder of images without class folders, or one image; None if `path` is neither.

    The images are of the class `as_class`, or of none of `classes`. With `nested`, those in its folders are
    taken too. The other arguments are those of `open_dataset`.
    Raises: DataError for an image that cannot be read.
    """
    reading.check()
    if reading.label_tag:
        return None
    files: tuple[Path, ...] = (path,) if path.is_file() and is_image(path) else ()
    if files and (what := no_picture(path)):
        raise DataError(f"{path} is not an image: it is among the {what}", "give an image")
    findings = Findings()
    if path.is_dir() and (found := read_flat_folder(path, masks=masks, nested=nested)) is not None:
        files, findings = found
    if not files:
        return None
    root = path if path.is_dir() else path.parent
    names = tuple(file.relative_to(root).as_posix() for file in files)
    listing = Listing(names=names, labels=((),) * len(names), files=files, synthetic=synthetic_by_name(path, names))
    parts, findings = take_frames({"train": listing}, findings, reading)
    dataset = _from_listing(
        path, parts["train"], classes=(as_class,) if as_class else tuple(classes), multi_label=True, findings=findings
    )
    if as_class:
        dataset = replace(dataset, labels=np.zeros(len(dataset), np.int64))
    dataset = replace(dataset, reading=reading)
    return _finished(dataset, skip_bad=skip_bad, depth=depth, log=log)


def _finished(dataset: Dataset, *, skip_bad: bool, depth: int, log: bool) -> Dataset:
    """Return the dataset with headers read, synthetic images and bit depth known; log what it was taken for."""
    dataset = dataset.verify(skip_bad=True) if skip_bad else dataset
    held_out = {part: _with_marked(images) for part, images in dataset.held_out.items()}
    dataset = _kept_headers(dataset, replace(dataset, held_out=held_out))
    dataset = _with_reduced_color(_with_highest(_with_marked(dataset)))
    dataset = dataset.with_depth(depth or depth_of(dataset.highest or 0))
    if log:
        summary = dataset.summary()
        level = logging.WARNING if summary.notable else logging.INFO
        logger.log(level, f"{summary.line()}; `medzoo data check {dataset.path}` shows all")
    return dataset


def _with_marked(dataset: Dataset) -> Dataset:
    """Return the dataset with the names of images whose headers call them synthetic. Raises: DataError."""
    headers = dataset.headers
    marked = {name for name, header in zip(dataset.names, headers, strict=True) if header.synthetic}
    if not marked - dataset.synthetic:
        return dataset
    return _kept_headers(dataset, replace(dataset, synthetic=dataset.synthetic | marked))


def _kept_headers(dataset: Dataset, changed: Dataset) -> Dataset:
    """Return `changed`, which has the same files, with what has been read of them already."""
    changed.__dict__["headers"] = dataset.headers
    return _with_facts(changed, dataset._facts) if "_facts" in dataset.__dict__ else changed


def _with_highest(dataset: Dataset) -> Dataset:
    """Return the dataset with the highest value of all files of more than 8 bits a channel."""
    parts = (dataset, *dataset.held_out.values())
    known = [part for part in parts if "_facts" in part.__dict__]
    wide = [
        file
        for part in parts
        if part not in known
        for file, header in zip(part.files or (), part.headers if part.files else (), strict=True)
        if header.bits > 8 and not (header.format or header.reduced)
    ]
    # A file that cannot be read is reported by those who decode it.
    values = [value for value in highest_values(wide) if not isinstance(value, DataError)]
    values += [facts.highest for part in known for facts in part._facts if facts.highest is not None]
    if -1 in values and max(values) > 0:
        raise DataError(
            f"{dataset.path} has images of floats from 0 to 1 beside images of values up to {max(values)}",
            "save all of them alike",
        )
    if -1 in values:
        return _with_note(dataset, "floats from 0 to 1 read as black to white")
    if not values:
        return dataset
    held_out = {part: replace(images, highest=max(values)) for part, images in dataset.held_out.items()}
    held_out = {part: _kept_headers(dataset.held_out[part], images) for part, images in held_out.items()}
    found = replace(dataset, highest=max(values), held_out=held_out)
    return _kept_headers(dataset, found)


def _with_reduced_color(dataset: Dataset) -> Dataset:
    """Note that of color of 16 bits the upper 8 are read. Raises: DataError where those are all but empty."""
    parts = (dataset, *dataset.held_out.values())
    files = [
        file
        for part in parts
        for file, header in zip(part.files or (), part.headers if part.files else (), strict=True)
        if header.reduced
    ]
    if not files:
        return dataset
    highest = max((int(found.max()) for found in decode_all(files) if not isinstance(found, DataError)), default=255)
    if highest < 64:
        raise DataError(
            f"{dataset.path} holds color images of 16 bits a channel that use {8 + highest.bit_length()} of them, and "
            "of such images only the upper 8 are read",
            "save them with 8 bits a channel, scaled to their whole range",
        )
    return _with_note(dataset, "of the 16 bits of color the upper 8 read")


def _with_note(dataset: Dataset, note: str) -> Dataset:
    """Return the dataset with one more line of what was understood."""
    findings = replace(dataset.findings, notes=(*dataset.findings.notes, note))
    return _kept_headers(dataset, replace(dataset, findings=findings))


def _from_listing(
    path: Path, listing: Listing, *, classes: tuple[str, ...], multi_label: bool, findings: Findings
) -> Dataset:
    indices = {name: k for k, name in enumerate(classes)}
    if multi_label:
        labels = np.zeros((len(listing.names), len(classes)), np.float32)
        for row, names in enumerate(listing.labels):
            labels[row, [indices[name] for name in names]] = 1
    else:
        labels = np.array([indices[names[0]] for names in listing.labels], np.int64)
    return Dataset(
        path=path,
        classes=classes,
        labels=labels,
        names=listing.names,
        files=listing.files,
        frames=listing.frames if any(listing.frames or ()) else None,
        array=listing.array,
        patients=listing.patients,
        patient_keys=listing.patient_keys,
        synthetic=listing.synthetic,
        findings=findings,
    )
