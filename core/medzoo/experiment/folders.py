"""Folders of ready-made synthetic images as arms, "folder:PATH": read, aligned, checked for test images, and chosen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medzoo.data.dataset import Dataset, open_dataset
from medzoo.data.duplicates import correlations, near_pairs, thumbnails
from medzoo.data.metadata import read_metadata
from medzoo.errors import ConfigError, DataError
from medzoo.evaluation.leakage import known_training_images
from medzoo.experiment.config import FOLDER, Design
from medzoo.experiment.folds import Fold, Images, in_classes_of
from medzoo.generation.mixture import Source
from medzoo.generation.run import SOURCES
from medzoo.models.labels import join_labels
from medzoo.runs.record import read_run


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """The images of an arm "folder:PATH", in the classes of the experiment's data.

    `origins` are the models that medzoo's metadata.csv names, and the fingerprints of their training images, None
    where they are unknown; there are none without such a file. `sources` are, image by image, the images of the
    experiment that it varies, by index: none for those drawn from noise or from images of others.
    """

    name: str
    data: Dataset
    fingerprint: str
    origins: Mapping[str, frozenset[str] | None] = field(default_factory=dict)
    sources: tuple[tuple[int, ...], ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}  # without what was computed from them

    @property
    def lineage(self) -> str:
        """What is known of the images that its images were made from, in words."""
        if not self.origins:
            return "unknown"
        known = {
            name: "unknown training images" if images is None else f"{len(images)} known training images"
            for name, images in self.origins.items()
        }
        return ", ".join(f"{name} ({images})" for name, images in known.items())

    @cached_property
    def labels(self) -> list[str]:
        """The label of each image, or its labels joined."""
        return [join_labels([self.data.classes[k] for k in np.flatnonzero(row)]) for row in self.data.hot()]

    def usable(self, fold: Fold) -> np.ndarray:
        """Return which images may be used in a fold, bool (N,): those that vary no image outside its training images.

        Without leaving them out, a classifier would be tested on images that it has seen slightly changed.
        """
        if not any(self.sources):
            return np.ones(len(self.data), np.bool_)
        known = self._usable.get(fold)
        if known is None:
            train = set(fold.train)
            known = self._usable[fold] = np.array([train.issuperset(own) for own in self.sources], np.bool_)
        return known

    @cached_property
    def _usable(self) -> dict[Fold, np.ndarray]:
        return {}

    def left_out(self, fold: Fold) -> str:
        """Return a hash of which images are left out in a fold; "" if none is."""
        usable = self.usable(fold)
        return "" if usable.all() else hashlib.sha256(np.packbits(usable).tobytes()).hexdigest()

    def check_counts(self, needed: Mapping[str, int], fold: Fold) -> None:
        """Raise DataError unless there are `needed` images of each label that may be used in the fold."""
        usable = self.usable(fold)
        labels = np.array(self.labels)
        for label, count in needed.items():
            own = labels == label
            if (available := int((own & usable).sum())) < count:
                left = int((own & ~usable).sum())
                varied = f" (not counting {left} that vary images outside its training part)" if left else ""
                where = f" for fold {fold.fold + 1}" if left else ""
                raise DataError(
                    f"{self.name} has {available} images of {label}{where}{varied}, and {count} are needed",
                    "lower target, or give more images",
                )

    def take(self, counts: Mapping[str, int], fold: Fold, *, seed: int) -> np.ndarray:
        """Return the first `counts` images of each label that may be used in the fold, in an order drawn by `seed`.

        They are indices, int64, sorted.
        """
        order = np.random.default_rng(seed).permutation(len(self.data))
        order = order[self.usable(fold)[order]]
        labels = np.array(self.labels)[order]
        taken = [order[labels == label][:count] for label, count in counts.items()]
        return np.sort(np.concatenate(taken)) if taken else np.empty(0, np.int64)

    @cached_property
    def _thumbnails(self) -> np.ndarray:
        return thumbnails(self.data)

    def find(self, data: Dataset, fingerprints: Sequence[str]) -> dict[int, tuple[int, ...]]:
        """Return which images of `data` are in the folder, by index, and as which of its images, the nearest first.

        They have equal pixels, or thumbnails that correlate above 0.99.
        """
        rows, near = thumbnails(data), dict[int, list[tuple[float, int]]]()
        for pairs in near_pairs(rows, self._thumbnails):
            alike = correlations(rows, self._thumbnails, pairs)
            for (k, index), correlation in zip(pairs.tolist(), alike.tolist(), strict=True):
                near.setdefault(k, []).append((-correlation, index))
        found = {k: tuple(index for _, index in sorted(own)) for k, own in near.items()}
        own: dict[str, list[int]] = {}
        for index, digest in enumerate(self.data.fingerprints()):
            own.setdefault(digest, []).append(index)
        for k, digest in enumerate(fingerprints):
            if equal := own.get(digest):
                found[k] = (*equal, *(index for index in found.get(k, ()) if index not in equal))
        return found

    def describe(self) -> dict[str, Any]:
        """Return what experiment.json says of it."""
        facts = {"kind": "folder", "path": str(self.data.path), "fingerprint": self.fingerprint}
        return {**facts, "counts": self.data.counts(), "lineage": self.lineage}


def open_folders(design: Design, data: Dataset, source: Source) -> dict[str, ImageFolder]:
    """Open the folders that the arms of `design` name, in the classes of `data`.

    Raises:
        ConfigError: settings are given for one.
        DataError: a folder cannot be read, or has other classes.
    """
    found = {}
    for name in dict.fromkeys(name for arm in design.arms for name in arm.mixture if name.startswith(FOLDER)):
        if keys := design.own["generator"].get(name):
            raise ConfigError(
                f"generator.{name}.{next(iter(keys))}: a folder of images has no settings", "leave it out"
            )
        path = Path(name.removeprefix(FOLDER))
        if not path.exists():
            raise DataError(f"{path} does not exist", f"the arm '{name}' takes its images from there")
        opened = replace(open_dataset(path, log=False), held_out={})
        rows = read_metadata(path)
        origins: dict[str, frozenset[str] | None] = {}
        if rows:
            opened = opened.subset([k for k, file in enumerate(opened.names) if file in opened.synthetic])
            if not len(opened):
                raise DataError(f"metadata.csv in {path} names no synthetic image", "give a folder that has some")
            stated = [rows.get(file, {}) for file in opened.names]
            models = dict.fromkeys((row.get("generator", ""), row.get("weights_sha256", "")) for row in stated)
            origins = {model: known_training_images(model, weights, path, source) for model, weights in models}
        own = in_classes_of(opened, data)
        stated_sources = [rows.get(file, {}).get("source_image", "") for file in own.names]
        found[name] = ImageFolder(
            name=name,
            data=own,
            fingerprint=own.fingerprint(),
            origins=origins,
            sources=_sources(path, stated_sources, data) if any(stated_sources) else (),
        )
    return found


def _sources(path: Path, stated: Sequence[str], data: Dataset) -> tuple[tuple[int, ...], ...]:
    """Return the images of `data` that each image of a folder varies, from their `stated` names, "" for none.

    They are found by the fingerprints in run.json, or else by the names alone: of several images with one name, each
    may be meant.
    """
    run = read_run(path) if path.is_dir() else None
    digests = (run or {}).get(SOURCES)
    known = digests if isinstance(digests, Mapping) else {}
    places: dict[str, list[int]] = {}
    for index, keys in enumerate(zip(data.fingerprints(), data.names, strict=True)):
        for key in keys:
            places.setdefault(key, []).append(index)
    return tuple(tuple(places.get(known.get(name, name), ())) if name else () for name in stated)


def find_test_images(folder: ImageFolder, images: Images) -> dict[str, dict[int, tuple[int, ...]]]:
    """Return which images are in the folder, by index, and as which: under "" the experiment's, then external ones."""
    external = {name: folder.find(data, data.fingerprints()) for name, data in images.external.items()}
    return {"": folder.find(images.data, images.fingerprints), **external}


