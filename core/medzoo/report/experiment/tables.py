"""Tables of an experiment: scores by arm, classifier and class for the page, all numbers as CSV and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from medzoo.classification.scores import ClassScore
from medzoo.experiment.arms import Arm
from medzoo.experiment.comparisons import Comparison
from medzoo.experiment.config import METRICS
from medzoo.experiment.results import CellResult, Experiment, comparison_dict
from medzoo.experiment.statistics import Estimate, McNemarTest
from medzoo.report.experiment.controls import Controls
from medzoo.report.formatting import join_words, pluralize
from medzoo.report.tables import Record, to_csv, to_json

TITLES: Mapping[str, str] = {
    "balanced_accuracy": "Balanced accuracy",
    "accuracy": "Accuracy",
    "f1": "F1 (macro)",
    "precision": "Precision (macro)",
    "recall": "Recall (macro)",
    "auc": "ROC AUC (one-vs-rest, macro)",
}

# The others are in the CSV; of single-label images, the macro recall is the balanced accuracy.
_SHOWN = ("balanced_accuracy", "accuracy", "f1", "auc")

_CELL = ("key", "arm", "classifier", "repeat", "fold", "seed")
_COUNTS = ("n_train", "n_real", "n_synthetic", "n_val", "n_test", "steps", "steps_done", "seconds")
_ARM = ("target", "weighted", "pretrain", "real_fraction", "geometric")
_CLASS = tuple(entry.name for entry in fields(ClassScore) if entry.name != "name")
_ESTIMATE = tuple(entry.name for entry in fields(Estimate))
_PAIRED = ("effect", "effect_low", "effect_high")
_IMAGES = ("gained", "lost", "odds_ratio", "odds_low", "odds_high")
CELLS = (*_CELL, "status", *METRICS, "exact_match", *_COUNTS, "error", "warnings")
SUMMARIES = ("arm", "classifier", "metric", *_ESTIMATE, "mixture", *_ARM)
COMPARISONS = (
    "against",
    *("arm", "baseline", "classifier", "metric", "seed", "test", "n", "n_failed", "difference", "low", "high"),
    *("p", "p_adjusted", "family", "shown", "detectable", *_PAIRED, *_IMAGES, "sentence"),
)
PER_CLASS = (*_CELL, "class", *_CLASS)


def cells_csv(experiment: Experiment) -> bytes:
    """Write one row per cell with all its scores, empty for cells that failed or were not run."""
    scores = (*METRICS, "exact_match")
    return to_csv(
        (
            {
                **_values(cell, (*_CELL, "status", *_COUNTS, "error")),
                **{metric: cell.value(metric) for metric in scores},
                "warnings": " | ".join(cell.warnings),
            }
            for cell in experiment.cells
        ),
        CELLS,
    )


def summaries_csv(experiment: Experiment) -> bytes:
    """Write one row per arm, classifier and metric: the mean with its interval, and the arm's settings."""
    return to_csv(
        (
            {
                **{"arm": summary.arm, "classifier": summary.classifier, "metric": metric},
                **_values(estimate, _ESTIMATE),
                "mixture": "+".join(f"{name}={share:g}" for name, share in experiment.arm(summary.arm).mixture.items()),
                **_values(experiment.arm(summary.arm), _ARM),
            }
            for summary in experiment.summaries
            for metric, estimate in summary.estimates.items()
        ),
        SUMMARIES,
    )


def comparisons_csv(experiment: Experiment, controls: Controls) -> bytes:
    """Write one row per comparison: with each control, with the baseline, and McNemar's tests by seed.

    "against" names the family over which Holm's correction is made.
    """
    return to_csv(_comparisons(experiment, controls), COMPARISONS)


def _comparisons(experiment: Experiment, controls: Controls) -> Iterator[Record]:
    families: Iterable[tuple[str, Sequence[Comparison]]] = (
        *((f"control: {name}", comparisons) for name, comparisons in controls.items()),
        ("baseline", experiment.comparisons),
    )
    for against, comparisons in families:
        for comparison in comparisons:
            yield {"against": against, **_comparison(comparison)}
    for test in experiment.image_tests:
        yield {"against": "baseline, image by image", "seed": test.seed, **_comparison(test.comparison)}


def _comparison(comparison: Comparison) -> Record:
    test = comparison.test
    mcnemar = isinstance(test, McNemarTest)
    estimate = test if mcnemar else test.difference
    own = ("arm", "baseline", "classifier", "metric", "difference", "p_adjusted", "family", "shown", "detectable")
    return {
        **_values(comparison, own),
        **_values(estimate, ("n", "low", "high") if mcnemar else ("n", "n_failed", "low", "high")),
        **({"n_failed": 0, **_values(test, _IMAGES)} if mcnemar else _values(test, _PAIRED)),
        **{"test": test.method, "p": test.p, "sentence": comparison.sentence()},
    }


