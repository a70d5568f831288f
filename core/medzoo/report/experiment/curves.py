"""ROC curves of an experiment, from its cells' predictions: averaged over folds, seeds and classes."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medzoo.classification.scores import RocCurve, roc_points
from medzoo.errors import IntegrityError
from medzoo.experiment.results import Experiment
from medzoo.report.experiment.score_tables import mean

_GRID = np.linspace(0, 1, 101)

Curves = Mapping[str, Sequence[RocCurve]]
"""The curves of a cell's classes, by the cell's key."""


def read_curves(experiment: Experiment) -> Curves:
    """The ROC curves of every cell with scores. Raises: IntegrityError for predictions that cannot be read."""
    return {
        cell.key: roc_points(
            *read_predictions(experiment.predictions(cell), experiment.classes, multi_label=experiment.multi_label),
            experiment.classes,
            multi_label=experiment.multi_label,
        )
        for cell in experiment.cells
        if cell.scores is not None
    }


def read_predictions(path: Path, classes: Sequence[str], *, multi_label: bool) -> tuple[np.ndarray, np.ndarray]:
    """The labels, int64 (N,) or float32 (N, K), and probabilities, float64 (N, K), of a cell's predictions.csv.

    Raises: IntegrityError.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        hot = np.array([[name in row["label"].split("|") for name in classes] for row in rows])
        probabilities = np.array([[float(row[f"p_{name}"]) for name in classes] for row in rows])
    except (OSError, KeyError, ValueError, AttributeError, csv.Error) as error:
        raise IntegrityError(f"{path} cannot be read: {error}", f"delete {path.parent} and run it again") from None
    return (hot.astype(np.float32) if multi_label else hot.argmax(axis=1)), probabilities


def arm_curves(experiment: Experiment, curves: Curves, classifier: str) -> dict[str, RocCurve]:
    """By arm, the mean of all curves of its cells with a classifier; arms without any left out.

    Of two classes, one's curve is the other's seen from behind: then it is the last class's.
    """
    classes = experiment.classes[-1:] if _one_of_two(experiment) else experiment.classes
    return _by_arm(experiment, curves, classifier, classes)


def class_curves(experiment: Experiment, curves: Curves, classifier: str) -> dict[str, dict[str, RocCurve]]:
    """By class and arm, the mean curve over the cells; {} for two classes, whose one curve `arm_curves` has."""
    if _one_of_two(experiment):
        return {}
    found = {name: _by_arm(experiment, curves, classifier, (name,)) for name in experiment.classes}
    return {name: by_arm for name, by_arm in found.items() if by_arm}


def _one_of_two(experiment: Experiment) -> bool:
    return len(experiment.classes) == 2 and not experiment.multi_label


def _by_arm(experiment: Experiment, curves: Curves, classifier: str, classes: Sequence[str]) -> dict[str, RocCurve]:
    found = {}
    for arm in experiment.arms:
        cells = experiment.of(arm.name, classifier)
        own = [[curve for curve in curves.get(cell.key, ()) if curve.name in classes] for cell in cells]
        means = [mean_curve(group) for group in own if group]
        if means:
            found[arm.name] = replace(mean_curve(means), name=arm.name)
    return found


def mean_curve(curves: Sequence[RocCurve]) -> RocCurve:
    """The mean true positive rate at each of 101 false positive rates, and the mean area.

    Vertical averaging: Fawcett, "An introduction to ROC analysis", 2006, algorithm 3.
    """
    rates = [np.interp(_GRID, curve.false_positive_rate, curve.true_positive_rate) for curve in curves]
    true = np.array([math.fsum(column) / len(rates) for column in zip(*rates, strict=True)])
    return RocCurve(
        name=curves[0].name,
        false_positive_rate=(0.0, *_GRID.tolist()),
        true_positive_rate=(0.0, *true.tolist()),
        auc=mean([curve.auc for curve in curves]),
    )
