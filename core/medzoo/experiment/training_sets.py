"""Training sets of an arm: how many synthetic images of each label it adds, and all its images as one dataset."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from medzoo.data.dataset import Dataset
from medzoo.data.decoded_cache import Decoded
from medzoo.errors import ConfigError
from medzoo.experiment.config import Arm
from medzoo.generation.plan import exact_shares
from medzoo.models.labels import join_labels
from medzoo.seeds import derive_seed


def label_sets(data: Dataset) -> Dataset:
    """Return multi-label data with each set of labels as one class, without images that have no label.

    The names are joined by `join_labels`. Images are thereby sampled, and those to vary chosen, set by set. Data of
    single labels is returned as it is.
    """
    if not data.multi_label:
        return data
    named = [join_labels([data.classes[k] for k in np.flatnonzero(row)]) for row in data.hot()]
    classes = tuple(sorted({name for name in named if name}))
    labels = np.array([classes.index(name) for name in named if name], np.int64)
    kept = [index for index, name in enumerate(named) if name]
    return replace(data.subset(kept), classes=classes, labels=labels)


def synthetic_counts(data: Dataset, arm: Arm) -> dict[str, dict[str, int]]:
    """Count the synthetic images that each generator of the arm adds to `data`, by label; labels without any left out.

    Each class is filled up to the target; pretraining takes that many of each class beside the real ones. In
    multi-label data the whole set is filled (or made), its sets of labels in proportion.
    Raises: ConfigError if the arm has generators and adds no image.
    """
    if not arm.mixture:
        return {}
    counts = label_sets(data).counts()
    given = {label: arm.target if arm.pretrain else max(0, arm.target - count) for label, count in counts.items()}
    if data.multi_label:
        missing = arm.target if arm.pretrain else max(0, arm.target - len(data))
        given = dict(zip(counts, exact_shares(missing, [Fraction(count) for count in counts.values()]), strict=True))
    if not any(given.values()):
        raise ConfigError(f"the arm '{arm.name}' adds no image: every class has {arm.target} or more", "raise target")
    shares = [Fraction(str(share)) for share in arm.mixture.values()]
    split = {label: exact_shares(count, shares) for label, count in given.items()}
    return {
        name: {label: parts[place] for label, parts in split.items() if parts[place]}
        for place, name in enumerate(arm.mixture)
    }


Part = tuple[Decoded, np.ndarray, np.ndarray]
"""Images, indices into them, int64, and the labels of those."""


class ConcatDataset:
    """Images of several decoded sets as one (`protocols.LabeledImages`).

    Up to `length`, images are repeated: each equally often, and for the remainder a choice by `seed`.
    """

    def __init__(
        self, classes: tuple[str, ...], parts: Sequence[Part], *, length: int | None = None, seed: int = 0
    ) -> None:
        self.classes = classes
        self._sources = [images for images, _, _ in parts]
        source = np.concatenate([np.full(len(rows), number) for number, (_, rows, _) in enumerate(parts)])
        row = np.concatenate([rows for _, rows, _ in parts]).astype(np.int64)
        labels = np.concatenate([labels for _, _, labels in parts])
        count, length = len(row), length or len(row)
        rest = np.random.default_rng(seed).permutation(count)[: length % count if count else 0]
        order = np.concatenate([np.tile(np.arange(count), length // count if count else 0), np.sort(rest)])
        self._source, self._row = source[order], row[order]
        self.labels: np.ndarray = labels[order]

    def __len__(self) -> int:
        return len(self._row)

    def sources(self) -> Iterator[tuple[Decoded, np.ndarray, np.ndarray]]:
        """Yield each set of images with the places here that its images take, and their rows there (int64)."""
        for number, images in enumerate(self._sources):
            places = np.flatnonzero(self._source == number)
            yield images, places, self._row[places]

    def __getitem__(self, index: int) -> np.ndarray:
        """Return image `index`: uint8 (C, size, size)."""
        pixels: np.ndarray = self._sources[self._source[index]][[self._row[index]]][0]
        return pixels


def fraction_of(data: Dataset, indices: Sequence[int], fraction: float, *, seed: int) -> list[int]:
    """Choose about `fraction` of the images at `indices`, in their order; at least one of each class unless it is 0.

    With one seed, a smaller fraction lies within a larger one.
    """
    if fraction >= 1:
        return list(indices)
    hot, chosen = data.hot()[list(indices)], set()
    for k, name in enumerate(data.classes):
        own = np.flatnonzero(hot[:, k])
        order = np.random.default_rng(derive_seed(seed, "fraction", name)).permutation(own)
        chosen |= set(order[: math.ceil(fraction * len(own))].tolist())
    return [index for place, index in enumerate(indices) if place in chosen]
