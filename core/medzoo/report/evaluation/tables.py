"""Tables of an evaluation: metrics by class and by pair of sets for the page, all numbers as CSV and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from medzoo.evaluation.results import Evaluation, MetricResult, PairwiseResult, TrendPoint
from medzoo.protocols import Score
from medzoo.report.tables import Record, to_csv, to_json

_SCORE = ("detail", "value", "spread", "spread_over", "interval_low", "interval_high", "n_real", "n_fake")
_BASELINE = ("n", "draws", "real", "real_spread", "fake", "fake_spread")
_NOTES = ("better", "unit", "method", "preprocessing", "weights", "failed", "missing", "warnings")
METRICS = ("name", "class", *_SCORE, *(f"baseline_{name}" for name in _BASELINE), *_NOTES)
PAIRWISE = ("first", "second", "name", *_SCORE, "method", "missing")
TREND = ("name", "step", "epoch", *_SCORE, "method")


def metrics_csv(evaluation: Evaluation) -> bytes:
    """Write one row per metric and class ("" is all classes), followed by one per detail, named in "detail"."""
    return to_csv((record for row in (*evaluation.results, *evaluation.per_class) for record in _records(row)), METRICS)


def pairwise_csv(rows: Sequence[PairwiseResult]) -> bytes:
    """Write one row per metric and pair of sets, followed by one per detail."""
    names = ("first", "second", "name", "missing")
    records = (
        {**{name: getattr(row, name) for name in names}, **record, "method": row.score.method if row.score else ""}
        for row in rows
        for record in _score_records(row.score)
    )
    return to_csv(records, PAIRWISE)


def trend_csv(points: Sequence[TrendPoint]) -> bytes:
    """Write one row per metric and checkpoint, followed by one per detail."""
    records = (
        {"name": point.name, "step": point.step, "epoch": point.epoch, "method": point.score.method, **record}
        for point in points
        for record in _score_records(point.score)
    )
    return to_csv(records, TREND)


def evaluation_json(evaluation: Evaluation) -> bytes:
    """Write everything, by the names of the dataclasses' fields; a number that is not finite is null."""
    return to_json(evaluation)


def _records(row: MetricResult) -> Iterator[Record]:
    notes = {name: getattr(row, name) for name in ("better", "unit", "preprocessing", "weights", "missing")}
    notes |= {"name": row.name, "class": row.label, "warnings": " | ".join(row.warnings)}
    notes |= {"method": row.score.method if row.score else "", "failed": row.score.failed if row.score else ""}
    for index, record in enumerate(_score_records(row.score)):
        has_baseline = row.baseline is not None and index == 0
        baseline = {f"baseline_{name}": getattr(row.baseline, name) for name in _BASELINE} if has_baseline else {}
        yield {**notes, **record, **baseline}


def _score_records(score: Score | None) -> Iterator[Record]:
    """Yield a record of the score and one of each detail; one without numbers if there is no score."""
    if score is None:
        yield {}
        return
    low, high = score.interval or (None, None)
    sizes = {"n_real": score.n_real, "n_fake": score.n_fake}
    bounds = {"interval_low": low, "interval_high": high}
    yield {"value": score.value, "spread": score.spread, "spread_over": score.spread_over, **bounds, **sizes}
    for name, value in score.details.items():
        yield {"detail": name, "value": value, **sizes}


@dataclass(frozen=True, kw_only=True)
class ClassTable:
    """Metrics by class: `cells[class][metric]`. `absent` are metrics that no class has, by their common reason."""

    metrics: tuple[str, ...]
    cells: Mapping[str, Mapping[str, MetricResult]]
    absent: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class PairMatrix:
    """A metric between sets: `cells[first][second]`; or in `absent` why it was measured between none."""

    name: str
    columns: tuple[str, ...]
    cells: Mapping[str, Mapping[str, PairwiseResult]]
    absent: str


def per_class_table(evaluation: Evaluation) -> ClassTable | None:
    """Arrange the metrics of single classes, classes in label order; return None if there are none."""
    if not evaluation.per_class:
        return None
    names = dict.fromkeys(row.name for row in evaluation.per_class)
    reasons = {name: _common_reason([row for row in evaluation.per_class if row.name == name]) for name in names}
    absent = group_by_value({name: reason for name, reason in reasons.items() if reason})
    metrics = tuple(name for name, reason in reasons.items() if not reason)
    labels = dict.fromkeys((*evaluation.image.classes, *(row.label for row in evaluation.per_class)))
    cells = {label: {row.name: row for row in evaluation.per_class if row.label == label} for label in labels}
    return ClassTable(metrics=metrics, cells={label: found for label, found in cells.items() if found}, absent=absent)


def pair_matrices(evaluation: Evaluation) -> Iterator[PairMatrix]:
    """Arrange each metric that was measured between sets as a matrix, sets in the order given."""
    roles = [facts.role for facts in evaluation.sets]
    for name in dict.fromkeys(row.name for row in evaluation.pairwise):
        rows = [row for row in evaluation.pairwise if row.name == name]
        order = tuple(dict.fromkeys((*roles, *(role for row in rows for role in (row.first, row.second)))))
        columns = tuple(role for role in order if any(row.second == role for row in rows))
        cells = {first: {row.second: row for row in rows if row.first == first} for first in order}
        filled = {first: found for first, found in cells.items() if found}
        yield PairMatrix(name=name, columns=columns, cells=filled, absent=_common_reason(rows))


def _common_reason(rows: Sequence[MetricResult] | Sequence[PairwiseResult]) -> str:
    """Return why none of the rows has a score, if all have the same reason; "" otherwise."""
    reasons = {row.missing for row in rows if row.score is None}
    return reasons.pop() if len(reasons) == 1 and not any(row.score for row in rows) else ""


def group_by_value(values: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Collect the keys of each value."""
    groups: dict[str, tuple[str, ...]] = {}
    for key, value in values.items():
        groups[value] = (*groups.get(value, ()), key)
    return groups
