"""The look that all figures of reports share, and how a matplotlib figure becomes SVG and PNG."""

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
"""Inches: 422 CSS pixels, so that text of 9 points is still read where a phone shows 330."""

INK, RULE = "#1b1f24", "#d4d7dc"
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#b0578d"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, "#8a6d00", "#2f8fc4", "#6b6b6b", "#7a3b00")
"""Okabe and Ito's colours, which colour-blind people tell apart, darkened where white behind them asks for it."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":")

# A page is read by day and by night, a PNG on white: colours are names in the SVG, and these their values in the dark.
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
    # A class may be called "$5": names are text, never formulas.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "medzoo",
}
_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure as `svg` for a page, light or dark as its reader's, as `png` on white, and in words (`alt`)."""

    svg: bytes
    png: bytes
    alt: str


@contextmanager
def style() -> Iterator[None]:
    """Nothing; inside it, figures are made and rendered in the look of reports."""
    with mpl.rc_context(dict(_STYLE)), warnings.catch_warnings():
        # The browser has the letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def panels(heights: Sequence[float], *, width: float = WIDTH) -> tuple[Figure, list[Axes]]:
    """A figure and its axes, one below the other, `heights` in inches; to be called inside `style`."""
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=list(heights))
    return figure, list(axes[:, 0])


def legend_height(entries: int, columns: int) -> float:
    """The inches that a legend's rows below a figure take beyond the three there is room for."""
    return 0.17 * max(0, math.ceil(entries / columns) - 3)


def rendered(figure: Figure, alt: str) -> Drawing:
    """The drawing of a figure; to be called inside `style`. The same values give the same bytes."""
    svg, png = io.BytesIO(), io.BytesIO()
    figure.draw_without_rendering()
    # The layout is settled by now, and half of the time drawing takes is to settle it again.
    figure.set_layout_engine("none")
    box = figure.get_tightbbox().padded(0.05)
    figure.savefig(svg, format="svg", bbox_inches=box, transparent=True, metadata={"Date": None})
    figure.savefig(png, format="png", bbox_inches=box, facecolor="white", dpi=192)
    return Drawing(svg=_adaptive(svg.getvalue().decode()).encode(), png=png.getvalue(), alt=alt)


def wrapped(text: str, width: int = 40) -> str:
    """The text in at most two lines of `width` letters, its end left out where it is longer; for titles."""
    return textwrap.fill(_letters(text), width, max_lines=2, placeholder="\u2026")


def shortened(text: str, most: int = 28) -> str:
    """The text on one line, its middle left out where it is longer than `most` letters; "?" for what is no letter."""
    line = _letters(text)
    keep = (most - 1) // 2
    return line if len(line) <= most else f"{line[:keep]}\u2026{line[-keep:]}"


def _letters(text: str) -> str:
    return " ".join(text.encode("utf-8", "replace").decode().split())


def _adaptive(svg: str) -> str:
    """The SVG with its colours as variables, which the reader's colour scheme sets, and the page's font."""
    light = "".join(f"--c{index}:{colour};" for index, colour in enumerate(_DARK))
    dark = "".join(f"--c{index}:{colour};" for index, colour in enumerate(_DARK.values()))
    for index, colour in enumerate(_DARK):
        svg = re.sub(colour, f"var(--c{index})", svg, flags=re.IGNORECASE)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", _FONT.replace('"', "'"), svg)
    css = f"<style>svg{{{light}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    head, opening, rest = svg.partition("<svg ")
    attributes, close, body = rest.partition(">")
    return f"{head}{opening}{attributes}{close}{css}{body}"
