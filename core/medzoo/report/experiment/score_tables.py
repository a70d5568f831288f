"""Tables of an experiment's report: scores by arm and classifier, recall by class, confusion, study B's rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medzoo.experiment.arms import Arm
from medzoo.experiment.comparisons import Comparison
from medzoo.experiment.results import ArmSummary, CellResult, Experiment
from medzoo.experiment.statistics import Estimate
from medzoo.report.formatting import counted, listed

TITLES: Mapping[str, str] = {
    "balanced_accuracy": "Balanced accuracy",
    "accuracy": "Accuracy",
    "f1": "F1, macro mean",
    "precision": "Precision, macro mean",
    "recall": "Recall, macro mean",
    "auc": "AUC, one against the rest, macro mean",
}

# The others are in the CSV: of single labels, the macro mean of recall is the balanced accuracy.
_SHOWN = ("balanced_accuracy", "accuracy", "f1", "auc")


@dataclass(frozen=True, kw_only=True)
class ScoreCell:
    """An arm with a classifier in one metric. `failed` and `missing` count its cells of the grid."""

    estimate: Estimate
    failed: int
    missing: int

    @property
    def counts(self) -> str:
        """ "5", "4 of 5"."""
        n = self.estimate.n
        return f"{n} of {n + self.estimate.n_failed}" if self.estimate.partial else str(n)

    @property
    def lost(self) -> str:
        """ "1 cell failed", "2 cells failed, 1 not run"; "" where every cell has scores."""
        told = [f"{counted(self.failed, 'cell')} failed"] if self.failed else []
        if self.missing:
            told.append(f"{self.missing if told else counted(self.missing, 'cell')} not run")
        return ", ".join(told)


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """One metric: `rows` are arms with a cell a classifier."""

    metric: str
    title: str
    rows: tuple[tuple[Arm, tuple[ScoreCell, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class ClassFound:
    """What an arm's classifiers made of a class: means over the cells where it has test images, NaN without any."""

    recall: float
    precision: float
    f1: float
    auc: float


@dataclass(frozen=True, kw_only=True)
class PretrainRow:
    """A row of study B's table."""

    arm: Arm
    summary: ArmSummary
    classes: tuple[ClassFound, ...]


def score_tables(experiment: Experiment) -> tuple[ScoreTable, ...]:
    """A table a metric, the experiment's own first."""
    metrics = dict.fromkeys((experiment.metric, *_SHOWN))
    return tuple(
        ScoreTable(
            metric=metric,
            title=TITLES[metric],
            rows=tuple(
                (arm, tuple(score_cell(experiment, arm.name, name, metric) for name in experiment.classifiers))
                for arm in experiment.arms
            ),
        )
        for metric in metrics
    )


def score_cell(experiment: Experiment, arm: str, classifier: str, metric: str) -> ScoreCell:
    """What an arm with a classifier came to in a metric."""
    cells = experiment.of(arm, classifier)
    return ScoreCell(
        estimate=experiment.summary(arm, classifier).estimates[metric],
        failed=sum(cell.status == "failed" for cell in cells),
        missing=sum(cell.status == "missing" for cell in cells),
    )


def done(cells: Sequence[CellResult]) -> list[CellResult]:
    """Those with scores."""
    return [cell for cell in cells if cell.scores is not None]


def class_found(experiment: Experiment, arm: str, classifier: str) -> tuple[ClassFound, ...]:
    """Each class's means over the cells of an arm with a classifier; () where none has scores."""
    scores = [cell.scores.per_class for cell in experiment.of(arm, classifier) if cell.scores is not None]
    return tuple(
        ClassFound(
            **{
                name: mean([getattr(per_class[index], name) for per_class in scores])
                for name in ("recall", "precision", "f1", "auc")
            }
        )
        for index in range(len(experiment.classes) if scores else 0)
    )


def mean(values: Sequence[float]) -> float:
    """The mean of the values that are defined, NaN where none is."""
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def supports(experiment: Experiment) -> dict[str, dict[str, int]]:
    """Test images of each class, by fold ("" where held out) of the first repeat; folds without scores left out."""
    found: dict[str, dict[str, int]] = {}
    for cell in sorted(done(experiment.cells), key=lambda cell: cell.fold):
        if cell.repeat == 0 and cell.scores is not None:
            fold = "" if experiment.held_out else f"fold {cell.fold + 1}"
            found.setdefault(fold, {score.name: score.support for score in cell.scores.per_class})
    return found


def absent_told(experiment: Experiment) -> list[str]:
    """A sentence a class that lacks test images in some fold, or in all."""
    by_fold = supports(experiment)
    told = []
    for name in experiment.classes:
        lacking = [fold for fold, counts in by_fold.items() if not counts[name]]
        if by_fold and len(lacking) == len(by_fold):
            told.append(f"{name} has no test image: it counts in no mean")
        elif lacking:
            told.append(f"{name} has no test image in {listed(lacking)}, whose means are over the other classes")
    return told


def confusion(experiment: Experiment, arm: str, classifier: str) -> tuple[tuple[int, ...], ...]:
    """The confusion matrices of an arm's cells added up; () without any."""
    matrices = [cell.scores.confusion for cell in experiment.of(arm, classifier) if cell.scores is not None]
    return tuple(
        tuple(sum(matrix[row][column] for matrix in matrices) for column in range(len(experiment.classes)))
        for row in range(len(experiment.classes))
        if matrices and matrices[0]
    )


def pretrain_rows(experiment: Experiment, classifier: str) -> tuple[PretrainRow, ...]:
    """Study B's rows: without and with pretraining, by share of real images, augmentation and weighting; or none."""
    if not any(arm.pretrain for arm in experiment.arms):
        return ()
    arms = [arm for arm in experiment.arms if arm.pretrain or not arm.mixture]
    arms.sort(key=lambda arm: (arm.pretrain, arm.real_fraction, arm.geometric, arm.weighted))
    return tuple(
        PretrainRow(
            arm=arm,
            summary=experiment.summary(arm.name, classifier),
            classes=class_found(experiment, arm.name, classifier),
        )
        for arm in arms
    )


def image_tests(experiment: Experiment) -> dict[str, dict[str, dict[int, Comparison]]]:
    """McNemar's tests against the baseline, by classifier, arm and seed."""
    found: dict[str, dict[str, dict[int, Comparison]]] = {}
    for test in experiment.image_tests:
        made = test.comparison
        found.setdefault(made.classifier, {}).setdefault(made.arm, {})[test.seed] = made
    return found


def by_classifier(comparisons: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    """The comparisons of each classifier."""
    found: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        found.setdefault(comparison.classifier, []).append(comparison)
    return found
