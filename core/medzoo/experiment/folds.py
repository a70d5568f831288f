"""Split an experiment's images: folds of whole groups of images, or the data's own test part; leaks are refused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medzoo.data.dataset import Dataset, describe_blank
from medzoo.data.duplicates import duplicate_groups, thumbnails
from medzoo.data.splits import assign_groups, check_groupable, split_dataset
from medzoo.data.synthetic import check_no_synthetic
from medzoo.errors import DataError
from medzoo.experiment.config import ExperimentSettings
from medzoo.seeds import derive_seed

# On BUSI, thumbnails of different scans hardly ever correlate so; from 0.99 on images count as duplicates.
NEAR = 0.95

_HINT = "split again with `medzoo data split`, leave them out with --leave-out-seen, or accept them with --allow-leak"


@dataclass(frozen=True, kw_only=True)
class Fold:
    """The images of one fold of one repeat (0 and 0 where held out), as indices into the experiment's images.

    `train` fits generators and classifiers, `val` selects classifiers' weights, `test` is used once.
    """

    repeat: int
    fold: int
    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Images:
    """All of an experiment's real images in one dataset, with their fingerprints and folds.

    `warnings` are what a reader must know about the split, `facts` what run.json says of it.
    """

    data: Dataset
    fingerprints: tuple[str, ...]
    folds: tuple[Fold, ...]
    warnings: tuple[str, ...]
    facts: Mapping[str, Any]

    def subset(self, indices: Sequence[int]) -> Dataset:
        """Return the images at `indices`."""
        return self.data.subset(indices)

    def seen(self, indices: Sequence[int]) -> frozenset[str]:
        """Return the fingerprints of the images at `indices`."""
        return frozenset(self.fingerprints[index] for index in indices)

    def digest(self, indices: Sequence[int]) -> str:
        """Return the SHA-256 of the images at `indices` and their classes, in their order."""
        hot = self.data.hot()
        lines = (f"{self.fingerprints[index]} {np.flatnonzero(hot[index]).tolist()}" for index in indices)
        return hashlib.sha256("\n".join([*self.data.classes, *lines]).encode()).hexdigest()


def make_folds(
    data: Dataset,
    settings: ExperimentSettings,
    *,
    test: Dataset | None,
    allow_leak: bool = False,
    leave_out: Set[str] | None = None,
) -> Images:
    """Split the images of an experiment into folds.

    With `leave_out`, held-out test images that are also training images, or have one of these fingerprints, are left
    out.

    Raises:
        DataError: the data has no test part and needs one, or has one and folds are wanted; test images are also
            training images, and not `allow_leak`; a class has too few separate groups of images.
    """
    for part in (data, *data.held_out.values(), *([test] if test is not None else [])):
        check_no_synthetic(part, use="but experiments start from real ones", hint="give the folder of the real images")
    if settings.folds or settings.validation:
        check_groupable(data)
    if settings.folds:
        if test is not None:
            raise DataError("--test was given, but folds make their own test parts", "set folds=0 to use it")
        if leave_out is not None:
            raise DataError("--leave-out-seen was given, but folds test on every image", "use it with folds=0")
        images = _with_similar(_cross_validation(data, settings))
    else:
        images = _with_similar(_held_out(data, settings, test=test, allow_leak=allow_leak, leave_out=leave_out))
    if blank := images.data.blank():
        images = replace(images, warnings=(*images.warnings, describe_blank(blank)))
    return replace(images, facts={**images.facts, "summary": data.summary().to_dict()})


def _cross_validation(data: Dataset, settings: ExperimentSettings) -> Images:
    if data.held_out:
        raise DataError(
            f"{data.path} has parts of its own: {', '.join(data.held_out)}",
            "use its test part with --set folds=0, or put all images into one set of class folders",
        )
    whole = data.subset(range(len(data)))
    groups = _groups(whole)
    folds = tuple(
        fold for repeat in range(settings.repeats) for fold in _folds_of(whole, groups, settings, repeat=repeat)
    )
    facts = {"groups": int(groups.max()) + 1, "grouped_by": "patient" if data.patients is not None else "duplicates"}
    return Images(data=whole, fingerprints=whole.fingerprints(), folds=folds, warnings=(), facts=facts)


def _groups(data: Dataset) -> np.ndarray:
    """Return each image's group, int64 (N,): the patient's images, or duplicates if patients are unknown."""
    if data.patients is not None:
        return np.unique(data.patients, return_inverse=True)[1].astype(np.int64)
    return duplicate_groups(data)


def _folds_of(data: Dataset, groups: np.ndarray, settings: ExperimentSettings, *, repeat: int) -> list[Fold]:
    hot, count = data.hot(), settings.folds
    seed = derive_seed(settings.seed, "folds", repeat)
    part = assign_groups(hot, groups, shares=np.full(count, 1 / count), seed=seed)
    folds = []
    for number in range(count):
        test, rest = np.flatnonzero(part == number), np.flatnonzero(part != number)
        val = np.empty(0, np.int64)
        if settings.validation:
            shares = np.array([1 - settings.validation, settings.validation])
            inside = np.unique(groups[rest], return_inverse=True)[1]
            chosen = assign_groups(hot[rest], inside, shares=shares, seed=derive_seed(seed, "val", number))
            rest, val = rest[chosen == 0], rest[chosen == 1]
        _check_classes(data, {"training": rest, "test": test, **({"validation": val} if settings.validation else {})})
        _check_groups(groups, rest, val, test)
        folds.append(_fold(repeat, number, rest, val, test))
    return folds


def _held_out(
    data: Dataset,
    settings: ExperimentSettings,
    *,
    test: Dataset | None,
    allow_leak: bool,
    leave_out: Set[str] | None,
) -> Images:
    own = data.held_out.get(settings.test) if test is None else test
    if own is None:
        other = "--set test=val takes its val part; or " if "val" in data.held_out else ""
        raise DataError(
            f"{data.path} has no {settings.test} part",
            f"{other}give one with --test DIR, or cross-validate with --set folds=5",
        )
    training = data.subset(range(len(data)))
    val = data.held_out.get("val") if settings.test != "val" or test is not None else None
    if val is None and settings.validation:
        shares = {"train": 1 - settings.validation, "val": settings.validation}
        parts = split_dataset(training, fractions=shares, seed=settings.seed)
        training, val = parts["train"], parts["val"]
    parts_in_order = [training, *([val] if val is not None else []), own]
    whole = _joined(parts_in_order)
    ends = np.cumsum([len(part) for part in parts_in_order]).tolist()
    fold = _fold(0, 0, range(len(training)), range(len(training), ends[-2]), range(ends[-2], ends[-1]))
    _check_classes(whole, {"training": np.array(fold.train), "test": np.array(fold.test)}, needed=("training",))
    images = Images(data=whole, fingerprints=whole.fingerprints(), folds=(fold,), warnings=(), facts={})
    if leave_out is not None:
        return _without_seen(images, fold, leave_out)
    warnings, facts = _leaks(images, fold, allow_leak=allow_leak)
    return replace(images, warnings=warnings, facts=facts)


def _without_seen(images: Images, fold: Fold, others: Set[str]) -> Images:
    """Return the images without test images that are training or validation images, or among `others`."""
    seen = others | images.seen((*fold.train, *fold.val))
    kept = tuple(index for index in fold.test if images.fingerprints[index] not in seen)
    if not kept:
        raise DataError(f"every test image of {images.data.path} was used in training", "give others with --test DIR")
    left = len(fold.test) - len(kept)
    warning = f"{left} of the {len(fold.test)} test images were used in training and are left out (--leave-out-seen)"
    return replace(
        images,
        folds=(replace(fold, test=kept),),
        warnings=(warning,) if left else (),
        facts={"test_left_out": left},
    )


def _leaks(images: Images, fold: Fold, *, allow_leak: bool) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return warnings and facts about test images that are also training images. Raises: as `make_folds`."""
    known = images.seen((*fold.train, *fold.val))
    patients = images.data.patients
    if patients is not None and not allow_leak:
        both = {patients[index] for index in fold.test} & {patients[index] for index in (*fold.train, *fold.val)}
        if both:
            raise DataError(f"{len(both)} patients have both training and test images, such as {min(both)}", _HINT)
    shared = sum(images.fingerprints[index] in known for index in fold.test)
    leak = f"{shared} of the {len(fold.test)} test images are also training or validation images"
    if shared and not allow_leak:
        raise DataError(leak, _HINT)
    return (f"{leak}: the scores of every arm are too optimistic",) if shared else (), {
        "test_among_training": shared,
        "allow_leak": allow_leak,
    }


