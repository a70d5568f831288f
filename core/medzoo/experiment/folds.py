"""Split an experiment's images: folds of whole groups of images, or the data's own test part; leaks are refused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medzoo.data.dataset import Dataset, describe_blank
from medzoo.data.duplicates import image_groups, just_below, near_pairs, resemble, thumbnails
from medzoo.data.readers import patient_names
from medzoo.data.splits import assign_groups, check_groupable, split_dataset
from medzoo.data.synthetic import check_no_synthetic
from medzoo.errors import DataError
from medzoo.experiment.config import ExperimentSettings
from medzoo.generation.plan import distinct, file_safe
from medzoo.seeds import derive_seed

PARTS = ("train", "val", "test")

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

    `external` are further test sets by name, of which no image is in `data`. `warnings` are what a reader must know
    about the split, `facts` what run.json says of it.
    """

    data: Dataset
    fingerprints: tuple[str, ...]
    folds: tuple[Fold, ...]
    warnings: tuple[str, ...]
    facts: Mapping[str, Any]
    external: Mapping[str, Dataset] = field(default_factory=dict)

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
    tests: Sequence[Dataset] = (),
    allow_leak: bool = False,
    leave_out: Set[str] | None = None,
) -> Images:
    """Split the images of an experiment into folds.

    Without folds, the first of `tests` replaces the data's own test part; the others, and with folds all, are external
    test sets. With `leave_out`, held-out and external test images that are also training images, or have one of these
    fingerprints, are left out.

    Raises:
        DataError: the data has no test part and needs one, or has one and folds are wanted; test images are also
            training images, and not `allow_leak`; a class has too few separate groups of images.
    """
    for part in (data, *data.held_out.values(), *tests):
        check_no_synthetic(part, use="but experiments start from real ones", hint="give the folder of the real images")
    if settings.folds or settings.validation:
        check_groupable(data)
    if not settings.folds:
        images = _held_out(data, settings, test=tests[0] if tests else None)
        images = _check_leaks(images, allow_leak=allow_leak) if leave_out is None else _without_seen(images, leave_out)
    elif leave_out is not None:
        raise DataError("--leave-out-seen was given, but folds test on every image", "use it with folds=0")
    elif data.held_out:
        raise DataError(
            f"{data.path} has parts of its own: {', '.join(data.held_out)}",
            "use its test part with --set folds=0, or put all images into one set of class folders",
        )
    else:
        images = _cross_validation(data.subset(range(len(data))), settings)
    images = _with_similar(images)
    images = _with_external(images, tests if settings.folds else tests[1:], allow_leak=allow_leak, leave_out=leave_out)
    if blank := images.data.blank():
        images = replace(images, warnings=(*images.warnings, describe_blank(blank)))
    return replace(images, facts={**images.facts, "summary": data.summary().to_dict()})


def _cross_validation(data: Dataset, settings: ExperimentSettings) -> Images:
    patients, groups = data.patients, image_groups(data)
    hot, count, validation = data.hot(), settings.folds, settings.validation
    folds = []
    for repeat in range(settings.repeats):
        seed = derive_seed(settings.seed, "folds", repeat)
        part = assign_groups(hot, groups, shares=np.full(count, 1 / count), seed=seed)
        for number in range(count):
            test, rest = np.flatnonzero(part == number), np.flatnonzero(part != number)
            val = np.empty(0, np.int64)
            if validation:
                shares, inside = np.array([1 - validation, validation]), np.unique(groups[rest], return_inverse=True)[1]
                chosen = assign_groups(hot[rest], inside, shares=shares, seed=derive_seed(seed, "val", number))
                rest, val = rest[chosen == 0], rest[chosen == 1]
            needed = {"training": rest, "test": test, **({"validation": val} if validation else {})}
            _check_classes(data, needed)
            parts = {name: tuple(own.tolist()) for name, own in zip(PARTS, (rest, val, test), strict=True)}
            folds.append(Fold(repeat=repeat, fold=number, **parts))
    facts = {"groups": int(groups.max()) + 1, "grouped_by": "duplicates" if patients is None else "patient"}
    return Images(data=data, fingerprints=data.fingerprints(), folds=tuple(folds), warnings=(), facts=facts)