def count_held_out(
    folder: ImageFolder,
    inside: Mapping[str, Mapping[int, Sequence[int]]],
    images: Images,
    fold: Fold,
    *,
    allow_leak: bool,
) -> dict[str, int]:
    """Count the test and validation images of a fold, and the external ones, that a folder holds or was made from.

    `inside` comes from `find_test_images`; "made from" means that its models were trained on them. Images that are left
    out of the folder in this fold (`usable`) do not count.
    Raises: DataError if there is one, and not `allow_leak`; validation images may have been trained on.
    """
    trained = frozenset[str]().union(*(known for known in folder.origins.values() if known is not None))
    where = f" of fold {fold.fold + 1}" if len(images.folds) > 1 else ""
    parts = [
        ("test", f"test images{where}", images.fingerprints, fold.test, inside[""]),
        ("val", f"validation images{where}", images.fingerprints, fold.val, inside[""]),
        *(
            (name, f"images of {data.path}", data.fingerprints(), range(len(data)), inside[name])
            for name, data in images.external.items()
        ),
    ]
    counts, usable = {}, folder.usable(fold)
    for part, what, digests, indices, found in parts:
        held = [index for index in indices if usable[[*found.get(index, ())]].any()]
        seen = [index for index in indices if digests[index] in trained]
        counts[part] = len({*held, *seen})
        if held and not allow_leak:
            raise DataError(
                f"{folder.name} holds {len(held)} of the {len(indices)} {what}, such as "
                f"{next(folder.data.names[row] for row in found[held[0]] if usable[row])}",
                "take them out of the folder, or accept them with --allow-leak",
            )
        if seen and part != "val" and not allow_leak:
            raise DataError(
                f"{folder.name} was made by a model trained on {len(seen)} of the {len(indices)} {what}",
                "give images of a model that never saw them, or accept them with --allow-leak",
            )
    return counts
