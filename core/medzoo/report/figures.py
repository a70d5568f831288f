"""The charts of reports, their style, and their rendering as SVG and PNG."""

from __future__ import annotations

import io
import math
import re
import textwrap
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medzoo.report.formatting import format_number, format_score

if TYPE_CHECKING:
    from medzoo.classification.scores import RocCurve

WIDTH = 4.4
"""Inches, 422 CSS pixels: text of 9 points stays readable on a phone, which shows 330."""

INK, RULE = "#1b1f24", "#d4d7dc"
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#b0578d"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, "#8a6d00", "#2f8fc4", "#6b6b6b", "#7a3b00")
"""The colors of Okabe and Ito, which color-blind readers can distinguish, darkened for contrast on white."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":")

# A PNG is on white, but a page follows the reader's color scheme: in the SVG, colors are variables, with these values
# in dark mode.
_DARK = {
    INK: "#e8eaed",
    RULE: "#464c55",
    BLUE: "#56b4e9",
    ORANGE: "#ff8a3d",
    GREEN: "#2fc79a",
    PURPLE: "#e08fbd",
    "#8a6d00": "#f0e442",
    "#2f8fc4": "#9ad4f5",
    "#6b6b6b": "#b4b4b4",
    "#7a3b00": "#d9a066",
}
_STYLE: Mapping[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    # A class may be called "$5": names are text, not formulas.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "medzoo",
}
_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


@dataclass(frozen=True, kw_only=True)
class RenderedFigure:
    """A figure as `svg` that follows the reader's color scheme, as `png` on white, and as alternative text (`alt`)."""

    svg: bytes
    png: bytes
    alt: str


@contextmanager
def style() -> Iterator[None]:
    """Apply the style of reports to figures created and rendered in this context."""
    with mpl.rc_context(dict(_STYLE)), warnings.catch_warnings():
        # The browser has the glyphs that matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def subplots(heights: Sequence[float], *, width: float = WIDTH) -> tuple[Figure, list[Axes]]:
    """Create a figure and its axes, one below the other, with `heights` in inches. Call it inside `style`."""
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=list(heights))
    return figure, list(axes[:, 0])


def legend_height(entries: int, columns: int) -> float:
    """Return the inches that the rows of a legend below a figure need beyond the first three."""
    return 0.17 * max(0, math.ceil(entries / columns) - 3)


def render_figure(figure: Figure, alt: str) -> RenderedFigure:
    """Render a figure as SVG and PNG, the same bytes for the same values. Call it inside `style`."""
    svg, png = io.BytesIO(), io.BytesIO()
    figure.draw_without_rendering()
    # The layout is done, and doing it again for each file would take half of the time; with any engine, and be it
    # "none", each file is drawn twice.
    figure.set_layout_engine(None)
    box = figure.get_tightbbox().padded(0.05)
    figure.savefig(svg, format="svg", bbox_inches=box, transparent=True, metadata={"Date": None})
    figure.savefig(png, format="png", bbox_inches=box, facecolor="white", dpi=192)
    return RenderedFigure(svg=_adapt(svg.getvalue().decode()).encode(), png=png.getvalue(), alt=alt)


def wrap(text: str, width: int = 40) -> str:
    """Wrap a title to at most two lines of `width` characters, and truncate it where it is longer."""
    return textwrap.fill(_one_line(text), width, max_lines=2, placeholder="\u2026")


def shorten(text: str, length: int = 28) -> str:
    """Put the text on one line, without its middle where it is longer than `length`; undecodable bytes become "?"."""
    line = _one_line(text)
    keep = (length - 1) // 2
    return line if len(line) <= length else f"{line[:keep]}\u2026{line[-keep:]}"


def _one_line(text: str) -> str:
    return " ".join(text.encode("utf-8", "replace").decode().split())


def _adapt(svg: str) -> str:
    """Turn the colors of an SVG into variables that follow the reader's color scheme, and use the page's font."""
    light = "".join(f"--c{index}:{color};" for index, color in enumerate(_DARK))
    dark = "".join(f"--c{index}:{color};" for index, color in enumerate(_DARK.values()))
    for index, color in enumerate(_DARK):
        svg = re.sub(color, f"var(--c{index})", svg, flags=re.IGNORECASE)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", _FONT.replace('"', "'"), svg)
    css = f"<style>svg{{{light}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    head, opening, rest = svg.partition("<svg ")
    attributes, close, body = rest.partition(">")
    return f"{head}{opening}{attributes}{close}{css}{body}"