def per_class_csv(experiment: Experiment) -> bytes:
    """Write one row per class of each cell with scores."""
    return to_csv(_class_records(experiment.cells), PER_CLASS)


def _class_records(cells: Sequence[CellResult]) -> Iterator[Record]:
    for cell in cells:
        for score in cell.scores.per_class if cell.scores is not None else ():
            yield {**_values(cell, _CELL), "class": score.name, **_values(score, _CLASS)}


def _values(source: object, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(source, name) for name in names}


def results_json(experiment: Experiment, controls: Controls) -> bytes:
    """Write everything but the training histories, which the cells' files keep; an undefined number is null."""
    against = {name: [comparison_dict(comparison) for comparison in made] for name, made in controls.items()}
    return to_json({**experiment.to_dict(), "control_comparisons": against})


@dataclass(frozen=True, kw_only=True)
class ScoreCell:
    """The score of an arm with a classifier. `failed` and `missing` count its cells without a score."""

    estimate: Estimate
    failed: int
    missing: int

    @property
    def counts(self) -> str:
        """The number of values averaged: "5", or "4 of 5"."""
        n = self.estimate.n
        return f"{n} of {n + self.estimate.n_failed}" if self.estimate.partial else str(n)

    @property
    def incomplete(self) -> str:
        """What is missing, such as "2 cells failed, 1 not run"; "" where every cell has a score."""
        parts = [f"{pluralize(self.failed, 'cell')} failed"] if self.failed else []
        if self.missing:
            parts.append(f"{self.missing if parts else pluralize(self.missing, 'cell')} not run")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class ClassMeans:
    """Mean scores of a class over the cells that have test images of it; NaN if there are none."""

    recall: float
    precision: float
    f1: float
    auc: float


def score_tables(experiment: Experiment) -> dict[str, list[tuple[Arm, list[ScoreCell]]]]:
    """Arrange the scores in a table per metric, the experiment's own first: each arm with a cell per classifier."""
    return {
        metric: [
            (arm, [score_cell(experiment, arm.name, name, metric) for name in experiment.classifiers])
            for arm in experiment.arms
        ]
        for metric in dict.fromkeys((experiment.metric, *_SHOWN))
    }


def score_cell(experiment: Experiment, arm: str, classifier: str, metric: str) -> ScoreCell:
    """Return the score of an arm with a classifier in a metric."""
    cells = experiment.of(arm, classifier)
    return ScoreCell(
        estimate=experiment.summary(arm, classifier).estimates[metric],
        failed=sum(cell.status == "failed" for cell in cells),
        missing=sum(cell.status == "missing" for cell in cells),
    )


def finished(cells: Sequence[CellResult]) -> list[CellResult]:
    """Return the cells that have scores."""
    return [cell for cell in cells if cell.scores is not None]


def class_means(experiment: Experiment, arm: str, classifier: str) -> tuple[ClassMeans, ...]:
    """Average the scores of each class over the cells of an arm with a classifier; () if none has scores."""
    import pandas as pd

    records = list(_class_records(experiment.of(arm, classifier)))
    if not records:
        return ()
    means = pd.DataFrame(records).groupby("class")[["recall", "precision", "f1", "auc"]].mean()
    return tuple(ClassMeans(**means.loc[name]) for name in experiment.classes)


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


def confusion_matrix(experiment: Experiment, arm: str, classifier: str) -> list[list[int]]:
    """Add up the confusion matrices of an arm's cells; [] if none has scores."""
    matrices = [cell.scores.confusion for cell in experiment.of(arm, classifier) if cell.scores is not None]
    return [[sum(column) for column in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]


def pretrain_arms(experiment: Experiment) -> list[Arm]:
    """Order arms without and with pretraining by share of real images, augmentation and weighting; [] if none."""
    if not any(arm.pretrain for arm in experiment.arms):
        return []
    arms = [arm for arm in experiment.arms if arm.pretrain or not arm.mixture]
    return sorted(arms, key=lambda arm: (arm.pretrain, arm.real_fraction, arm.geometric, arm.weighted))


def image_tests(experiment: Experiment) -> dict[str, dict[str, dict[int, Comparison]]]:
    """Arrange McNemar's tests against the baseline by classifier, arm and seed."""
    tests: dict[str, dict[str, dict[int, Comparison]]] = {}
    for test in experiment.image_tests:
        comparison = test.comparison
        tests.setdefault(comparison.classifier, {}).setdefault(comparison.arm, {})[test.seed] = comparison
    return tests


def by_classifier(comparisons: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    """Group comparisons by classifier."""
    groups: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        groups.setdefault(comparison.classifier, []).append(comparison)
    return groups
