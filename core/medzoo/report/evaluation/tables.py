"""An evaluation as CSV, for spreadsheets and further statistics, and as JSON with everything in it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from numbers import Real
from typing import Any

from medzoo.evaluation.results import Evaluation, MetricResult, PairwiseResult, TrendPoint
from medzoo.protocols import Score

_SCORE = ("figure", "value", "spread", "spread_over", "interval_low", "interval_high", "n_real", "n_fake")
_BASELINE = ("n", "draws", "real", "real_spread", "fake", "fake_spread")
_NOTES = ("better", "unit", "method", "preprocessing", "weights", "failed", "missing", "warnings")
METRICS = ("name", "class", *_SCORE, *(f"baseline_{name}" for name in _BASELINE), *_NOTES)
PAIRWISE = ("first", "second", "name", *_SCORE, "method", "missing")
TREND = ("name", "step", "epoch", *_SCORE, "method")

Cell = str | int | float | bool | None


def metrics_csv(evaluation: Evaluation) -> bytes:
    """One row a metric and class ("" is all classes), and one below it for each further figure, named in "figure"."""
    return csv_bytes(METRICS, (line for row in (*evaluation.results, *evaluation.per_class) for line in _metric(row)))


def pairwise_csv(rows: Sequence[PairwiseResult]) -> bytes:
    """One row a metric and pair of sets, and one below it for each further figure."""
    lines = (
        (row.first, row.second, row.name, *line, row.score.method if row.score else "", row.missing)
        for row in rows
        for line in _score(row.score)
    )
    return csv_bytes(PAIRWISE, lines)


def trend_csv(points: Sequence[TrendPoint]) -> bytes:
    """One row a metric and checkpoint, and one below it for each further figure."""
    lines = (
        (point.name, point.step, point.epoch, *line, point.score.method)
        for point in points
        for line in _score(point.score)
    )
    return csv_bytes(TREND, lines)


def evaluation_json(evaluation: Evaluation) -> bytes:
    """Everything, by the names of the dataclasses' fields; what is not a finite number is null."""
    return json_bytes(evaluation)


def json_bytes(value: Any) -> bytes:
    """The value's parts by name; what is not a finite number is null."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "replace")


def plain(value: Any) -> Any:
    """The same in dicts, lists, strings and numbers; None for NaN and infinity."""
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Real):  # numpy's numbers too
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Iterable):
        return [plain(part) for part in value]
    return str(value)


def _metric(row: MetricResult) -> Iterator[tuple[Cell, ...]]:
    failed = "" if row.score is None else row.score.failed
    method = "" if row.score is None else row.score.method
    notes = (row.better, row.unit, method, row.preprocessing, row.weights, failed)
    for index, line in enumerate(_score(row.score)):
        values = [getattr(row.baseline, name) if row.baseline and index == 0 else None for name in _BASELINE]
        yield (row.name, row.label, *line, *values, *notes, row.missing, " | ".join(row.warnings))


def _score(score: Score | None) -> Iterator[tuple[Cell, ...]]:
    if score is None:
        yield ("",) + (None,) * 7
        return
    low, high = score.interval or (None, None)
    yield ("", score.value, score.spread, score.spread_over, low, high, score.n_real, score.n_fake)
    for name, value in score.details.items():
        yield (name, value, None, "", None, None, score.n_real, score.n_fake)


def csv_bytes(columns: Sequence[str], lines: Iterable[Sequence[Cell]]) -> bytes:
    """The columns' names, then a row a line; None leaves an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(lines)
    # Names from the file system may hold bytes that are no UTF-8.
    return text.getvalue().encode("utf-8", "replace")