def _held_out(data: Dataset, settings: ExperimentSettings, *, test: Dataset | None) -> Images:
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
    elif val is None:
        val = training.subset(())
    whole = join_parts([training, val, own])
    first, second = len(training), len(training) + len(val)
    bounds = ((0, first), (first, second), (second, len(whole)))
    fold = Fold(repeat=0, fold=0, **{part: tuple(range(*ends)) for part, ends in zip(PARTS, bounds, strict=True)})
    _check_classes(whole, {"training": np.array(fold.train)})
    return Images(data=whole, fingerprints=whole.fingerprints(), folds=(fold,), warnings=(), facts={})


def _without_seen(images: Images, others: Set[str]) -> Images:
    """Leave out test images that are training or validation images, or among `others`."""
    (fold,) = images.folds
    seen = others | images.seen((*fold.train, *fold.val))
    kept = tuple(index for index in fold.test if images.fingerprints[index] not in seen)
    if not kept:
        raise DataError(f"every test image of {images.data.path} was used in training", "give others with --test DIR")
    left = len(fold.test) - len(kept)
    warning = f"{left} of the {len(fold.test)} test images were used in training and are left out (--leave-out-seen)"
    warnings, facts = (warning,) if left else (), {"test_left_out": left}
    return replace(images, folds=(replace(fold, test=kept),), warnings=warnings, facts=facts)


def _check_leaks(images: Images, *, allow_leak: bool) -> Images:
    """Refuse test images that are also training images, or warn of them."""
    (fold,) = images.folds
    known, patients = images.seen((*fold.train, *fold.val)), images.data.patients
    if patients is not None and not allow_leak:
        both = {patients[index] for index in fold.test} & {patients[index] for index in (*fold.train, *fold.val)} - {""}
        if both:
            raise DataError(f"{len(both)} patients have both training and test images, such as {min(both)}", _HINT)
    shared = sum(images.fingerprints[index] in known for index in fold.test)
    leak = f"{shared} of the {len(fold.test)} test images are also training or validation images"
    if shared and not allow_leak:
        raise DataError(leak, _HINT)
    warnings = (f"{leak}: the scores of every arm are too optimistic",) if shared else ()
    return replace(images, warnings=warnings, facts={"test_among_training": shared, "allow_leak": allow_leak})


def _with_similar(images: Images) -> Images:
    """Add a warning about test images that resemble training images, and their number in each fold."""
    tested, trained = np.zeros((2, len(images.folds), len(images.data)), np.bool_)
    for number, fold in enumerate(images.folds):
        tested[number, [*fold.test]] = True
        trained[number, [*fold.train, *fold.val]] = True
    like_training = np.zeros_like(tested)
    for pairs in near_pairs(thumbnails(images.data), above=just_below(NEAR)):
        for one, other in (pairs.T, pairs.T[::-1]):
            fold_of, which = np.nonzero(tested[:, one] & trained[:, other])
            like_training[fold_of, one[which]] = True
    near = like_training.sum(axis=1).tolist()
    warning = (
        f"{sum(near)} of the {sum(len(fold.test) for fold in images.folds)} test images resemble a training or "
        f"validation image (thumbnails correlate at {NEAR:g} or more): if they show the same scan, the scores of every "
        "arm are too optimistic"
    )
    warnings = (*images.warnings, warning) if any(near) else images.warnings
    return replace(images, warnings=warnings, facts={**images.facts, "near": NEAR, "test_like_training": near})


