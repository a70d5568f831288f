"""Figures of an evaluation: histograms, curves, real-vs-real baselines, and metrics over training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from medzoo.evaluation.results import FAKE, OTHER, REAL, TRAIN, Baseline, TrendPoint
from medzoo.protocols import Curve, Histogram
from medzoo.report.figures import (
    BLUE,
    DASHES,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    RULE,
    SERIES,
    Point,
    RenderedFigure,
    draw_line,
    render_figure,
    shorten,
    style,
    subplots,
    wrap,
)
from medzoo.report.formatting import format_number

ROLE_COLORS: Mapping[str, str] = {REAL: BLUE, FAKE: ORANGE, TRAIN: GREEN, OTHER: PURPLE}


def histogram_figure(histogram: Histogram) -> RenderedFigure:
    """Plot the distribution of values in each set as an outline."""
    with style():
        figure, (axes,) = subplots([2.4])
        for index, (name, shares) in enumerate(histogram.shares.items()):
            axes.stairs(
                shares,
                histogram.edges,
                label=shorten(name),
                color=ROLE_COLORS.get(name, SERIES[index % len(SERIES)]),
                linestyle=DASHES[index % len(DASHES)],
                linewidth=1.6,
            )
        axes.set_xlabel("\n".join(wrap(words, 48) for words in (histogram.title, histogram.unit) if words))
        axes.set_ylabel("share of values")
        axes.set_ylim(bottom=0)
        axes.grid(axis="y")
        axes.legend()
        return render_figure(figure, f"Histogram of {histogram.title}: {', '.join(histogram.shares)}.")


def curve_figure(curve: Curve) -> RenderedFigure:
    """Plot the lines of a curve on a logarithmic axis, with its reference as a dashed line and its stretch shaded."""
    with style():
        figure, (axes,) = subplots([2.8])
        if curve.marked is not None:
            axes.axvspan(*curve.marked, color=RULE, alpha=0.35, linewidth=0)
        if curve.reference is not None:
            axes.axhline(curve.reference, color=INK, linestyle="--", linewidth=1)
        for index, (name, line) in enumerate(curve.lines.items()):
            axes.plot(
                curve.x,
                [value if value > 0 else math.nan for value in line],
                label=shorten(name),
                color=ROLE_COLORS.get(name.partition(":")[0], SERIES[index % len(SERIES)]),
                linestyle=DASHES[index % len(DASHES)],
            )
        axes.set_yscale("log", base=2)
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, 0.45), max(high, 2.2))  # whatever the values, a factor of two is seen as such
        axes.yaxis.set_major_locator(LogLocator(base=2, numticks=7))
        axes.yaxis.set_major_formatter(lambda value, place: f"{value:g}")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_xlim(0, curve.x[-1])
        axes.set_title(wrap(curve.title, 60))
        axes.set_xlabel(wrap(curve.x_label, 60))
        axes.set_ylabel(curve.y_label)
        axes.grid(axis="y")
        figure.legend(loc="outside lower center", ncols=2)
        ends = ", ".join(f"{name} ends at {format_number(line[-1])}" for name, line in curve.lines.items())
        return render_figure(figure, f"{curve.title}: {curve.y_label} against {curve.x_label}; {ends}.")


def baseline_figure(baselines: Mapping[str, Baseline]) -> RenderedFigure:
    """Plot each metric between real images beside the metric of synthetic images, at the same n."""
    with style():
        figure, all_axes = subplots([0.92] * len(baselines))
        texts = []
        for axes, (name, found) in zip(all_axes, baselines.items(), strict=True):
            points = (
                ("real\u2013real", found.real, found.real_spread, BLUE, "o"),
                ("synthetic\u2013real", found.fake, found.fake_spread, ORANGE, "s"),
            )
            for place, (_, value, spread, color, marker) in enumerate(points):
                bar = None if math.isnan(spread) else spread
                axes.errorbar(value, -place, xerr=bar, color=color, marker=marker, markersize=6, capsize=3)
            axes.set_yticks([0, -1], [label for label, *_ in points])
            axes.set_ylim(-1.6, 0.6)
            axes.set_title(shorten(name, 38), fontsize=8)
            axes.set_title(f"n = {found.n}", loc="right", fontweight="normal", fontsize=8)
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.margins(x=0.12)
            axes.grid(axis="x")
            texts.append(
                f"{name}: real\u2013real {format_number(found.real)}, synthetic\u2013real {format_number(found.fake)}"
            )
        return render_figure(figure, f"Metrics with n images per set. {'; '.join(texts)}.")


def trend_figure(points: Sequence[TrendPoint], baselines: Mapping[str, Baseline]) -> RenderedFigure:
    """Plot each metric against the epoch of the checkpoint, with its real-vs-real baseline as a dashed line."""
    names = list(dict.fromkeys(point.name for point in points))
    with style():
        figure, all_axes = subplots([2.3] * len(names))
        for axes, name in zip(all_axes, names, strict=True):
            own = sorted((point for point in points if point.name == name), key=lambda point: point.step)
            spreads = [math.nan if point.score.spread is None else point.score.spread for point in own]
            line = [
                Point(value=point.score.value, low=point.score.value - spread, high=point.score.value + spread)
                for point, spread in zip(own, spreads, strict=True)
            ]
            draw_line(axes, [point.epoch for point in own], line, index=0, label="synthetic\u2013real")
            if found := baselines.get(name):
                label = f"real\u2013real, n = {found.n}"
                axes.axhline(found.real, color=INK, linestyle="--", linewidth=1, label=label)
                axes.legend()
            axes.set_title(wrap(name))
            axes.set_xlabel("epoch")
            axes.grid()
        epochs = sorted({point.epoch for point in points})
        span = f"epochs {format_number(epochs[0])} to {format_number(epochs[-1])}" if epochs else "no epochs"
        return render_figure(figure, f"{', '.join(names)} over training, {span}.")
