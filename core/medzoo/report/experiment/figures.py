"""Figures of an experiment: scores by arm, differences, confusion matrices, ROC curves and training curves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from medzoo.classification.scores import RocCurve, roc_points
from medzoo.experiment.config import REAL, Arm, metric_words
from medzoo.experiment.results import Experiment
from medzoo.report.experiment.controls import UNPRETRAINED, Controls
from medzoo.report.experiment.tables import TITLES, class_means, finished
from medzoo.report.figures import (
    Point,
    RenderedFigure,
    confusion_figure,
    lines_figure,
    roc_figure,
    rows_figure,
    shorten,
)

BASELINE = "baseline"
KINDS = ("differences", "scores", "targets", "mixing", "recall", "confusion", "roc", "class-roc", "training")

_HISTORIES: Mapping[str, str] = {
    "loss": "training loss",
    "validation_loss": "validation loss",
    "balanced_accuracy": "validation balanced accuracy",
}


Figures = Iterator[tuple[tuple[str, str, str], RenderedFigure]]
"""Figures by kind (one of KINDS), the classifier they are of, and the arm or class."""


def experiment_figures(experiment: Experiment, controls: Controls) -> dict[tuple[str, str, str], RenderedFigure]:
    """Render every figure by its kind, one of KINDS, the classifier it is of, and its subject: an arm or class.

    Raises: IntegrityError for unreadable predictions.
    """
    curves = read_curves(experiment)
    figures = {**dict(_difference_figures(experiment, controls)), **dict(_mixing_figures(experiment))}
    for name in experiment.classifiers:
        figures |= dict(_arm_figures(experiment, name))
        figures |= dict(_curve_figures(experiment, curves, name))
    return figures


def _score(experiment: Experiment, arm: Arm, classifier: str) -> Point:
    summary = experiment.summary(arm.name, classifier)
    found = summary.estimates[experiment.metric]
    if not found.n:
        return _without_scores(failed=summary.failed > 0)
    return Point(value=found.mean, low=found.low, high=found.high, note=found.counts if found.n_failed else "")


def _without_scores(*, failed: bool) -> Point:
    return Point(value=math.nan, failed="no cell has scores" if failed else "", note="" if failed else "not run")


def metric_label(metric: str) -> str:
    """Return the name of a metric within a sentence or at an axis."""
    return {"auc": "ROC AUC", "f1": "F1"}.get(metric) or metric_words(metric)


def _difference_figures(experiment: Experiment, controls: Controls) -> Figures:
    """Plot the difference of each arm; filled marks are significant, intervals are not adjusted for their number."""
    names = {BASELINE: experiment.baseline, UNPRETRAINED: "no pretraining"}
    metric = metric_words(experiment.metric)
    for subject, comparisons in {**controls, BASELINE: experiment.comparisons}.items():
        if not any(math.isfinite(comparison.difference) for comparison in comparisons):
            continue
        groups: dict[str, dict[str, Point]] = {}
        for found in comparisons:
            its = found.test.difference
            note = "not tested" if math.isnan(its.mean) else its.counts if its.n_failed else ""
            point = Point(value=its.mean, low=its.low, high=its.high, note=note)
            groups.setdefault(found.classifier, {})[found.arm] = point
        against = names.get(subject, subject)
        figure = rows_figure(
            groups,
            title=f"Difference in {metric} from {against}",
            x_label=f"{metric}: difference from\n{shorten(against, 40)}, with 95% CI",
            shown={(found.classifier, found.arm) for found in comparisons if found.shown},
        )
        yield ("differences", "", subject), figure


def _mixing_figures(experiment: Experiment) -> Figures:
    """Plot for each two generators that were mixed in several ratios a line per classifier."""
    arms = [arm for arm in experiment.arms if arm.mixture and not arm.pretrain]
    mixed = dict.fromkeys((tuple(sorted(arm.mixture)), arm.target) for arm in arms if len(arm.mixture) == 2)
    for (first, second), target in mixed:
        shares = {
            arm.mixture.get(first, 0.0): arm
            for arm in arms
            if arm.target == target and set(arm.mixture) <= {first, second}
        }
        lines = {
            name: {share: _score(experiment, arm, name) for share, arm in sorted(shares.items())}
            for name in experiment.classifiers
        }
        if len(shares) > 1 and _has_values(lines):
            several = f", target {target:,}" if len({other for _, other in mixed}) > 1 else ""
            figure = lines_figure(
                lines,
                title=f"{TITLES[experiment.metric]} by mixing ratio{several}",
                x_label=f"share of {first}, the rest {second}",
                y_label=metric_label(experiment.metric),
            )
            yield ("mixing", "", f"{first} {second} {target}"), figure


def _has_values(lines: Mapping[str, Mapping[float, Point]]) -> bool:
    return any(math.isfinite(point.value) for line in lines.values() for point in line.values())


def _arm_figures(experiment: Experiment, name: str) -> Figures:
    """Plot scores by arm and by target count, recall of each class by arm, and confusion matrices of a classifier."""
    label, baseline = metric_label(experiment.metric), experiment.baseline
    scores = {arm.name: _score(experiment, arm, name) for arm in experiment.arms}
    title = f"{TITLES[experiment.metric]} by arm"
    yield ("scores", name, ""), rows_figure({name: scores}, title=title, x_label=label, baseline=baseline)

    lines: dict[str, dict[float, Point]] = {}
    augmented = [arm for arm in experiment.arms if arm.mixture and not arm.pretrain]
    for arm in augmented:
        # 0 is real images alone.
        line = lines.setdefault(arm.name.removesuffix(f"@{arm.target}"), {0: scores[REAL]} if REAL in scores else {})
        line[arm.target] = scores[arm.name]
    if len({arm.target for arm in augmented}) > 1 and _has_values(lines):
        title, unit = f"{name}: {label} by target count", "in total" if experiment.multi_label else "per class"
        x_label = f"images {unit} after augmentation"
        yield ("targets", name, ""), lines_figure(lines, title=title, x_label=x_label, y_label=label)

    means = {arm.name: class_means(experiment, arm.name, name) for arm in experiment.arms}
    if any(means.values()):
        lost = {arm: _without_scores(failed=experiment.summary(arm, name).failed > 0) for arm in means}
        groups = {
            label: {arm: Point(value=own[index]["recall"]) if own else lost[arm] for arm, own in means.items()}
            for index, label in enumerate(experiment.classes)
        }
        title = f"Recall by class, {name}"
        yield ("recall", name, ""), rows_figure(groups, title=title, x_label="recall", baseline=baseline)

    for arm in experiment.arms:
        matrices = [cell.scores.confusion for cell in experiment.of(arm.name, name) if cell.scores is not None]
        if matrices and not experiment.multi_label:
            counts, title = np.sum(matrices, axis=0).tolist(), f"{name} on {arm.name}"
            yield ("confusion", name, arm.name), confusion_figure(counts, experiment.classes, title=title)


def _curve_figures(experiment: Experiment, curves: Mapping[str, Sequence[RocCurve]], name: str) -> Figures:
    """Plot ROC and training curves of a classifier."""
    binary = len(experiment.classes) == 2 and not experiment.multi_label
    # The curve of one of two classes mirrors that of the other.
    classes = experiment.classes[-1:] if binary else experiment.classes
    if by_arm := mean_curves(experiment, curves, name, classes):
        yield ("roc", name, ""), roc_figure(by_arm, title=name)
    for label in () if binary else classes:
        if own := mean_curves(experiment, curves, name, (label,)):
            yield ("class-roc", name, label), roc_figure(own, title=f"{label} vs. rest, {name}")
    for key, what in _HISTORIES.items():
        histories = {arm.name: _history(experiment, arm.name, name, key) for arm in experiment.arms}
        if lines := {arm: line for arm, line in histories.items() if line}:
            title, x_label = f"{name}: {what}", "optimizer steps"
            yield (
                ("training", name, what),
                lines_figure(lines, title=title, x_label=x_label, y_label=what, points=False),
            )


def read_curves(experiment: Experiment) -> dict[str, tuple[RocCurve, ...]]:
    """Compute the ROC curves of every cell with scores, by its key. Raises: IntegrityError for damaged predictions."""
    curves = {}
    for cell in finished(experiment.cells):
        table, multi_label = experiment.read_predictions(cell), experiment.multi_label
        hot = np.array([[name in label.split("|") for name in experiment.classes] for label in table["label"]])
        curves[cell.key] = roc_points(
            hot.astype(np.float32) if multi_label else hot.argmax(axis=1),
            table[[f"p_{name}" for name in experiment.classes]].to_numpy(),
            experiment.classes,
            multi_label=multi_label,
        )
    return curves


def mean_curves(
    experiment: Experiment, curves: Mapping[str, Sequence[RocCurve]], classifier: str, classes: Sequence[str]
) -> dict[str, RocCurve]:
    """Average the curves of `classes`, then over the cells of each arm with a classifier; arms without any left out."""
    by_arm = {}
    for arm in experiment.arms:
        cells = experiment.of(arm.name, classifier)
        own = [[curve for curve in curves.get(cell.key, ()) if curve.name in classes] for cell in cells]
        if means := [mean_curve(group) for group in own if group]:
            by_arm[arm.name] = replace(mean_curve(means), name=arm.name)
    return by_arm


def mean_curve(curves: Sequence[RocCurve]) -> RocCurve:
    """Average the true positive rate at each of 101 false positive rates, and the area.

    Vertical averaging: Fawcett, "An introduction to ROC analysis", 2006, algorithm 3.
    """
    grid = np.linspace(0, 1, 101)
    rates = [np.interp(grid, curve.false_positive_rate, curve.true_positive_rate) for curve in curves]
    areas = [curve.auc for curve in curves if not np.isnan(curve.auc)]
    return RocCurve(
        name=curves[0].name,
        false_positive_rate=(0.0, *grid.tolist()),
        true_positive_rate=(0.0, *np.mean(rates, axis=0).tolist()),
        auc=float(np.mean(areas)) if areas else math.nan,
    )


def _history(experiment: Experiment, arm: str, classifier: str, key: str) -> dict[float, Point]:
    """Average a value over an arm's cells by step, at the steps that all of them recorded.

    Where there was validation, only at its steps: the others differ between cells.
    """
    import pandas as pd

    histories = [cell.history for cell in finished(experiment.of(arm, classifier)) if cell.history]
    validated = any("validation_loss" in row for history in histories for row in history)
    needed = {key, "validation_loss"} if validated else {key}
    lines = [pd.Series({row["step"]: row[key] for row in history if needed <= set(row)}) for history in histories]
    if not lines:
        return {}
    means = pd.concat(lines, axis="columns", join="inner").sort_index().mean(axis="columns")
    return {step: Point(value=float(value)) for step, value in means.items()}
