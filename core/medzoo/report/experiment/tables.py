"""An experiment as CSV, for spreadsheets and further statistics, and as JSON with everything in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields

from medzoo.classification.scores import ClassScore
from medzoo.experiment.comparisons import Comparison
from medzoo.experiment.config import METRICS
from medzoo.experiment.results import CellResult, Experiment, comparison_dict
from medzoo.experiment.statistics import Estimate, McNemarTest, PairedTest
from medzoo.report.evaluation.tables import Cell, csv_bytes, json_bytes
from medzoo.report.experiment.controls import Controls

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
    """One row a cell with all its scores; those of cells that failed or were not run are empty."""
    return csv_bytes(CELLS, (_cell(cell) for cell in experiment.cells))


def _cell(cell: CellResult) -> Sequence[Cell]:
    scores = [cell.value(metric) for metric in (*METRICS, "exact_match")]
    named = [getattr(cell, name) for name in _CELL]
    counts = [getattr(cell, name) for name in _COUNTS]
    return (*named, cell.status, *scores, *counts, cell.error, " | ".join(cell.warnings))


def summaries_csv(experiment: Experiment) -> bytes:
    """One row an arm, classifier and metric: the mean, its interval, and what it is of."""
    lines = (
        (
            *(summary.arm, summary.classifier, metric),
            *(getattr(estimate, name) for name in _ESTIMATE),
            "+".join(f"{name}={share:g}" for name, share in experiment.arm(summary.arm).mixture.items()),
            *(getattr(experiment.arm(summary.arm), name) for name in _ARM),
        )
        for summary in experiment.summaries
        for metric, estimate in summary.estimates.items()
    )
    return csv_bytes(SUMMARIES, lines)


def comparisons_csv(experiment: Experiment, controls: Controls) -> bytes:
    """One row a comparison: with the controls, with the baseline, and McNemar's with the baseline, seed by seed.

    "against" names the family that Holm's correction is over.
    """
    return csv_bytes(COMPARISONS, _comparisons(experiment, controls))


def _comparisons(experiment: Experiment, controls: Controls) -> Iterator[Sequence[Cell]]:
    families: Iterable[tuple[str, Sequence[Comparison]]] = (
        *((f"control: {name}", made) for name, made in controls.items()),
        ("baseline", experiment.comparisons),
    )
    for against, made in families:
        for comparison in made:
            yield _comparison(against, comparison, None)
    for test in experiment.image_tests:
        yield _comparison("baseline, image by image", test.comparison, test.seed)


def _comparison(against: str, comparison: Comparison, seed: int | None) -> Sequence[Cell]:
    test = comparison.test
    found = test if isinstance(test, McNemarTest) else test.difference
    paired = [getattr(test, name) if isinstance(test, PairedTest) else None for name in _PAIRED]
    images = [getattr(test, name) if isinstance(test, McNemarTest) else None for name in _IMAGES]
    return (
        *(against, comparison.arm, comparison.baseline, comparison.classifier, comparison.metric, seed, test.method),
        *(found.n, 0 if isinstance(found, McNemarTest) else found.n_failed, comparison.difference),
        *(found.low, found.high, test.p, comparison.p_adjusted, comparison.family, comparison.shown),
        *(comparison.detectable, *paired, *images, comparison.sentence()),
    )


def per_class_csv(experiment: Experiment) -> bytes:
    """One row a cell with scores and class."""
    lines = (
        (*(getattr(cell, name) for name in _CELL), score.name, *(getattr(score, name) for name in _CLASS))
        for cell in experiment.cells
        if cell.scores is not None
        for score in cell.scores.per_class
    )
    return csv_bytes(PER_CLASS, lines)


def results_json(experiment: Experiment, controls: Controls) -> bytes:
    """Everything but the steps of the trainings, which the cells' own files keep; what is undefined is null."""
    against = {name: [comparison_dict(comparison) for comparison in made] for name, made in controls.items()}
    return json_bytes({**experiment.to_dict(), "control_comparisons": against})
