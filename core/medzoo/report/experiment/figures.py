"""Which figures an experiment's report has, each by the name of its file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from medzoo.experiment.arms import REAL, Arm
from medzoo.experiment.results import Experiment
from medzoo.experiment.statistics import Estimate
from medzoo.report.evaluation.figures import Point, lines_figure
from medzoo.report.evaluation.samples import file_names
from medzoo.report.experiment.classifier_figures import bars_figure, confusion_figure, roc_figure
from medzoo.report.experiment.controls import UNPRETRAINED, Controls
from medzoo.report.experiment.curves import Curves, arm_curves, class_curves
from medzoo.report.experiment.forest import forest_figure
from medzoo.report.experiment.score_tables import TITLES, class_found, confusion, done, mean
from medzoo.report.style import Drawing

BASELINE = "baseline"
KINDS = ("differences", "scores", "targets", "mixing", "recall", "confusion", "roc", "class-roc", "training")

_CURVES: Mapping[str, str] = {
    "loss": "training loss",
    "validation_loss": "validation loss",
    "balanced_accuracy": "validation balanced accuracy",
}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing in a report: its `kind`, one of KINDS; the classifier, and the arm or class, where it is of one."""

    kind: str
    classifier: str
    of: str
    drawing: Drawing


def experiment_figures(experiment: Experiment, curves: Curves, controls: Controls) -> dict[str, Figure]:
    """Every figure by its file name, without its ending."""
    found = [
        *_differences(experiment, controls),
        *_bars(experiment),
        *_targets(experiment),
        *_mixings(experiment),
        *_recalls(experiment),
        *_confusions(experiment),
        *_rocs(experiment, curves),
        *_training(experiment),
    ]
    # Names of arms and classes may hold anything, and two may come to the same file.
    names = [" ".join(filter(None, (figure.kind, figure.classifier, figure.of))) for figure in found]
    numbered = [f"{name} {index}" if name in names[:index] else name for index, name in enumerate(names)]
    files = file_names(numbered)
    return {files[name]: figure for name, figure in zip(numbered, found, strict=True)}


def point(estimate: Estimate, *, failed: bool) -> Point:
    """A mean with its interval, as figures show it; `failed` says whether a cell failed where there is none."""
    if not estimate.n and estimate.n_failed:
        return _without_scores(failed=failed)
    note = f"{estimate.n} of {estimate.n + estimate.n_failed}" if estimate.partial else ""
    return Point(value=estimate.mean, low=estimate.low, high=estimate.high, note=note)


def _without_scores(*, failed: bool) -> Point:
    return (
        Point(value=math.nan, failed="no fold or seed has scores") if failed else Point(value=math.nan, note="not run")
    )


def _measured(experiment: Experiment, arm: Arm, classifier: str) -> Point:
    failed = any(cell.status == "failed" for cell in experiment.of(arm.name, classifier))
    return point(experiment.summary(arm.name, classifier).estimates[experiment.metric], failed=failed)


def _label(experiment: Experiment) -> str:
    return {"auc": "AUC", "f1": "F1"}.get(experiment.metric, experiment.metric.replace("_", " "))


def _bars(experiment: Experiment) -> Iterable[Figure]:
    for name in experiment.classifiers:
        bars = {name: {arm.name: _measured(experiment, arm, name) for arm in experiment.arms}}
        title = f"{TITLES[experiment.metric]} by arm"
        drawing = bars_figure(bars, title=title, x_label=_label(experiment), baseline=experiment.baseline)
        yield Figure(kind="scores", classifier=name, of="", drawing=drawing)


def _differences(experiment: Experiment, controls: Controls) -> Iterable[Figure]:
    for against, made in {**controls, BASELINE: experiment.comparisons}.items():
        if any(math.isfinite(comparison.difference) for comparison in made):
            told = {BASELINE: experiment.baseline, UNPRETRAINED: "the same without pretraining"}.get(against, against)
            drawing = forest_figure(made, against=told)
            yield Figure(kind="differences", classifier="", of=against, drawing=drawing)


def _targets(experiment: Experiment) -> Iterable[Figure]:
    """A figure a classifier, with a line for each mixture that was filled to several counts; 0 is real images alone."""
    filled = [arm for arm in experiment.arms if arm.mixture and not arm.pretrain]
    if len({arm.target for arm in filled}) < 2:
        return
    unit = "in all" if experiment.multi_label else "of each class"
    real = next((arm for arm in experiment.arms if arm.name == REAL), None)
    for name in experiment.classifiers:
        lines: dict[str, dict[float, Point]] = {}
        for arm in filled:
            line = lines.setdefault(arm.name.removesuffix(f"@{arm.target}"), {})
            line[arm.target] = _measured(experiment, arm, name)
            if real is not None:
                line[0] = _measured(experiment, real, name)
        if not _drawn(lines):
            continue
        yield Figure(
            kind="targets",
            classifier=name,
            of="",
            drawing=lines_figure(
                lines,
                title=f"{name}: {_label(experiment)} by target count",
                x_label=f"images {unit} after filling",
                y_label=_label(experiment),
            ),
        )


