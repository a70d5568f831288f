"""Tables of an evaluation: metrics by class and by pair of sets for the page, all numbers as CSV and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medzoo.evaluation.results import Evaluation, MetricResult, PairwiseResult, TrendPoint
from medzoo.report.tables import Record, to_csv, to_json

_SCORE = ("detail", "value", "spread", "spread_over", "interval_low", "interval_high", "n_real", "n_fake")
_BASELINE = ("n", "draws", "real", "real_spread", "fake", "fake_spread")
_NOTES = ("better", "ideal", "unit", "method", "preprocessing", "weights", "failed", "missing", "warnings")
METRICS = ("name", "class", *_SCORE, *(f"baseline_{name}" for name in _BASELINE), *_NOTES)
PAIRWISE = ("first", "second", "name", *_SCORE, "method", "missing")
TREND = ("name", "step", "epoch", *_SCORE, "method")


def metrics_csv(evaluation: Evaluation) -> bytes:
    """Write one row per metric and class ("" is all classes), followed by one per detail, named in "detail"."""
    records: list[Record] = []
    for row in (*evaluation.results, *evaluation.per_class):
        own = {"class": row.label, "warnings": " | ".join(row.warnings), "failed": row.score and row.score.failed}
        first, *details = _records(row, ("name", "better", "ideal", "unit", "preprocessing", "weights", "missing"))
        baseline = {f"baseline_{name}": getattr(row.baseline, name, None) for name in _BASELINE}
        records += [{**own, **first, **baseline}, *({**own, **detail} for detail in details)]
    return to_csv(records, METRICS)


def pairwise_csv(rows: Sequence[PairwiseResult]) -> bytes:
    """Write one row per metric and pair of sets, followed by one per detail."""
    return to_csv(
        (record for row in rows for record in _records(row, ("first", "second", "name", "missing"))), PAIRWISE
    )


def trend_csv(points: Sequence[TrendPoint]) -> bytes:
    """Write one row per metric and checkpoint, followed by one per detail."""
    return to_csv((record for point in points for record in _records(point, ("name", "step", "epoch"))), TREND)


def evaluation_json(evaluation: Evaluation) -> bytes:
    """Write everything, by the names of the dataclasses' fields; a number that is not finite is null."""
    return to_json(evaluation)


def _records(row: MetricResult | PairwiseResult | TrendPoint, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return a record of the row's score and one of each detail, all with the row's own values of `names`."""
    own, score = {name: getattr(row, name) for name in names}, row.score
    if score is None:
        return [own]
    own |= {"method": score.method, "n_real": score.n_real, "n_fake": score.n_fake}
    low, high = score.interval or (None, None)
    spread = {"spread": score.spread, "spread_over": score.spread_over, "interval_low": low, "interval_high": high}
    details = [{**own, "detail": name, "value": value} for name, value in score.details.items()]
    return [{**own, "value": score.value, **spread}, *details]


def per_class_table(evaluation: Evaluation) -> Record | None:
    """Arrange the metrics of single classes, classes in label order; return None if there are none.

    `metrics` are the columns and `cells[class][metric]` the results. `absent` are metrics that no class has, by their
    common reason.
    """
    if not evaluation.per_class:
        return None
    names = dict.fromkeys(row.name for row in evaluation.per_class)
    reasons = {name: _common_reason([row for row in evaluation.per_class if row.name == name]) for name in names}
    labels = dict.fromkeys((*evaluation.image.classes, *(row.label for row in evaluation.per_class)))
    cells = {label: {row.name: row for row in evaluation.per_class if row.label == label} for label in labels}
    return {
        "metrics": tuple(name for name, reason in reasons.items() if not reason),
        "cells": {label: found for label, found in cells.items() if found},
        "absent": group_by_value({name: reason for name, reason in reasons.items() if reason}),
    }


def pair_matrices(evaluation: Evaluation) -> Iterator[Record]:
    """Arrange each metric `name` that was measured between sets as a matrix, sets in the order given.

    `cells[first][second]` are the results, `columns` the second sets; `absent` is why it was measured between none.
    """
    roles = [facts.role for facts in evaluation.sets]
    for name in dict.fromkeys(row.name for row in evaluation.pairwise):
        rows = [row for row in evaluation.pairwise if row.name == name]
        order = tuple(dict.fromkeys((*roles, *(role for row in rows for role in (row.first, row.second)))))
        columns = tuple(role for role in order if any(row.second == role for row in rows))
        cells = {first: {row.second: row for row in rows if row.first == first} for first in order}
        filled = {first: found for first, found in cells.items() if found}
        yield {"name": name, "columns": columns, "cells": filled, "absent": _common_reason(rows)}


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
