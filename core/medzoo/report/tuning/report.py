"""The report of a tuning: report.html, and the trials of the search as CSV."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from medzoo._version import __version__
from medzoo.experiment.config import FOLDER, Arm
from medzoo.experiment.results import Experiment
from medzoo.report.experiment import tables
from medzoo.report.experiment.figures import metric_label
from medzoo.report.experiment.text import describe_arm
from medzoo.report.figures import Point, rows_figure
from medzoo.report.page import PageImage, render, svg_image
from medzoo.report.tables import to_csv
from medzoo.report.tuning import text
from medzoo.report.tuning.figures import lever_figure, search_figure
from medzoo.report.tuning.levers import lever_values
from medzoo.report.tuning.pools import pool_images
from medzoo.storage.files import make_folder, write_atomic
from medzoo.tuning.results import TuningResult, compare_with_controls

REPORT, TRIALS = "report.html", "trials.csv"

_BEST = 10


def write_report(result: TuningResult, out: Path) -> list[Path]:
    """Write report.html and trials.csv into the folder `out`, and return their paths.

    The same results give the same bytes.

    Raises:
        ResourceError: the folder cannot be written to.
    """
    make_folder(out)
    files = {out / REPORT: _page(result), out / TRIALS: _trials_csv(result)}
    for path, data in files.items():
        write_atomic(path, data)
    return list(files)


def _page(result: TuningResult) -> bytes:
    held_out = None if result.held_out is None else _scores(result.held_out)
    finalists = None if result.finalists is None else _scores(result.finalists)
    levers = lever_values(result)
    values: dict[str, Any] = {
        "result": result,
        "version": __version__,
        "metric": metric_label(result.metric),
        "badge": text.badge(result),
        "run": text.describe_run(result),
        "policy": text.describe_policy(result.policy),
        "toml": result.policy.to_toml(),
        "control": text.search_control(result),
        "held_out": held_out,
        "finalists": finalists,
        "levers": levers,
        "without_gain": text.without_gain(result, levers),
        "search": svg_image(search_figure(result)) if result.trials else None,
        "strips": svg_image(lever_figure(result, levers)) if levers else None,
        "best": sorted(result.trials, key=lambda trial: (-trial.score, trial.number))[:_BEST],
        "pools": pool_images(result),
        "times": text.times(result),
    }
    return render("tuning.html.j2", values)


def _scores(experiment: Experiment) -> dict[str, Any]:
    """Return what the page shows of the finalists, or of the held-out part."""
    # One classifier: the one that is tuned for.
    (classifier,) = experiment.classifiers
    arms = sorted(experiment.arms, key=lambda arm: arm.control)  # policies first
    comparisons = [
        found for arm in arms if not arm.control for found in compare_with_controls(experiment, arm.name, classifier)
    ]
    groups: dict[str, dict[str, Point]] = {}
    for found in comparisons:
        its = found.test.difference
        point = Point(value=its.mean, low=its.low, high=its.high, note="" if its.n else "not tested")
        groups.setdefault(found.arm, {})[found.baseline] = point
    label = metric_label(experiment.metric)
    figure = rows_figure(
        groups,
        title=f"Difference in {label} from each control",
        x_label=f"{label}: policy minus control,\nwith 95% CI",
        shown={(found.arm, found.baseline) for found in comparisons if found.shown},
    )
    image: PageImage = svg_image(figure)
    return {
        "experiment": experiment,
        "classifier": classifier,
        "comparisons": comparisons,
        "figure": image if comparisons else None,
        "arms": {arm.name: describe_arm(_with_short_names(arm), multi_label=False) for arm in arms},
        "classes": {arm.name: tables.class_means(experiment, arm.name, classifier) for arm in arms},
    }


def _with_short_names(arm: Arm) -> Arm:
    """Return an arm that names pools by their own names instead of their folders."""
    return replace(
        arm,
        mixture={Path(name).name if name.startswith(FOLDER) else name: share for name, share in arm.mixture.items()},
    )


def _trials_csv(result: TuningResult) -> bytes:
    """Write one row per trial: its name, parameters and score."""
    names = list(dict.fromkeys(name for trial in result.trials for name in trial.params))
    rows = (
        {
            **{f"param_{name}": trial.params.get(name) for name in names},
            **{name: getattr(trial, name) for name in ("number", "score", "sd", "seconds")},
            "policy": text.trial_name(trial),
        }
        for trial in result.trials
    )
    return to_csv(rows, ("number", "policy", "score", "sd", "seconds", *(f"param_{name}" for name in names)))