def _with_external(images: Images, tests: Sequence[Dataset], *, allow_leak: bool, leave_out: Set[str] | None) -> Images:
    """Add external test sets. Raises: DataError for other classes, and for images that classifiers are trained on."""
    names = distinct([file_safe(test.path.resolve().stem) for test in tests])
    trained = sorted({index for fold in images.folds for index in (*fold.train, *fold.val)})
    known, warnings, facts = images.seen(trained), list(images.warnings), {}
    external = {}
    for name, test in zip(names, tests, strict=True):
        own = in_classes_of(replace(test, held_out={}), images.data)
        digests = own.fingerprints()
        leaked = [index for index, digest in enumerate(digests) if digest in known | (leave_out or frozenset())]
        leak = f"{len(leaked)} of the {len(own)} images of {test.path} are also training or validation images"
        if leaked and leave_out is not None:
            own = own.subset([index for index in range(len(own)) if index not in leaked])
            warnings.append(f"{leak.replace('are also', 'were')} and are left out (--leave-out-seen)")
        elif leaked and not allow_leak:
            raise DataError(leak, "leave them out with --leave-out-seen (folds=0), or accept them with --allow-leak")
        elif leaked:
            warnings.append(f"{leak}: the scores of every arm on them are too optimistic")
        if not len(own):
            raise DataError(f"every image of {test.path} was used in training", "give others with --test DIR")
        known_rows = thumbnails(images.data.subset(trained))
        near = int(resemble(thumbnails(own), known_rows, above=just_below(NEAR)).sum())
        if near and not leaked:
            warnings.append(
                f"{near} of the {len(own)} images of {test.path} resemble a training or validation image (thumbnails "
                f"correlate at {NEAR:g} or more)"
            )
        external[name] = own
        facts[name] = {"path": str(test.path), "fingerprint": own.fingerprint(), "counts": own.counts(), "near": near}
    if not external:
        return images
    return replace(images, external=external, warnings=tuple(warnings), facts={**images.facts, "external": facts})


def in_classes_of(part: Dataset, first: Dataset) -> Dataset:
    """Return `part` with the classes of `first`, in their order. Raises: DataError if it has others."""
    if set(part.classes) - set(first.classes) or part.multi_label != first.multi_label:
        raise DataError(
            f"{part.path} has different classes than {first.path}: {', '.join(part.classes)}",
            f"name its folders {', '.join(first.classes)}",
        )
    hot = np.zeros((len(part), len(first.classes)), np.float32)
    hot[:, [first.classes.index(name) for name in part.classes]] = part.hot()
    return replace(part, classes=first.classes, labels=hot if first.multi_label else hot.argmax(axis=1))


def join_parts(parts: Sequence[Dataset]) -> Dataset:
    """Return the images of all parts as one dataset, with the classes of the first.

    Raises: DataError if they differ in kind or classes.
    """
    first = parts[0]
    labels = []
    for part in parts:
        labels.append(in_classes_of(part, first).labels)
        if (part.files is None) != (first.files is None):
            raise DataError(
                f"{part.path} and {first.path} are of different kinds", "give both as folders or both as npz"
            )
        if part.array is not None and first.array is not None and part.array.shape[1:] != first.array.shape[1:]:
            shapes = ["x".join(map(str, own.array.shape[1:])) for own in (part, first) if own.array is not None]
            raise DataError(
                f"{part.path} has images of {shapes[0]} pixels, and {first.path} of {shapes[1]}",
                "give images of one size, or image files in class folders",
            )
    arrays = [part.array for part in parts if part.array is not None]
    patients = [part.patients for part in parts if part.patients is not None]
    frames = [frame for part in parts for frame in part.frames or [""] * len(part)]
    keys = [key for part in parts for key in part.patient_keys or ()]
    if len(keys) == sum(map(len, parts)):  # of several sets, each of which counts its patients from 1
        named = patient_names(keys)
        patients = [tuple(named[key] for key in part.patient_keys or ()) for part in parts]
    return replace(
        first,
        labels=np.concatenate(labels),
        names=tuple(name for part in parts for name in part.names),
        files=None if arrays else tuple(file for part in parts for file in part.files or ()),
        frames=tuple(frames) if any(frames) else None,
        array=np.concatenate(arrays) if arrays else None,
        patients=tuple(patient for group in patients for patient in group) if len(patients) == len(parts) else None,
        patient_keys=tuple(keys) if len(keys) == sum(map(len, parts)) else None,
        held_out={},
        bad=(),
    )


def _check_classes(data: Dataset, parts: Mapping[str, np.ndarray]) -> None:
    """Raise DataError unless every class of the data is in each of the parts."""
    hot = data.hot()
    for name, indices in parts.items():
        lacking = [label for k, label in enumerate(data.classes) if hot[:, k].any() and not hot[indices, k].any()]
        if lacking:
            raise DataError(
                f"{data.path}: class '{lacking[0]}' has too few separate groups of images to be in every {name} part",
                "use fewer folds, set validation=0, or add images of other patients",
            )