@dataclass(frozen=True, kw_only=True)
class Point:
    """A value in a figure with its interval, or the reason why it `failed`.

    `note` qualifies the value, such as "3 of 5", or says why there is none, such as "not run".
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    failed: str = ""
    note: str = ""


def lines_figure(
    lines: Mapping[str, Mapping[float, Point]], *, title: str, x_label: str, y_label: str, points: bool = True
) -> RenderedFigure:
    """Plot one line per name through its points by x, such as accuracy by target count or loss by epoch.

    Failed points are crosses at the lower edge. `points`: mark each x; otherwise only the line is drawn.
    """
    with style():
        columns = min(2, len(lines)) or 1
        failed = sum(any(point.failed for point in found.values()) for found in lines.values())
        figure, (axes,) = subplots([2.9 + legend_height(len(lines) + failed, columns)])
        for index, (name, found) in enumerate(lines.items()):
            order = sorted(found)
            draw_line(axes, order, [found[x] for x in order], index=index, label=shorten(name), points=points)
        axes.set_title(wrap(title))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        places = sorted({x for found in lines.values() for x in found})
        if points and 1 < len(places) <= 6:
            least = places[0] or places[1]
            if least > 0 and places[-1] >= 8 * least:
                axes.set_xscale("symlog", linthresh=least)
            axes.set_xticks(places, [f"{place:g}" for place in places])
            axes.minorticks_off()
        axes.grid()
        if lines:
            figure.legend(loc="outside lower center", ncols=columns)
        return render_figure(figure, f"{title}: {y_label} against {x_label} for {', '.join(lines) or 'no data'}.")


def draw_line(
    axes: Axes, places: Sequence[float], line: Sequence[Point], *, index: int, label: str, points: bool = True
) -> None:
    """Draw a line through points with their intervals, and crosses for failed ones."""
    color = SERIES[index % len(SERIES)]
    axes.plot(
        places,
        [math.nan if point.failed else point.value for point in line],
        color=color,
        label=label,
        linestyle=DASHES[index // len(SERIES) % len(DASHES)],
        marker=MARKERS[index % len(MARKERS)] if points else "",
    )
    for x, point in zip(places, line, strict=True):
        if not point.failed and not math.isnan(point.low + point.high):
            axes.vlines(x, point.low, point.high, color=color, linewidth=1, alpha=0.7)
    failed = [x for x, point in zip(places, line, strict=True) if point.failed]
    if failed:
        below = axes.get_xaxis_transform()
        axes.plot(failed, [0.03] * len(failed), "x", color=color, transform=below, label=f"{label}: failed")


def rows_figure(
    groups: Mapping[str, Mapping[str, Point]],
    *,
    title: str,
    x_label: str,
    baseline: str = "",
    shown: Container[tuple[str, str]] | None = None,
) -> RenderedFigure:
    """Plot a panel per group with a row per name: scores by arm, recall of each class by arm, or differences.

    Scores are bars from 0 to 1, so that figures are comparable; a dashed line marks the one called `baseline`. With
    `shown`, values are differences: marks around 0, filled for each (group, name) in `shown`. Where a value failed or
    is NaN, there are words.
    """
    points = [point for rows in groups.values() for point in rows.values()]
    texts = [f"{group}: {', '.join(f'{n} {_row_text(p)}' for n, p in rows.items())}" for group, rows in groups.items()]
    with style():
        two = any("\n" in two_lines(name) for rows in groups.values() for name in rows)
        each = 0.36 if two else 0.24 if shown is None else 0.32
        heights = [0.42 + each * max(1, len(rows)) for rows in groups.values()] or [0.6]
        heights[-1] += 0.3
        figure, all_axes = subplots(heights)
        if shown is None:
            figure.suptitle(wrap(title, 48), fontsize=10, x=0.02, ha="left")
            limits = min([0.0, *(point.value for point in points if math.isfinite(point.value))]) * 1.04, 1.02
        else:
            ends = [abs(end) for point in points for end in (point.value, point.low, point.high) if math.isfinite(end)]
            reach = max(ends, default=0.0) * 1.06 or 0.1
            limits = -reach, reach
        for axes, (group, rows) in zip(all_axes, groups.items(), strict=False):
            axes.set_xlim(limits)
            axes.set_title(wrap(group))
            for place, (name, point) in enumerate(rows.items()):
                text: dict[str, Any] = {"fontsize": 8, "va": "center", "transform": axes.get_yaxis_transform()}
                if point.failed or not math.isfinite(point.value):
                    axes.text(0.01, -place, _row_text(point), color=ORANGE, fontweight="bold", **text)
                    continue
                filled = shown is not None and (group, name) in shown
                color = INK if shown is None else BLUE if not filled else GREEN if point.value > 0 else ORANGE
                if math.isfinite(point.low + point.high):
                    axes.hlines(-place, point.low, point.high, color=color, linewidth=1.5)
                if shown is None:
                    axes.barh(-place, point.value, height=0.66, color=INK if name == baseline else BLUE, alpha=0.75)
                else:
                    fill = color if filled else "none"
                    axes.plot(point.value, -place, "o", color=color, markersize=6, markerfacecolor=fill)
                sign = "+" if shown is not None and point.value > 0 else ""
                axes.text(1.02, -place, sign + _row_text(point), **text)
            line = rows[baseline].value if baseline in rows else math.nan if shown is None else 0.0
            if math.isfinite(line):
                axes.axvline(line, color=INK, linestyle="--", linewidth=1)
            if shown is not None:
                axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.set_yticks([-place for place in range(len(rows))], [two_lines(name) for name in rows])
            axes.set_ylim(0.6 - max(1, len(rows)), 0.6)
            axes.tick_params(axis="y", length=0)
            axes.grid(axis="x")
        all_axes[-1].set_xlabel(x_label)
        return render_figure(figure, f"{title}. {'; '.join(texts) or 'No data'}.")


def _row_text(point: Point) -> str:
    if point.failed or (point.note and math.isnan(point.value)):
        return "failed" if point.failed else point.note
    return f"{format_score(point.value)} ({point.note})" if point.note else format_score(point.value)


def two_lines(name: str) -> str:
    """Break a long name of an arm after the plus or comma nearest its middle."""
    breaks = [found.end() for found in re.finditer(r"\+|, ", name)] if len(name) > 24 else []
    place = min(breaks, key=lambda end: abs(end - len(name) / 2), default=len(name))
    return "\n".join(shorten(part, 24) for part in (name[:place], name[place:]) if part)


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