def _mixings(experiment: Experiment) -> Iterable[Figure]:
    """A figure for each two generators that were mixed in several ratios, with a line a classifier."""
    arms = [arm for arm in experiment.arms if arm.mixture and not arm.pretrain]
    mixed = dict.fromkeys((tuple(sorted(arm.mixture)), arm.target) for arm in arms if len(arm.mixture) == 2)
    for (first, second), target in mixed:
        shares = {
            arm.mixture.get(first, 0.0): arm
            for arm in arms
            if arm.target == target and set(arm.mixture) <= {first, second}
        }
        if len(shares) < 2:
            continue
        lines = {
            name: {share: _measured(experiment, arm, name) for share, arm in sorted(shares.items())}
            for name in experiment.classifiers
        }
        if not _drawn(lines):
            continue
        several = f" at {target:,}" if len({other for _, other in mixed}) > 1 else ""
        yield Figure(
            kind="mixing",
            classifier="",
            of=f"{first} {second} {target}",
            drawing=lines_figure(
                lines,
                title=f"{TITLES[experiment.metric]} by mixing ratio{several}",
                x_label=f"share of {first}, the rest {second}",
                y_label=_label(experiment),
            ),
        )


def _drawn(lines: Mapping[str, Mapping[float, Point]]) -> bool:
    """Whether there is anything to draw."""
    return any(math.isfinite(found.value) for line in lines.values() for found in line.values())


def _recalls(experiment: Experiment) -> Iterable[Figure]:
    for name in experiment.classifiers:
        cells = {arm.name: experiment.of(arm.name, name) for arm in experiment.arms}
        if not any(map(done, cells.values())):
            continue
        groups: dict[str, dict[str, Point]] = {label: {} for label in experiment.classes}
        for arm, own in cells.items():
            found = class_found(experiment, arm, name)
            lost = _without_scores(failed=any(cell.status == "failed" for cell in own))
            for index, label in enumerate(experiment.classes):
                groups[label][arm] = Point(value=found[index].recall) if found else lost
        title = f"Recall of each class, {name}"
        drawing = bars_figure(groups, title=title, x_label="recall", baseline=experiment.baseline)
        yield Figure(kind="recall", classifier=name, of="", drawing=drawing)


def _confusions(experiment: Experiment) -> Iterable[Figure]:
    for name in experiment.classifiers:
        for arm in experiment.arms:
            if counts := confusion(experiment, arm.name, name):
                drawing = confusion_figure(counts, experiment.classes, title=f"{name} on {arm.name}")
                yield Figure(kind="confusion", classifier=name, of=arm.name, drawing=drawing)


def _rocs(experiment: Experiment, curves: Curves) -> Iterable[Figure]:
    for name in experiment.classifiers:
        if by_arm := arm_curves(experiment, curves, name):
            yield Figure(kind="roc", classifier=name, of="", drawing=roc_figure(by_arm, title=name))
        for label, found in class_curves(experiment, curves, name).items():
            drawing = roc_figure(found, title=f"{label} against the rest, {name}")
            yield Figure(kind="class-roc", classifier=name, of=label, drawing=drawing)


def _training(experiment: Experiment) -> Iterable[Figure]:
    for name in experiment.classifiers:
        for key, title in _CURVES.items():
            lines = {arm.name: _history(experiment, arm.name, name, key) for arm in experiment.arms}
            lines = {arm: line for arm, line in lines.items() if line}
            if lines:
                drawing = lines_figure(
                    lines, title=f"{name}: {title}", x_label="optimiser steps", y_label=title, points=False
                )
                yield Figure(kind="training", classifier=name, of=title, drawing=drawing)


def _history(experiment: Experiment, arm: str, classifier: str, key: str) -> dict[float, Point]:
    """The mean over an arm's cells by step, at steps that every one of them recorded.

    Where validation images were looked at, at those steps alone: others are not recorded at the same ones.
    """
    histories: Sequence[Sequence[Mapping[str, float]]] = [
        cell.history for cell in done(experiment.of(arm, classifier)) if cell.history
    ]
    looked = any("validation_loss" in row for history in histories for row in history)
    lines = [
        {row["step"]: row[key] for row in history if key in row and ("validation_loss" in row or not looked)}
        for history in histories
    ]
    common = sorted(set.intersection(*(set(line) for line in lines))) if lines else []
    return {step: Point(value=mean([line[step] for line in lines])) for step in common}
