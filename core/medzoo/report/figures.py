"""The style of all figures, their rendering as SVG and PNG, and line figures, which several reports share."""

from __future__ import annotations

import io
import math
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    # The layout is done, and doing it again for each file would take half of the time.
    figure.set_layout_engine("none")
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
            _ticks(axes, places)
        axes.grid()
        if lines:
            figure.legend(loc="outside lower center", ncols=columns)
        return render_figure(figure, f"{title}: {y_label} against {x_label} for {', '.join(lines) or 'no data'}.")


def _ticks(axes: Axes, places: Sequence[float]) -> None:
    """Set a tick at each place, on a logarithmic scale where the places span a factor of 8 or more."""
    least = places[0] or places[1]
    if least > 0 and places[-1] >= 8 * least:
        axes.set_xscale("symlog", linthresh=least)
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.minorticks_off()


def draw_line(
    axes: Axes, places: Sequence[float], line: Sequence[Point], *, index: int, label: str, points: bool = True
) -> None:
    """Draw a line through points with their intervals, and crosses for failed ones."""
    color = SERIES[index % len(SERIES)]
    values = [math.nan if point.failed else point.value for point in line]
    axes.plot(
        places,
        values,
        color=color,
        label=label,
        linestyle=DASHES[index // len(SERIES) % len(DASHES)],
        marker=MARKERS[index % len(MARKERS)] if points else "",
    )
    bars = [(x, point) for x, point in zip(places, line, strict=True) if not point.failed]
    bars = [(x, point) for x, point in bars if not math.isnan(point.low + point.high)]
    for x, point in bars:
        axes.vlines(x, point.low, point.high, color=color, linewidth=1, alpha=0.7)
    failed = [x for x, point in zip(places, line, strict=True) if point.failed]
    if failed:
        below = axes.get_xaxis_transform()
        axes.plot(failed, [0.03] * len(failed), "x", color=color, transform=below, label=f"{label}: failed")
