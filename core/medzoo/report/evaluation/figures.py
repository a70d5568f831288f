"""Figures of what evaluations find: histograms, floors, and metrics over training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from medzoo.evaluation.results import FAKE, OTHER, REAL, TRAIN, Baseline, TrendPoint
from medzoo.protocols import Histogram, Score
from medzoo.report.formatting import number
from medzoo.report.style import (
    BLUE,
    DASHES,
    GREEN,
    INK,
    MARKERS,
    ORANGE,
    PURPLE,
    SERIES,
    Drawing,
    legend_height,
    panels,
    rendered,
    shortened,
    style,
    wrapped,
)

ROLE_COLOURS: Mapping[str, str] = {REAL: BLUE, FAKE: ORANGE, TRAIN: GREEN, OTHER: PURPLE}


@dataclass(frozen=True, kw_only=True)
class Point:
    """What a figure shows in one place: a value, the interval around it if there is one, or why the value `failed`.

    `note` is what a reader must know of the value, in a word or two: "3 of 5", or why there is none: "not run".
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    failed: str = ""
    note: str = ""


def histogram_figure(histogram: Histogram) -> Drawing:
    """How values are spread in each set, one outline a set."""
    with style():
        figure, (axes,) = panels([2.4])
        for index, (name, shares) in enumerate(histogram.shares.items()):
            axes.stairs(
                shares,
                histogram.edges,
                label=shortened(name),
                color=ROLE_COLOURS.get(name, SERIES[index % len(SERIES)]),
                linestyle=DASHES[index % len(DASHES)],
                linewidth=1.6,
            )
        axes.set_xlabel("\n".join(wrapped(words, 48) for words in (histogram.title, histogram.unit) if words))
        axes.set_ylabel("share of values")
        axes.set_ylim(bottom=0)
        axes.grid(axis="y")
        axes.legend()
        return rendered(figure, f"Histogram of {histogram.title}: {', '.join(histogram.shares)}.")


def floors_figure(floors: Mapping[str, Baseline]) -> Drawing:
    """By metric, what real images make of it among themselves beside what synthetic ones do, at the same n."""
    with style():
        figure, all_axes = panels([0.92] * len(floors))
        told = []
        for axes, (name, floor) in zip(all_axes, floors.items(), strict=True):
            points = (
                ("real\u2013real", floor.real, floor.real_spread, BLUE, "o"),
                ("synthetic\u2013real", floor.fake, floor.fake_spread, ORANGE, "s"),
            )
            for place, (_, value, spread, colour, marker) in enumerate(points):
                bar = None if math.isnan(spread) else spread
                axes.errorbar(value, -place, xerr=bar, color=colour, marker=marker, markersize=6, capsize=3)
            axes.set_yticks([0, -1], [label for label, *_ in points])
            axes.set_ylim(-1.6, 0.6)
            axes.set_title(shortened(name, 32))
            axes.set_title(f"n = {floor.n}", loc="right", fontweight="normal", fontsize=8)
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.margins(x=0.12)
            axes.grid(axis="x")
            told.append(f"{name}: real against real {number(floor.real)}, synthetic against real {number(floor.fake)}")
        return rendered(figure, f"Metrics at n images a side. {'; '.join(told)}.")


def trend_figure(points: Sequence[TrendPoint], floors: Mapping[str, Baseline]) -> Drawing:
    """Each metric against the epoch of the checkpoint, and its floor among real images as a dashed line."""
    names = list(dict.fromkeys(point.name for point in points))
    with style():
        figure, all_axes = panels([2.3] * len(names))
        for axes, name in zip(all_axes, names, strict=True):
            own = sorted((point for point in points if point.name == name), key=lambda point: point.step)
            line = [_point(point.score) for point in own]
            _line(axes, [point.epoch for point in own], line, index=0, label="synthetic\u2013real")
            if floor := floors.get(name):
                label = f"real\u2013real, n = {floor.n}"
                axes.axhline(floor.real, color=INK, linestyle="--", linewidth=1, label=label)
                axes.legend()
            axes.set_title(wrapped(name))
            axes.set_xlabel("epoch")
            axes.grid()
        epochs = sorted({point.epoch for point in points})
        span = f"epochs {number(epochs[0])} to {number(epochs[-1])}" if epochs else "no epoch"
        return rendered(figure, f"{', '.join(names)} over training, {span}.")


def lines_figure(
    lines: Mapping[str, Mapping[float, Point]], *, title: str, x_label: str, y_label: str, points: bool = True
) -> Drawing:
    """One line a name, through its points by x: accuracy by target count or mixing ratio, loss by epoch.

    Failed points stand as crosses at the lower edge. `points`: mark each x; otherwise only the line is drawn.
    """
    with style():
        columns = min(2, len(lines)) or 1
        failed = sum(any(point.failed for point in found.values()) for found in lines.values())
        figure, (axes,) = panels([2.9 + legend_height(len(lines) + failed, columns)])
        for index, (name, found) in enumerate(lines.items()):
            order = sorted(found)
            _line(axes, order, [found[x] for x in order], index=index, label=shortened(name), points=points)
        axes.set_title(wrapped(title))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        places = sorted({x for found in lines.values() for x in found})
        if points and 1 < len(places) <= 6:
            _ticks(axes, places)
        axes.grid()
        if lines:
            figure.legend(loc="outside lower center", ncols=columns)
        return rendered(figure, f"{title}: {y_label} against {x_label} for {', '.join(lines) or 'nothing'}.")


def _ticks(axes: Axes, places: Sequence[float]) -> None:
    """A tick at each place, on a scale that keeps doublings apart where the places spread that far."""
    least = places[0] or places[1]
    if least > 0 and places[-1] >= 8 * least:
        axes.set_xscale("symlog", linthresh=least)
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.minorticks_off()


def _point(score: Score) -> Point:
    spread = math.nan if score.spread is None else score.spread
    return Point(value=score.value, low=score.value - spread, high=score.value + spread)


def _line(
    axes: Axes, places: Sequence[float], line: Sequence[Point], *, index: int, label: str, points: bool = True
) -> None:
    colour = SERIES[index % len(SERIES)]
    values = [math.nan if point.failed else point.value for point in line]
    axes.plot(
        places,
        values,
        color=colour,
        label=label,
        linestyle=DASHES[index // len(SERIES) % len(DASHES)],
        marker=MARKERS[index % len(MARKERS)] if points else "",
    )
    bars = [(x, point) for x, point in zip(places, line, strict=True) if not point.failed]
    bars = [(x, point) for x, point in bars if not math.isnan(point.low + point.high)]
    for x, point in bars:
        axes.vlines(x, point.low, point.high, color=colour, linewidth=1, alpha=0.7)
    failed = [x for x, point in zip(places, line, strict=True) if point.failed]
    if failed:
        below = axes.get_xaxis_transform()
        axes.plot(failed, [0.03] * len(failed), "x", color=colour, transform=below, label=f"{label}: failed")
