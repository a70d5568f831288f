"""Figures of an experiment: scores by arm, differences, confusion matrices, ROC curves and training curves."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from medzoo.classification.scores import RocCurve
from medzoo.experiment.arms import REAL, Arm
from medzoo.experiment.comparisons import Comparison
from medzoo.experiment.results import Experiment
from medzoo.experiment.statistics import Estimate, PairedTest
from medzoo.report.evaluation.images import file_names
from medzoo.report.experiment.controls import UNPRETRAINED, Controls
from medzoo.report.experiment.roc_curves import Curves, arm_curves, class_curves
from medzoo.report.experiment.tables import TITLES, by_classifier, class_means, confusion_matrix, finished
from medzoo.report.figures import (
    BLUE,
    DASHES,
    GREEN,
    INK,
    ORANGE,
    SERIES,
    WIDTH,
    Point,
    RenderedFigure,
    legend_height,
    lines_figure,
    render_figure,
    shorten,
    style,
    subplots,
    wrap,
)
from medzoo.report.formatting import format_number, format_score

BASELINE = "baseline"
KINDS = ("differences", "scores", "targets", "mixing", "recall", "confusion", "roc", "class-roc", "training")

_HISTORIES: Mapping[str, str] = {
    "loss": "training loss",
    "validation_loss": "validation loss",
    "balanced_accuracy": "validation balanced accuracy",
}


@dataclass(frozen=True, kw_only=True)
class ReportFigure:
    """A figure of a report: its `kind`, one of KINDS, the classifier it is of, and the arm or class in `subject`."""

    kind: str
    classifier: str
    subject: str
    figure: RenderedFigure


def experiment_figures(experiment: Experiment, curves: Curves, controls: Controls) -> dict[str, ReportFigure]:
    """Render every figure by its file name without extension."""
    figures = [
        *_differences(experiment, controls),
        *_scores(experiment),
        *_targets(experiment),
        *_mixings(experiment),
        *_recalls(experiment),
        *_confusions(experiment),
        *_rocs(experiment, curves),
        *_training(experiment),
    ]
    # Names of arms and classes may contain anything, and two may give the same file name.
    names = [" ".join(filter(None, (figure.kind, figure.classifier, figure.subject))) for figure in figures]
    numbered = [f"{name} {index}" if name in names[:index] else name for index, name in enumerate(names)]
    files = file_names(numbered)
    return {files[name]: figure for name, figure in zip(numbered, figures, strict=True)}


def estimate_point(estimate: Estimate, *, failed: bool) -> Point:
    """Return a mean with its interval for a figure; `failed` says whether a cell failed where there is no mean."""
    if not estimate.n and estimate.n_failed:
        return _without_scores(failed=failed)
    note = f"{estimate.n} of {estimate.n + estimate.n_failed}" if estimate.partial else ""
    return Point(value=estimate.mean, low=estimate.low, high=estimate.high, note=note)


def _without_scores(*, failed: bool) -> Point:
    return Point(value=math.nan, failed="no cell has scores" if failed else "", note="" if failed else "not run")


def _score(experiment: Experiment, arm: Arm, classifier: str) -> Point:
    failed = any(cell.status == "failed" for cell in experiment.of(arm.name, classifier))
    return estimate_point(experiment.summary(arm.name, classifier).estimates[experiment.metric], failed=failed)


def metric_label(metric: str) -> str:
    """Return the name of a metric within a sentence or at an axis."""
    return {"auc": "ROC AUC", "f1": "F1"}.get(metric, metric.replace("_", " "))


def _scores(experiment: Experiment) -> Iterator[ReportFigure]:
    title = f"{TITLES[experiment.metric]} by arm"
    for name in experiment.classifiers:
        bars = {name: {arm.name: _score(experiment, arm, name) for arm in experiment.arms}}
        label = metric_label(experiment.metric)
        figure = bars_figure(bars, title=title, x_label=label, baseline=experiment.baseline)
        yield ReportFigure(kind="scores", classifier=name, subject="", figure=figure)


def _differences(experiment: Experiment, controls: Controls) -> Iterator[ReportFigure]:
    names = {BASELINE: experiment.baseline, UNPRETRAINED: "no pretraining"}
    for against, comparisons in {**controls, BASELINE: experiment.comparisons}.items():
        if any(math.isfinite(comparison.difference) for comparison in comparisons):
            figure = forest_figure(comparisons, against=names.get(against, against))
            yield ReportFigure(kind="differences", classifier="", subject=against, figure=figure)


def _targets(experiment: Experiment) -> Iterator[ReportFigure]:
    """Plot for each classifier a line per mixture over target counts, where 0 is real images alone."""
    augmented = [arm for arm in experiment.arms if arm.mixture and not arm.pretrain]
    if len({arm.target for arm in augmented}) < 2:
        return
    unit = "in total" if experiment.multi_label else "per class"
    real = next((arm for arm in experiment.arms if arm.name == REAL), None)
    label = metric_label(experiment.metric)
    for name in experiment.classifiers:
        lines: dict[str, dict[float, Point]] = {}
        for arm in augmented:
            line = lines.setdefault(arm.name.removesuffix(f"@{arm.target}"), {})
            line[arm.target] = _score(experiment, arm, name)
            if real is not None:
                line[0] = _score(experiment, real, name)
        if _has_values(lines):
            title = f"{name}: {label} by target count"
            figure = lines_figure(lines, title=title, x_label=f"images {unit} after augmentation", y_label=label)
            yield ReportFigure(kind="targets", classifier=name, subject="", figure=figure)


def _mixings(experiment: Experiment) -> Iterator[ReportFigure]:
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
            yield ReportFigure(kind="mixing", classifier="", subject=f"{first} {second} {target}", figure=figure)


def _has_values(lines: Mapping[str, Mapping[float, Point]]) -> bool:
    return any(math.isfinite(point.value) for line in lines.values() for point in line.values())


def _recalls(experiment: Experiment) -> Iterator[ReportFigure]:
    for name in experiment.classifiers:
        if not any(cell.scores is not None for cell in experiment.cells if cell.classifier == name):
            continue
        groups: dict[str, dict[str, Point]] = {label: {} for label in experiment.classes}
        for arm in experiment.arms:
            means = class_means(experiment, arm.name, name)
            lost = _without_scores(failed=any(cell.status == "failed" for cell in experiment.of(arm.name, name)))
            for index, label in enumerate(experiment.classes):
                groups[label][arm.name] = Point(value=means[index].recall) if means else lost
        title = f"Recall by class, {name}"
        figure = bars_figure(groups, title=title, x_label="recall", baseline=experiment.baseline)
        yield ReportFigure(kind="recall", classifier=name, subject="", figure=figure)


def _confusions(experiment: Experiment) -> Iterator[ReportFigure]:
    for name in experiment.classifiers:
        for arm in experiment.arms:
            if counts := confusion_matrix(experiment, arm.name, name):
                figure = confusion_figure(counts, experiment.classes, title=f"{name} on {arm.name}")
                yield ReportFigure(kind="confusion", classifier=name, subject=arm.name, figure=figure)


def _rocs(experiment: Experiment, curves: Curves) -> Iterator[ReportFigure]:
    for name in experiment.classifiers:
        if by_arm := arm_curves(experiment, curves, name):
            yield ReportFigure(kind="roc", classifier=name, subject="", figure=roc_figure(by_arm, title=name))
        for label, own in class_curves(experiment, curves, name).items():
            figure = roc_figure(own, title=f"{label} vs. rest, {name}")
            yield ReportFigure(kind="class-roc", classifier=name, subject=label, figure=figure)


def _training(experiment: Experiment) -> Iterator[ReportFigure]:
    for name in experiment.classifiers:
        for key, title in _HISTORIES.items():
            lines = {arm.name: _history(experiment, arm.name, name, key) for arm in experiment.arms}
            lines = {arm: line for arm, line in lines.items() if line}
            if lines:
                label = f"{name}: {title}"
                figure = lines_figure(lines, title=label, x_label="optimizer steps", y_label=title, points=False)
                yield ReportFigure(kind="training", classifier=name, subject=title, figure=figure)


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


def bars_figure(
    groups: Mapping[str, Mapping[str, Point]], *, title: str, x_label: str, baseline: str = ""
) -> RenderedFigure:
    """Plot a panel per group with a bar per name and its interval: scores by arm, or recall of each class by arm.

    The axis runs from 0 to 1, so that figures are comparable. A dashed line marks the bar called `baseline`. A bar
    that failed or is NaN is replaced by text.
    """
    with style():
        names = [two_lines(name) for bars in groups.values() for name in bars]
        each = 0.36 if any("\n" in name for name in names) else 0.24
        heights = [0.42 + each * max(1, len(bars)) for bars in groups.values()] or [0.6]
        heights[-1] += 0.3
        figure, all_axes = subplots(heights)
        figure.suptitle(wrap(title, 48), fontsize=10, x=0.02, ha="left")
        values = [bar.value for bars in groups.values() for bar in bars.values()]
        low = min([0.0, *filter(math.isfinite, values)])
        for axes, (group, bars) in zip(all_axes, groups.items(), strict=False):
            axes.set_xlim(low * 1.04, 1.02)
            _bars(axes, bars, baseline)
            axes.set_title(wrap(group))
        all_axes[-1].set_xlabel(x_label)
        texts = [
            f"{group}: " + ", ".join(f"{name} {_bar_text(bar)}" for name, bar in bars.items())
            for group, bars in groups.items()
        ]
        return render_figure(figure, f"{title}. {'; '.join(texts) or 'No data'}.")


def _bar_text(bar: Point) -> str:
    if bar.failed or (bar.note and math.isnan(bar.value)):
        return "failed" if bar.failed else bar.note
    return f"{format_score(bar.value)} ({bar.note})" if bar.note else format_score(bar.value)


def two_lines(name: str) -> str:
    """Break a long name of an arm after the plus or comma nearest its middle."""
    breaks = [found.end() for found in re.finditer(r"\+|, ", name)] if len(name) > 24 else []
    place = min(breaks, key=lambda end: abs(end - len(name) / 2), default=len(name))
    return "\n".join(shorten(part, 24) for part in (name[:place], name[place:]) if part)


def _bars(axes: Axes, bars: Mapping[str, Point], baseline: str) -> None:
    edge = axes.get_yaxis_transform()
    for place, (name, bar) in enumerate(bars.items()):
        text: dict[str, Any] = {"fontsize": 8, "va": "center", "transform": edge}
        if bar.failed or not math.isfinite(bar.value):
            axes.text(0.01, -place, _bar_text(bar), color=ORANGE, fontweight="bold", **text)
            continue
        axes.barh(-place, bar.value, height=0.66, color=INK if name == baseline else BLUE, alpha=0.75)
        if math.isfinite(bar.low + bar.high):
            axes.hlines(-place, bar.low, bar.high, color=INK, linewidth=1.4)
        axes.text(1.02, -place, _bar_text(bar), **text)
        if name == baseline:
            axes.axvline(bar.value, color=INK, linestyle="--", linewidth=1)
    _name_rows(axes, list(bars))


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Label rows at 0, -1, -2, ... and add a vertical grid."""
    axes.set_yticks([-place for place in range(len(names))], [two_lines(name) for name in names])
    axes.set_ylim(0.6 - max(1, len(names)), 0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")


def forest_figure(comparisons: Sequence[Comparison], *, against: str) -> RenderedFigure:
    """Plot a panel per classifier with the difference of each arm from `against` and its interval.

    Significant differences have a filled mark. Intervals are not adjusted for the number of comparisons.
    """
    groups = by_classifier(comparisons)
    with style():
        heights = [0.5 + 0.32 * len(own) for own in groups.values()]
        heights[-1] += 0.3
        figure, all_axes = subplots(heights)
        estimates = [found.test.difference for found in comparisons if isinstance(found.test, PairedTest)]
        ends = [abs(end) for found in estimates for end in (found.mean, found.low, found.high) if math.isfinite(end)]
        reach = max(ends, default=0.0) * 1.06 or 0.1
        for axes, (name, own) in zip(all_axes, groups.items(), strict=True):
            axes.set_xlim(-reach, reach)
            axes.axvline(0, color=INK, linestyle="--", linewidth=1)
            for place, comparison in enumerate(own):
                _mark(axes, -place, comparison)
            _name_rows(axes, [comparison.arm for comparison in own])
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.set_title(wrap(name))
        metric = comparisons[0].metric
        all_axes[-1].set_xlabel(f"{metric}: difference from\n{shorten(against, 40)}, with 95% CI")
        texts = [f"{found.arm} with {found.classifier} {format_score(found.difference)}" for found in comparisons]
        return render_figure(figure, f"Difference in {metric} from {against}: {', '.join(texts)}.")


def _mark(axes: Axes, place: float, comparison: Comparison) -> None:
    text: dict[str, Any] = {"fontsize": 8, "va": "center", "transform": axes.get_yaxis_transform()}
    found = comparison.test.difference if isinstance(comparison.test, PairedTest) else None
    if found is None or math.isnan(found.mean):
        axes.text(0.02, place, "not tested", color=ORANGE, fontweight="bold", **text)
        return
    color = (GREEN if found.mean > 0 else ORANGE) if comparison.shown else BLUE
    if not math.isnan(found.low):
        axes.hlines(place, found.low, found.high, color=color, linewidth=1.6)
    filling = color if comparison.shown else "none"
    axes.plot(found.mean, place, "o", color=color, markersize=6, markerfacecolor=filling)
    partial = f" ({found.n} of {found.n + found.n_failed})" if found.partial else ""
    sign = "+" if found.mean > 0 else ""
    axes.text(1.02, place, f"{sign}{format_score(found.mean)}{partial}", **text)


def confusion_figure(counts: Sequence[Sequence[float]], classes: Sequence[str], *, title: str) -> RenderedFigure:
    """Plot a confusion matrix: rows are true classes, columns predicted ones, shades are shares of the row.

    A row without images is left blank.
    """
    side = len(classes)
    with style():
        extent = min(7.0, max(2.6, 0.42 * side + 1.4))
        figure, (axes,) = subplots([extent], width=max(WIDTH, extent + 1.2))
        totals = [sum(row) for row in counts]
        shares = [
            [cell / total if total else math.nan for cell in row] for row, total in zip(counts, totals, strict=True)
        ]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row in range(side):
            for column in range(side):
                text = format_number(counts[row][column]) if totals[row] else "\u2013"
                # White on dark blue and black on light in either color scheme: the cell is painted, not the page.
                color = "white" if shares[row][column] > 0.5 else "black" if totals[row] else INK
                axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8 if side < 9 else 6)
        names = [shorten(name, 18) for name in classes]
        axes.set_xticks(range(side), names, rotation=45 if side > 3 else 0, ha="right" if side > 3 else "center")
        axes.set_yticks(range(side), names)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.set_title(wrap(title))
        axes.spines[:].set_visible(False)
        right = sum(counts[index][index] for index in range(side))
        text = f"{title}: {format_number(right)} of {format_number(sum(totals))} images classified correctly."
        return render_figure(figure, text)


def roc_figure(curves: Mapping[str, RocCurve], *, title: str) -> RenderedFigure:
    """Plot a ROC curve per name with its area, and the chance diagonal; an undefined curve is only named."""
    with style():
        columns = 1 if max(map(len, curves), default=0) > 16 else 2
        figure, (axes,) = subplots([3.9 + legend_height(len(curves) + 1, columns)], width=3.9)
        axes.plot([0, 1], [0, 1], color=INK, linestyle=":", linewidth=1, label="chance (0.500)")
        for index, (name, curve) in enumerate(curves.items()):
            axes.plot(
                curve.false_positive_rate,
                curve.true_positive_rate,
                color=SERIES[index % len(SERIES)],
                linestyle=DASHES[index // len(SERIES) % len(DASHES)],
                label=f"{shorten(name)} ({format_score(curve.auc)})",
            )
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_aspect("equal")
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
        axes.set_title(wrap(title))
        axes.grid()
        figure.legend(loc="outside lower center", ncols=columns)
        texts = [f"{name} {format_score(curve.auc)}" for name, curve in curves.items()]
        return render_figure(figure, f"{title}: ROC AUC {', '.join(texts) or 'of no curve'}.")
