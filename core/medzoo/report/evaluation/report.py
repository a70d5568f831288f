"""The report of an evaluation: one HTML file, and beside it its pictures, CSV and JSON."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medzoo._version import __version__
from medzoo.evaluation.results import Evaluation
from medzoo.report.evaluation.figures import floors_figure, histogram_figure, trend_figure
from medzoo.report.evaluation.samples import (
    Pictures,
    class_samples,
    file_names,
    nearest_pairs,
    sheets,
    tile_side,
    tiles,
)
from medzoo.report.evaluation.tables import evaluation_json, metrics_csv, pairwise_csv, trend_csv
from medzoo.report.evaluation.text import (
    best_epochs,
    compared,
    copy_verdict,
    floors_told,
    gathered_warnings,
    left_out_together,
    pair_matrices,
    per_class_table,
    preprocessing_by_name,
    preprocessing_told,
    summary,
)
from medzoo.report.page import drawn_picture, render
from medzoo.report.style import Drawing
from medzoo.storage.files import write_atomic

__all__ = ["REPORT", "Pictures", "write_report"]

REPORT = "report.html"


def write_report(evaluation: Evaluation, pictures: Pictures, out: Path) -> list[Path]:
    """The paths of what was written into `out`: report.html, then tables, figures and sheets of images.

    Raises: ResourceError when `out` cannot be written to.
    """
    drawings = _drawings(evaluation)
    files = {REPORT: _page(evaluation, pictures, drawings), **_tables(evaluation)}
    files |= {name: drawing.png for name, drawing in drawings.items()}
    files |= sheets(pictures, class_samples(pictures), nearest_pairs(evaluation))
    for name, data in files.items():
        write_atomic(out / name, data)
    return [out / name for name in files]


def _tables(evaluation: Evaluation) -> dict[str, bytes]:
    files = {"metrics.csv": metrics_csv(evaluation), "evaluation.json": evaluation_json(evaluation)}
    if evaluation.pairwise:
        files["pairwise.csv"] = pairwise_csv(evaluation.pairwise)
    if evaluation.trend:
        files["trend.csv"] = trend_csv(evaluation.trend)
    return files


def _drawings(evaluation: Evaluation) -> dict[str, Drawing]:
    """Figures by the name of the file they are kept in."""
    floors = {row.name: row.baseline for row in evaluation.results if row.baseline}
    drawings = {}
    if floors:
        drawings["floors.png"] = floors_figure(floors)
    files = _histogram_files(evaluation)
    for row in evaluation.results:
        if row.score and row.score.histogram:
            drawings[files[row.name]] = histogram_figure(row.score.histogram)
    if evaluation.trend:
        drawings["trend.png"] = trend_figure(evaluation.trend, floors)
    return drawings


def _histogram_files(evaluation: Evaluation) -> dict[str, str]:
    """The file of each metric's histogram, by the metric's name."""
    stems = file_names([row.name for row in evaluation.results if row.score and row.score.histogram])
    return {name: f"histogram-{stem}.png" for name, stem in stems.items()}


def _page(evaluation: Evaluation, pictures: Pictures, drawings: Mapping[str, Drawing]) -> bytes:
    classes, nearest = class_samples(pictures), nearest_pairs(evaluation)
    image = evaluation.image
    side = tile_side([*classes, *nearest], size=image.size, channels=image.channels)
    files = _histogram_files(evaluation)
    shown = {name: drawn_picture(drawing) for name, drawing in drawings.items()}
    per_class = per_class_table(evaluation)
    provenance = dict(evaluation.provenance)
    command = provenance.pop("command", "")
    values: dict[str, Any] = {
        "evaluation": evaluation,
        "version": __version__,
        "summary": summary(evaluation),
        "compared": compared(evaluation),
        "verdict": copy_verdict(evaluation),
        "warnings": gathered_warnings(evaluation),
        "floors": floors_told(evaluation),
        "floors_picture": shown.get("floors.png"),
        "samples": [
            (group.label, [(row.title, tiles(pictures, row, side)) for row in group.rows]) for group in classes
        ],
        "nearest": [
            (group, list(zip(group.pairs, *(tiles(pictures, row, side) for row in group.rows), strict=True)))
            for group in nearest
        ],
        "histograms": [(row, shown[files[row.name]]) for row in evaluation.results if row.name in files],
        "per_class": per_class,
        "per_class_preprocessing": preprocessing_told(evaluation, per_class.metrics if per_class else ()),
        "matrices": list(pair_matrices(evaluation)),
        "left_out": left_out_together(evaluation),
        "preprocessing": preprocessing_by_name(evaluation),
        "trend_picture": shown.get("trend.png"),
        "best_epochs": best_epochs(evaluation),
        "command": command if isinstance(command, str) else shlex.join(map(str, command)),
        "provenance": provenance,
    }
    return render("evaluation.html.j2", values)
