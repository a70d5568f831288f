"""Scores of a classifier's probabilities on a test set: over all images, per class, and the points of ROC curves.

Macro means are over the classes of the test set alone. A class without an image there has NaN for its scores, 0 for
its support, and is named in `absent`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
)

from medzoo.errors import DataError
from medzoo.storage.files import plain

THRESHOLD = 0.5
"""In multi-label classification, the probability from which on an image is said to have the label."""

# Probabilities that left the network in half precision miss a sum of 1 by up to some 1e-3; logits miss it by far more.
_SUM_TOLERANCE = 1e-2


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """A class against the rest, in [0, 1] or NaN where undefined; `support` is its number of test images.

    `accuracy` is the share of its images that were recognized, hence equal to `recall`; of a label in multi-label
    classification it is the share of all images on which the decision about the label was right.
    `precision` is 0 for a class that has test images and was never predicted, as in scikit-learn.
    """

    name: str
    support: int
    accuracy: float
    precision: float
    recall: float
    f1: float
    auc: float


@dataclass(frozen=True, kw_only=True)
class ClassificationScores:
    """Scores on `n` test images, in [0, 1]; higher is better; NaN where undefined.

    Single-label: `accuracy` is the share of images put right, `balanced_accuracy` the mean recall of the classes.
    Multi-label: `accuracy` is the mean over labels of theirs, `balanced_accuracy` that of (sensitivity + specificity)
    / 2. `exact_match` is the share of images with every label right, for single labels the accuracy.
    `precision`, `recall`, `f1` and `auc` (ROC, one-vs-rest) are macro means.

    Left out of every mean over classes: `absent`, those without a test image. Left out of the mean AUC, and of the
    multi-label balanced accuracy: `one_sided`, those which no test image or every one has. `unpredicted` has test
    images and was never predicted, so its precision counts as 0.
    `confusion` counts true classes in rows, predicted ones in columns; () for multi-label.
    """

    n: int
    classes: tuple[str, ...]
    multi_label: bool
    accuracy: float
    balanced_accuracy: float
    exact_match: float
    precision: float
    recall: float
    f1: float
    auc: float
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    absent: tuple[str, ...]
    one_sided: tuple[str, ...]
    unpredicted: tuple[str, ...]

    @property
    def worst_class(self) -> float:
        """The lowest recall of a class that has test images."""
        return min((score.recall for score in self.per_class if score.support), default=math.nan)

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as JSON takes them: NaN becomes None."""
        return dict(plain(self))


@dataclass(frozen=True, kw_only=True)
class RocCurve:
    """The ROC curve of a class against the rest: rates in [0, 1], both rising from 0 to 1."""

    name: str
    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]
    auc: float


def classification_scores(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], *, multi_label: bool = False
) -> ClassificationScores:
    """Score `probabilities` (N, K) in [0, 1] against `labels`: int (N,), or 0 and 1 (N, K) for multi-label.

    A single label is predicted by the highest probability, the first of equal ones; in multi-label classification,
    each label whose probability is at least 0.5.

    Raises: DataError on nothing to score, other shapes, NaN, probabilities outside [0, 1] or, for single labels, not
    adding up to 1, and labels that name no class.
    """
    truth = _truth(labels, probabilities, classes, multi_label=multi_label)
    predicted = probabilities >= THRESHOLD if multi_label else _one_hot(probabilities.argmax(axis=1), len(classes))
    support = truth.sum(axis=0)
    per_class = _per_class(truth, predicted, probabilities, classes, multi_label=multi_label)
    counts = confusion_matrix(truth.argmax(axis=1), predicted.argmax(axis=1), labels=np.arange(len(classes)))
    exact = float((truth == predicted).all(axis=1).mean())
    recall = _mean([score.recall for score in per_class])
    return ClassificationScores(
        n=len(truth),
        classes=tuple(classes),
        multi_label=multi_label,
        accuracy=_mean([score.accuracy for score in per_class]) if multi_label else exact,
        balanced_accuracy=_mean(list(map(_balanced, truth.T, predicted.T))) if multi_label else recall,
        exact_match=exact,
        precision=_mean([score.precision for score in per_class]),
        recall=recall,
        f1=_mean([score.f1 for score in per_class]),
        auc=_mean([score.auc for score in per_class]),
        per_class=per_class,
        confusion=() if multi_label else tuple(map(tuple, counts.tolist())),
        absent=_named(classes, support == 0),
        one_sided=_named(classes, (support == 0) | (support == len(truth))),
        unpredicted=_named(classes, (support > 0) & ~predicted.any(axis=0)),
    )


