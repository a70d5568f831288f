"""What a dataset's path holds, by layout: class folders, a CSV, or a MedMNIST npz. Reads lists, not pixels."""

from __future__ import annotations

import csv
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medzoo.data.images import SUFFIXES
from medzoo.errors import DataError

# Folder names taken as parts of a dataset, and the part each means.
PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_ORDER = ("train", "val", "test")
# Raised on damaged members; encrypted ones and unknown compressions give a RuntimeError.
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, struct.error)
_LAYOUTS = "give a folder of class folders, a CSV with the columns file,label, or a MedMNIST .npz"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One part of a dataset: its images as files or as one array (N, H, W[, 3]), and each image's class names."""

    names: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    files: tuple[Path, ...] | None = None
    array: np.ndarray | None = None
    patients: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The parts a path holds by name ("train" always among them), the class names, and whether labels are multi-hot."""

    parts: Mapping[str, Listing]
    classes: tuple[str, ...]
    multi_label: bool = False


def read(path: Path, *, classes: Sequence[str] | None) -> Contents:
    """Read `path`, whichever of the known layouts it has; `classes` names or orders the classes.

    Raises: DataError naming the file or folder and how to fix it.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist", "check the path")
    kind = "folder" if path.is_dir() else path.suffix.lower()
    if kind not in (readers := {"folder": _read_folder, ".csv": _read_csv, ".npz": _read_npz}):
        raise DataError(f"{path} is not a dataset", _LAYOUTS)
    contents = readers[kind](path, classes=classes)
    return replace(contents, parts={part: contents.parts[part] for part in _ORDER if part in contents.parts})


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


def _subfolders(folder: Path) -> list[Path]:
    # Archives made on a Mac carry a __MACOSX folder of resource forks named like images.
    return sorted(
        entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
    )


def _images_under(folder: Path) -> list[Path]:
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        found += [Path(parent) / name for name in files if not name.startswith(".") and name.lower().endswith(SUFFIXES)]
    return sorted(found)


def _part_folders(folder: Path) -> dict[str, Path]:
    """Find the train, val and test folders in `folder`; {} unless there is a train folder of class folders."""
    parts: dict[str, Path] = {}
    for entry in _subfolders(folder):
        part = PARTS.get(entry.name.lower())
        if part is not None and _subfolders(entry):
            if part in parts:
                raise DataError(f"{folder} has both {parts[part].name}/ and {entry.name}/", "keep one of them")
            parts[part] = entry
    return parts if "train" in parts else {}


def _read_folder(path: Path, *, classes: Sequence[str] | None) -> Contents:
    folders = _part_folders(path)
    if not folders and path.resolve().name.lower() == "train":
        folders = _part_folders(path.resolve().parent)
    parts = {part: _read_class_folders(folder) for part, folder in (folders or {"train": path}).items()}
    return Contents(parts=parts, classes=_named(path, parts, classes))


def _read_class_folders(root: Path) -> Listing:
    subfolders = _subfolders(root)
    if not subfolders:
        if _images_under(root):
            raise DataError(f"{root} holds images but no class folders", "put images in class folders or give a CSV")
        raise DataError(f"{root} holds no images", _LAYOUTS)
    files: list[Path] = []
    labels: list[tuple[str, ...]] = []
    for folder in subfolders:
        found = _images_under(folder)
        if not found:
            raise DataError(f"class folder {folder} holds no images ({', '.join(SUFFIXES)})", "fill or remove it")
        files += found
        labels += [(folder.name,)] * len(found)
    names = tuple(file.relative_to(root).as_posix() for file in files)
    _check_encoding(root, names)
    return Listing(names=names, labels=tuple(labels), files=tuple(files))


