"""ROC curves of an experiment, averaged over folds, seeds and classes, from the cells' predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medzoo.classification.scores import RocCurve, roc_points
from medzoo.errors import IntegrityError
from medzoo.experiment.results import Experiment

_GRID = np.linspace(0, 1, 101)

Curves = Mapping[str, Sequence[RocCurve]]
"""The curves of a cell's classes, by the cell's key."""


def read_curves(experiment: Experiment) -> Curves:
    """Compute the ROC curves of every cell with scores. Raises: IntegrityError for unreadable predictions."""
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
    """Read labels, int64 (N,) or float32 (N, K), and probabilities, float64 (N, K), of a cell's predictions.csv.

    Raises:
        IntegrityError: the file is missing or damaged.
    """
    import pandas as pd

    try:
        # Classes may be called "NA" or "1".
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        hot = np.array([[name in label.split("|") for name in classes] for label in table["label"]])
        probabilities = table[[f"p_{name}" for name in classes]].to_numpy(dtype=np.float64)
    except (OSError, KeyError, ValueError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}", f"delete {path.parent} and run it again") from None
    return (hot.astype(np.float32) if multi_label else hot.argmax(axis=1)), probabilities


def arm_curves(experiment: Experiment, curves: Curves, classifier: str) -> dict[str, RocCurve]:
    """Average the curves of each arm with a classifier over its cells and classes, without arms that have none.

    With two classes, the curve of one mirrors that of the other, and only the last class's is used.
    """
    classes = experiment.classes[-1:] if _binary(experiment) else experiment.classes
    return _by_arm(experiment, curves, classifier, classes)


def class_curves(experiment: Experiment, curves: Curves, classifier: str) -> dict[str, dict[str, RocCurve]]:
    """Average the curves of each class and arm over cells; {} for two classes, for which `arm_curves` has the curve."""
    if _binary(experiment):
        return {}
    by_class = {name: _by_arm(experiment, curves, classifier, (name,)) for name in experiment.classes}
    return {name: by_arm for name, by_arm in by_class.items() if by_arm}


def _binary(experiment: Experiment) -> bool:
    return len(experiment.classes) == 2 and not experiment.multi_label


def _by_arm(experiment: Experiment, curves: Curves, classifier: str, classes: Sequence[str]) -> dict[str, RocCurve]:
    by_arm = {}
    for arm in experiment.arms:
        cells = experiment.of(arm.name, classifier)
        own = [[curve for curve in curves.get(cell.key, ()) if curve.name in classes] for cell in cells]
        means = [mean_curve(group) for group in own if group]
        if means:
            by_arm[arm.name] = replace(mean_curve(means), name=arm.name)
    return by_arm


def mean_curve(curves: Sequence[RocCurve]) -> RocCurve:
    """Average the true positive rate at each of 101 false positive rates, and the area.

    Vertical averaging: Fawcett, "An introduction to ROC analysis", 2006, algorithm 3.
    """
    rates = [np.interp(_GRID, curve.false_positive_rate, curve.true_positive_rate) for curve in curves]
    areas = [curve.auc for curve in curves if not np.isnan(curve.auc)]
    return RocCurve(
        name=curves[0].name,
        false_positive_rate=(0.0, *_GRID.tolist()),
        true_positive_rate=(0.0, *np.mean(rates, axis=0).tolist()),
        auc=float(np.mean(areas)) if areas else float("nan"),
    )
