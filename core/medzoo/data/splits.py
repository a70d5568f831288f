"""Training, validation and test parts that share neither a patient nor a duplicate."""

from __future__ import annotations

import csv
import io
import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medzoo.data.dataset import Dataset
from medzoo.data.duplicates import image_groups
from medzoo.data.summary import DataSummary
from medzoo.data.synthetic import check_no_synthetic
from medzoo.errors import ConfigError, DataError
from medzoo.storage.files import check_empty, check_outside, new_folder, temporary_beside, write_file

FRACTIONS: Mapping[str, float] = {"train": 0.8, "val": 0.1, "test": 0.1}


@dataclass(frozen=True, kw_only=True, eq=False)
class DataSplit:
    """A written split: its folder, and the part of each image of `dataset`, str (N,).

    `left_out` are unreadable images, each with the reason.
    """

    folder: Path
    dataset: Dataset = field(repr=False)
    part_of: np.ndarray = field(repr=False)
    left_out: tuple[tuple[str, str], ...]
    summary: DataSummary

    @cached_property
    def parts(self) -> dict[str, Dataset]:
        """The images of each part by name; those of an npz are copied."""
        return _subsets(self.dataset, self.part_of)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Images by class, of each part."""
        hot = self.dataset.hot()
        found = {part: hot[self.part_of == part].sum(axis=0).tolist() for part in _names(self.part_of)}
        return {part: dict(zip(self.dataset.classes, counts, strict=True)) for part, counts in found.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        left_out = [list(entry) for entry in self.left_out]
        data = self.summary.to_dict()
        return {"folder": str(self.folder), "counts": self.counts, "left_out": left_out, "data": data}


def split_dataset(dataset: Dataset, *, fractions: Mapping[str, float] = FRACTIONS, seed: int) -> dict[str, Dataset]:
    """Split `dataset` into parts by name, in about these fractions of every class; a fraction of 0 gives no part.

    All images of a patient, or of a duplicate group where patients are unknown, fall in one part; every class falls in
    every part. The same dataset, fractions and seed give the same parts.
    Raises: ConfigError on fractions that do not add up to 1; DataError on a class of too few groups, an unreadable
    image, a dataset that already has parts or synthetic images, or an unused column that looks like a patient's.
    """
    _, parts = _plan(dataset, fractions=fractions, seed=seed)
    return _subsets(dataset, parts)


def write_split(dataset: Dataset, *, out: Path, fractions: Mapping[str, float] = FRACTIONS, seed: int) -> DataSplit:
    """Write the parts from `split_dataset` into the new folder `out`.

    Class folders become train/, val/ and test/ folders of hard links (copies across disks), a CSV one CSV a part, an
    npz one npz. Files of DICOM and NIfTI stay where they are, as they hold data of patients: a set with any becomes one
    CSV a part. split.csv, itself a dataset unless images lie in an npz, lists each image's part and group, the seed,
    and the image's fingerprint.
    Raises: DataError if `out` holds anything; ResourceError if it cannot be written; else as `split_dataset`.
    """
    check_outside(out, dataset.path)
    check_empty(out)
    groups, parts = _plan(dataset, fractions=fractions, seed=seed)
    linked = dataset.files is not None and dataset.path.is_dir() and not dataset.has_volumes
    with new_folder(out) as folder:
        if dataset.files is None:
            _write_npz(folder / "split.npz", dataset, parts)
        elif linked:
            _link_files(folder, _subsets(dataset, parts))
        else:
            for part, images in _subsets(dataset, parts).items():
                _write_table(folder / f"{part}.csv", _columns(images, _relative(images, out)))
        names = dataset.names if dataset.files is None else _relative(dataset, out)
        if linked:
            names = [f"{part}/{name}" for part, name in zip(parts, dataset.names, strict=True)]
        columns = {
            **_columns(dataset, names),
            "group": groups.tolist(),
            "split": parts.tolist(),
            "seed": [seed] * len(dataset),
            "fingerprint": dataset.fingerprints(),
        }
        _write_table(folder / "split.csv", columns)
    return DataSplit(folder=out, dataset=dataset, part_of=parts, left_out=tuple(dataset.bad), summary=dataset.summary())


def _plan(dataset: Dataset, *, fractions: Mapping[str, float], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each image's group, int64 (N,), and part name, str (N,)."""
    shares = {part: share for part, share in fractions.items() if share > 0}
    if min(fractions.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
        given = ", ".join(f"{part} {share:g}" for part, share in fractions.items())
        raise ConfigError(f"fractions must lie in 0..1 and add up to 1, not {given}")
    if seed < 0:
        raise ConfigError(f"the seed must be at least 0, not {seed}")
    if dataset.held_out:
        raise DataError(
            f"{dataset.path} already has parts: {', '.join(dataset.held_out)}",
            "use them, or put all images into one set of class folders",
        )
    check_groupable(dataset)
    check_no_synthetic(
        dataset,
        use="which would enter other parts than train, or come from images that do",
        hint="split the real images alone, then fill the train part: medzoo augment --data OUT/train",
    )
    groups, hot = image_groups(dataset), dataset.hot()
    chosen = assign_groups(hot, groups, shares=np.array(list(shares.values())), seed=seed)
    missing = [
        (name, part)
        for label, name in enumerate(dataset.classes)
        for index, part in enumerate(shares)
        if hot[:, label].any() and not hot[chosen == index, label].any()
    ]
    if missing:
        name, part = missing[0]
        raise DataError(
            f"{dataset.path}: class '{name}' has too few separate groups of images to be in {part} as well",
            "leave a part out (--val 0), or add images of other patients",
        )
    return groups, np.array(list(shares))[chosen]


def check_groupable(dataset: Dataset) -> None:
    """Raise DataError if a column that is not used looks like one of patients, whose images must stay together."""
    if names := dataset.findings.patient_like:
        raise DataError(
            f"{dataset.path}: the column '{names[0]}' is not used but looks like a patient's, "
            "whose images must not be in several parts",
            f"rename it to patient, or drop it if it is not: {', '.join(names)}",
        )


def assign_groups(hot: np.ndarray, groups: np.ndarray, *, shares: np.ndarray, seed: int) -> np.ndarray:
    """Assign each image a part, int64 (N,) in 0..P-1: groups stay whole, classes come close to `shares` (P,).

    `hot` is bool (N, K), `groups` int64 (N,). Greedy, as scikit-learn's StratifiedGroupKFold, which makes only parts
    of equal size: first one small group of each class, rarest first, goes to every part; then the rest, largest first,
    goes where it leaves the least squared error of class shares. Ties are broken by `seed`.
    """
    rng = np.random.default_rng(seed)
    held = np.zeros((int(groups.max()) + 1, hot.shape[1]), np.int64)
    np.add.at(held, groups, hot)
    sizes = np.bincount(groups)
    totals = np.maximum(held.sum(axis=0), 1)
    have = np.zeros((len(shares), hot.shape[1]))
    part_of = np.full(len(held), -1)
    filled = np.zeros(len(shares))
    order = rng.permutation(len(held))
    order = order[np.argsort(sizes[order], kind="stable")]

    def place(group: int, part: int) -> None:
        part_of[group] = part
        have[part] += held[group]
        filled[part] += sizes[group] / len(groups)

    for k in np.argsort(totals, kind="stable"):
        for part in np.argsort(-shares, kind="stable"):
            free = (part_of[order] < 0) & (held[order, k] > 0)
            if free.any() and not have[part, k]:
                place(int(order[free.argmax()]), part)
    for group in order[::-1]:
        if part_of[group] < 0:
            short = have - shares[:, None] * totals
            # An image without any class (multi-label) is placed by the parts' sizes alone.
            cost = (held[group] * (2 * short + held[group]) / totals**2).sum(axis=1)
            place(group, int(np.lexsort((filled - shares, cost))[0]))
    return np.asarray(part_of[groups], np.int64)


def _subsets(dataset: Dataset, parts: np.ndarray) -> dict[str, Dataset]:
    return {part: dataset.subset(np.flatnonzero(parts == part)) for part in _names(parts)}


def _names(parts: np.ndarray) -> list[str]:
    """Return the names of the parts that have images."""
    return [part for part in FRACTIONS if (parts == part).any()]


def _link_files(folder: Path, split: Mapping[str, Dataset]) -> None:
    made: set[Path] = set()
    for part, images in split.items():
        for name, file in zip(images.names, images.files or (), strict=True):
            target = folder / part / name
            if target.parent not in made:
                target.parent.mkdir(parents=True, exist_ok=True)
                made.add(target.parent)
            try:
                target.hardlink_to(file.resolve() if file.is_symlink() else file)
            except OSError:
                # Another disk, or a file system without hard links.
                shutil.copyfile(file, target)


def _relative(dataset: Dataset, folder: Path) -> list[str]:
    """Return each image's file as seen from `folder`."""
    found = [os.path.relpath(file, folder) for file in dataset.files or ()]
    ends = [f"#{frame}" for frame in dataset.frames or [""] * len(found)]
    marked = [name.endswith(end) for name, end in zip(dataset.names, ends, strict=True)]
    return [file + end if own else file for file, end, own in zip(found, ends, marked, strict=True)]


def _columns(dataset: Dataset, names: Sequence[str]) -> dict[str, Sequence[object]]:
    """Return the columns that `open_dataset` reads; several labels of an image are joined by '|' under "labels"."""
    labels = ["|".join(dataset.classes[k] for k in np.flatnonzero(row)) for row in dataset.hot()]
    columns: dict[str, Sequence[object]] = {"file": names, "labels" if dataset.multi_label else "label": labels}
    if dataset.patients is not None and "" not in dataset.patients:
        columns["patient"] = dataset.patients
    return columns


def _write_table(path: Path, columns: Mapping[str, Sequence[object]]) -> None:
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(zip(*columns.values(), strict=True))
    write_file(path, text.getvalue().encode())


def _write_npz(path: Path, dataset: Dataset, parts: np.ndarray) -> None:
    """Write what `numpy.savez_compressed` writes, which would take a copy of all pixels."""
    pixels = dataset.array
    assert pixels is not None
    form = np.lib.format
    with temporary_beside(path) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open("classes.npy", "w", force_zip64=True) as member:
                form.write_array(member, np.array(dataset.classes), allow_pickle=False)
            for part in _names(parts):
                chosen = np.flatnonzero(parts == part)
                with archive.open(f"{part}_images.npy", "w", force_zip64=True) as member:
                    shape = (len(chosen), *pixels.shape[1:])
                    form.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": shape})
                    for index in chosen.tolist():
                        member.write(pixels[index].tobytes())
                with archive.open(f"{part}_labels.npy", "w", force_zip64=True) as member:
                    labels = dataset.labels[chosen].astype(np.int64).reshape(len(chosen), -1)
                    form.write_array(member, labels, allow_pickle=False)
        temporary.replace(path)
