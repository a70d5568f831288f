"""The figures of `medzoo inspect`, each as the bytes of a PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from medzoo.inspection.attention import SampledAttention
from medzoo.inspection.label_space import NO_LABEL, LabelSpace
from medzoo.report.figures import INK, RULE, SERIES, shorten, style

# Beyond these, numbers would be too small to read; the tables have them.
_MOST_CELLS, _MOST_NUMBERED = 12, 16
# One fewer than the colors, so that pairs of both repeat late; a number fits into each.
_MARKERS = ("o", "s", "D", "h", "8", "P", "X")
_NEUTRAL = "#6b7078"
_NUMBER: Mapping[str, Any] = {"color": "white", "fontsize": 6.5, "weight": "bold", "ha": "center", "va": "center"}


def pca_figure(space: LabelSpace, *, title: str) -> bytes:
    """Plot the principal components of labels, and of single tokens where a label has several."""
    assert space.pca_labels is not None
    single = space.tokens.shape[1] == 1
    with style():
        figure = Figure(figsize=(4.8 if single else 9.2, 4.6), layout="constrained")
        axes = figure.subplots(1, 1 if single else 2, squeeze=False)[0]
        _scatter(axes[0], space, space.pca_labels.points, tokens=False)
        _name_components(axes[0], space.pca_labels.explained)
        axes[0].set_title("labels" if single else "labels (concatenated tokens)")
        if not single and space.pca_tokens is not None:
            _scatter(axes[1], space, space.pca_tokens.points, tokens=True)
            _name_components(axes[1], space.pca_tokens.explained)
            axes[1].set_title("single tokens, numbered")
        figure.suptitle(f"{title}: principal components")
        _legend(figure, space)
        return _png(figure)


def tsne_figure(space: LabelSpace, *, title: str) -> bytes:
    """Plot t-SNE embeddings of all tokens from several seeds, and the mean of the aligned embeddings."""
    found = space.tsne
    assert found is not None
    runs = {**{f"run {k + 1}": own for k, own in enumerate(found.runs)}, "mean": found.mean}
    width, height = 1.15 * np.abs(np.stack(list(runs.values()))).max(axis=(0, 1))
    with style():
        figure = Figure(figsize=(9.6, 1.2 + 6.2 * min(max(height / width, 0.5), 1.2)), layout="constrained")
        for axes, (name, points) in zip(figure.subplots(2, 3).flat, runs.items(), strict=True):
            _scatter(axes, space, points, tokens=True)
            axes.set(title=name, xlim=(-width, width), ylim=(-height, height), xticks=[], yticks=[], aspect="equal")
            axes.spines[:].set(visible=True, color=RULE)
        figure.suptitle(
            f"{title}: t-SNE of all tokens (numbered), perplexity {found.perplexity:.3g}\n"
            f"{len(found.runs)} aligned runs from random starts; mean Procrustes disparity {found.disparity:.2f} "
            "(0: identical, 1: unrelated)"
        )
        _legend(figure, space)
        return _png(figure)


def similarities_figure(space: LabelSpace, *, title: str) -> bytes:
    """Plot heat maps of the cosine similarity and the Euclidean distance of labels."""
    side = 1.8 + 0.58 * len(space.labels)
    with style():
        figure = Figure(figsize=(2 * side + 1.0, side + 0.3), layout="constrained")
        left, right = figure.subplots(1, 2)
        _heat_map(left, space, space.cosine, colors="PuOr_r", norm=TwoSlopeNorm(0.0, -1.0, 1.0))
        largest = float(space.euclidean.max()) or 1.0
        _heat_map(right, space, space.euclidean, colors="cividis", norm=Normalize(0.0, largest))
        left.set_title("cosine similarity")
        right.set_title("Euclidean distance")
        figure.suptitle(f"{title}: similarity of labels")
        return _png(figure)


def norms_figure(space: LabelSpace, *, title: str) -> bytes:
    """Plot the norms of every label's tokens, and their mean."""
    norms = space.norms
    several = norms.shape[1] > 1
    with style():
        figure = Figure(figsize=(6.4, 1.3 + 0.5 * len(norms)), layout="constrained")
        axes = figure.subplots()
        for place, own in enumerate(norms):
            axes.plot(own, [place] * len(own), linestyle="none", alpha=0.75, markersize=7, **_look(space, place))
            if several:
                axes.plot([own.mean()] * 2, [place - 0.3, place + 0.3], color=INK, linewidth=1.6)
        axes.set_yticks(range(len(norms)), [shorten(label, 24) for label in space.labels])
        axes.set(xlabel="Euclidean norm", ylim=(len(norms) - 0.5, -0.5), xlim=(0.0, 1.06 * float(norms.max())))
        axes.grid(axis="x")
        axes.set_title(f"{title}: norms of label {'tokens (line: mean)' if several else 'vectors'}")
        return _png(figure)