def _with_similar(images: Images) -> Images:
    """Add a warning about test images that resemble training images, and their number in each fold."""
    vectors = thumbnails(images.data)
    near = [
        int(((vectors[list(fold.test)] @ vectors[[*fold.train, *fold.val]].T).max(axis=1) >= NEAR).sum())
        for fold in images.folds
    ]
    warning = (
        f"{sum(near)} of the {sum(len(fold.test) for fold in images.folds)} test images resemble a training or "
        f"validation image (thumbnails correlate at {NEAR:g} or more): if they show the same scan, the scores of every "
        "arm are too optimistic"
    )
    warnings = (*images.warnings, warning) if any(near) else images.warnings
    return replace(images, warnings=warnings, facts={**images.facts, "near": NEAR, "test_like_training": near})


def _joined(parts: Sequence[Dataset]) -> Dataset:
    """Join the images of all parts. Raises: DataError if they differ in kind or classes."""
    first = parts[0]
    for part in parts[1:]:
        if set(part.classes) - set(first.classes) or part.multi_label != first.multi_label:
            raise DataError(
                f"{part.path} has different classes than {first.path}: {', '.join(part.classes)}",
                f"name its folders {', '.join(first.classes)}",
            )
        if (part.files is None) != (first.files is None):
            raise DataError(
                f"{part.path} and {first.path} are of different kinds", "give both as folders or both as npz"
            )
    files = [part.files for part in parts if part.files is not None]
    arrays = [part.array for part in parts if part.array is not None]
    patients = [part.patients for part in parts if part.patients is not None]
    return Dataset(
        path=first.path,
        classes=first.classes,
        labels=np.concatenate([_labels(part, first.classes) for part in parts]),
        names=tuple(name for part in parts for name in part.names),
        files=tuple(file for group in files for file in group) if files else None,
        array=np.concatenate(arrays) if arrays else None,
        patients=tuple(patient for group in patients for patient in group) if len(patients) == len(parts) else None,
    )


