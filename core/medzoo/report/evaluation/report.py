"""The report of an evaluation: report.html, and beside it figures and contact sheets as PNG, and tables."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medzoo._version import __version__
from medzoo.evaluation.results import Evaluation
from medzoo.report.evaluation import images, tables, text
from medzoo.report.evaluation.figures import baseline_figure, histogram_figure, trend_figure
from medzoo.report.evaluation.images import MeasuredImages
from medzoo.report.figures import RenderedFigure
from medzoo.report.page import render, svg_image
from medzoo.storage.files import write_atomic

REPORT = "report.html"


def write_report(evaluation: Evaluation, source: MeasuredImages, out: Path) -> list[Path]:
    """Write report.html, then tables, figures and contact sheets into `out`, and return their paths.

    Raises:
        ResourceError: `out` cannot be written to.
    """
    figures = _figures(evaluation)
    files = {REPORT: _page(evaluation, source, figures), "metrics.csv": tables.metrics_csv(evaluation)}
    files["evaluation.json"] = tables.evaluation_json(evaluation)
    if evaluation.pairwise:
        files["pairwise.csv"] = tables.pairwise_csv(evaluation.pairwise)
    if evaluation.trend:
        files["trend.csv"] = tables.trend_csv(evaluation.trend)
    files |= {name: figure.png for name, figure in figures.items()}
    files |= images.contact_sheets(source, images.class_samples(source), images.nearest_pairs(evaluation))
    for name, data in files.items():
        write_atomic(out / name, data)
    return [out / name for name in files]


def _figures(evaluation: Evaluation) -> dict[str, RenderedFigure]:
    """Render the figures by the name of their file."""
    baselines = {row.name: row.baseline for row in evaluation.results if row.baseline}
    figures = {"baselines.png": baseline_figure(baselines)} if baselines else {}
    files = _histogram_files(evaluation)
    for row in evaluation.results:
        if row.score and row.score.histogram:
            figures[files[row.name]] = histogram_figure(row.score.histogram)
    if evaluation.trend:
        figures["trend.png"] = trend_figure(evaluation.trend, baselines)
    return figures


def _histogram_files(evaluation: Evaluation) -> dict[str, str]:
    """Return the file of each metric's histogram."""
    stems = images.file_names([row.name for row in evaluation.results if row.score and row.score.histogram])
    return {name: f"histogram-{stem}.png" for name, stem in stems.items()}


def _page(evaluation: Evaluation, source: MeasuredImages, figures: Mapping[str, RenderedFigure]) -> bytes:
    classes, nearest = images.class_samples(source), images.nearest_pairs(evaluation)
    image = evaluation.image
    side = images.thumbnail_side([*classes, *nearest], size=image.size, channels=image.channels)
    files = _histogram_files(evaluation)
    shown = {name: svg_image(figure) for name, figure in figures.items()}
    per_class = tables.per_class_table(evaluation)
    provenance = dict(evaluation.provenance)
    command = provenance.pop("command", "")
    values: dict[str, Any] = {
        "evaluation": evaluation,
        "version": __version__,
        "summary": text.summarize(evaluation),
        "format": text.describe_format(evaluation),
        "verdict": text.memorization_verdict(evaluation),
        "warnings": text.group_warnings(evaluation),
        "baselines": text.compare_with_baselines(evaluation),
        "baseline_figure": shown.get("baselines.png"),
        "samples": [
            (group.name, [(row.title, images.thumbnails(source, row, side)) for row in group.rows]) for group in classes
        ],
        "nearest": [
            (
                group.name,
                list(zip(group.pairs, *(images.thumbnails(source, row, side) for row in group.rows), strict=True)),
            )
            for group in nearest
        ],
        "histograms": [(row, shown[files[row.name]]) for row in evaluation.results if row.name in files],
        "per_class": per_class,
        "per_class_preprocessing": text.describe_preprocessing(evaluation, per_class.metrics if per_class else ()),
        "matrices": list(tables.pair_matrices(evaluation)),
        "skipped": text.group_skipped(evaluation),
        "preprocessing": text.preprocessing_by_metric(evaluation),
        "trend_figure": shown.get("trend.png"),
        "best_checkpoints": text.describe_best_checkpoints(evaluation),
        "command": command if isinstance(command, str) else shlex.join(map(str, command)),
        "provenance": provenance,
    }
    return render("evaluation.html.j2", values)
