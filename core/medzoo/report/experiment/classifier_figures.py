"""Figures of what experiments find: classifiers by arm, confusion matrices, ROC and training curves, recall."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from medzoo.classification.scores import RocCurve
from medzoo.report.evaluation.figures import Point
from medzoo.report.formatting import number, scored
from medzoo.report.style import (
    BLUE,
    DASHES,
    INK,
    ORANGE,
    SERIES,
    WIDTH,
    Drawing,
    legend_height,
    panels,
    rendered,
    shortened,
    style,
    wrapped,
)


def bars_figure(groups: Mapping[str, Mapping[str, Point]], *, title: str, x_label: str, baseline: str = "") -> Drawing:
    """A panel a group, in it a bar a name with its interval: classifiers by arm, or classes by arm (recall).

    All are scores, and the axis is from 0 to 1, so that figures can be held beside each other. The bar called
    `baseline` is drawn as a dashed line through its panel. A failed bar says so, one that is NaN that it is not
    defined.
    """
    with style():
        names = [two_lines(name) for bars in groups.values() for name in bars]
        each = 0.36 if any("\n" in name for name in names) else 0.24
        heights = [0.42 + each * max(1, len(bars)) for bars in groups.values()] or [0.6]
        heights[-1] += 0.3
        figure, all_axes = panels(heights)
        figure.suptitle(wrapped(title, 48), fontsize=10, x=0.02, ha="left")
        values = [bar.value for bars in groups.values() for bar in bars.values()]
        least = min([0.0, *filter(math.isfinite, values)])
        for axes, (group, bars) in zip(all_axes, groups.items(), strict=False):
            axes.set_xlim(least * 1.04, 1.02)
            _bars(axes, bars, baseline)
            axes.set_title(wrapped(group))
        all_axes[-1].set_xlabel(x_label)
        told = "; ".join(
            f"{group}: " + ", ".join(f"{name} {_told(bar)}" for name, bar in bars.items())
            for group, bars in groups.items()
        )
        return rendered(figure, f"{title}. {told or 'Nothing to show'}.")


def _told(bar: Point) -> str:
    if bar.failed or (bar.note and math.isnan(bar.value)):
        return "failed" if bar.failed else bar.note
    return f"{scored(bar.value)} ({bar.note})" if bar.note else scored(bar.value)


def two_lines(name: str) -> str:
    """An arm's name; a long one is broken behind the plus or comma nearest its middle."""
    breaks = [found.end() for found in re.finditer(r"\+|, ", name)] if len(name) > 24 else []
    place = min(breaks, key=lambda end: abs(end - len(name) / 2), default=len(name))
    return "\n".join(shortened(part, 24) for part in (name[:place], name[place:]) if part)


def _bars(axes: Axes, bars: Mapping[str, Point], baseline: str) -> None:
    edge = axes.get_yaxis_transform()
    for place, (name, bar) in enumerate(bars.items()):
        if bar.failed or not math.isfinite(bar.value):
            axes.text(
                0.01, -place, _told(bar), color=ORANGE, fontweight="bold", fontsize=8, va="center", transform=edge
            )
            continue
        axes.barh(-place, bar.value, height=0.66, color=INK if name == baseline else BLUE, alpha=0.75)
        if math.isfinite(bar.low + bar.high):
            axes.hlines(-place, bar.low, bar.high, color=INK, linewidth=1.4)
        axes.text(1.02, -place, _told(bar), fontsize=8, va="center", transform=edge)
        if name == baseline:
            axes.axvline(bar.value, color=INK, linestyle="--", linewidth=1)
    axes.set_yticks([-place for place in range(len(bars))], [two_lines(name) for name in bars])
    axes.set_ylim(0.6 - max(1, len(bars)), 0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")


def confusion_figure(counts: Sequence[Sequence[float]], classes: Sequence[str], *, title: str) -> Drawing:
    """A confusion matrix: rows are true classes, columns predicted ones; shades are shares of the row.

    A row without images is left blank.
    """
    side = len(classes)
    with style():
        extent = min(7.0, max(2.6, 0.42 * side + 1.4))
        figure, (axes,) = panels([extent], width=max(WIDTH, extent + 1.2))
        totals = [sum(row) for row in counts]
        shares = [
            [cell / total if total else math.nan for cell in row] for row, total in zip(counts, totals, strict=True)
        ]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row in range(side):
            for column in range(side):
                text = number(counts[row][column]) if totals[row] else "\u2013"
                # White on dark blue and black on light in either colour scheme: the cell is painted, not the page.
                colour = "white" if shares[row][column] > 0.5 else "black" if totals[row] else INK
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8 if side < 9 else 6)
        names = [shortened(name, 18) for name in classes]
        axes.set_xticks(range(side), names, rotation=45 if side > 3 else 0, ha="right" if side > 3 else "center")
        axes.set_yticks(range(side), names)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.set_title(wrapped(title))
        axes.spines[:].set_visible(False)
        right = sum(counts[index][index] for index in range(side))
        return rendered(figure, f"{title}: {number(right)} of {number(sum(totals))} images told right.")


def roc_figure(curves: Mapping[str, RocCurve], *, title: str) -> Drawing:
    """One ROC curve a name with its area, and the diagonal of chance; a curve that is not defined only in words."""
    with style():
        columns = 1 if max(map(len, curves), default=0) > 16 else 2
        figure, (axes,) = panels([3.9 + legend_height(len(curves) + 1, columns)], width=3.9)
        axes.plot([0, 1], [0, 1], color=INK, linestyle=":", linewidth=1, label="chance (0.5)")
        for index, (name, curve) in enumerate(curves.items()):
            axes.plot(
                curve.false_positive_rate,
                curve.true_positive_rate,
                color=SERIES[index % len(SERIES)],
                linestyle=DASHES[index // len(SERIES) % len(DASHES)],
                label=f"{shortened(name)} ({scored(curve.auc)})",
            )
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_aspect("equal")
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
        axes.set_title(wrapped(title))
        axes.grid()
        figure.legend(loc="outside lower center", ncols=columns)
        told = ", ".join(f"{name} {scored(curve.auc)}" for name, curve in curves.items())
        return rendered(figure, f"{title}: area under the ROC curve {told or 'of nothing'}.")