def _labels(part: Dataset, classes: Sequence[str]) -> np.ndarray:
    """Return the part's labels in the order of `classes`."""
    places = [classes.index(name) for name in part.classes]
    if not part.multi_label:
        return np.asarray(np.array(places)[part.labels], np.int64)
    labels = np.zeros((len(part), len(classes)), np.float32)
    labels[:, places] = part.labels
    return labels


def _fold(repeat: int, fold: int, train: Any, val: Any, test: Any) -> Fold:
    parts = {"train": train, "val": val, "test": test}
    return Fold(repeat=repeat, fold=fold, **{name: tuple(map(int, indices)) for name, indices in parts.items()})


def _check_classes(data: Dataset, parts: Mapping[str, np.ndarray], needed: Sequence[str] | None = None) -> None:
    """Raise DataError unless every class of the data is in each of the parts that are `needed`."""
    hot = data.hot()
    for name, indices in parts.items():
        lacking = [label for k, label in enumerate(data.classes) if hot[:, k].any() and not hot[indices, k].any()]
        if lacking and (needed is None or name in needed):
            raise DataError(
                f"{data.path}: class '{lacking[0]}' has too few separate groups of images to be in every {name} part",
                "use fewer folds, set validation=0, or add images of other patients",
            )


def _check_groups(groups: np.ndarray, *parts: np.ndarray) -> None:
    """Raise DataError if a group lies in two parts, which `assign_groups` rules out."""
    found = [set(groups[part].tolist()) for part in parts]
    if sum(map(len, found)) != len(set().union(*found)):
        raise DataError("a patient or a group of duplicates lies in two parts of a fold")
