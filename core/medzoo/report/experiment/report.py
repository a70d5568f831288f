"""The report of an experiment: one HTML file, its tables as CSV and JSON, and its figures as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medzoo._version import __version__
from medzoo.experiment.arms import CLASSIC, DUPLICATE
from medzoo.experiment.comparisons import Comparison
from medzoo.experiment.results import Experiment
from medzoo.report.evaluation.report import REPORT
from medzoo.report.experiment.controls import UNPRETRAINED, Controls, answers, control_comparisons
from medzoo.report.experiment.curves import Curves, read_curves
from medzoo.report.experiment.figures import BASELINE, KINDS, Figure, experiment_figures
from medzoo.report.experiment.score_tables import (
    absent_told,
    class_found,
    image_tests,
    pretrain_rows,
    score_tables,
    supports,
)
from medzoo.report.experiment.tables import (
    cells_csv,
    comparisons_csv,
    per_class_csv,
    results_json,
    summaries_csv,
)
from medzoo.report.experiment.text import (
    arm_told,
    failures,
    limits,
    place,
    progress_told,
    roc_told,
    run_told,
)
from medzoo.report.page import Picture, drawn_picture, render
from medzoo.storage.files import write_atomic

FIGURES = "figures"


def write_experiment_report(experiment: Experiment) -> list[str]:
    """The names of what was written into the experiment's folder: report.html, then tables and figures.

    Figures of an earlier report that this one has not are removed.
    Raises: IntegrityError for a cell's predictions that cannot be read; ResourceError.
    """
    files = report_files(experiment, read_curves(experiment))
    for stale in (experiment.folder / FIGURES).glob("*.png"):
        if f"{FIGURES}/{stale.name}" not in files:
            stale.unlink()
    for name, data in files.items():
        write_atomic(experiment.folder / name, data)
    return list(files)


def report_files(experiment: Experiment, curves: Curves) -> dict[str, bytes]:
    """The report's files by name; the same cells give the same bytes."""
    controls = control_comparisons(experiment)
    figures = experiment_figures(experiment, curves, controls)
    return {
        REPORT: _page(experiment, controls, figures),
        "cells.csv": cells_csv(experiment),
        "summaries.csv": summaries_csv(experiment),
        "comparisons.csv": comparisons_csv(experiment, controls),
        "per_class.csv": per_class_csv(experiment),
        # experiment.json is what was to be done, from which `load_results` starts.
        "results.json": results_json(experiment, controls),
        **{f"{FIGURES}/{name}.png": figure.drawing.png for name, figure in figures.items()},
    }


def _page(experiment: Experiment, controls: Controls, figures: Mapping[str, Figure]) -> bytes:
    values: dict[str, Any] = {
        "experiment": experiment,
        "version": __version__,
        "run": run_told(experiment),
        "progress": progress_told(experiment),
        "answers": answers(experiment, controls),
        "families": _families(experiment, controls),
        "image_tests": image_tests(experiment),
        "failures": failures(experiment),
        "arms": {arm.name: arm_told(arm, multi_label=experiment.multi_label) for arm in experiment.arms},
        "tables": score_tables(experiment),
        "pictures": _pictures(figures),
        "roc_note": roc_told(experiment),
        "recalls": {
            name: [(arm, class_found(experiment, arm.name, name)) for arm in experiment.arms]
            for name in experiment.classifiers
            if any(cell.scores is not None for cell in experiment.cells if cell.classifier == name)
        },
        "supports": _all_supports(experiment),
        "absent": absent_told(experiment),
        "pretrained": {name: rows for name in experiment.classifiers if (rows := pretrain_rows(experiment, name))},
        "cells": [(cell, place(experiment, cell)) for cell in experiment.cells],
        "limits": limits(experiment),
    }
    return render("experiment.html.j2", values)


def _families(experiment: Experiment, controls: Controls) -> list[tuple[str, str, Sequence[Comparison]]]:
    """Comparisons that belong together: a name, a heading, and they themselves."""
    headings = {
        DUPLICATE: "Against duplicate: real images repeated to the same count",
        CLASSIC: "Against classic: classic augmentation to the same count",
        UNPRETRAINED: "Against the same without pretraining",
    }
    baseline = (BASELINE, f"Against {experiment.baseline}, the baseline", experiment.comparisons)
    return [*((name, headings[name], made) for name, made in controls.items()), baseline]


def _pictures(figures: Mapping[str, Figure]) -> dict[str, dict[str, list[tuple[str, Picture]]]]:
    """By kind and classifier, the pictures with what each is of."""
    found: dict[str, dict[str, list[tuple[str, Picture]]]] = {kind: {} for kind in KINDS}
    for figure in figures.values():
        found[figure.kind].setdefault(figure.classifier, []).append((figure.of, drawn_picture(figure.drawing)))
    return found


def _all_supports(experiment: Experiment) -> dict[str, int]:
    """Test images of each class, all folds together."""
    found = supports(experiment).values()
    return {name: sum(counts[name] for counts in found) for name in experiment.classes}