def _check_encoding(root: Path, names: Iterable[str]) -> None:
    """Check that names are in UTF-8, as tables and records need. Raises: DataError."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            shown = name.encode(errors="backslashreplace").decode()
            raise DataError(f"{root} holds a name that is not UTF-8: {shown}", "rename the folder or file") from None


def _read_csv(path: Path, *, classes: Sequence[str] | None) -> Contents:
    """Read rows of file, label and perhaps patient and split; several labels of one image are joined by '|'.

    Labels are multi-hot if any row joins several, or if the column is called "labels".
    """
    rows = _csv_rows(path)
    grouped: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        grouped.setdefault(row.get("split") or "train", []).append(row)
    if "train" not in grouped:
        raise DataError(f"{path} has no rows whose split is train", "mark the training rows, or drop the column")
    multi_label = "labels" in rows[0] or any("|" in row["label"] for row in rows)
    if not multi_label and (bare := next((row for row in rows if not row["label"]), None)):
        raise DataError(f"{path} line {bare['line']} has no label", "fill it in or remove the row")
    parts = {part: _csv_listing(path, chosen) for part, chosen in grouped.items()}
    return Contents(parts=parts, classes=_named(path, parts, classes), multi_label=multi_label)


def _csv_rows(path: Path) -> list[dict[str, str]]:
    """Return each row's stripped values by column, with its line number under "line"."""
    rows: dict[str, dict[str, str]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = [name.strip().lower() for name in reader.fieldnames or ()]
            if "file" not in columns:  # medzoo's own metadata.csv has Hugging Face's name for it
                columns = ["file" if name == "file_name" else name for name in columns]
            reader.fieldnames = columns
            if "file" not in columns or not {"label", "labels"} & {*columns}:
                raise DataError(
                    f"{path} needs the columns file and label; it has {', '.join(columns) or 'none'}",
                    "its first line must be file,label[,patient][,split]",
                )
            for values in reader:
                row = _csv_row(path, values, line=reader.line_num)
                if earlier := rows.get(row["file"]):
                    raise DataError(
                        f"{path} line {row['line']}: {row['file']} is already on line {earlier['line']}",
                        "keep one row per image and join its labels with |",
                    )
                rows[row["file"]] = row
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a CSV in UTF-8: {error}", "save it as CSV in UTF-8") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "check the file and its permissions") from error
    if not rows:
        raise DataError(f"{path} has no rows", "add a line file,label for each image")
    return list(rows.values())


def _csv_row(path: Path, values: Mapping[str, str | None], *, line: int) -> dict[str, str]:
    """Return one row's stripped values by column, checked."""
    # DictReader puts surplus values under None, and None in place of missing ones.
    if None in values or None in values.values():
        raise DataError(f"{path} line {line} has more or fewer values than the first line", "fix the line")
    row = {column: (value or "").strip() for column, value in values.items()} | {"line": str(line)}
    if not row["file"]:
        raise DataError(f"{path} line {line} names no file", "fix or remove the line")
    if "labels" in row:
        row["label"] = row["labels"]
    if "split" in row:
        row["split"] = _part(path, row)
    return row


def _part(path: Path, row: Mapping[str, str]) -> str:
    part = PARTS.get(row["split"].lower())
    if part is None:
        raise DataError(f"{path} line {row['line']}: unknown split '{row['split']}'", "use train, val or test")
    return part


def _csv_listing(path: Path, rows: Iterable[Mapping[str, str]]) -> Listing:
    rows = list(rows)
    patients = None
    if "patient" in rows[0]:
        if bare := next((row for row in rows if not row["patient"]), None):
            raise DataError(f"{path} line {bare['line']} names no patient", "fill it in, or drop the column")
        patients = tuple(row["patient"] for row in rows)
    labels = [tuple(dict.fromkeys(name.strip() for name in row["label"].split("|"))) for row in rows]
    return Listing(
        names=tuple(row["file"] for row in rows),
        labels=tuple(tuple(name for name in names if name) for names in labels),
        files=tuple(path.parent / row["file"] for row in rows),
        patients=patients,
    )


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
    width = max(labels.shape[1] for _, labels in found.values())
    if any(labels.shape[1] != width for _, labels in found.values()):
        raise DataError(f"{path}: the parts' labels have different shapes", "give each part (N, 1) or (N, K) labels")
    highest = width if width > 1 else 1 + max(int(labels.max()) for _, labels in found.values())
    classes = tuple(classes) if classes is not None else tuple(str(k) for k in range(highest))
    if len(classes) < highest or (width > 1 and len(classes) != width):
        raise DataError(f"{path} has {highest} classes but {len(classes)} names were given", "name each class once")
    parts = {part: _npz_listing(part, *pair, classes) for part, pair in found.items()}
    return Contents(parts=parts, classes=classes, multi_label=width > 1)


def _npz_arrays(path: Path, arrays: Mapping[str, np.ndarray], part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images and int labels (N, 1 or K) of one part, checked."""
    for key in (f"{part}_images", f"{part}_labels"):
        if key not in arrays:
            raise DataError(f"{path} has no array '{key}'", f"it holds {', '.join(sorted(arrays)) or 'nothing'}")
    images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)):
        raise DataError(
            f"{path}: {part}_images is {images.dtype} {images.shape}", "give uint8 (N, H, W) or (N, H, W, 3)"
        )
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


def _npz_listing(part: str, images: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Listing:
    if labels.shape[1] > 1:
        named = tuple(tuple(classes[k] for k in np.flatnonzero(row).tolist()) for row in labels)
    else:
        named = tuple((classes[k],) for k in labels[:, 0].tolist())
    return Listing(names=tuple(f"{part}/{index:05d}" for index in range(len(images))), labels=named, array=images)
