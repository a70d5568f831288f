"""Figures of a reading study's report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from medzoo.classification.scores import RocCurve
from medzoo.report.figures import (
    BLUE,
    INK,
    ORANGE,
    RULE,
    RenderedFigure,
    render_figure,
    roc_figure,
    shorten,
    style,
    subplots,
    wrap,
)
from medzoo.report.formatting import format_score
from medzoo.study.score import AUC, StudyScores
from medzoo.study.statistics import Estimate

ALL = "all readers"


def study_roc_figure(scores: StudyScores) -> RenderedFigure:
    """Plot the ROC curve of each reader telling synthetic from real images."""
    curves = {
        reader.code: RocCurve(
            name=reader.code,
            false_positive_rate=scores.curves[reader.code][0],
            true_positive_rate=scores.curves[reader.code][1],
            auc=reader.estimates[AUC].value,
        )
        for reader in scores.readers
    }
    return roc_figure(curves, title="Telling synthetic from real images")


def forest_figure(
    estimates: Mapping[str, Estimate],
    *,
    title: str,
    x_label: str,
    center: float,
    margin: float,
    limits: tuple[float, float],
) -> RenderedFigure:
    """Plot an estimate with its interval by name, the band of equivalence around `center`, and those in `ALL` bold."""
    with style():
        figure, (axes,) = subplots([0.75 + 0.3 * len(estimates)])
        axes.axvspan(center - margin, center + margin, color=RULE, alpha=0.45, linewidth=0)
        axes.axvline(center, color=INK, linestyle=":", linewidth=1)
        for place, (name, found) in enumerate(estimates.items()):
            color = ORANGE if name == ALL else BLUE
            text: dict[str, Any] = {"fontsize": 8, "va": "center", "transform": axes.get_yaxis_transform()}
            if math.isnan(found.value):
                axes.text(0.01, -place, "not defined", color=INK, **text)
                continue
            if math.isfinite(found.low + found.high):
                axes.hlines(-place, found.low, found.high, color=color, linewidth=2 if name == ALL else 1.5)
            axes.plot(found.value, -place, "D" if name == ALL else "o", color=color, markersize=6)
            axes.text(1.02, -place, format_score(found.value), **text)
        axes.set_xlim(*limits)
        axes.set_yticks([-place for place in range(len(estimates))], [shorten(name, 24) for name in estimates])
        axes.set_ylim(0.6 - max(1, len(estimates)), 0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.set_title(wrap(title))
        axes.set_xlabel(x_label)
        texts = [f"{name} {format_score(found.value)}" for name, found in estimates.items()]
        return render_figure(figure, f"{title}: {', '.join(texts)}.")
