"""What a dataset's path holds, by layout: class folders, a CSV, DICOM attributes, or a MedMNIST npz.

Reads lists, not pixels.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath

import numpy as np

from medzoo.data import dicom
from medzoo.data.folders import LAYOUTS, read_flat_folder, read_folder, subfolders, without_masks
from medzoo.data.images import DICOM, NIFTI, SUFFIXES, format_of, frames_of, patient_of, volumes_of
from medzoo.data.masks import check_masks
from medzoo.data.metadata import LINE, METADATA, is_multi_label, read_table
from medzoo.data.reading import Reading
from medzoo.data.spellings import Columns, find_columns, part_of
from medzoo.data.summary import Findings, LeftOut, merge_left_out
from medzoo.data.synthetic import synthetic_by_name
from medzoo.errors import DataError

MAX_CLASSES = 10_000
"""A set of more classes is one whose labels are something else: measurements, or names of patients or files."""

_ORDER = ("train", "val", "test")
# Raised on damaged members; encrypted ones and unknown compressions give a RuntimeError.
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, struct.error)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One part of a dataset: its images as files or as one array (N, H, W[, 3]), and each image's class names.

    `frames` says which of its file's frames each image is, as `images.frames_of` does; "" where a table does not say.
    `patient_keys` are `images.patient_of` each image. `synthetic` are the names of images that a table or their own
    names call synthetic.
    """

    names: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    files: tuple[Path, ...] | None = None
    frames: tuple[str, ...] | None = None
    array: np.ndarray | None = None
    patients: tuple[str, ...] | None = None
    patient_keys: tuple[str, ...] | None = None
    synthetic: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The parts a path holds by name ("train" always among them), the class names, and whether labels are multi-hot."""

    parts: Mapping[str, Listing]
    classes: tuple[str, ...]
    findings: Findings
    multi_label: bool = False


def read(path: Path, *, classes: Sequence[str] | None, masks: str = "ignore", reading: Reading = Reading()) -> Contents:
    """Read `path`, whichever of the known layouts it has; `classes` names or orders the classes.

    `masks` is one of `masks.MASKS`; `reading` says what to take of DICOM and NIfTI files.

    Raises: DataError naming the file or folder and how to fix it; ConfigError.
    """
    check_masks(masks)
    if not path.exists():
        raise DataError(f"{path} does not exist", "check the path")
    if reading.label_tag:
        contents = _read_tagged(path, classes=classes, masks=masks, tag=reading.label_tag)
    elif path.is_dir() and is_multi_label(path):
        contents = _read_csv(path / METADATA, classes=classes, masks=masks)
    elif path.is_dir():
        contents = _read_folder(path, classes=classes, masks=masks)
    elif path.suffix.lower() in (".csv", ".tsv"):
        contents = _read_csv(path, classes=classes, masks=masks)
    elif path.suffix.lower() == ".npz":
        contents = _read_npz(path, classes=classes)
    else:
        raise DataError(f"{path} is not a dataset", LAYOUTS)
    if (count := len(contents.classes)) > MAX_CLASSES:
        raise DataError(
            f"{path} has {count} classes, such as '{contents.classes[0]}', and at most {MAX_CLASSES} are possible",
            "check what its labels are taken from",
        )
    parts = {part: contents.parts[part] for part in _ORDER if part in contents.parts}
    parts, findings = take_frames(parts, contents.findings, reading)
    return replace(contents, parts=parts, findings=findings)


def take_frames(
    parts: Mapping[str, Listing], findings: Findings, reading: Reading
) -> tuple[dict[str, Listing], Findings]:
    """Return the parts with an image for each frame or slice that is taken, and with patients where files state them.

    Names become FILE#FRAME where a file may have several images. Raises: DataError if no image is left.
    """
    kinds = Counter(format_of(file) for listing in parts.values() for file in listing.files or ())
    if not (kinds[DICOM] or kinds[NIFTI]):
        return dict(parts), findings
    several: dict[str, int] = {}
    empty: list[str] = []
    found = {part: _with_frames(listing, reading, several, empty) for part, listing in parts.items()}
    if not all(listing.names for listing in found.values()):
        raise DataError("no slice of the volumes shows anything", "--slices middle takes their middle slices")
    notes, left_out = list(findings.notes), list(findings.left_out)
    if several.get(DICOM):
        notes.append(f"DICOM files of several frames {several[DICOM]}, frames taken: {reading.frames} (--frames)")
    if kinds[NIFTI]:
        notes.append(f"{reading.plane} slices taken: {reading.slices} (--plane, --slices)")
    if several.get(NIFTI):
        notes.append(f"NIfTI files of several volumes {several[NIFTI]}, of which the first is taken")
    left_out += [LeftOut.of("volumes without a slice that shows anything", empty)] if empty else []
    source = findings.patients_from
    if not any(listing.patients is not None for listing in found.values()):
        found = _with_patients(found)
        if any(listing.patients is not None for listing in found.values()):
            named = {DICOM: "by their DICOM headers", NIFTI: "by their NIfTI files"}
            source = " and ".join(named[kind] for kind in (DICOM, NIFTI) if kinds[kind])
            unknown = sum(not patient for listing in found.values() for patient in listing.patients or ())
            notes += [f"patient unknown of {unknown} images"] if unknown else []
    return found, replace(findings, notes=tuple(notes), left_out=tuple(left_out), patients_from=source)


def _with_frames(listing: Listing, reading: Reading, several: dict[str, int], empty: list[str]) -> Listing:
    """Return a listing with its frames; count files of several in `several`, name volumes without any in `empty`."""
    places: list[int] = []
    frames: list[str] = []
    names: list[str] = []
    for place, (file, name) in enumerate(zip(listing.files or (), listing.names, strict=True)):
        kind = format_of(file)
        stated = listing.frames[place] if listing.frames is not None else ""
        own = [stated] if stated else frames_of(file, reading)
        if not own:
            empty.append(name)
        count = volumes_of(file) if kind else 1
        if count > 1:
            several[kind] = several.get(kind, 0) + 1
        numbered = not stated and (kind == NIFTI or count > 1)
        places += [place] * len(own)
        frames += own
        names += [f"{name}#{frame}" for frame in own] if numbered else [name] * len(own)
    synthetic = frozenset(
        name for place, name in zip(places, names, strict=True) if listing.names[place] in listing.synthetic
    )
    return Listing(
        names=tuple(names),
        labels=tuple(listing.labels[place] for place in places),
        files=tuple((listing.files or ())[place] for place in places),
        frames=tuple(frames),
        patients=tuple(listing.patients[place] for place in places) if listing.patients is not None else None,
        synthetic=synthetic,
    )


def _with_patients(parts: Mapping[str, Listing]) -> dict[str, Listing]:
    """Return the parts with patients as far as files state them, called by `patient_names`."""
    keys = {part: tuple(patient_of(file) for file in listing.files or ()) for part, listing in parts.items()}
    if not any(key for own in keys.values() for key in own):
        return dict(parts)
    names = patient_names(key for own in keys.values() for key in own)
    return {
        part: replace(listing, patients=tuple(names[key] for key in keys[part]), patient_keys=keys[part])
        for part, listing in parts.items()
    }


def patient_names(keys: Iterable[str]) -> dict[str, str]:
    """Return what patients are called wherever medzoo writes them, by key: P0001 and so on as they first appear.

    The names say nothing of the keys, so nobody can find out by guessing who a patient is. No key remains "".
    """
    names = {"": ""}
    for key in keys:
        names.setdefault(key, f"P{len(names):04d}")
    return names


def _named(path: Path, parts: Mapping[str, Listing], classes: Sequence[str] | None) -> tuple[str, ...]:
    """Return the class names in label order: as given, or the training part's, sorted.

    Other parts may not add any.
    """
    found = {part: {name for names in listing.labels for name in names} for part, listing in parts.items()}
    known = tuple(classes) if classes is not None else tuple(sorted(found["train"]))
    for part, names in found.items():
        if extra := sorted(names.difference(known)):
            whose = "the classes given" if classes is not None else "the training images"
            raise DataError(
                f"{path}: class '{extra[0]}' in part {part} is not among {whose}: {', '.join(known)}",
                "rename or remove it",
            )
    return known


def _read_folder(path: Path, *, classes: Sequence[str] | None, masks: str) -> Contents:
    found, findings = read_folder(path, masks=masks)
    parts = {
        part: Listing(
            names=one.names,
            labels=tuple((name,) for name in one.classes),
            files=one.files,
            synthetic=synthetic_by_name(one.folder, one.names),
        )
        for part, one in found.items()
    }
    return Contents(parts=parts, classes=_named(path, parts, classes), findings=findings)


def _read_tagged(path: Path, *, classes: Sequence[str] | None, masks: str, tag: str) -> Contents:
    """Read all DICOM files in a folder, labeled by an attribute; train, val and test folders are parts."""
    number = dicom.check_label_tag(tag)
    if not path.is_dir():
        raise DataError(f"{path} is not a folder", "give --label-tag a folder of DICOM files")
    folders = {part_of(folder.name): folder for folder in subfolders(path) if part_of(folder.name) is not None}
    roots = {part: folder for part, folder in folders.items() if part} if "train" in folders else {"train": path}
    parts: dict[str, Listing] = {}
    left_out: list[LeftOut] = []
    for part, root in roots.items():
        files, findings = read_flat_folder(root, masks=masks, nested=True) or ((), Findings())
        labels = [dicom.label_of(file, number) if format_of(file) == DICOM else "" for file in files]
        chosen = [place for place, label in enumerate(labels) if label]
        if not chosen:
            raise DataError(f"no DICOM file in {root} has a value of {tag}", "check --label-tag, or give a CSV")
        names = [files[place].relative_to(root).as_posix() for place in range(len(files))]
        bare = [names[place] for place, label in enumerate(labels) if not label]
        left_out += [*findings.left_out, *([LeftOut.of(f"images without {tag}", bare)] if bare else [])]
        parts[part] = Listing(
            names=tuple(names[place] for place in chosen),
            labels=tuple((labels[place],) for place in chosen),
            files=tuple(files[place] for place in chosen),
            synthetic=synthetic_by_name(root, [names[place] for place in chosen]),
        )
    findings = Findings(
        layout="DICOM files",
        folders={part: root.name for part, root in roots.items()} if len(roots) > 1 else None,
        left_out=merge_left_out(left_out),
        notes=(f"labels by {tag}",),
    )
    return Contents(parts=parts, classes=_named(path, parts, classes), findings=findings)


def _read_csv(path: Path, *, classes: Sequence[str] | None, masks: str) -> Contents:
    """Read rows of file, label and perhaps patient and part; several labels of one image are joined by '|'.

    Labels are multi-hot if any row joins several, or if the column is called "labels".
    """
    table = read_table(path)
    columns = find_columns(path, table.columns, table.rows)
    if not table.rows:
        raise DataError(f"{path} has no rows", "add a line file,label for each image")
    multi_label = columns.label.casefold() == "labels" or any("|" in row[columns.label] for row in table.rows)
    lines: dict[str, str] = {}
    for row in table.rows:
        _check_row(path, row, columns, multi_label=multi_label)
        if earlier := lines.get(name := row[columns.file]):
            raise DataError(
                f"{path} line {row[LINE]}: {name} is already on line {earlier}",
                "keep one row per image and join its labels with |",
            )
        lines[name] = row[LINE]
    files, frames, notes = _find_files(path, [row[columns.file] for row in table.rows])
    left_out = without_masks(files, path.parent, masks=masks)
    if len(left_out) == len(files):
        raise DataError(f"{path} lists masks alone", "--masks as-images takes masks for images")
    grouped: dict[str, list[int]] = {}
    for index, row in enumerate(table.rows):
        if index not in left_out:
            part = part_of(row[columns.part]) if columns.part is not None and row[columns.part] else None
            grouped.setdefault(part or "train", []).append(index)
    if "train" not in grouped:
        raise DataError(
            f"{path} has no rows whose {columns.part} is train", "mark the training rows, or drop the column"
        )
    if columns.part is not None and (bare := sum(not row[columns.part] for row in table.rows)):
        notes.append(f"{bare} {'row' if bare == 1 else 'rows'} without a {columns.part} taken for train")
    synthetic = synthetic_by_name(path, lines)
    parts = {}
    for part, indices in grouped.items():
        rows = [table.rows[index] for index in indices]
        labels = [dict.fromkeys(name.strip() for name in row[columns.label].split("|")) for row in rows]
        names = tuple(row[columns.file] for row in rows)
        parts[part] = Listing(
            names=names,
            labels=tuple(tuple(name for name in own if name) for own in labels),
            files=tuple(files[index] for index in indices),
            frames=tuple(frames[index] for index in indices),
            patients=tuple(row[columns.patient] for row in rows) if columns.patient is not None else None,
            synthetic=synthetic.intersection(names),
        )
    findings = Findings(
        layout="CSV",
        columns=columns.named(),
        unused_columns=columns.unused,
        patient_like=columns.patient_like,
        part_like=columns.part_like,
        left_out=(LeftOut.of("masks", [str(files[k].name) for k in left_out]),) if left_out else (),
        notes=(*table.notes, *notes),
    )
    named = _named(path, parts, classes)
    return Contents(parts=parts, classes=named, findings=findings, multi_label=multi_label)


def _check_row(path: Path, row: Mapping[str, str], columns: Columns, *, multi_label: bool) -> None:
    """Raise DataError for a row without a file, a label or a patient."""
    if not row[columns.file]:
        raise DataError(f"{path} line {row[LINE]} names no file", "fix or remove the line")
    if not row[columns.label] and not multi_label:
        raise DataError(f"{path} line {row[LINE]} has no label", "fill it in or remove the row")
    if columns.patient is not None and not row[columns.patient]:
        raise DataError(f"{path} line {row[LINE]} names no patient", "fill it in, or drop the column")


def _find_files(path: Path, names: Sequence[str]) -> tuple[list[Path], list[str], list[str]]:
    """Return each file that a table names, relative to it, its frame, and what was understood beyond the names.

    The frame is that of FILE#FRAME, or "". Backslashes become slashes, and a missing suffix is added, where only then
    there is such a file.
    """
    found: list[Path] = []
    frames: list[str] = []
    backslashes = suffixes = 0
    for name in names:
        file = path.parent / name
        if not file.exists() and "\\" in name:
            if PureWindowsPath(name).drive:
                raise DataError(
                    f"{path} names {name}, a path of Windows, which is not on this machine",
                    f"write paths relative to {path.name}, as in images/1.png",
                )
            backslashes += 1
            file = path.parent / name.replace("\\", "/")
        plain = name.rpartition("#")[0] or name
        if not file.exists() and not plain.lower().endswith(SUFFIXES) and not (file.parent / Path(plain).name).exists():
            there = [one for suffix in SUFFIXES for one in _with_suffix(file, suffix) if one.exists()]
            if len(there) > 1:
                raise DataError(
                    f"{path} names {name} without a suffix, and there is {' and '.join(one.name for one in there)}",
                    "write the suffixes in the table",
                )
            if not there:
                raise DataError(
                    f"{path} names {name}, which is not a file and has none of the suffixes {', '.join(SUFFIXES)}",
                    f"write paths relative to {path.name}, with their suffixes",
                )
            suffixes += 1
            file = there[0]
        whole, mark, frame = file.name.rpartition("#")
        if mark and not file.exists() and format_of(file.with_name(whole)):
            file = file.with_name(whole)
        else:
            frame = ""
        found.append(file)
        frames.append(frame)
    notes = [f"backslashes taken for slashes in {backslashes} names"] if backslashes else []
    return found, frames, notes + ([f"suffix added to {suffixes} names"] if suffixes else [])


def _with_suffix(file: Path, suffix: str) -> list[Path]:
    return [file.with_name(file.name + suffix), file.with_name(file.name + suffix.upper())]


def _read_npz(path: Path, *, classes: Sequence[str] | None) -> Contents:
    """Read MedMNIST arrays: {train,val,test}_images uint8 (N, H, W[, 3]), _labels (N,), (N, 1) or multi-hot (N, K)."""
    try:
        with path.open("rb") as stream:
            if not zipfile.is_zipfile(stream):
                raise DataError(f"{path} cannot be read: it is not an npz", "a MedMNIST npz is a zip of arrays")
            stream.seek(0)
            # allow_pickle stays off: unpickling a stranger's file would run its code.
            with np.load(stream, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, KeyError, MemoryError, RuntimeError, *_BROKEN_ZIP) as error:
        raise DataError(f"{path} cannot be read: {error}", "a MedMNIST npz holds plain arrays only") from error
    if classes is None and "classes" in arrays:
        classes = tuple(str(name) for name in arrays["classes"])
    found = {}
    for part in _ORDER:
        if f"{part}_images" in arrays or part == "train":
            found[part] = _npz_arrays(path, arrays, part)
    notes = []
    if any(images.ndim == 4 and images.shape[3] == 1 for images, _ in found.values()):
        found = {part: (images.reshape(images.shape[:3]), labels) for part, (images, labels) in found.items()}
        notes.append("arrays (N, H, W, 1) taken for gray")
    if all(labels.shape[1] > 1 and (labels.sum(axis=1) == 1).all() for _, labels in found.values()):
        width = max(labels.shape[1] for _, labels in found.values())
        classes = classes if classes is not None else tuple(str(k) for k in range(width))
        found = {part: (images, labels.argmax(axis=1)[:, None]) for part, (images, labels) in found.items()}
        notes.append("one-hot labels taken for one label per image")
    width = max(labels.shape[1] for _, labels in found.values())
    if any(labels.shape[1] != width for _, labels in found.values()):
        raise DataError(f"{path}: the parts' labels have different shapes", "give each part (N, 1) or (N, K) labels")
    highest = width if width > 1 else 1 + max(int(labels.max()) for _, labels in found.values())
    if highest > MAX_CLASSES:
        largest = f"labels of {width} columns" if width > 1 else f"labels up to {highest - 1}"
        raise DataError(
            f"{path} has {largest}, and at most {MAX_CLASSES} classes are possible", "number the classes from 0"
        )
    classes = tuple(classes) if classes is not None else tuple(str(k) for k in range(highest))
    if len(classes) < highest or (width > 1 and len(classes) != width):
        raise DataError(f"{path} has {highest} classes but {len(classes)} names were given", "name each class once")
    parts = {part: _npz_listing(part, *pair, classes) for part, pair in found.items()}
    known = {"classes", *(f"{part}_{what}" for part in _ORDER for what in ("images", "labels"))}
    others = LeftOut.of("arrays", [key for key in arrays if key not in known])
    findings = Findings(layout="npz", left_out=(others,) if others.count else (), notes=tuple(notes))
    return Contents(parts=parts, classes=classes, findings=findings, multi_label=width > 1)


def _npz_arrays(path: Path, arrays: Mapping[str, np.ndarray], part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images and int labels (N, 1 or K) of one part, checked."""
    for key in (f"{part}_images", f"{part}_labels"):
        if key not in arrays:
            raise DataError(f"{path} has no array '{key}'", f"it holds {', '.join(sorted(arrays)) or 'nothing'}")
    images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))):
        raise DataError(f"{path}: {part}_images is {images.dtype} {images.shape}", _shape_hint(images))
    if labels.ndim not in (1, 2) or not (np.issubdtype(labels.dtype, np.integer) or labels.dtype == np.bool_):
        raise DataError(f"{path}: {part}_labels is {labels.dtype} {labels.shape}", "give whole numbers (N,) or (N, K)")
    if len(images) != len(labels) or not len(images):
        raise DataError(
            f"{path}: {part} has {len(images)} images and {len(labels)} labels",
            "give one label per image",
        )
    labels = labels.reshape(len(labels), -1).astype(np.int64)
    if labels.min() < 0 or (labels.shape[1] > 1 and labels.max() > 1):
        raise DataError(
            f"{path}: {part}_labels holds {labels.min()}..{labels.max()}",
            "use 0 to K-1, or multi-hot 0 and 1",
        )
    return images, labels


def _shape_hint(images: np.ndarray) -> str:
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
        return "its channels come first; give uint8 (N, H, W) or (N, H, W, 3): images.transpose(0, 2, 3, 1)"
    return "give uint8 (N, H, W) or (N, H, W, 3)"


def _npz_listing(part: str, images: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Listing:
    if labels.shape[1] > 1:
        named = tuple(tuple(classes[k] for k in np.flatnonzero(row).tolist()) for row in labels)
    else:
        named = tuple((classes[k],) for k in labels[:, 0].tolist())
    return Listing(names=tuple(f"{part}/{index:05d}" for index in range(len(images))), labels=named, array=images)
