"""The report of an experiment: report.html, its tables as CSV and JSON, and its figures as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medzoo._version import __version__
from medzoo.experiment.config import CLASSIC, DUPLICATE
from medzoo.experiment.results import Experiment
from medzoo.experiment.statistics import Comparison, Estimate
from medzoo.report.evaluation.images import file_names
from medzoo.report.evaluation.report import REPORT
from medzoo.report.experiment import tables, text
from medzoo.report.experiment.controls import UNPRETRAINED, Controls, answers, control_comparisons
from medzoo.report.experiment.figures import BASELINE, KINDS, experiment_figures, metric_label
from medzoo.report.experiment.levers import lever_tables, verdicts
from medzoo.report.experiment.selection import selection_shares
from medzoo.report.figures import RenderedFigure
from medzoo.report.page import PageImage, render, svg_image
from medzoo.storage.files import write_atomic

FIGURES = "figures"

# The other scores are in the CSV; of single-label images, the macro recall is the balanced accuracy.
_SHOWN = ("balanced_accuracy", "accuracy", "f1", "auc", "worst_class")


def write_experiment_report(experiment: Experiment) -> list[str]:
    """Write report.html, tables and figures into the experiment's folder, and return their names.

    The same cells give the same bytes. Figures of an earlier report that are no longer part of it are removed.

    Raises:
        IntegrityError: the predictions of a cell cannot be read.
        ResourceError: the folder cannot be written to.
    """
    every = {view.test_set: control_comparisons(view) for view in tables.views(experiment)}
    controls = every[""]
    figures = experiment_figures(experiment, controls)
    # Names of arms and classes may contain anything, and two may give the same file name.
    names = [" ".join(filter(None, key)) for key in figures]
    numbered = [f"{name} {index}" if name in names[:index] else name for index, name in enumerate(names)]
    stems = file_names(numbered)
    files = {
        REPORT: _page(experiment, every, figures),
        "cells.csv": tables.cells_csv(experiment),
        "summaries.csv": tables.summaries_csv(experiment),
        "comparisons.csv": tables.comparisons_csv(experiment, every),
        "per_class.csv": tables.per_class_csv(experiment),
        "class_differences.csv": tables.class_differences_csv(experiment),
        # experiment.json is the plan, from which `load_results` starts.
        "results.json": tables.results_json(experiment, every),
        **{f"{FIGURES}/{stems[name]}.png": found.png for name, found in zip(numbered, figures.values(), strict=True)},
    }
    for stale in (experiment.folder / FIGURES).glob("*.png"):
        if f"{FIGURES}/{stale.name}" not in files:
            stale.unlink()
    for name, data in files.items():
        write_atomic(experiment.folder / name, data)
    return list(files)


def _page(
    experiment: Experiment,
    every: Mapping[str, Controls],
    figures: Mapping[tuple[str, str, str], RenderedFigure],
) -> bytes:
    controls = every[""]
    counts = tables.count_test_images(experiment).values()
    facts = experiment.provenance["data"].get("external", {})
    estimates = [summary.estimates[experiment.metric] for summary in experiment.summaries]
    by_kind: dict[str, dict[str, list[tuple[str, PageImage]]]] = {kind: {} for kind in KINDS}
    for (kind, classifier, subject), figure in figures.items():
        by_kind[kind].setdefault(classifier, []).append((subject, svg_image(figure)))
    values = {
        "experiment": experiment,
        "version": __version__,
        "metric": metric_label(experiment.metric),
        "run": text.describe_run(experiment),
        "progress": text.describe_progress(experiment),
        "answers": answers(experiment, controls),
        "verdicts": list(verdicts(experiment, controls)),
        "levers": lever_tables(experiment),
        "selections": selection_shares(experiment),
        "external": [
            {"view": view, "families": _families(view, every[view.test_set]), "facts": facts[view.test_set]}
            | {"verdicts": list(verdicts(view, every[view.test_set])), "classes": _classes(view)}
            for view in tables.views(experiment)[1:]
        ],
        "families": _families(experiment, controls),
        "image_tests": tables.image_tests(experiment),
        "failures": text.failures(experiment),
        "arms": {arm.name: text.describe_arm(arm, multi_label=experiment.multi_label) for arm in experiment.arms},
        "metrics": {name: tables.TITLES[name] for name in (experiment.metric, *_SHOWN)},
        "figures": by_kind,
        "classes": _classes(experiment),
        "class_means": {
            name: {arm.name: tables.class_means(experiment, arm.name, name) for arm in experiment.arms}
            for name in experiment.classifiers
        },
        "distinct": text.distinct_images(experiment),
        "supports": {name: sum(own[name] for own in counts) for name in experiment.classes},
        "absent": tables.describe_absent_classes(experiment),
        "pretrain_arms": tables.pretrain_arms(experiment),
        "cells": [(cell, text.describe_place(experiment, cell)) for cell in experiment.cells],
        "unbounded": any(estimate.low < 0 or estimate.high > 1 for estimate in estimates),
    }
    return render("experiment.html.j2", values)


def _classes(experiment: Experiment) -> dict[str, dict[str, tuple[list[dict[str, float]], Mapping[Any, Estimate]]]]:
    """Return each arm's scores by class, and their differences from the baseline, by classifier."""
    return {
        name: {
            arm.name: (
                tables.class_means(experiment, arm.name, name),
                tables.class_differences(experiment, arm.name, name) if arm.name != experiment.baseline else {},
            )
            for arm in experiment.arms
        }
        for name in experiment.classifiers
    }


def _families(experiment: Experiment, controls: Controls) -> list[tuple[str, str, Sequence[Comparison]]]:
    """Return the name, heading and comparisons of each family of comparisons."""
    headings = {
        DUPLICATE: "Compared with duplicate: real images oversampled to the same count",
        CLASSIC: "Compared with classic: classical augmentation to the same count",
        UNPRETRAINED: "Compared with no pretraining",
    }
    baseline = (BASELINE, f"Compared with {experiment.baseline}, the baseline", experiment.comparisons)
    return [*((name, headings[name], comparisons) for name, comparisons in controls.items()), baseline]
