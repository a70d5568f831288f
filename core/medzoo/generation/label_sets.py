"""Sets of labels of multi-label data: each as one class, and how many images of each a set of images lacks."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from medzoo.data.dataset import Dataset
from medzoo.generation.plan import exact_shares
from medzoo.models.labels import join_labels

NO_LABEL = ""
"""The class of images without a label."""


def label_sets(data: Dataset, *, unlabeled: bool = False) -> Dataset:
    """Return multi-label data with each set of labels as one class.

    The names are joined by `join_labels`. Images are thereby sampled, and those to vary chosen, set by set. Images that
    have no label are left out, or with `unlabeled` of the class `NO_LABEL`. Data of single labels is returned as it is.
    """
    if not data.multi_label:
        return data
    named = [join_labels([data.classes[k] for k in np.flatnonzero(row)]) for row in data.hot()]
    kept = [index for index, name in enumerate(named) if name or unlabeled]
    classes = tuple(sorted({named[index] for index in kept}))
    labels = np.array([classes.index(named[index]) for index in kept], np.int64)
    return replace(data.subset(kept), classes=classes, labels=labels)


def missing_images(data: Dataset, target: int, *, apart: bool = False) -> dict[str, int]:
    """Return how many images of each class fill `data` up to `target` images of each.

    In multi-label data, `target` counts all images, and each set of labels is filled in proportion to its frequency; no
    images without a label are added. With `apart`, `target` images are made beside those of `data`.
    """
    counts = label_sets(data).counts()
    if not data.multi_label:
        return {label: target if apart else max(0, target - count) for label, count in counts.items()}
    missing = target if apart else max(0, target - len(data))
    shares = [Fraction(count) for count in counts.values()]
    return dict(zip(counts, exact_shares(missing, shares), strict=True)) if counts else {}
