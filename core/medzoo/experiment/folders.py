"""Folders of ready-made synthetic images as arms, "folder:PATH": read, aligned, checked for test images, and chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medzoo.data.dataset import Dataset, open_dataset
from medzoo.data.duplicates import THRESHOLD, thumbnails
from medzoo.data.metadata import read_metadata
from medzoo.errors import ConfigError, DataError
from medzoo.evaluation.leakage import known_training_images
from medzoo.experiment.config import FOLDER, Design
from medzoo.experiment.folds import Fold, Images, in_classes_of
from medzoo.generation.mixture import Source
from medzoo.models.labels import join_labels

# Rows compared at once: 512 x 10,000 correlations take 20 MB.
_ROWS = 512


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """The images of an arm "folder:PATH", in the classes of the experiment's data.

    `origins` are the models that medzoo's metadata.csv names, and the fingerprints of their training images, None
    where they are unknown; there are none without such a file.
    """

    name: str
    data: Dataset
    fingerprint: str
    origins: Mapping[str, frozenset[str] | None] = field(default_factory=dict)

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

    def check_counts(self, needed: Mapping[str, int]) -> None:
        """Raise DataError unless there are `needed` images of each label."""
        for label, count in needed.items():
            if (available := self.labels.count(label)) < count:
                raise DataError(
                    f"{self.name} has {available} images of {label}, and {count} are needed",
                    "lower target, or give more images",
                )

    def take(self, counts: Mapping[str, int], *, seed: int) -> np.ndarray:
        """Return the indices, int64, of the first `counts` images of each label in an order drawn by `seed`."""
        order = np.random.default_rng(seed).permutation(len(self.data))
        labels = np.array(self.labels)[order]
        taken = [order[labels == label][:count] for label, count in counts.items()]
        return np.sort(np.concatenate(taken)) if taken else np.empty(0, np.int64)

    @cached_property
    def _thumbnails(self) -> np.ndarray:
        return thumbnails(self.data)

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        """A file by the fingerprint of its image."""
        return dict(zip(self.data.fingerprints(), self.data.names, strict=True))

    def find(self, data: Dataset, fingerprints: Sequence[str]) -> dict[int, str]:
        """Return which images of `data` are in the folder, by index, and as which file.

        They have equal pixels, or thumbnails that correlate above 0.99.
        """
        vectors, found = thumbnails(data), dict[int, str]()
        for start in range(0, len(vectors), _ROWS):
            close = vectors[start : start + _ROWS] @ self._thumbnails.T
            best = close.argmax(axis=1)
            for row in np.flatnonzero(close.max(axis=1) > THRESHOLD).tolist():
                found[start + row] = self.data.names[best[row]]
        equal = {k: self._fingerprints[digest] for k, digest in enumerate(fingerprints) if digest in self._fingerprints}
        return found | equal

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
        found[name] = ImageFolder(name=name, data=own, fingerprint=own.fingerprint(), origins=origins)
    return found


def find_test_images(folder: ImageFolder, images: Images) -> dict[str, dict[int, str]]:
    """Return which images are in the folder, by index and as which file: under "" the experiment's, then external."""
    external = {name: folder.find(data, data.fingerprints()) for name, data in images.external.items()}
    return {"": folder.find(images.data, images.fingerprints), **external}


def count_held_out(
    folder: ImageFolder, inside: Mapping[str, Mapping[int, str]], images: Images, fold: Fold, *, allow_leak: bool
) -> dict[str, int]:
    """Count the test and validation images of a fold, and the external ones, that a folder holds or was made from.

    `inside` comes from `find_test_images`; "made from" means that its models were trained on them.
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
    counts = {}
    for part, what, digests, indices, found in parts:
        held = [index for index in indices if index in found]
        seen = [index for index in indices if digests[index] in trained]
        counts[part] = len({*held, *seen})
        if held and not allow_leak:
            raise DataError(
                f"{folder.name} holds {len(held)} of the {len(indices)} {what}, such as {found[held[0]]}",
                "take them out of the folder, or accept them with --allow-leak",
            )
        if seen and part != "val" and not allow_leak:
            raise DataError(
                f"{folder.name} was made by a model trained on {len(seen)} of the {len(indices)} {what}",
                "give images of a model that never saw them, or accept them with --allow-leak",
            )
    return counts
