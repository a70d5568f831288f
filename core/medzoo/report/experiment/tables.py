"""Tables of an experiment: all numbers as CSV and JSON, and scores by class for the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medzoo.experiment.config import LEVERS, METRICS, Arm, row_name
from medzoo.experiment.results import CellResult, Experiment
from medzoo.experiment.statistics import Comparison, Estimate, paired_test
from medzoo.report.experiment.controls import Controls
from medzoo.report.formatting import join_words
from medzoo.report.tables import Record, to_csv, to_json

TITLES: Mapping[str, str] = {
    "balanced_accuracy": "Balanced accuracy",
    "accuracy": "Accuracy",
    "f1": "F1 (macro)",
    "precision": "Precision (macro)",
    "recall": "Recall (macro)",
    "auc": "ROC AUC (one-vs-rest, macro)",
    "worst_class": "Recall of the worst class",
}

_CELL = ("key", "arm", "classifier", "repeat", "fold", "seed", "test_set")
_COUNTS = ("n_train", "n_real", "n_synthetic", "n_val", "n_test", "steps", "steps_done", "seconds")
_ESTIMATE = ("mean", "low", "high", "sd", "n", "n_failed", "method", "reason")
_ARM = ("target", "real_fraction", "geometric", *LEVERS)
_COMPARISON = ("arm", "baseline", "classifier", "metric", "seed", "test", "n", "n_failed", "difference", "low", "high")
_TEST = ("p", "p_adjusted", "family", "shown", "detectable", "effect", "effect_low", "effect_high", "gained", "lost")
_CLASS = ("support", "accuracy", "precision", "recall", "f1", "auc")


def views(experiment: Experiment) -> list[Experiment]:
    """Return the experiment, then with the scores of each external test set."""
    return [experiment, *(experiment.on(name) for name in experiment.test_sets)]


def cells_csv(experiment: Experiment) -> bytes:
    """Write one row per cell and test set with all its scores, empty for cells that failed or were not run.

    In all tables, "test_set" names an external test set, and is empty for the experiment's own test images.
    """
    scores = (*METRICS, "exact_match")
    rows = (
        {
            **vars(cell),
            "test_set": view.test_set,
            **{name: cell.value(name) for name in scores},
            "n_synthetic": cell.n_synthetic,
            "warnings": " | ".join(cell.warnings),
        }
        for view in views(experiment)
        for cell in view.cells
    )
    return to_csv(rows, (*_CELL, "status", *scores, *_COUNTS, "error", "warnings"))


def summaries_csv(experiment: Experiment) -> bytes:
    """Write one row per arm, classifier, test set and metric: the mean with its interval, and the arm's settings."""
    rows = (
        {
            **vars(arm := experiment.arm(summary.arm)),
            "test_set": view.test_set,
            **vars(estimate),
            **{"arm": arm.name, "classifier": summary.classifier, "metric": metric},
            "mixture": "+".join(f"{name}={share:g}" for name, share in arm.mixture.items()),
        }
        for view in views(experiment)
        for summary in view.summaries
        for metric, estimate in summary.estimates.items()
    )
    return to_csv(rows, ("arm", "classifier", "test_set", "metric", *_ESTIMATE, "mixture", *_ARM))


def comparisons_csv(experiment: Experiment, controls: Mapping[str, Controls]) -> bytes:
    """Write one row per comparison and test set: with each control, with the baseline, and McNemar's tests by seed.

    "against" names the family over which Holm's correction is made. `controls` are given by test set.
    """
    families: dict[tuple[str, str], Sequence[Comparison]] = {}
    for view in views(experiment):
        for name, made in controls[view.test_set].items():
            families[view.test_set, f"control: {name}"] = made
        families[view.test_set, "baseline"] = view.comparisons
        families[view.test_set, "baseline, image by image"] = view.image_tests
    rows = (
        {
            "test_set": test_set,
            **vars(found.test.difference),
            **vars(found.test),
            **vars(found),
            **{name: getattr(found, name) for name in ("difference", "shown", "detectable")},
            **{"against": against, "test": found.test.method, "sentence": found.sentence()},
        }
        for (test_set, against), comparisons in families.items()
        for found in comparisons
    )
    return to_csv(
        rows, ("against", "test_set", *_COMPARISON, *_TEST, "odds_ratio", "odds_low", "odds_high", "sentence")
    )


def per_class_csv(experiment: Experiment) -> bytes:
    """Write one row per class of each cell with scores, for each test set."""
    rows = ({**row, "test_set": view.test_set} for view in views(experiment) for row in _class_records(view.cells))
    return to_csv(rows, (*_CELL, "class", *_CLASS))


