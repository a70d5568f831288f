"""An evaluation in words and tables: what a reader is told before, between and below the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from medzoo.evaluation.results import (
    FAKE,
    REAL,
    TRAIN,
    Baseline,
    Evaluation,
    MetricResult,
    PairwiseResult,
    SkippedMetric,
    TrendPoint,
)
from medzoo.report.formatting import counted, listed, number

COPY_CHECK = "nearest-train"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """An outcome, "passed", "failed" or "not made", and a sentence that says by what."""

    state: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Warned:
    """A warning, and the metrics it was given for; none where it is of the whole."""

    text: str
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FloorReading:
    """How a metric of synthetic images stands to its floor."""

    row: MetricResult
    baseline: Baseline
    words: str


@dataclass(frozen=True, kw_only=True)
class ClassTable:
    """Metrics by class: `cells[class][metric]`, where there is one.

    `absent` are metrics that no class has, by the one reason for that.
    """

    metrics: tuple[str, ...]
    cells: Mapping[str, Mapping[str, MetricResult]]
    absent: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class PairMatrix:
    """A metric between sets: `cells[first][second]`, where it was measured; or, for no pair, `absent` says why."""

    name: str
    columns: tuple[str, ...]
    cells: Mapping[str, Mapping[str, PairwiseResult]]
    absent: str


def compared(evaluation: Evaluation) -> str:
    """ "64 x 64 pixels, grey, crop none": as what all images were compared."""
    image = evaluation.image
    colour = "grey" if image.channels == 1 else "RGB"
    crop = "no crop" if evaluation.crop == "none" else f"crop {evaluation.crop}"
    return f"{image.size} \u00d7 {image.size} pixels, {colour}, {crop}"


def summary(evaluation: Evaluation) -> str:
    """What was compared with what, in a few sentences."""
    sizes = {facts.role: facts.size for facts in evaluation.sets}
    real, fake = counted(sizes.get(REAL, 0), "real image"), counted(sizes.get(FAKE, 0), "synthetic image")
    were = "was" if sizes.get(FAKE) == 1 else "were"
    classes = counted(len(evaluation.image.classes), "class", "classes")
    told = f"{fake} {were} compared with {real}, in {classes}, all as {compared(evaluation)}."
    if TRAIN in sizes:
        told += f" {counted(sizes[TRAIN], 'training image')} were given to look for copies in."
    return told


def copy_verdict(evaluation: Evaluation) -> Verdict:
    """Whether synthetic images are closer to training images than held-out real ones are."""
    rows = [row for row in evaluation.results if row.name.partition("@")[0] == COPY_CHECK]
    measured = [(row.name, row.score) for row in rows if row.score]
    if not measured:
        absent = [entry.reason for entry in evaluation.skipped if entry.name.partition("@")[0] == COPY_CHECK]
        reasons = [row.missing for row in rows if row.missing] + absent
        unasked = "no training images were given" if evaluation.facts(TRAIN) is None else "it was not asked for"
        why = reasons[0] if reasons else unasked
        return Verdict(state="not made", sentence=f"Whether images were copied from training is not known: {why}.")
    failed = [name for name, score in measured if score.failed]
    if failed:
        sentence = f"By {listed(failed)}, synthetic images are closer to training images than held-out real ones are."
        return Verdict(state="failed", sentence=sentence)
    names = listed([name for name, _ in measured])
    sentence = f"By {names}, synthetic images are no closer to training images than held-out real ones are."
    return Verdict(state="passed", sentence=sentence)


def gathered_warnings(evaluation: Evaluation) -> list[Warned]:
    """Every warning once, those of the whole evaluation first."""
    by_text: dict[str, list[str]] = {text: [] for text in evaluation.warnings}
    for row in (*evaluation.results, *evaluation.per_class):
        for text in row.warnings:
            by_text.setdefault(text, []).append(f"{row.name} ({row.label})" if row.label else row.name)
    return [Warned(text=text, names=tuple(dict.fromkeys(names))) for text, names in by_text.items()]


def floors_told(evaluation: Evaluation) -> list[FloorReading]:
    """Each row that has a floor, with what the two say together."""
    return [
        FloorReading(row=row, baseline=row.baseline, words=_against_floor(row.baseline, row.better))
        for row in evaluation.results
        if row.baseline
    ]


def _against_floor(floor: Baseline, better: str) -> str:
    """Two standard deviations over the draws tell the two apart; less than that, or no spread, tells nothing."""
    gap = floor.real - floor.fake if better == "higher" else floor.fake - floor.real
    noise = 2 * math.hypot(floor.real_spread, floor.fake_spread)
    if math.isnan(gap) or math.isnan(noise):
        return "cannot be judged"
    if abs(gap) <= noise:
        return "not told apart from real images"
    if better == "neither":
        return "other than real images among themselves"
    if gap > 0:
        return "worse than real images among themselves"
    return "better than real images among themselves, so look for copies or sameness"


def best_epochs(evaluation: Evaluation) -> list[str]:
    """For each metric over training that has a better side, a sentence on its best checkpoint."""
    better = {row.name.partition("@")[0]: row.better for row in evaluation.results}
    better |= {row.name: row.better for row in evaluation.results}
    told = []
    for name in dict.fromkeys(point.name for point in evaluation.trend):
        side = better.get(name, better.get(name.partition("@")[0], "neither"))
        points = sorted((point for point in evaluation.trend if point.name == name), key=lambda point: point.step)
        points = [point for point in points if not math.isnan(point.score.value)]
        if side != "neither" and len(points) > 1:
            told.append(_best_epoch(name, points, -1 if side == "lower" else 1))
    return told


def _best_epoch(name: str, points: list[TrendPoint], sign: int) -> str:
    best = max(points, key=lambda point: sign * point.score.value)
    at_end = best is points[-1]
    after = "the last one, so longer training may still help" if at_end else "those after it are no better"
    score = best.score
    sizes = f"{number(score.n_real)} real, {number(score.n_fake)} synthetic images"
    return (
        f"By {name}, epoch {number(best.epoch)} (step {number(best.step)}) is best of {len(points)} checkpoints, "
        f"with {number(score.value)} ({sizes}); {after}."
    )


def per_class_table(evaluation: Evaluation) -> ClassTable | None:
    """The metrics of single classes, classes in label order; None if there are none."""
    if not evaluation.per_class:
        return None
    names = dict.fromkeys(row.name for row in evaluation.per_class)
    reasons = {name: _one_reason([row for row in evaluation.per_class if row.name == name]) for name in names}
    absent = _grouped({name: reason for name, reason in reasons.items() if reason})
    metrics = tuple(name for name, reason in reasons.items() if not reason)
    labels = dict.fromkeys((*evaluation.image.classes, *(row.label for row in evaluation.per_class)))
    cells = {label: {row.name: row for row in evaluation.per_class if row.label == label} for label in labels}
    return ClassTable(metrics=metrics, cells={label: found for label, found in cells.items() if found}, absent=absent)


def _one_reason(rows: Sequence[MetricResult] | Sequence[PairwiseResult]) -> str:
    """Why none of the rows has a score, if all have the same reason; "" otherwise."""
    reasons = {row.missing for row in rows if row.score is None}
    return reasons.pop() if len(reasons) == 1 and not any(row.score for row in rows) else ""


def pair_matrices(evaluation: Evaluation) -> Iterator[PairMatrix]:
    """One matrix a metric that was measured between sets, sets in the order they were given."""
    roles = [facts.role for facts in evaluation.sets]
    for name in dict.fromkeys(row.name for row in evaluation.pairwise):
        rows = [row for row in evaluation.pairwise if row.name == name]
        order = tuple(dict.fromkeys((*roles, *(role for row in rows for role in (row.first, row.second)))))
        columns = tuple(role for role in order if any(row.second == role for row in rows))
        cells = {first: {row.second: row for row in rows if row.first == first} for first in order}
        filled = {first: found for first, found in cells.items() if found}
        yield PairMatrix(name=name, columns=columns, cells=filled, absent=_one_reason(rows))


def left_out_together(evaluation: Evaluation) -> list[tuple[tuple[str, ...], SkippedMetric]]:
    """What was left out, metrics with the same reason and mend together: their names, and one of them."""
    groups: dict[tuple[str, str], list[SkippedMetric]] = {}
    for entry in evaluation.skipped:
        groups.setdefault((entry.reason, entry.hint), []).append(entry)
    return [(tuple(entry.name for entry in entries), entries[0]) for entries in groups.values()]


def preprocessing_by_name(evaluation: Evaluation) -> dict[str, str]:
    """What each metric's images went through, for tables that name it once for many numbers."""
    rows = (*evaluation.per_class, *evaluation.results)
    return {row.name: row.preprocessing or compared(evaluation) for row in rows}


def preprocessing_told(evaluation: Evaluation, names: Sequence[str]) -> str:
    """What the images of these metrics went through, those that went through the same together."""
    by_name = preprocessing_by_name(evaluation)
    groups = _grouped({name: by_name[name] for name in names})
    return "; ".join(f"{listed(together)}: {done}" for done, together in groups.items())


def _grouped(values: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The keys of each value."""
    groups: dict[str, tuple[str, ...]] = {}
    for key, value in values.items():
        groups[value] = (*groups.get(value, ()), key)
    return groups
