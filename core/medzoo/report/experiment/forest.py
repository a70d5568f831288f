"""Forest plots of an experiment's comparisons: differences with their intervals, around none."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from medzoo.experiment.comparisons import Comparison
from medzoo.experiment.statistics import Estimate, PairedTest
from medzoo.report.experiment.classifier_figures import two_lines
from medzoo.report.experiment.score_tables import by_classifier
from medzoo.report.formatting import scored
from medzoo.report.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    Drawing,
    panels,
    rendered,
    shortened,
    style,
    wrapped,
)


def forest_figure(comparisons: Sequence[Comparison], *, against: str) -> Drawing:
    """A panel a classifier, in it the difference of each arm from what it is compared with (`against`).

    A filled mark is a difference that is shown. Intervals are not adjusted for the number of comparisons.
    """
    groups = by_classifier(comparisons)
    with style():
        heights = [0.5 + 0.32 * len(made) for made in groups.values()]
        heights[-1] += 0.3
        figure, all_axes = panels(heights)
        ends = [abs(end) for made in groups.values() for found in made for end in _ends(found) if math.isfinite(end)]
        reach = max(ends, default=0.0) * 1.06 or 0.1
        for axes, (name, made) in zip(all_axes, groups.items(), strict=True):
            axes.set_xlim(-reach, reach)
            axes.axvline(0, color=INK, linestyle="--", linewidth=1)
            for place, comparison in enumerate(made):
                _mark(axes, -place, comparison)
            axes.set_yticks([-place for place in range(len(made))], [two_lines(found.arm) for found in made])
            axes.set_ylim(0.6 - len(made), 0.6)
            axes.tick_params(axis="y", length=0)
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.grid(axis="x")
            axes.set_title(wrapped(name))
        all_axes[-1].set_xlabel(
            f"{comparisons[0].metric}: difference from\n{shortened(against, 40)}, with 95 % interval"
        )
        told = ", ".join(f"{found.arm} with {found.classifier} {scored(found.difference)}" for found in comparisons)
        return rendered(figure, f"Difference in {comparisons[0].metric} from {against}: {told}.")


def _estimate(comparison: Comparison) -> Estimate | None:
    return comparison.test.difference if isinstance(comparison.test, PairedTest) else None


def _ends(comparison: Comparison) -> tuple[float, ...]:
    found = _estimate(comparison)
    return () if found is None else (found.mean, found.low, found.high)


def _mark(axes: Axes, place: float, comparison: Comparison) -> None:
    edge = axes.get_yaxis_transform()
    found = _estimate(comparison)
    if found is None or math.isnan(found.mean):
        axes.text(0.02, place, "not tested", color=ORANGE, fontsize=8, fontweight="bold", va="center", transform=edge)
        return
    colour = (GREEN if found.mean > 0 else ORANGE) if comparison.shown else BLUE
    if not math.isnan(found.low):
        axes.hlines(place, found.low, found.high, color=colour, linewidth=1.6)
    axes.plot(
        found.mean, place, "o", color=colour, markersize=6, markerfacecolor=colour if comparison.shown else "none"
    )
    partial = f" ({found.n} of {found.n + found.n_failed})" if found.partial else ""
    sign = "+" if found.mean > 0 else ""
    axes.text(1.02, place, f"{sign}{scored(found.mean)}{partial}", fontsize=8, va="center", transform=edge)
