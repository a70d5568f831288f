"""The folder of an evaluation: report.html, beside it figures and contact sheets as PNG, and tables; run.json."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from medzoo._version import __version__
from medzoo.evaluation.evaluate import Measured
from medzoo.evaluation.results import Evaluation
from medzoo.generation.mixture import Source
from medzoo.report.evaluation import images, tables, text
from medzoo.report.evaluation.figures import baseline_figure, curve_figure, histogram_figure, trend_figure
from medzoo.report.evaluation.images import MeasuredImages
from medzoo.report.figures import RenderedFigure
from medzoo.report.page import render, svg_image
from medzoo.runs.identity import PLAN
from medzoo.runs.record import RUN, RunRecord, read_run
from medzoo.storage.files import (
    check_empty,
    make_folder,
    plain,
    read_json,
    remove_partial_files,
    write_atomic,
    write_json_atomic,
)

REPORT, EVALUATION = "report.html", "evaluation.json"
JOB = "evaluate"


def write_report(evaluation: Evaluation, source: MeasuredImages, out: Path) -> list[Path]:
    """Write report.html, then tables, figures and contact sheets into `out`, and return their paths.

    Raises:
        ResourceError: `out` cannot be written to.
    """
    figures = _figures(evaluation)
    files = {REPORT: _page(evaluation, source, figures), "metrics.csv": tables.metrics_csv(evaluation)}
    files[EVALUATION] = tables.evaluation_json(evaluation)
    if evaluation.pairwise:
        files["pairwise.csv"] = tables.pairwise_csv(evaluation.pairwise)
    if evaluation.trend:
        files["trend.csv"] = tables.trend_csv(evaluation.trend)
    files |= {name: figure.png for name, figure in figures.items()}
    files |= images.contact_sheets(
        source, images.class_samples(source), images.pair_rows(images.nearest_pairs(evaluation))
    )
    for name, data in files.items():
        write_atomic(out / name, data)
    return [out / name for name in files]


def _figures(evaluation: Evaluation) -> dict[str, RenderedFigure]:
    """Render the figures by the name of their file."""
    baselines = {row.name: row.baseline for row in evaluation.results if row.baseline}
    figures = {"baselines.png": baseline_figure(baselines)} if baselines else {}
    histograms = {row.name: row.score.histogram for row in evaluation.results if row.score and row.score.histogram}
    for name, stem in images.file_names(list(histograms)).items():
        figures[f"histogram-{stem}.png"] = histogram_figure(histograms[name])
    curves = {row.name: row.score.curve for row in evaluation.results if row.score and row.score.curve}
    for name, stem in images.file_names(list(curves)).items():
        figures[f"curve-{stem}.png"] = curve_figure(curves[name])
    if evaluation.trend:
        figures["trend.png"] = trend_figure(evaluation.trend, baselines)
    return figures


def _page(evaluation: Evaluation, source: MeasuredImages, figures: Mapping[str, RenderedFigure]) -> bytes:
    classes, nearest = images.class_samples(source), images.nearest_pairs(evaluation)
    pairs = images.pair_rows(nearest)
    count = sum(len(row.indices) for rows in (*classes.values(), *pairs.values()) for row in rows)
    image = evaluation.image
    side = images.thumbnail_side(count, size=image.size, channels=image.channels)
    with_histogram = [row for row in evaluation.results if row.score and row.score.histogram]
    with_curve = [row for row in evaluation.results if row.score and row.score.curve]
    stems, of_curves = (images.file_names([row.name for row in rows]) for rows in (with_histogram, with_curve))
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
            (label, [(row.title, images.thumbnails(source, row, side)) for row in rows])
            for label, rows in classes.items()
        ],
        "nearest": [
            (name, list(zip(nearest[name], *(images.thumbnails(source, row, side) for row in rows), strict=True)))
            for name, rows in pairs.items()
        ],
        "histograms": [(row, shown[f"histogram-{stems[row.name]}.png"]) for row in with_histogram],
        "curves": [(row, shown[f"curve-{of_curves[row.name]}.png"]) for row in with_curve],
        "per_class": per_class,
        "per_class_preprocessing": text.describe_preprocessing(evaluation, per_class["metrics"] if per_class else ()),
        "matrices": list(tables.pair_matrices(evaluation)),
        "skipped": text.group_skipped(evaluation),
        "preprocessing": text.preprocessing_by_metric(evaluation),
        "trend_figure": shown.get("trend.png"),
        "best_checkpoints": text.describe_best_checkpoints(evaluation),
        "command": command if isinstance(command, str) else shlex.join(map(str, command)),
        "provenance": provenance,
    }
    return render("evaluation.html.j2", values)


def check_output_folder(out: Path) -> None:
    """Check that `out` is new, empty, or an earlier evaluation, finished or not, which will be replaced.

    Raises:
        DataError: `out` is a file or holds other files.
    """
    if not _holds_evaluation(out):
        check_empty(out)


def _holds_evaluation(out: Path) -> bool:
    """Return whether `out` belongs to an evaluation, which one that was stopped does as well."""
    try:
        return bool(read_json(out / PLAN)["job"] == JOB)
    except (OSError, ValueError, KeyError, TypeError):  # an earlier version wrote run.json alone
        return (read_run(out) or {}).get("job") == JOB


def write_evaluation(measured: Measured, out: Path, source: Source, record: RunRecord) -> Evaluation:
    """Write the report into `out`, then run.json, and return the evaluation with its provenance.

    Raises:
        DataError: as `check_output_folder`.
        ResourceError: `out` cannot be written to.
    """
    check_output_folder(out)
    make_folder(out)
    write_json_atomic(out / PLAN, {"job": JOB})
    remove_partial_files(out)
    (out / RUN).unlink(missing_ok=True)
    evaluation = measured.evaluation
    metrics = dict.fromkeys(row.name.partition("@")[0] for row in evaluation.results)
    record.device = source.device
    record.seeds = {"seed": evaluation.seed}
    record.plugins = [source.plugins.plugin_of("metric", name) for name in metrics]
    record.data = {facts.role: {"path": facts.path, "counts": dict(facts.counts)} for facts in evaluation.sets}
    record.weights = {row.name: row.weights for row in evaluation.results if row.weights}
    record.scores = {
        row.name: {"value": plain(row.score.value), "n_real": row.score.n_real, "n_fake": row.score.n_fake}
        for row in evaluation.results
        if row.score is not None
    }
    record.extra = dict(evaluation.provenance)
    evaluation = replace(evaluation, provenance=record.to_dict())
    images = MeasuredImages(measured.sets, evaluation.image.classes)
    record.add_outputs(write_report(evaluation, images, out))
    record.finish()
    return evaluation