def attention_figure(attention: SampledAttention, *, title: str) -> bytes:
    """Plot one row per image: the image, then for each token where attention is above or below an equal share."""
    rows, tokens = attention.maps.shape[:2]
    equal = 100.0 / tokens
    shares = 100.0 * attention.maps
    largest = float(np.abs(shares - equal).max()) or 1.0
    norm = Normalize(-largest, largest)
    with style():
        figure = Figure(figsize=(1.9 + 1.15 * (tokens + 1), 0.8 + 1.34 * rows), layout="constrained")
        grid = figure.subplots(rows, tokens + 1, squeeze=False)
        for row, (label, image) in enumerate(zip(attention.labels, attention.images, strict=True)):
            shown = image.transpose(1, 2, 0) if len(image) == 3 else image[0]
            extent = (0, image.shape[-1], image.shape[-2], 0)
            for column, axes in enumerate(grid[row]):
                axes.imshow(shown, cmap="gray", vmin=0, vmax=255, extent=extent)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                if column:
                    over = shares[row, column - 1] - equal
                    axes.imshow(
                        over,
                        cmap="PuOr_r",
                        norm=norm,
                        alpha=0.85 * np.abs(over) / largest,
                        extent=extent,
                        interpolation="nearest",
                    )
                    axes.set_xlabel(f"{shares[row, column - 1].mean():.1f}%", labelpad=2)
                if row == 0:
                    axes.set_title(f"token {column}" if column else "image", loc="center")
            grid[row][0].set_ylabel(shorten(label, 18))
        bar = figure.colorbar(ScalarMappable(norm=norm, cmap="PuOr_r"), ax=grid, shrink=0.8, pad=0.01)
        bar.set_label(f"percentage points above {equal:.3g}%,\nan equal share of {tokens} tokens")
        height, width = attention.maps.shape[2:]
        figure.suptitle(
            f"{title}: cross-attention of {height} x {width} positions to label tokens\n"
            "mean over heads, layers and sampling steps; below each map, its mean share"
        )
        return _png(figure)


def _look(space: LabelSpace, place: int) -> dict[str, Any]:
    """Return the color and marker of a label; those of "no label" are the same in every figure."""
    if space.labels[place] == NO_LABEL:
        return {"color": _NEUTRAL, "marker": "p"}
    return {"color": SERIES[place % len(SERIES)], "marker": _MARKERS[place % len(_MARKERS)]}


def _scatter(axes: Axes, space: LabelSpace, points: np.ndarray, *, tokens: bool) -> None:
    """Draw one point per label, or one numbered point per token; `points` are ordered by label, then token."""
    each = space.tokens.shape[1] if tokens else 1
    numbered = tokens and each <= _MOST_NUMBERED
    for place in range(len(space.labels)):
        look = _look(space, place)
        for number, (x, y) in enumerate(points[place * each : (place + 1) * each], start=1):
            # Each point lies above the previous one, edged in white, so that the upper of two that overlap can be read.
            above = 2.0 + (place * each + number) / len(points)
            axes.plot(x, y, markersize=11.5 if numbered else 9, markeredgecolor="white", zorder=above, **look)
            if numbered:
                axes.text(x, y, str(number), zorder=above, **_NUMBER)
    axes.margins(0.12)


def _name_components(axes: Axes, explained: tuple[float, float]) -> None:
    axes.set(
        xlabel=f"component 1 ({explained[0]:.0%} of the variance)",
        ylabel=f"component 2 ({explained[1]:.0%} of the variance)",
    )
    axes.grid(visible=True)


def _legend(figure: Figure, space: LabelSpace) -> None:
    handles = [
        Line2D([], [], linestyle="none", markersize=8, label=shorten(label, 24), **_look(space, place))
        for place, label in enumerate(space.labels)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5))


def _heat_map(axes: Axes, space: LabelSpace, values: np.ndarray, *, colors: str, norm: Normalize) -> None:
    image = axes.imshow(values, cmap=colors, norm=norm)
    names = [shorten(label, 20) for label in space.labels]
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.outline.set_edgecolor(RULE)
    if len(names) > _MOST_CELLS:
        return
    for (row, column), value in np.ndenumerate(values):
        red, green, blue, _ = image.cmap(norm(value))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if dark else INK, fontsize=8)


def _png(figure: Figure) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=160, facecolor="white")
    return image.getvalue()