def class_differences_csv(experiment: Experiment) -> bytes:
    """Write one row per arm, classifier, test set, class and score: the difference from the baseline's.

    "worst class" is the lowest recall of a class, which need not be the same class in two cells.
    """
    rows = (
        {
            **vars(difference),
            **{"arm": arm.name, "baseline": view.baseline, "classifier": classifier, "test_set": view.test_set},
            **{"class": name, "score": score, "difference": difference.mean},
        }
        for view in views(experiment)
        for classifier in view.classifiers
        for arm in view.arms
        if arm.name != view.baseline
        for (name, score), difference in class_differences(view, arm.name, classifier).items()
    )
    names = ("arm", "baseline", "classifier", "test_set", "class", "score", "difference")
    return to_csv(rows, (*names, *_ESTIMATE[1:]))


def class_differences(experiment: Experiment, arm: str, classifier: str) -> dict[tuple[str, str], Estimate]:
    """Return the difference from the baseline in each class's recall and AUC, and in the recall of the worst class.

    By class ("" for the worst) and score. They are estimates of one class each, and not tested.
    """
    pair = (arm, experiment.baseline)
    values = {
        (name, score): [experiment.class_values(own, classifier, name, score) for own in pair]
        for name in experiment.classes
        for score in ("recall", "auc")
    }
    values["", "recall"] = [experiment.values(own, classifier, "worst_class") for own in pair]
    return {key: paired_test(own, base, overlap=experiment.overlap).difference for key, (own, base) in values.items()}


def _class_records(cells: Sequence[CellResult]) -> Iterator[Record]:
    for cell in cells:
        for score in cell.scores.per_class if cell.scores is not None else ():
            yield {**vars(cell), **vars(score), "class": score.name}


def results_json(experiment: Experiment, controls: Mapping[str, Controls]) -> bytes:
    """Write everything but the training histories, which the cells' files keep; an undefined number is null."""
    found = experiment.to_dict()
    for test_set, by_control in controls.items():
        against = {name: [comparison.to_dict() for comparison in made] for name, made in by_control.items()}
        (found["external"][test_set] if test_set else found)["control_comparisons"] = against
    return to_json(found)


def finished(cells: Sequence[CellResult]) -> list[CellResult]:
    """Return the cells that have scores."""
    return [cell for cell in cells if cell.scores is not None]


def class_means(experiment: Experiment, arm: str, classifier: str) -> list[dict[str, float]]:
    """Average the scores of each class over the cells of an arm with a classifier that have test images of it.

    A score is NaN where there is no such cell; [] if no cell has scores.
    """
    import pandas as pd

    records = list(_class_records(experiment.of(arm, classifier)))
    if not records:
        return []
    means: list[dict[str, float]] = (
        pd.DataFrame(records).groupby("class")[list(_CLASS)].mean().loc[list(experiment.classes)].to_dict("records")
    )
    return means


def count_test_images(experiment: Experiment) -> dict[str, dict[str, int]]:
    """Count test images of each class by fold ("" if held out) of the first repeat, folds without scores left out."""
    counts: dict[str, dict[str, int]] = {}
    for cell in sorted(finished(experiment.cells), key=lambda cell: cell.fold):
        if cell.repeat == 0 and cell.scores is not None:
            fold = "" if experiment.held_out else f"fold {cell.fold + 1}"
            counts.setdefault(fold, {score.name: score.support for score in cell.scores.per_class})
    return counts


def describe_absent_classes(experiment: Experiment) -> list[str]:
    """Describe each class that lacks test images in some fold, or in all."""
    by_fold = count_test_images(experiment)
    lines = []
    for name in experiment.classes:
        lacking = [fold for fold, counts in by_fold.items() if not counts[name]]
        if by_fold and len(lacking) == len(by_fold):
            lines.append(f"{name} has no test images and is excluded from all means")
        elif lacking:
            lines.append(f"{name} has no test images in {join_words(lacking)}, where means exclude it")
    return lines


def pretrain_arms(experiment: Experiment) -> list[Arm]:
    """Order the rows of `[pretrain]` by pretraining, share of real images, augmentation and weighting; [] if none."""
    arms = [
        arm
        for arm in experiment.arms
        if arm.name == row_name(arm.pretrain, arm.real_fraction, arm.geometric, arm.weighted)
    ]
    if not any(arm.pretrain for arm in arms):
        return []
    return sorted(arms, key=lambda arm: (arm.pretrain, arm.real_fraction, arm.geometric, arm.weighted))


def image_tests(experiment: Experiment) -> dict[str, dict[str, dict[Any, Comparison]]]:
    """Arrange McNemar's tests against the baseline by classifier, arm and seed."""
    tests: dict[str, dict[str, dict[Any, Comparison]]] = {}
    for test in experiment.image_tests:
        tests.setdefault(test.classifier, {}).setdefault(test.arm, {})[test.seed] = test
    return tests