def roc_points(
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    *,
    multi_label: bool = False,
    limit: int = 200,
) -> tuple[RocCurve, ...]:
    """Return the ROC curve, of at most `limit` (2 or more) points, of each class that some but not all images have.

    Arguments and Raises are those of `classification_scores`. The area is that of the curve before points were left
    out.
    """
    truth = _truth(labels, probabilities, classes, multi_label=multi_label)
    curves = []
    for name, positive, probability in zip(classes, truth.T, probabilities.T, strict=True):
        if positive.all() or not positive.any():
            continue
        false, true, _ = roc_curve(positive, probability)
        kept = np.unique(np.linspace(0, len(false) - 1, min(limit, len(false))).round().astype(int))
        curves.append(
            RocCurve(
                name=name,
                false_positive_rate=tuple(false[kept].tolist()),
                true_positive_rate=tuple(true[kept].tolist()),
                auc=_auc(positive, probability),
            )
        )
    return tuple(curves)


def _per_class(
    truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], *, multi_label: bool
) -> tuple[ClassScore, ...]:
    """Return each class's scores; `truth` and `predicted` are bool (N, K)."""
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predicted, average=None, zero_division=np.nan
    )
    precision = np.where(predicted.any(axis=0), precision, 0.0)
    accuracy = (truth == predicted).mean(axis=0) if multi_label else recall
    auc = [_auc(*pair) for pair in zip(truth.T, probabilities.T, strict=True)]
    table = np.where(support[:, None] > 0, np.stack([accuracy, precision, recall, f1, auc], axis=1), np.nan)
    return tuple(
        ClassScore(
            name=name, support=int(count), accuracy=row[0], precision=row[1], recall=row[2], f1=row[3], auc=row[4]
        )
        for name, count, row in zip(classes, support, table.tolist(), strict=True)
    )


def _auc(positive: np.ndarray, probability: np.ndarray) -> float:
    """Return the area under the ROC curve, NaN where all images or none are positive."""
    if positive.all() or not positive.any():
        return math.nan
    return float(roc_auc_score(positive, probability))


def _balanced(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return (sensitivity + specificity) / 2 of a label, NaN where all images or none have it."""
    return math.nan if truth.all() or not truth.any() else float(balanced_accuracy_score(truth, predicted))


def _mean(values: Sequence[float]) -> float:
    """Return the mean of the values that are defined, NaN where none is."""
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def _truth(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], *, multi_label: bool) -> np.ndarray:
    """Return the labels as bool (N, K) after checking the arguments of `classification_scores`."""
    if probabilities.ndim != 2 or probabilities.shape[1] != len(classes):
        raise DataError(f"probabilities have shape {probabilities.shape}, but (images, {len(classes)}) was expected")
    if not probabilities.size:
        raise DataError("there are no images or no classes to score")
    outside = ~((probabilities >= 0) & (probabilities <= 1))
    if outside.any():
        image, column = np.argwhere(outside)[0]
        value = probabilities[image, column]
        raise DataError(f"the probability of '{classes[column]}' for image {image} is {value}, not within 0 and 1")
    error = np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1)
    if not multi_label and (error > _SUM_TOLERANCE).any():
        image = int(error.argmax())
        raise DataError(f"the probabilities of image {image} add up to {probabilities[image].sum():.3g}, not 1")
    expected = probabilities.shape if multi_label else probabilities.shape[:1]
    if labels.shape != expected:
        raise DataError(f"labels have shape {labels.shape}, but {expected} goes with the probabilities")
    known = np.isin(labels, (0, 1) if multi_label else range(len(classes)))
    if not known.all():
        where = np.argwhere(~known)[0]
        allowed = "0 or 1" if multi_label else f"0 to {len(classes) - 1}"
        raise DataError(f"label {labels[tuple(where)]} of image {where[0]} is not {allowed}")
    return labels.astype(bool) if multi_label else _one_hot(labels, len(classes))


def _one_hot(labels: np.ndarray, count: int) -> np.ndarray:
    return np.asarray(labels[:, None] == np.arange(count))


def _named(classes: Sequence[str], chosen: np.ndarray) -> tuple[str, ...]:
    return tuple(name for name, taken in zip(classes, chosen, strict=True) if taken)
